//! Which releases can work together: the protocols and formats that this one knows, those that others do, and what may be
//! proposed while some of the members speak an older one.
//!
//! A release speaks its own protocol and the one before it, and reads its own format and the one before it, so that the nodes of a cluster can be upgraded one by one. Two
//! nodes use the newest that both speak; two that have none in common refuse each other, and say what to do. An
//! entry that a member could not apply would end it: so it is not proposed before every member is known to speak its
//! protocol.
//!
//! Promises: nothing is sent to, or proposed for, a node that is not known to understand it. Must not know: gRPC, who asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use inkstone_storage::format::TRAVELLING_VERSION;
use parking_lot::RwLock;

/// The first protocol, and the first format. A node that does not say what it speaks and reads knows these.
const FIRST: u32 = 1;
/// The newest protocol of this release: what peer.proto and state.proto describe.
const NEWEST: u32 = 1;

/// Consecutive versions, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The oldest of them.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Span {
    /// What a release knows whose newest version is this: the one before it, too, once there is one.
    const fn up_to(newest: u32) -> Self {
        let oldest = if newest > FIRST { newest - 1 } else { FIRST };
        Self { oldest, newest }
    }

    /// The newest that both know.
    fn common(self, theirs: Self) -> Option<u32> {
        let newest = self.newest.min(theirs.newest);
        (newest >= self.oldest.max(theirs.oldest)).then_some(newest)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

/// What a release speaks and reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Protocols between nodes.
    pub protocols: Span,
    /// Formats of entries and checkpoints, which travel as they are on disk.
    pub formats: Span,
    /// The release, for people.
    pub release: String,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocols,
            formats,
            release,
        } = self;
        let release = if release.is_empty() { "?" } else { release };
        write!(
            f,
            "release {release} (protocol {protocols}, format {formats})"
        )
    }
}

/// Two nodes that can't work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{theirs} has no {what} in common with this node's {own}; {advice}")]
pub struct Incompatible {
    /// What this node speaks.
    pub own: Spoken,
    /// What the other does.
    pub theirs: Spoken,
    what: &'static str,
    advice: &'static str,
}

impl Spoken {
    /// This release.
    pub fn own() -> Self {
        Self {
            protocols: Span::up_to(NEWEST),
            formats: Span::up_to(TRAVELLING_VERSION),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What another node says; `None`: it is of a release that did not say so yet.
    pub(crate) fn from_wire(said: Option<&peer::Versions>) -> Self {
        said.map_or_else(Self::unsaid, |said| Self {
            protocols: Span {
                oldest: said.oldest_protocol,
                newest: said.newest_protocol,
            },
            formats: Span {
                oldest: said.oldest_format.max(FIRST),
                newest: said.newest_format.max(FIRST),
            },
            release: said.release.clone(),
        })
    }

    fn unsaid() -> Self {
        Self {
            protocols: Span::up_to(FIRST),
            formats: Span::up_to(FIRST),
            release: String::new(),
        }
    }

    /// To be sent to others.
    pub(crate) fn to_wire(&self) -> peer::Versions {
        peer::Versions {
            oldest_protocol: self.protocols.oldest,
            newest_protocol: self.protocols.newest,
            oldest_format: self.formats.oldest,
            newest_format: self.formats.newest,
            release: self.release.clone(),
        }
    }

    /// The newest protocol that both speak, if there is a format that both read.
    pub fn common(&self, theirs: &Self) -> Result<u32, Incompatible> {
        let refused = |what, own: Span, theirs_of: Span| Incompatible {
            own: self.clone(),
            theirs: theirs.clone(),
            what,
            advice: if theirs_of.newest < own.oldest {
                "upgrade that node, one release at a time"
            } else {
                "upgrade this node, one release at a time"
            },
        };
        if self.formats.common(theirs.formats).is_none() {
            return Err(refused("format", self.formats, theirs.formats));
        }
        self.protocols
            .common(theirs.protocols)
            .ok_or_else(|| refused("protocol", self.protocols, theirs.protocols))
    }
}

/// The protocol from which on a command is understood. A new kind of command raises `NEWEST` and stands here with it, as
/// does a new field of an old one that changes what it does.
fn needed(command: &Command) -> u32 {
    match command {
        Command::CreateLog(_) | Command::AlterLog(_) | Command::DeleteLog(_) | Command::Trim(_) => {
            FIRST
        }
    }
}

/// A member that could not apply a command: it was not proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} runs {spoken}, and this needs protocol {needed}; upgrade that node, or start it if it is down, and \
     then do it again"
)]
pub struct TooOld {
    /// The member.
    pub node: u64,
    /// What it speaks, as far as it is known.
    pub spoken: Spoken,
    /// The protocol that would be needed.
    pub needed: u32,
}

/// What this node speaks, and what it knows of the others. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Versions {
    own: Arc<Spoken>,
    heard: Arc<RwLock<BTreeMap<u64, Spoken>>>,
}

/// Nodes of which is remembered what they speak: more than any cluster has members.
const HEARD_MAX: usize = 1_024;

impl Versions {
    /// A node that speaks this.
    pub fn new(own: Spoken) -> Self {
        Self {
            own: Arc::new(own),
            heard: Arc::default(),
        }
    }

    /// What this node speaks.
    pub fn own(&self) -> &Spoken {
        &self.own
    }

    /// Remembers what another node said of itself, if the two can work together.
    pub(crate) fn hear(
        &self,
        node: u64,
        said: Option<&peer::Versions>,
    ) -> Result<(), Incompatible> {
        let theirs = Spoken::from_wire(said);
        self.own.common(&theirs)?;
        if self.heard.read().get(&node) == Some(&theirs) {
            return Ok(());
        }
        let mut heard = self.heard.write();
        if heard.len() < HEARD_MAX || heard.contains_key(&node) {
            heard.insert(node, theirs);
        }
        Ok(())
    }

    /// What that node speaks, if it has said so.
    pub(crate) fn of(&self, node: u64) -> Option<Spoken> {
        self.heard.read().get(&node).cloned()
    }

    /// Whether all of these nodes can apply a command.
    pub(crate) fn allow(
        &self,
        command: &Command,
        me: u64,
        members: impl Iterator<Item = u64>,
    ) -> Result<(), TooOld> {
        self.require(needed(command), me, members)
    }

    fn require(
        &self,
        needed: u32,
        me: u64,
        members: impl Iterator<Item = u64>,
    ) -> Result<(), TooOld> {
        for node in members {
            let spoken = if node == me {
                (*self.own).clone()
            } else {
                // A member that was never heard of may be of any release.
                self.of(node).unwrap_or_else(Spoken::unsaid)
            };
            if spoken.protocols.newest < needed {
                return Err(TooOld {
                    node,
                    spoken,
                    needed,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(oldest: u32, newest: u32) -> Spoken {
        Spoken {
            protocols: Span { oldest, newest },
            formats: Span::up_to(FIRST),
            release: format!("0.{newest}.0"),
        }
    }

    #[test]
    fn neighbours_use_the_older_s_protocol_and_others_refuse_each_other() {
        let (first, second, third) = (release(1, 1), release(1, 2), release(2, 3));
        assert_eq!(first.common(&second), Ok(1));
        assert_eq!(second.common(&first), Ok(1));
        assert_eq!(second.common(&third), Ok(2));
        let refused = first.common(&third).unwrap_err().to_string();
        assert!(
            refused.contains("0.1.0") && refused.contains("0.3.0"),
            "{refused}"
        );
        assert!(refused.contains("upgrade this node"), "{refused}");
        let refused = third.common(&first).unwrap_err().to_string();
        assert!(refused.contains("upgrade that node"), "{refused}");
    }

    #[test]
    fn a_format_that_only_one_of_two_reads_keeps_them_apart() {
        let of_formats = |oldest, newest| Spoken {
            formats: Span { oldest, newest },
            ..release(1, 1)
        };
        let (first, second, third) = (of_formats(1, 1), of_formats(1, 2), of_formats(2, 3));
        assert_eq!(first.common(&second), Ok(1));
        let refused = first.common(&third).unwrap_err().to_string();
        assert!(refused.contains("no format in common"), "{refused}");
        assert!(refused.contains("upgrade this node"), "{refused}");
        let said = Spoken::from_wire(Some(&third.to_wire()));
        assert_eq!(said, third);
    }

    #[test]
    fn this_release_works_with_itself_and_with_one_that_says_nothing() {
        let own = Spoken::own();
        assert_eq!(own.common(&own), Ok(NEWEST));
        assert_eq!(own.common(&Spoken::from_wire(None)), Ok(FIRST));
    }

    #[test]
    fn what_one_member_cannot_apply_is_not_proposed() {
        let versions = Versions::new(release(1, 2));
        let members = || [1, 2, 3].into_iter();
        assert_eq!(versions.require(1, 1, members()), Ok(()));
        let said = |spoken: &Spoken| Some(spoken.to_wire());
        versions.hear(2, said(&release(1, 2)).as_ref()).unwrap();
        // Node 3 was not heard of: it may be old.
        assert_eq!(versions.require(2, 1, members()).unwrap_err().node, 3);
        versions.hear(3, said(&release(1, 1)).as_ref()).unwrap();
        let refused = versions.require(2, 1, members()).unwrap_err();
        assert!(refused.to_string().contains("0.1.0"), "{refused}");
        versions.hear(3, said(&release(1, 2)).as_ref()).unwrap();
        assert_eq!(versions.require(2, 1, members()), Ok(()));
        versions.hear(3, said(&release(3, 4)).as_ref()).unwrap_err();
    }
}
