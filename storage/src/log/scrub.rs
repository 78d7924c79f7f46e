//! The scrubber: reads every sealed segment from the disk, again and again, so that rot is found before the other
//! copies of what it took have rotted too.
//!
//! Promises: a pass verifies every byte of every segment that was sealed when it began, and of those that are sealed
//! meanwhile; a segment that is purged or rewritten meanwhile is no damage; what is known of a segment is what the last
//! look at it found. A step is bounded by bytes and holds no lock while it reads. Must not know: pace, clocks, repair.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use super::segment::{Sealed, damage};
use super::shared::Shared;
use super::verify::{Expected, Fault, Faults, Verification};
use super::{Log, repair};
use crate::error::{ReadError, WriteError};
use crate::format::fields::FormatError;

/// Faults that [`Scrubber::faults`] lists; more are counted.
const FAULTS_LISTED_MAX: usize = 100;

/// A pass takes in segments that are sealed while it runs, until it has read so many times what there was when it began:
/// one that is slower than the log grows would never end.
const GROWTH_MAX: u64 = 2;

/// What one step of a scrubber did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Bytes that were read from the disk.
    pub read: u64,
    /// Damage that was not known before the step.
    pub found: Vec<Fault>,
    /// How far the pass has come.
    pub progress: ScrubProgress,
    /// Whether the step ended the pass. The next one begins another.
    pub ended_pass: bool,
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Bytes that this pass has verified.
    pub verified: u64,
    /// Bytes that it will have verified when nothing is sealed or purged any more.
    pub total: u64,
    /// Base index of the segment that is being verified; `None` between two segments.
    pub segment: Option<u64>,
}

/// Verifies sealed segments, a step at a time. It does not keep its log open.
#[derive(Debug)]
pub struct Scrubber {
    shared: Arc<Shared>,
    /// Segments of this base and above are still to be verified in this pass.
    next: u64,
    current: Option<(Arc<Sealed>, Verification)>,
    /// Bytes of the segments that this pass is done with.
    verified: u64,
    /// Bytes that were there when the pass began; `None` between two passes.
    total_at_start: Option<u64>,
    /// What the last look at each segment found, by base index; with the segment, for it may be rewritten.
    faults: BTreeMap<u64, (Weak<Sealed>, Faults)>,
}

impl Log {
    /// A scrubber of this log's sealed segments, at the beginning of a pass.
    pub fn scrubber(&self) -> Scrubber {
        Scrubber {
            shared: Arc::clone(&self.handle.shared),
            next: 0,
            current: None,
            verified: 0,
            total_at_start: None,
            faults: BTreeMap::new(),
        }
    }
}

impl Scrubber {
    /// Goes on with the pass, or begins one, until about `size_max` bytes were read: at least a frame or a part of a
    /// footer, and beyond `size_max` by no more than a frame. May read from disk for as long as that takes.
    ///
    /// An error means that a file could not be opened for a reason that is no damage; the next step tries again.
    pub fn step(&mut self, size_max: u64) -> Result<ScrubStep, ReadError> {
        let mut step = ScrubStep::default();
        self.drop_gone();
        self.total_at_start
            .get_or_insert_with(|| sealed_size(&self.shared));
        loop {
            let Some((sealed, mut verification)) = self.take(&mut step)? else {
                step.progress = self.progress();
                step.ended_pass = true;
                self.end_pass();
                return Ok(step);
            };
            let room = size_max.saturating_sub(step.read);
            // What readers have mapped would be read from memory.
            let (position, size) = verification.ahead(room);
            sealed.forget(position, size);
            step.read += verification.step(room);
            if verification.is_done() {
                self.finish(&sealed, verification.faults().clone(), &mut step);
            } else {
                self.current = Some((sealed, verification));
            }
            if step.read >= size_max {
                step.progress = self.progress();
                return Ok(step);
            }
        }
    }

    /// Builds the rows of footers again that a step found damaged over frames that are whole: nothing of a peer is needed
    /// for that. A restart does so for the rest of a footer.
    /// The segments are written anew, whatever the pace, and take the old ones' place on the writer thread; what cannot be
    /// built again stays damage.
    pub fn rebuild_footers(&self, step: &ScrubStep) {
        for (base, (_, faults)) in &self.faults {
            let is_new = faults.list.iter().any(|fault| step.found.contains(fault));
            if !is_new || faults.list.iter().any(|fault| fault.entries.is_some()) {
                continue;
            }
            let base = *base;
            let done = Box::new(move |rebuilt: Result<(), WriteError>| match rebuilt {
                Ok(()) => tracing::info!(segment = base, "a damaged footer was built again"),
                Err(error) => tracing::error!(segment = base, %error, "a damaged footer stays"),
            });
            if let Err(error) = repair::repair_sealed(&self.shared, base, [], done) {
                tracing::warn!(segment = base, %error, "a damaged footer cannot be built again");
            }
        }
    }

    fn progress(&self) -> ScrubProgress {
        let current = self.current.as_ref();
        let left: u64 = {
            let state = self.shared.state.read();
            let left = state.sealed.iter().filter(|sealed| {
                sealed.base() >= self.next
                    && current.is_none_or(|(current, _)| !Arc::ptr_eq(current, sealed))
            });
            left.map(|sealed| sealed.size()).sum()
        };
        let (verified, size) = current.map_or((0, 0), |(sealed, verification)| {
            (verification.verified(), sealed.size())
        });
        ScrubProgress {
            verified: self.verified + verified,
            total: self.verified + size + left,
            segment: current.map(|(sealed, _)| sealed.base()),
        }
    }

    /// The damage that is known of: of every segment what the last look at it found, at most 100 places.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults
            .values()
            .flat_map(|(_, faults)| &faults.list)
            .take(FAULTS_LISTED_MAX)
            .cloned()
            .collect()
    }

    /// How many damaged places are known of, also those that [`Scrubber::faults`] has no room for.
    pub fn faults_count(&self) -> u64 {
        self.faults.values().map(|(_, faults)| faults.count).sum()
    }

    /// Forgets the damage of segments that were purged or rewritten, without a look at the others.
    pub fn refresh(&mut self) {
        self.drop_gone();
    }

    /// Forgets what is purged, and begins anew with a segment that was rewritten.
    fn drop_gone(&mut self) {
        let state = self.shared.state.read();
        self.faults.retain(|base, (seen, _)| {
            let sealed = state.sealed_of(*base);
            sealed.is_some_and(|sealed| seen.as_ptr() == Arc::as_ptr(sealed))
        });
        let is_gone = self.current.as_ref().is_some_and(|(current, _)| {
            let sealed = state.sealed_of(current.base());
            !sealed.is_some_and(|sealed| Arc::ptr_eq(sealed, current))
        });
        if is_gone {
            self.current = None;
        }
    }

    /// The segment to go on with; `None` at the end of the pass.
    fn take(
        &mut self,
        step: &mut ScrubStep,
    ) -> Result<Option<(Arc<Sealed>, Verification)>, ReadError> {
        if let Some(current) = self.current.take() {
            return Ok(Some(current));
        }
        let room = self.total_at_start.unwrap_or_default() * GROWTH_MAX;
        while self.verified <= room {
            let Some(sealed) = self.next_sealed() else {
                return Ok(None);
            };
            if let Some(verification) = self.open(&sealed, step)? {
                return Ok(Some((sealed, verification)));
            }
        }
        Ok(None)
    }

    fn next_sealed(&self) -> Option<Arc<Sealed>> {
        let state = self.shared.state.read();
        let at = state
            .sealed
            .partition_point(|sealed| sealed.base() < self.next);
        state.sealed.get(at).map(Arc::clone)
    }

    /// Opens a segment's file; `None` when there is nothing to verify: it is purged, or its file is gone.
    fn open(
        &mut self,
        sealed: &Arc<Sealed>,
        step: &mut ScrubStep,
    ) -> Result<Option<Verification>, ReadError> {
        match self.shared.disk.open_to_read(sealed.path()) {
            Ok(file) => Ok(Some(Verification::new(
                sealed.path(),
                file,
                Expected {
                    cluster_id: self.shared.options.identity.cluster_id,
                    group: self.shared.group,
                    base: sealed.base(),
                    size: sealed.size(),
                    is_sealed: true,
                    footer: Some(sealed.footer().clone()),
                    last: None,
                    durable: None,
                },
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let base = sealed.base();
                let is_purged = self.shared.state.read().sealed_of(base).is_none();
                let mut faults = Faults::default();
                if !is_purged {
                    let error = FormatError::bad(0, "the file of a sealed segment is gone");
                    faults.push(Fault {
                        damage: damage(sealed.path(), 0, error),
                        entries: Some(base..=sealed.last()),
                    });
                }
                self.finish(sealed, faults, step);
                Ok(None)
            }
            Err(source) => Err(ReadError::Io {
                file: sealed.path().to_owned(),
                source,
            }),
        }
    }

    /// A segment was verified as a whole.
    fn finish(&mut self, sealed: &Arc<Sealed>, faults: Faults, step: &mut ScrubStep) {
        let base = sealed.base();
        self.verified += sealed.size();
        self.next = base + 1;
        let before = self.faults.remove(&base);
        let is_new = |fault: &&Fault| {
            before
                .as_ref()
                .is_none_or(|(_, before)| !before.list.contains(fault))
        };
        step.found
            .extend(faults.list.iter().filter(is_new).cloned());
        if faults.count > 0 {
            self.faults.insert(base, (Arc::downgrade(sealed), faults));
        }
    }

    fn end_pass(&mut self) {
        self.next = 0;
        self.verified = 0;
        self.total_at_start = None;
    }
}

fn sealed_size(shared: &Shared) -> u64 {
    let state = shared.state.read();
    state.sealed.iter().map(|sealed| sealed.size()).sum()
}
