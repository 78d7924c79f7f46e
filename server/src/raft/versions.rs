//! Which releases can work together: the protocols that this one speaks, those that others do, and what may be proposed
//! while some of the members speak an older one.
//!
//! A release speaks its own protocol and the one before it, so that the nodes of a cluster can be upgraded one by one. Two
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
use parking_lot::RwLock;

/// The first protocol. A node that does not say what it speaks speaks this one.
const FIRST: u32 = 1;
/// The newest protocol of this release: what peer.proto and state.proto describe.
const NEWEST: u32 = 1;
/// The oldest that it still speaks: the one before the newest, once there is one.
const OLDEST: u32 = if NEWEST > FIRST { NEWEST - 1 } else { FIRST };

/// What a release speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The oldest protocol.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
    /// The release, for people.
    pub release: String,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            oldest,
            newest,
            release,
        } = self;
        let release = if release.is_empty() { "?" } else { release };
        if oldest == newest {
            write!(f, "release {release} (protocol {newest})")
        } else {
            write!(f, "release {release} (protocols {oldest} to {newest})")
        }
    }
}

/// Two nodes that can't work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{theirs} has no protocol in common with this node's {own}; {advice}")]
pub struct Incompatible {
    /// What this node speaks.
    pub own: Spoken,
    /// What the other does.
    pub theirs: Spoken,
    advice: &'static str,
}

impl Spoken {
    /// This release.
    pub fn own() -> Self {
        Self {
            oldest: OLDEST,
            newest: NEWEST,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What another node says; `None`: it is of a release that did not say so yet.
    pub(crate) fn from_wire(said: Option<&peer::Versions>) -> Self {
        said.map_or_else(Self::unsaid, |said| Self {
            oldest: said.oldest_protocol,
            newest: said.newest_protocol,
            release: said.release.clone(),
        })
    }

    fn unsaid() -> Self {
        Self {
            oldest: FIRST,
            newest: FIRST,
            release: String::new(),
        }
    }

    /// To be sent to others.
    pub(crate) fn to_wire(&self) -> peer::Versions {
        peer::Versions {
            oldest_protocol: self.oldest,
            newest_protocol: self.newest,
            release: self.release.clone(),
        }
    }

    /// The newest protocol that both speak.
    pub fn common(&self, theirs: &Self) -> Result<u32, Incompatible> {
        let newest = self.newest.min(theirs.newest);
        if newest >= self.oldest.max(theirs.oldest) {
            return Ok(newest);
        }
        let advice = if theirs.newest < self.oldest {
            "upgrade that node, one release at a time"
        } else {
            "upgrade this node, one release at a time"
        };
        Err(Incompatible {
            own: self.clone(),
            theirs: theirs.clone(),
            advice,
        })
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
            if spoken.newest < needed {
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
            oldest,
            newest,
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
