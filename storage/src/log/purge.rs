//! Purging: the oldest entries go, or all of them when the log restarts behind a snapshot.
//!
//! Promises: the last purged id is durable before a file goes; whole segments go, and within one the purge is logical.
//! Must not know: retention.

use super::Done;
use super::queue::{Job, Purge};
use super::shared::Shared;
use super::state::State;
use super::truncate::cut_state;
use crate::error::WriteError;
use crate::format::frame::chain_restart;
use crate::types::EntryId;

/// Drops every entry up to `id`, whose chain crc the caller may know when it is not here.
pub(super) fn purge(
    shared: &Shared,
    id: EntryId,
    chain_crc: Option<u32>,
    done: Done,
) -> Result<(), WriteError> {
    let mut state = shared.state.write();
    if state.purged.is_some_and(|purged| purged.index >= id.index) {
        return shared.queue.push([Job::Pass(done)]);
    }
    let mut jobs = Vec::with_capacity(2);
    let conflicts = state.id(id.index).is_some_and(|here| here != id);
    if conflicts {
        // A snapshot of another history: what stands at and behind that index was never committed.
        let cut = cut_state(&mut state, id.index, Box::new(|_| ()));
        jobs.push(Job::Truncate(cut));
    }
    let before_first = id.index < state.first;
    let purge = if id.index < state.next_index() && state.last.is_some() || before_first {
        purge_within(&mut state, id, done)
    } else {
        restart_behind(&mut state, id, chain_crc, done)
    };
    jobs.push(Job::Purge(purge));
    shared.queue.push(jobs)
}

/// The log goes on behind `id`, with the entries that it has.
fn purge_within(state: &mut State, id: EntryId, done: Done) -> Purge {
    let first = state.first.max(id.index + 1);
    let chain_start = match state.sealed_of(id.index) {
        // A damaged header costs the comparison of chains between nodes, nothing else.
        Some(sealed) => sealed
            .chain_crc(id.index)
            .unwrap_or_else(|_| chain_restart(id)),
        // Below the first there is nothing to drop, and the chain starts where it did.
        None if id.index < state.first => state.chain_start,
        None => state.chain_before(first),
    };
    let sealed = state.sealed.partition_point(|sealed| sealed.last() < first);
    let mut delete = state.drain_sealed(sealed);
    if state.sealed.is_empty() {
        let active = state
            .active
            .partition_point(|active| active.next_index() <= first);
        delete.extend(state.active.drain(..active).map(|active| active.base()));
    }
    let checkpoints = forget_below(state, first, &delete);
    state.purged = Some(id);
    state.first = first;
    state.chain_start = chain_start;
    if state.last.is_some_and(|last| last.index < first) {
        state.last = None;
    }
    if state
        .durable
        .is_none_or(|durable| durable.index <= id.index)
    {
        state.durable = Some(id);
        state.durable_chain = chain_start;
    }
    Purge {
        purged: id,
        chain_start,
        restart: false,
        delete,
        checkpoints,
        done,
    }
}

/// The log is empty and goes on at the next index.
fn restart_behind(state: &mut State, id: EntryId, chain_crc: Option<u32>, done: Done) -> Purge {
    let mut delete = state.drain_sealed(state.sealed.len());
    delete.extend(state.active.drain(..).map(|active| active.base()));
    let first = id.index + 1;
    let checkpoints = forget_below(state, first, &delete);
    state.runs.clear();
    state.purged = Some(id);
    state.first = first;
    state.chain_start = chain_crc.unwrap_or_else(|| chain_restart(id));
    state.chain = state.chain_start;
    state.last = None;
    state.durable = Some(id);
    state.durable_chain = state.chain_start;
    state.noted = first;
    // Nothing that the writer still writes of what was here will be durable in this log.
    state.cuts.push_back(0);
    Purge {
        purged: id,
        chain_start: state.chain_start,
        restart: true,
        delete,
        checkpoints,
        done,
    }
}

/// Forgets what is below `first`: the boundaries there whose checkpoints do not go with a deleted segment.
fn forget_below(state: &mut State, first: u64, deleted: &[u64]) -> Vec<u64> {
    state.drop_rows_below(first);
    state.tail.drop_below(first);
    let kept_base = state
        .sealed
        .front()
        .map_or(u64::MAX, |sealed| sealed.base());
    state.directory.retain(|_, ranges| {
        let gone = ranges.partition_point(|range| range.base < kept_base);
        ranges.drain(..gone);
        !ranges.is_empty()
    });
    // The run that the first entry belongs to stays.
    while state.runs.get(1).is_some_and(|run| run.index <= first) {
        state.runs.pop_front();
    }
    state.noted = state.noted.max(first);
    let kept = state.boundaries.split_off(&first);
    let gone = std::mem::replace(&mut state.boundaries, kept);
    gone.into_iter()
        .filter(|boundary| !deleted.contains(boundary))
        .collect()
}
