//! How far apply has come, for everyone who waits for it: live readers, the indexer, linearizable reads.
//!
//! Promises: a value, once seen, is visible: the state machine and the log were updated before it was published.

use tokio::sync::watch;

/// The publishing and the watching side of "applied up to this Raft index". Cheap to clone.
#[derive(Debug, Clone)]
pub struct Applied {
    index: watch::Sender<u64>,
}

impl Applied {
    /// Starts at `index`: everything up to it is visible.
    pub fn new(index: u64) -> Self {
        Self {
            index: watch::Sender::new(index),
        }
    }

    /// Entries up to `index` are visible now.
    pub fn publish(&self, index: u64) {
        self.index.send_if_modified(|current| {
            let forward = index > *current;
            if forward {
                *current = index;
            }
            forward
        });
    }

    /// The last visible entry's index.
    pub fn index(&self) -> u64 {
        *self.index.borrow()
    }

    /// Returns once entry `index` is visible. Wrap it in a timeout.
    pub async fn wait_for(&self, index: u64) {
        let mut watch = self.index.subscribe();
        watch
            .wait_for(|applied| *applied >= index)
            .await
            .expect("the sender lives in self");
    }

    /// A receiver that sees every change, for those that wait again and again.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }
}
