//! Truncating: a leader's log differs from here on, and ours must go.
//!
//! Promises: on return no reader sees the entries; when `done` is called they cannot come back. A sealed segment is
//! committed and is never truncated. Must not know: why.

use std::sync::Arc;

use super::Done;
use super::queue::{Job, Mark, Truncate};
use super::segment::Active;
use super::shared::Shared;
use super::state::State;
use crate::error::WriteError;
use crate::format::segment_header::SEGMENT_HEADER_SIZE;

/// Drops every entry behind `index`, or all.
pub(super) fn truncate_after(
    shared: &Shared,
    index: Option<u64>,
    done: Done,
) -> Result<(), WriteError> {
    let mut state = shared.state.write();
    let cut = index.map_or(0, |index| index + 1).max(state.first);
    if cut >= state.next_index() {
        return shared.queue.push([Job::Pass(done)]);
    }
    let job = cut_state(&mut state, cut, done);
    shared.queue.push([Job::Truncate(job)])
}

/// Makes `cut` the next index, which is at or above the first: the job that makes it so on disk.
pub(super) fn cut_state(state: &mut State, cut: u64, done: Done) -> Truncate {
    assert!(
        cut >= state.sealing,
        "entry {cut} is in a sealed segment, hence committed: it cannot be truncated"
    );
    let chain = state.chain_before(cut);
    // A segment of which nothing but purged entries would stay goes too, as a purge up to there lets it go.
    let keep = if cut > state.first {
        state.active.partition_point(|active| active.base() < cut)
    } else {
        0
    };
    let delete = state
        .active
        .split_off(keep)
        .into_iter()
        .map(|active| active.file)
        .collect();
    let sealing = state.sealing;
    let file_cut = state
        .active
        .back_mut()
        // One that is on its way to be sealed ends here, and its footer must not be cut off.
        .filter(|active| active.base() >= sealing)
        .map(|active| {
            active.cut(cut);
            (Arc::clone(&active.file), active.end)
        });
    let kept = cut.checked_sub(1).filter(|kept| *kept >= state.first);
    state.last = kept.and_then(|kept| state.id(kept));
    state.chain = chain;
    while state.runs.back().is_some_and(|run| run.index >= cut) {
        state.runs.pop_back();
    }
    state.tail.cut(cut);
    state.drop_rows_from(cut);
    if state.durable.is_some_and(|durable| durable.index >= cut) {
        state.durable = state.last;
        state.durable_chain = chain;
    }
    state.cuts.push_back(cut);
    let mark = mark(state, chain);
    Truncate {
        cut: file_cut,
        delete,
        mark,
        done,
    }
}

/// The end of the log as it is now.
pub(super) fn mark(state: &State, chain_crc: u32) -> Mark {
    let (base, position) = match (state.active.back(), state.sealed.back()) {
        (Some(active), _) => (Active::base(active), active.end),
        (None, Some(sealed)) => (sealed.base(), sealed.footer().frames_end),
        (None, None) => (state.first, SEGMENT_HEADER_SIZE as u64),
    };
    Mark {
        last: state.last,
        base,
        position,
        chain_crc,
    }
}
