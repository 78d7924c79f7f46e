//! All clients of one log together: those that append, those that look, and the last look at every node.

use anyhow::Result;

use super::{Appenders, AppendersOptions, Observers, Run, final_chains, final_reads};
use crate::cluster::Cluster;

/// Appends that show that a cluster serves, before anything is broken.
const APPENDS_FIRST: u64 = 20;

/// Running clients of one log.
#[derive(Debug)]
pub struct Load {
    log: String,
    appenders: Appenders,
    observers: Observers,
}

impl Load {
    /// Starts them, and returns once appends are acknowledged. The log must exist.
    pub async fn start(
        cluster: &Cluster,
        run: &Run,
        log: &str,
        options: AppendersOptions,
    ) -> Result<Self> {
        let appenders = Appenders::start(cluster, run, log, options)?;
        let observers = Observers::start(cluster, run, log)?;
        run.progress.wait_for_more(APPENDS_FIRST).await?;
        Ok(Self {
            log: log.to_owned(),
            appenders,
            observers,
        })
    }

    /// Ends them, and reads everything from every node, which must all be there.
    pub async fn finish(self, cluster: &Cluster, run: &Run) -> Result<()> {
        self.appenders.stop().await?;
        self.observers.stop().await?;
        final_reads(cluster, run, &self.log).await?;
        final_chains(cluster, run, &self.log).await
    }
}
