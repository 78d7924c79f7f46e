//! A sync that waits until a test lets it go on.
//!
//! Promises: dropping the guard lets it go on, so that no failing test hangs. Must not know: files.

use parking_lot::{Condvar, MutexGuard};

use super::{SimDisk, State};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Gate {
    #[default]
    Open,
    /// The next sync waits.
    Armed,
    /// One waits.
    Holding,
}

impl Gate {
    /// Waits when the gate is armed.
    pub(super) fn pass(state: &mut MutexGuard<'_, State>, changed: &Condvar) {
        if state.gate == Self::Armed {
            state.gate = Self::Holding;
            changed.notify_all();
            while state.gate == Self::Holding {
                changed.wait(state);
            }
        }
    }
}

/// The next sync, held from [`SimDisk::hold_next_sync`] until this is dropped.
#[derive(Debug)]
pub struct HeldSync {
    disk: SimDisk,
}

impl HeldSync {
    pub(super) fn arm(disk: SimDisk) -> Self {
        disk.state().gate = Gate::Armed;
        Self { disk }
    }

    /// Blocks until there is a sync that waits.
    pub fn wait(&self) {
        let mut state = self.disk.state();
        while state.gate == Gate::Armed {
            self.disk.shared.gate.wait(&mut state);
        }
    }

    /// Lets it go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for HeldSync {
    fn drop(&mut self) {
        self.disk.release_sync();
    }
}
