//! SIGINT and SIGTERM: the first asks for a clean stop, the second ends the process at once.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The code of a process that was told twice.
const TOLD_TWICE: i32 = 1;

/// Says when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shutdown {
    requested: watch::Receiver<bool>,
}

impl Shutdown {
    /// Catches both signals from now on.
    pub(super) fn on_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (request, requested) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if request.send_replace(true) {
                    tracing::warn!("told twice: ending at once");
                    process::exit(TOLD_TWICE);
                }
                tracing::info!("stopping; once more ends it at once");
            }
        });
        Ok(Self { requested })
    }

    /// Returns once the process was asked to stop.
    pub(super) async fn requested(&self) {
        let mut requested = self.requested.clone();
        // The sender lives as long as the runtime: without it there is nothing left to serve.
        if requested.wait_for(|requested| *requested).await.is_err() {
            tracing::debug!("the signal task has ended");
        }
    }
}
