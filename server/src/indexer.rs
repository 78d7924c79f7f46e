//! Feeds the search index from applied entries, off the append path.

use inkstone_storage::search::Searcher;
use tokio::sync::watch;

/// The search side of this node, as the grpc layer sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Indexer {
    progress: watch::Sender<u64>,
}

impl Indexer {
    /// The index, when this node is one that indexes (a follower, or the only node) and has it open; `None` on a
    /// leader that has followers, and while it is (re)built from nothing.
    pub fn searcher(&self) -> Option<Searcher> {
        todo!()
    }

    /// Returns once every entry up to `index` is searchable here. Wrap it in a timeout. Never returns while this node
    /// does not index.
    pub async fn wait_for(&self, index: u64) {
        let _ = (&self.progress, index);
        todo!()
    }

    /// The last searchable entry's index; 0: none.
    pub fn index(&self) -> u64 {
        todo!()
    }
}
