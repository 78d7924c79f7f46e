//! A process: a runtime of its own, that can stand still while everything else goes on.
//!
//! Promises: while it stands still none of its tasks runs. When it goes on, the whole time that has passed lies behind it at
//! once: what has come to its sockets waits there, and its timers are late. Must not know: what runs in it.

use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{advance, sleep};

/// A process that was started. To be run, and dropped, where no other runtime is.
pub(crate) struct Process {
    // Its tasks go before what they run on.
    local: LocalSet,
    runtime: Runtime,
    main: JoinHandle<turmoil::Result>,
    /// What has passed while it stood still.
    missed: Duration,
}

impl Process {
    pub(crate) fn start(main: impl Future<Output = turmoil::Result> + 'static) -> io::Result<Self> {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build()?;
        let local = LocalSet::new();
        let main = local.spawn_local(main);
        Ok(Self {
            local,
            runtime,
            main,
            missed: Duration::ZERO,
        })
    }

    /// Lets it run for so long. An error: it has ended.
    pub(crate) fn run_for(&mut self, time: Duration) -> Result<()> {
        let missed = std::mem::take(&mut self.missed);
        let run = async {
            if !missed.is_zero() {
                advance(missed).await;
            }
            sleep(time).await;
        };
        self.runtime.block_on(self.local.run_until(run));
        if !self.main.is_finished() {
            return Ok(());
        }
        let ended = self.runtime.block_on(&mut self.main)?;
        Err(match ended {
            Ok(()) => anyhow!("a process has ended"),
            Err(error) => anyhow!("{error}"),
        })
    }

    /// Lets so much time pass without it.
    pub(crate) fn stand_still(&mut self, time: Duration) {
        self.missed += time;
    }
}
