//! The hard state's file: two slots, both written at every change.
//!
//! Promises: what was saved survives the loss of either slot, so that neither a crash in the middle of a write nor rot
//! in one place makes a node forget a vote; when both are bad it refuses, for a node that forgot its vote may vote
//! twice. Must not know: what the vote is for.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::LogOptions;
use super::checkpoint::write_whole;
use super::mutant::{Mutant, Mutation};
use super::segment::damage;
use crate::error::{OpenError, WriteError};
use crate::format::fields::FormatError;
use crate::format::hard_state::{HARD_STATE_SIZE, HARD_STATE_SLOT, HARD_STATE_VERSION, HardState};
use crate::io::{Disk, DiskFile};
use crate::types::Identity;

const SLOTS: [u64; 2] = [0, HARD_STATE_SLOT];

/// The sequence of a hard state that was created and never changed.
pub(super) const NEW_SEQUENCE: u64 = 1;

#[derive(Debug)]
pub(super) struct HardStateFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    current: HardState,
    /// Where the slot that was bad or behind at open stands; it is like the other now.
    rewritten: Option<u64>,
    mutation: Mutation,
}

impl HardStateFile {
    /// Writes the hard state of a new log, durably.
    pub(super) fn create(
        disk: &dyn Disk,
        options: &LogOptions,
        group: u32,
    ) -> Result<(), OpenError> {
        let state = HardState {
            group,
            owner: options.identity,
            sequence: NEW_SEQUENCE,
            vote: None,
            purged: None,
            first: 0,
            chain_start: 0,
            restarted: false,
        };
        let slot = usize::try_from(HARD_STATE_SLOT).expect("4096");
        let mut bytes = vec![0; 2 * slot];
        for at in SLOTS {
            let at = usize::try_from(at).expect("4096");
            crate::format::fields::put(&mut bytes, at, &state.encode());
        }
        let path = options.hard_state_path();
        write_whole(disk, &options.dir, &path, &bytes)
            .map_err(|source| OpenError::Io { file: path, source })
    }

    /// Opens the hard state. A slot that is bad or behind is made like the other.
    pub(super) fn open(
        disk: &dyn Disk,
        options: &LogOptions,
        group: u32,
        mutation: Mutation,
    ) -> Result<Self, OpenError> {
        let path = options.hard_state_path();
        let failed = |source| OpenError::Io {
            file: options.hard_state_path(),
            source,
        };
        let file = disk.open(&path).map_err(failed)?;
        let [one, two] = SLOTS.map(|at| {
            let mut bytes = [0; HARD_STATE_SIZE];
            // A slot that cannot be read, or that a short file lacks, is a bad one: the other holds every vote.
            match file.read_at(&mut bytes, at) {
                Ok(()) => HardState::decode(&bytes),
                Err(error) => {
                    let what = format!("hard state: cannot be read: {error}");
                    Err(FormatError::bad(0, what))
                }
            }
        });
        let equal = one == two;
        let found_first = one.clone();
        let current = newest(&path, one, two)?;
        check_owner(&path, &current, options.identity, group)?;
        let mut opened = Self {
            file,
            path,
            current,
            rewritten: None,
            mutation,
        };
        if !equal {
            // The bad one first: torn while the other was bad, the good one would take the vote with it.
            let [first, second] = SLOTS;
            let slots = if found_first == Ok(current) {
                [second, first]
            } else {
                [first, second]
            };
            opened.rewritten = slots.first().copied();
            opened.write(slots).map_err(|error| OpenError::Io {
                file: opened.path.clone(),
                source: std::io::Error::other(error.cause),
            })?;
        }
        Ok(opened)
    }

    /// Where a slot was rewritten at open.
    pub(super) fn rewritten(&self) -> Option<u64> {
        self.rewritten
    }

    pub(super) fn current(&self) -> &HardState {
        &self.current
    }

    /// Changes the hard state; durable on return.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut HardState)) -> Result<(), WriteError> {
        change(&mut self.current);
        self.current.sequence += 1;
        self.write(SLOTS)
    }

    /// One slot is written when the other is durable: a crash tears at most one.
    fn write(&mut self, slots: [u64; 2]) -> Result<(), WriteError> {
        let bytes = self.current.encode();
        for at in slots {
            self.file
                .write_at(&[IoSlice::new(&bytes)], at)
                .and_then(|()| self.sync())
                .map_err(|error| WriteError::of(&self.path, &error))?;
        }
        Ok(())
    }

    fn sync(&self) -> std::io::Result<()> {
        if self.mutation.is(Mutant::VoteNotSynced) {
            return Ok(());
        }
        self.file.sync()
    }
}

type Slot = Result<HardState, FormatError>;

fn newest(path: &Path, one: Slot, two: Slot) -> Result<HardState, OpenError> {
    for slot in [&one, &two] {
        if let Err(FormatError::Version { found }) = slot {
            return Err(OpenError::Version {
                file: path.to_owned(),
                found: *found,
                known: HARD_STATE_VERSION,
            });
        }
    }
    match (one, two) {
        (Ok(one), Ok(two)) if two.sequence > one.sequence => Ok(two),
        (Ok(state), _) | (_, Ok(state)) => Ok(state),
        (Err(error), Err(_)) => Err(damage(path, 0, error).into()),
    }
}

fn check_owner(
    path: &Path,
    state: &HardState,
    identity: Identity,
    group: u32,
) -> Result<(), OpenError> {
    if (state.owner, state.group) == (identity, group) {
        return Ok(());
    }
    let whose = |owner: &Identity, group| {
        format!(
            "node {} of {}",
            owner.node_id,
            owner_text(owner.cluster_id, group)
        )
    };
    let (expected, found) = (whose(&identity, group), whose(&state.owner, state.group));
    Err(foreign(path, expected, found))
}

/// Which group of which cluster.
pub(super) fn owner_text(cluster_id: [u8; 16], group: u32) -> String {
    format!("cluster {}, group {group}", Uuid::from_bytes(cluster_id))
}

/// A file that belongs elsewhere.
pub(super) fn foreign(path: &Path, expected: String, found: String) -> OpenError {
    OpenError::Foreign {
        file: path.to_owned(),
        expected,
        found,
    }
}
