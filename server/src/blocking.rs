//! Runs what may touch a disk away from the runtime's threads, a bounded number at a time.
//!
//! Promises: at most `threads` closures run at once, at most `waiting` more wait; beyond that the caller is refused.
//! Mapped pages count as disk: every read of the log and every search goes through here.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task;

/// Too much is waiting already; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} reads wait for a thread already")]
pub struct Busy {
    /// The bound that was hit.
    pub waiting: usize,
}

/// Where work is done that may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// On threads of their own.
    #[default]
    Threads,
    /// Where it is asked for: for disks that are memory, in simulations that no thread may disturb.
    InPlace,
}

/// A bounded pool for one kind of work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blocking {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    waiting_max: usize,
    offload: Offload,
}

impl Offload {
    /// A pool of so many threads, or of as much work at a time, with so many places to wait.
    pub fn pool(self, threads: usize, waiting: usize) -> Blocking {
        Blocking {
            offload: self,
            ..Blocking::new(threads, waiting)
        }
    }
}

impl Blocking {
    /// A pool of so many threads with so many places to wait for one.
    pub fn new(threads: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(threads)),
            waiting: Arc::new(Semaphore::new(threads + waiting)),
            waiting_max: waiting,
            offload: Offload::Threads,
        }
    }

    /// Runs `work` where it may block. When the caller goes away the work is still finished.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let busy = Busy {
            waiting: self.waiting_max,
        };
        let place = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| busy)?;
        let turn = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        if self.offload == Offload::InPlace {
            return Ok(work());
        }
        let result = task::spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        match result.await {
            Ok(result) => Ok(result),
            // The runtime is shutting down and does not begin the work any more: the caller is about to be dropped, too.
            Err(error) if error.is_cancelled() => std::future::pending().await,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn work_in_place_is_done_on_the_thread_that_asks() {
        let blocking = Offload::InPlace.pool(1, 0);
        let thread = || std::thread::current().id();
        assert_eq!(blocking.run(thread).await, Ok(thread()));
    }

    #[test]
    fn work_that_a_stopping_runtime_drops_is_left_unanswered_without_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let _entered = handle.enter();
        let blocking = Blocking::new(1, 1);
        let work = pin!(blocking.run(|| ()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(work.poll(&mut context).is_pending());
    }
}
