//! What the indexer is told of an entry that it can't read: whether a member still has it.
//!
//! Promises: an entry is lost only when every other member has said for itself that it does not have it. Must not know: what
//! the index makes of it.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use crate::indexer::{Harm, Mender, Met, Verdict};
use crate::raft::{Holders, Repairer};

/// How long the index waits for a repair before it asks again.
const PATIENCE: Duration = Duration::from_secs(10);

impl Repairer {
    /// For the indexer of this node.
    pub fn mender(&self) -> Mender {
        let repairer = self.clone();
        Box::new(move |met| {
            let repairer = repairer.clone();
            async move { repairer.mend(met).await }.boxed()
        })
    }

    async fn mend(&self, Met { index, why, harm }: Met) -> Verdict {
        self.suspect(&why, Some(index));
        let lost = match harm {
            // The index lacks nothing without it.
            Harm::Nothing => return Verdict::Lost,
            Harm::Records(lost) => lost,
            Harm::Unknown => {
                drop(timeout(PATIENCE, self.repair_for_reader(&why)).await);
                return Verdict::Unsure;
            }
        };
        match self.look_for(&lost).await {
            Holders::Nobody { .. } => Verdict::Lost,
            Holders::Member(_) => {
                drop(timeout(PATIENCE, self.repair_for_reader(&why)).await);
                Verdict::Unsure
            }
            Holders::Unknown(who) => {
                tracing::warn!(
                    index,
                    who,
                    "whether a member has an entry that the search index lacks is not known"
                );
                Verdict::Unsure
            }
        }
    }
}
