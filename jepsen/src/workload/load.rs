//! All clients of one log together: those that append, those that look, and the last look at every node.

use anyhow::Result;

use super::{Appenders, AppendersOptions, Observers, Run, final_chains, final_reads};
use crate::reach::Reach;

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
        nodes: impl Into<Reach>,
        run: &Run,
        log: &str,
        options: AppendersOptions,
    ) -> Result<Self> {
        let nodes = nodes.into();
        let appenders = Appenders::start(&nodes, run, log, options)?;
        let observers = Observers::start(&nodes, run, log)?;
        run.progress.wait_for_more(APPENDS_FIRST).await?;
        Ok(Self {
            log: log.to_owned(),
            appenders,
            observers,
        })
    }

    /// Ends them, and reads everything from every node, which must all be there.
    pub async fn finish(self, nodes: impl Into<Reach>, run: &Run) -> Result<()> {
        let nodes = nodes.into();
        self.appenders.stop().await?;
        self.observers.stop().await?;
        final_reads(&nodes, run, &self.log).await?;
        final_chains(&nodes, run, &self.log).await
    }
}
