//! Opening a log: what a crash left behind is set right, and what may have been acknowledged and is damaged is refused.
//!
//! Promises: when it returns, everything that is in the log is durable; an error names file and position, and then
//! nothing was cut. Must not know: what entries mean.

mod begin;
mod candidate;
mod segments;
mod survey;
mod whole;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;

pub(super) use self::begin::Begun;
pub(super) use self::segments::Opening;
use self::survey::Last;
pub(super) use self::survey::{Segment, Survey};
pub(super) use self::whole::{Start, Whole};
use super::checkpoint;
use super::hard_state::HardStateFile;
use super::mutant::Mutation;
use super::queue::Queue;
use super::recovery::Recovery;
use super::scan::Tail;
use super::segment::{checkpoint_path, damage};
use super::shared::Shared;
use super::spare::SpareMaker;
use super::state::State;
use super::tail::Tail as Recent;
use super::truncate::mark;
use super::watermark::Found;
use super::writer::Writer;
use super::{Checkpoint, LogOptions};
use crate::error::{Damage, OpenError, Verdict, WriteError};
use crate::format::fields::FormatError;
use crate::format::segment_footer::TRAILER_SIZE;
use crate::io::Disk;
use crate::types::EntryId;

/// Bytes that are written at once when the last sync group is written again.
const REWRITE_SIZE: usize = 1 << 20;

fn io_error(file: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        file: file.to_owned(),
        source,
    }
}

fn write_error(file: &Path) -> impl Fn(WriteError) -> OpenError {
    move |error| OpenError::Io {
        file: file.to_owned(),
        source: io::Error::other(error.cause),
    }
}

/// Opens a log: what its handles share, and its writer, which is still to be started.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    mutation: Mutation,
) -> Result<(Arc<Shared>, Writer, Recovery), OpenError> {
    let mut recovery = Recovery::default();
    let mut begun = Begun::begin(disk.as_ref(), &options, mutation, &mut recovery)?;
    let opening = begun.opening(disk.as_ref(), &options, mutation);
    opening.delete_purged(&mut begun.files, &mut recovery)?;
    let log_dir = options.log_dir();
    let Begun {
        group,
        has_snapshot,
        files,
        hard_state,
        mut watermark,
        found,
    } = begun;
    let mut survey = opening.survey(&files)?;
    if let Some(refusal) = survey.refusal() {
        return Err(refusal);
    }
    let mut state = state(&options, &hard_state, &files.boundaries);
    let sync_group = fill(&mut state, &mut survey, &opening);
    check_watermark(&state, &opening)?;
    let bounds = survey.rebuilt_from;
    load_checkpoints(&mut state, &opening, has_snapshot, bounds, &mut recovery)?;
    if found == Found::Bad && recovery.find(Verdict::NewLog).is_none() {
        recovery.note(Verdict::WatermarkLost, &options.watermark_path(), 0, 0);
    }
    opening.make_good(&survey, &mut state, &mut recovery)?;
    settle(&state, &survey)?;
    disk.sync_dir(&log_dir).map_err(io_error(&log_dir))?;
    let end = mark(&state, state.chain);
    watermark
        .set(&end, sync_group)
        .map_err(write_error(&options.watermark_path()))?;
    let shared = Arc::new(Shared {
        queue: Queue::new(options.queue_size),
        repairing: Arc::default(),
        options,
        group,
        disk,
        state: RwLock::new(state),
        is_low: AtomicBool::new(false),
        mutation,
    });
    let writer = Writer {
        shared: Arc::clone(&shared),
        hard_state,
        watermark,
        sync_group,
        spare: SpareMaker::start(Arc::clone(&shared.disk), &shared.options),
    };
    Ok((shared, writer, recovery))
}

fn state(options: &LogOptions, hard_state: &HardStateFile, boundaries: &BTreeSet<u64>) -> State {
    let hard_state = hard_state.current();
    State {
        purged: hard_state.purged,
        first: hard_state.first,
        chain_start: hard_state.chain_start,
        last: None,
        chain: hard_state.chain_start,
        durable: None,
        durable_chain: hard_state.chain_start,
        cuts: VecDeque::new(),
        runs: VecDeque::new(),
        sealed: VecDeque::new(),
        sealed_size: 0,
        active: VecDeque::new(),
        tail: Recent::new(hard_state.first, options.tail_size),
        directory: HashMap::new(),
        live: HashMap::new(),
        refused: VecDeque::new(),
        noted: hard_state.first,
        vote: hard_state.vote,
        boundaries: boundaries.clone(),
        sealing: 0,
        checkpoint: None,
        snapshot: None,
    }
}

/// Puts the segments into the state: the last sync group.
fn fill(state: &mut State, survey: &mut Survey, opening: &Opening<'_>) -> u64 {
    let mut sync_group = match opening.watermark {
        Found::Known(mark) => mark.sync_group,
        Found::Bad => 0,
    };
    for sealed in survey.sealed.drain(..) {
        let sealed = Arc::new(sealed);
        sync_group = sync_group.max(sealed.footer().sync_group);
        sealed.terms().for_each(|id| state.push_run(id));
        state.list(&sealed);
        state.chain = sealed.footer().chain_end;
        state.noted = state.noted.max(sealed.last() + 1);
        state.sealing = sealed.last() + 1;
        let last = sealed.last();
        state.last = state.runs.back().map(|run| EntryId {
            index: last,
            ..*run
        });
        state.push_sealed(sealed);
    }
    let count = survey.scanned.len();
    for (number, (mut file, scan)) in survey.scanned.drain(..).enumerate() {
        if number + 1 == count {
            // The last one is appended to, also when it is the last because those behind it held nothing.
            file.capacity = opening
                .options
                .segment_size
                .max(scan.end + TRAILER_SIZE as u64);
            survey.last = Some(Last {
                end: scan.end,
                start: scan.stamp.map_or(scan.end, |stamp| stamp.start),
                is_cut: scan.tail != Tail::Clean,
            });
        }
        sync_group = sync_group.max(scan.stamp.map_or(0, |stamp| stamp.group));
        scan.ids.iter().for_each(|id| state.push_run(*id));
        state.chain = scan.chain_crc;
        state.last = scan.ids.last().copied().or(state.last);
        state.active.push_back(super::segment::Active {
            file: Arc::new(file),
            frames: scan.frames,
            end: scan.end,
        });
    }
    if state.last.is_some_and(|last| last.index < state.first) {
        // All that is left is purged; its file stays for the entries that will follow.
        state.last = None;
    }
    while state
        .runs
        .get(1)
        .is_some_and(|run| run.index <= state.first)
    {
        state.runs.pop_front();
    }
    state.durable = state.last;
    state.durable_chain = state.chain;
    state.tail = Recent::new(state.next_index(), opening.options.tail_size);
    sync_group
}

/// Makes the last segment durable as it is: what a crash tore is cut off, and the last sync group is written again, since
/// its bytes may be in the page cache alone and marked clean there by an fsync that failed.
fn settle(state: &State, survey: &Survey) -> Result<(), OpenError> {
    let (Some(active), Some(last)) = (state.active.back(), &survey.last) else {
        return Ok(());
    };
    let file = &active.file;
    let failed = io_error(&file.path);
    let disk_file = file.file();
    if last.is_cut {
        disk_file.set_size(last.end).map_err(&failed)?;
    }
    let mut position = last.start;
    while position < last.end {
        let size = usize::try_from(last.end - position)
            .map_or(REWRITE_SIZE, |size| size.min(REWRITE_SIZE));
        let mut bytes = vec![0; size];
        disk_file
            .read_at(&mut bytes, position)
            .and_then(|()| disk_file.write_at(&[IoSlice::new(&bytes)], position))
            .map_err(&failed)?;
        position += size as u64;
    }
    file.reserve()
        .and_then(|()| disk_file.sync())
        .map_err(&failed)
}

/// The log must reach to where it was known to be durable, and be the same there.
fn check_watermark(state: &State, opening: &Opening<'_>) -> Result<(), OpenError> {
    let Found::Known(mark) = opening.watermark else {
        return Ok(());
    };
    let Some(durable) = mark.last.filter(|last| last.index >= state.first) else {
        return Ok(());
    };
    let path = super::segment::segment_path(&opening.options.log_dir(), mark.base);
    let lost = |what: String| Damage {
        file: path.clone(),
        position: mark.position,
        what,
    };
    if state.next_index() <= durable.index {
        let index = durable.index;
        return Err(lost(format!(
            "the log was durable up to entry {index}, which is gone"
        ))
        .into());
    }
    if state.id(durable.index) != Some(durable) {
        return Err(lost(format!(
            "entry {durable:?} was durable, another one stands there"
        ))
        .into());
    }
    let frame = state
        .active_of(durable.index)
        .and_then(|active| active.frame(durable.index));
    if frame.is_some_and(|frame| frame.chain_crc != mark.chain_crc) {
        return Err(lost(format!("another entry {} was durable", durable.index)).into());
    }
    Ok(())
}

/// The snapshot, and the newest checkpoint that the log reaches to.
fn load_checkpoints(
    state: &mut State,
    opening: &Opening<'_>,
    has_snapshot: bool,
    rebuilt_from: Option<u64>,
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    let options = opening.options;
    let mut bad: Option<Damage> = None;
    let mut load = |path: &Path, read| -> Result<Option<Checkpoint>, OpenError> {
        match read {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            // An older one and the entries behind it give the same state.
            Err(OpenError::Damaged(damage)) => {
                recovery.note(Verdict::LostCheckpoint, path, damage.position, 0);
                bad.get_or_insert(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    if has_snapshot {
        let path = options.snapshot_path();
        let read = checkpoint::read(opening.disk, &path, options, opening.group);
        state.snapshot = load(&path, read)?;
    }
    let last = state.last.or(state.purged);
    // Apply must pass by every segment whose footer is to be written.
    let usable = |found: &Checkpoint| {
        last.is_some_and(|last| found.applied.index <= last.index)
            && rebuilt_from.is_none_or(|base| found.applied.index < base)
    };
    let mut newest = None;
    let mut lost = Vec::new();
    for boundary in state.boundaries.iter().rev() {
        let path = checkpoint_path(&options.log_dir(), *boundary);
        let read = checkpoint::read_boundary(opening.disk, *boundary, options, opening.group);
        let found = load(&path, read)?;
        if found.is_none() {
            lost.push(*boundary);
        }
        newest = found.filter(usable);
        if newest.is_some() {
            break;
        }
    }
    // Written again when apply comes by.
    state.boundaries.retain(|boundary| !lost.contains(boundary));
    let snapshot = state
        .snapshot
        .clone()
        .filter(|found| rebuilt_from.is_none_or(|base| found.applied.index < base));
    state.checkpoint = [newest, snapshot]
        .into_iter()
        .flatten()
        .max_by_key(|checkpoint| checkpoint.applied.index);
    let Some(purged) = state.purged.map(|purged| purged.index) else {
        return Ok(());
    };
    let reached = state.checkpoint.as_ref().map(|found| found.applied.index);
    if reached >= Some(purged) {
        return Ok(());
    }
    // Nothing intact reaches to where the entries begin: the state cannot be had from here.
    let lost = || {
        let what = format!(
            "entries up to {purged} are purged, and no checkpoint or snapshot that reaches there is left"
        );
        damage(&options.snapshot_path(), 0, FormatError::bad(0, what))
    };
    Err(bad.unwrap_or_else(lost).into())
}
