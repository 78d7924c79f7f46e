//! Which entry the group has committed at an index where this node's own is damaged.
//!
//! Promises: an answer is a proof: the one who gave it has verified the entry on its own disk, and knows its index to be
//! committed. One such answer is enough, for at one index one entry is ever committed. Must not know: what is done then.

use inkstone_proto::peer_v1 as peer;
use inkstone_storage::log::Supersedable;
use inkstone_storage::types::Entry;

use super::take::Fetcher;

/// The entry that was committed, and the node that proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) entry: Entry,
    pub(crate) node: u64,
}

impl Fetcher {
    /// Asks the other nodes in turn; `None`: none of them has an entry there that it knows to be committed.
    pub(crate) async fn committed_at(&self, damaged: &Supersedable) -> Option<Committed> {
        let index = damaged.index;
        let request = peer::FetchEntriesRequest {
            range: Some(peer::FetchRange {
                first: index,
                last: index,
                chain_crc_after: damaged.chain_crc,
            }),
            ..peer::FetchEntriesRequest::default()
        };
        for node in self.in_turn() {
            let Ok(page) = self.ask(&node, request.clone()).await else {
                continue;
            };
            // Entries of the very same log are given without being committed.
            let is_committed = page.committed_index.is_some_and(|last| last >= index);
            let found = page.entries.into_iter().next();
            if let Some(entry) = found.filter(|found| is_committed && found.id.index == index) {
                return Some(Committed {
                    entry,
                    node: node.id,
                });
            }
        }
        None
    }
}
