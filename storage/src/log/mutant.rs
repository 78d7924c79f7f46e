//! Deliberate bugs, one at a time: each is what a careless change would make of a line that a promise hangs on, and the
//! crash and corruption suites must catch it. A suite that cannot fail proves nothing.
//!
//! Promises: without the feature `mutants`, which only tests switch on, there are none: [`Mutation::is`] is `false` at
//! compile time, and nothing can ask for one. Must not know: which test catches which.

/// A deliberate bug.
#[cfg_attr(
    not(feature = "mutants"),
    expect(unreachable_pub, reason = "only tests can ask for one")
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mutant {
    /// Callers are answered when their frames were written, before the fsync.
    AckBeforeSync,
    /// The fsync of a sync group does nothing.
    SyncIsNoOp,
    /// A failed fsync is tried again, and believed when it then succeeds.
    RetryFailedSync,
    /// After a write that failed half-way, the next one goes behind the half that is there.
    ShortWriteNotUndone,
    /// A new segment's name is not made durable before frames are written into it.
    NoDirSyncAfterRoll,
    /// Whatever is bad at the end of the log counts as torn.
    CutOnAnyBadCrc,
    /// A vote is answered without an fsync.
    VoteNotSynced,
    /// The watermark stays above a truncation.
    WatermarkNotLowered,
    /// A purge removes files before it is durable that they may go.
    PurgeBeforeHardState,
    /// A checkpoint or snapshot gets its name before its bytes are durable.
    RenameBeforeSync,
    /// An entry of a sealed segment is handed out without a look at its crc.
    SealedReadUnchecked,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::AckBeforeSync,
        Self::SyncIsNoOp,
        Self::RetryFailedSync,
        Self::ShortWriteNotUndone,
        Self::NoDirSyncAfterRoll,
        Self::CutOnAnyBadCrc,
        Self::VoteNotSynced,
        Self::WatermarkNotLowered,
        Self::PurgeBeforeHardState,
        Self::RenameBeforeSync,
        Self::SealedReadUnchecked,
    ];
}

/// The bug that a log was opened with: none, but in tests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mutation {
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Mutation {
    #[cfg(feature = "mutants")]
    pub(super) fn of(mutant: Option<Mutant>) -> Self {
        Self { mutant }
    }

    /// Whether it is this one.
    #[cfg(feature = "mutants")]
    pub(super) fn is(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether it is this one.
    #[cfg(not(feature = "mutants"))]
    #[expect(
        clippy::unused_self,
        reason = "there are no bugs to ask about without the feature"
    )]
    pub(super) const fn is(self, _: Mutant) -> bool {
        false
    }
}
