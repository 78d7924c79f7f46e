//! One repair of a sealed segment at a time, from its first look at the file until the new one has taken the old one's
//! place.
//!
//! Two at once would write the same file under the same name, and the writer thread would put the one in place that the
//! other is still writing. Must not know: what a repair does.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Who repairs now. The others wait.
#[derive(Debug, Default)]
pub(in crate::log) struct Turns {
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// The right to repair; given back when it is dropped, on whatever thread.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turn {
    /// Waits for it. Never to be called on the writer thread, which gives it back.
    pub(super) fn take(turns: &Arc<Turns>) -> Self {
        let mut taken = turns.taken.lock();
        while *taken {
            turns.given_back.wait(&mut taken);
        }
        *taken = true;
        Self(Arc::clone(turns))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.given_back.notify_one();
    }
}
