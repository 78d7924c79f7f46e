//! Whether any other member still has an entry that is damaged here.
//!
//! Promises: that nobody has it is said only when every one of them has said so for itself. Must not know: records, what a
//! reader is told.

use futures::future::join_all;
use inkstone_proto::{peer_v1 as peer, v1};
use inkstone_storage::error::EntryIdentity;

use super::give::is_identical;
use super::take::{Fetcher, absence, identity_to_wire};

/// Who has an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holders {
    /// This member has it whole.
    Member(u64),
    /// Every other member lacks it: it is damaged there, or not there at all. On these nodes it is damaged, and one of them may
    /// still have some of its records.
    Nobody {
        /// Their ids.
        damaged: Vec<u64>,
    },
    /// Some did not say; which, and what they said instead, for people.
    Unknown(String),
}

/// What one member says.
enum Said {
    HasIt,
    /// Only damaged, or not at all.
    HasItNot {
        is_damaged: bool,
    },
    Nothing(String),
}

impl Fetcher {
    /// Asks all these members at once; this node is left out.
    pub(crate) async fn who_has(&self, entry: &EntryIdentity, members: &[v1::NodeInfo]) -> Holders {
        if members.iter().all(|member| member.id != self.node_id()) {
            return Holders::Unknown("this node does not know the members yet".to_owned());
        }
        let others = members.iter().filter(|member| member.id != self.node_id());
        let asked = others.map(async |member| (member.id, self.has(entry, member).await));
        let said = join_all(asked).await;
        if let Some((node, _)) = said.iter().find(|(_, said)| matches!(said, Said::HasIt)) {
            return Holders::Member(*node);
        }
        let (mut damaged, mut silent) = (Vec::new(), Vec::new());
        for (node, said) in said {
            match said {
                Said::HasItNot { is_damaged: true } => damaged.push(node),
                Said::HasIt | Said::HasItNot { .. } => {}
                Said::Nothing(why) => silent.push(format!("node {node}: {why}")),
            }
        }
        if silent.is_empty() {
            Holders::Nobody { damaged }
        } else {
            Holders::Unknown(silent.join(", "))
        }
    }

    async fn has(&self, entry: &EntryIdentity, member: &v1::NodeInfo) -> Said {
        let wanted = identity_to_wire(entry);
        let request = peer::FetchEntriesRequest {
            exact: vec![wanted],
            ..peer::FetchEntriesRequest::default()
        };
        let page = match self.ask(member, request).await {
            Ok(page) => page,
            Err(why) => return Said::Nothing(why),
        };
        if page
            .entries
            .iter()
            .any(|found| is_identical(&wanted, found))
        {
            return Said::HasIt;
        }
        let why = page.absent.first().map(|(_, why)| *why);
        let why = why.unwrap_or_default();
        match why {
            peer::Absence::Damaged => Said::HasItNot { is_damaged: true },
            peer::Absence::Purged | peer::Absence::BeyondEnd => {
                Said::HasItNot { is_damaged: false }
            }
            // What is known here of the entry may be damaged as well: then it was asked for another one.
            peer::Absence::Other | peer::Absence::Uncommitted | peer::Absence::Unspecified => {
                Said::Nothing(absence(why).to_owned())
            }
        }
    }
}
