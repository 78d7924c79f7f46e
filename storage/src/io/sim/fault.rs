//! Which call of a simulated disk fails, how, and what of it takes effect all the same.
//!
//! Promises: a fault depends on the number of calls alone. Must not know: files.

use std::io;

use rustix::io::Errno;

/// A kind of call, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the methods of `Disk` and `DiskFile`")]
pub enum Call {
    Write,
    Sync,
    Read,
    Allocate,
    SetSize,
    Create,
    Rename,
    Remove,
    SyncDir,
}

impl Call {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Write,
        Self::Sync,
        Self::Read,
        Self::Allocate,
        Self::SetSize,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncDir,
    ];
}

/// Calls that fail: with `EIO`, from the given one on, unless something else is said.
#[derive(Debug, Clone)]
pub struct Fault {
    calls: Vec<Call>,
    left: u64,
    errno: Errno,
    is_once: bool,
    is_spent: bool,
    pub(super) partly: usize,
    pub(super) marks_clean: bool,
}

impl Fault {
    /// After `left` more calls of these kinds, counted together, every one fails. A write that fails writes nothing. A
    /// sync that fails makes nothing durable and leaves what it should have written marked clean, as Linux does: a later
    /// sync returns without an error and does not write it either.
    pub fn after(left: u64, calls: &[Call]) -> Self {
        Self {
            calls: calls.to_vec(),
            left,
            errno: Errno::IO,
            is_once: false,
            is_spent: false,
            partly: 0,
            marks_clean: true,
        }
    }

    /// Only one call fails.
    #[must_use]
    pub fn once(self) -> Self {
        Self {
            is_once: true,
            ..self
        }
    }

    /// Fails with `ENOSPC`.
    #[must_use]
    pub fn no_space(self) -> Self {
        Self {
            errno: Errno::NOSPC,
            ..self
        }
    }

    /// A write that fails has written so many of its bytes.
    #[must_use]
    pub fn partly(self, size: usize) -> Self {
        Self {
            partly: size,
            ..self
        }
    }

    /// After a sync that failed, the next one writes what it should have written.
    #[must_use]
    pub fn keeps_dirty(self) -> Self {
        Self {
            marks_clean: false,
            ..self
        }
    }

    pub(super) fn error(&self) -> io::Error {
        self.errno.into()
    }
}

/// A full disk's answer.
pub(super) fn no_space() -> io::Error {
    Errno::NOSPC.into()
}

/// The faults that are planned, and the calls so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    counts: [u64; Call::ALL.len()],
    met: u64,
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// How many calls met a fault.
    pub(super) fn met(&self) -> u64 {
        self.met
    }

    pub(super) fn count(&self, call: Call) -> u64 {
        self.counts.get(call as usize).copied().unwrap_or_default()
    }

    /// Counts a call: the fault that it meets.
    pub(super) fn meet(&mut self, call: Call) -> Option<Fault> {
        if let Some(count) = self.counts.get_mut(call as usize) {
            *count += 1;
        }
        let mut met: Option<Fault> = None;
        for fault in &mut self.planned {
            if !fault.calls.contains(&call) || fault.is_spent {
                continue;
            }
            match fault.left.checked_sub(1) {
                Some(left) => fault.left = left,
                None if met.is_none() => {
                    fault.is_spent = fault.is_once;
                    met = Some(fault.clone());
                }
                None => {}
            }
        }
        self.met += u64::from(met.is_some());
        met
    }
}
