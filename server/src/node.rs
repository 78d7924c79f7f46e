//! One node: data directory, group, indexer, services.

use std::future::Future;

use crate::clock::Clock;
use crate::config::Config;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StartError {
    what: String,
}

/// Why a node that was running had to end.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fatal {
    what: String,
}

/// A node that serves.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Starts it, up to the point where it can serve.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let _ = (config, clock);
        todo!()
    }
    /// One line that starts with `ready`.
    pub fn ready_line(&self) -> String {
        todo!()
    }
    /// Serves until `shutdown`, then stops cleanly.
    pub async fn wait(self, shutdown: impl Future<Output = ()>) -> Result<(), Fatal> {
        let _ = shutdown;
        todo!()
    }
}
