//! What retention removes, from what the log holds: which offsets to trim, and up to which boundary nothing is left alive.
//!
//! Promises: pure; nothing is removed that no bound asks for. Must not know: Raft, files, clocks.

use std::collections::HashMap;

use inkstone_storage::log::{Extent, LogExtent};
use inkstone_storage::types::LogId;

use crate::raft::LogInfo;

/// Of a boundary, when each log that age bounds was last appended to before it.
pub(super) type AppendTimes = HashMap<LogId, i64>;

/// The parts of one log, oldest first: what it has in each segment that is sealed, and behind them in the rest.
fn parts(log: LogId, sealed: &[Extent], live: &[LogExtent]) -> Vec<(u64, LogExtent)> {
    let of = |extents: &[LogExtent]| {
        let found = extents.binary_search_by_key(&log, |extent| extent.log);
        found.ok().map(|at| extents[at])
    };
    let sealed = sealed
        .iter()
        .filter_map(|segment| Some((segment.last + 1, of(&segment.logs)?)));
    sealed
        .chain(of(live).map(|extent| (u64::MAX, extent)))
        .collect()
}

/// The first offset that a log should have; `None`: it has it. `times`: by boundary.
pub(super) fn trim(
    info: &LogInfo,
    sealed: &[Extent],
    live: &[LogExtent],
    times: &HashMap<u64, AppendTimes>,
    now: i64,
) -> Option<u64> {
    let parts = parts(info.id, sealed, live);
    let by_age = info.retention.max_age_ms.map(|age| {
        let horizon = now.saturating_sub_unsigned(age.saturating_mul(1_000_000));
        expired(info, &parts, times, horizon)
    });
    let by_size = info
        .retention
        .max_bytes
        .map(|bytes| over_size(info, &parts, bytes));
    let offset = by_age.max(by_size)?;
    (offset > info.first_offset).then_some(offset)
}

/// The offset before which everything was appended before the horizon: append times never fall within a log, so what was
/// last appended before a boundary is the newest of all there.
fn expired(
    info: &LogInfo,
    parts: &[(u64, LogExtent)],
    times: &HashMap<u64, AppendTimes>,
    horizon: i64,
) -> u64 {
    if info.last_append_time < horizon {
        return info.next_offset;
    }
    let is_old = |boundary: u64| {
        let time = times.get(&boundary).and_then(|times| times.get(&info.id));
        time.is_some_and(|time| *time < horizon)
    };
    let old = parts.iter().rev().find(|(boundary, _)| is_old(*boundary));
    old.map_or(info.first_offset, |(_, part)| part.end_offset)
}

/// The offset that leaves at most `size_max` bytes, as far as averages of a segment tell. A part of a part is trimmed in
/// proportion: a log that shares its segments would else lose a segment's worth at a time.
fn over_size(info: &LogInfo, parts: &[(u64, LogExtent)], size_max: u64) -> u64 {
    let mut left = size_max;
    for (_, part) in parts.iter().rev() {
        if part.end_offset <= info.first_offset {
            break;
        }
        if part.size > left {
            let records = u128::from(part.end_offset - part.first_offset);
            let kept = records * u128::from(left) / u128::from(part.size);
            return part.end_offset - u64::try_from(kept).unwrap_or(u64::MAX);
        }
        left -= part.size;
    }
    info.first_offset
}

/// The boundary before which no log has a record that can be read: the base of the segment behind it. Segments without any
/// record are dead, too. `None`: the oldest segment is alive.
pub(super) fn boundary(
    sealed: &[Extent],
    first_offset: impl Fn(LogId) -> Option<u64>,
) -> Option<u64> {
    let is_dead = |segment: &&Extent| {
        let mut logs = segment.logs.iter();
        // A log that is not there was deleted.
        logs.all(|part| first_offset(part.log).is_none_or(|first| part.end_offset <= first))
    };
    let dead = sealed.iter().take_while(is_dead).last()?;
    Some(dead.last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Retention;

    const MS: i64 = 1_000_000;

    fn info(first_offset: u64, next_offset: u64, retention: Retention) -> LogInfo {
        LogInfo {
            id: LogId(1),
            name: "a".to_owned(),
            first_offset,
            next_offset,
            created_time: 0,
            last_append_time: 100 * MS,
            retention,
        }
    }

    fn part(log: u64, first_offset: u64, end_offset: u64, size: u64) -> LogExtent {
        LogExtent {
            log: LogId(log),
            first_offset,
            end_offset,
            size,
        }
    }

    fn segment(base: u64, logs: Vec<LogExtent>) -> Extent {
        Extent {
            base,
            last: base + 9,
            logs,
        }
    }

    /// Log 1: 0..10, 10..20 and, live, 20..30, of 100 bytes each.
    fn sealed() -> Vec<Extent> {
        vec![
            segment(0, vec![part(1, 0, 10, 100), part(2, 0, 5, 50)]),
            segment(10, vec![part(1, 10, 20, 100)]),
        ]
    }

    fn times(at: &[(u64, i64)]) -> HashMap<u64, AppendTimes> {
        at.iter()
            .map(|(boundary, ms)| (*boundary, AppendTimes::from([(LogId(1), ms * MS)])))
            .collect()
    }

    fn trimmed(info: &LogInfo, now_ms: i64) -> Option<u64> {
        let live = [part(1, 20, 30, 100)];
        let times = times(&[(10, 10), (20, 50)]);
        trim(info, &sealed(), &live, &times, now_ms * MS)
    }

    #[test]
    fn without_a_bound_nothing_is_trimmed() {
        assert_eq!(
            trimmed(&info(0, 30, Retention::default()), i64::MAX / MS),
            None
        );
    }

    #[test]
    fn age_counts_from_the_last_append_before_a_boundary() {
        let log = info(0, 30, Retention::of(Some(20), None));
        assert_eq!(trimmed(&log, 30), None, "exactly as old as may be");
        assert_eq!(trimmed(&log, 31), Some(10));
        assert_eq!(trimmed(&log, 70), Some(10));
        assert_eq!(trimmed(&log, 71), Some(20));
        assert_eq!(trimmed(&log, 120), Some(20));
        assert_eq!(trimmed(&log, 121), Some(30), "nobody has appended since");
        let done = info(20, 30, Retention::of(Some(20), None));
        assert_eq!(trimmed(&done, 71), None);
    }

    #[test]
    fn a_boundary_whose_times_are_not_known_is_not_old() {
        let log = info(0, 30, Retention::of(Some(20), None));
        let live = [part(1, 20, 30, 100)];
        assert_eq!(
            trim(&log, &sealed(), &live, &HashMap::new(), 115 * MS),
            None
        );
    }

    #[test]
    fn no_more_is_trimmed_than_the_bound_on_bytes_asks_for() {
        let bounded = |bytes| info(0, 30, Retention::of(None, Some(bytes)));
        assert_eq!(trimmed(&bounded(300), 0), None);
        assert_eq!(trimmed(&bounded(299), 0), Some(1));
        assert_eq!(trimmed(&bounded(250), 0), Some(5));
        assert_eq!(trimmed(&bounded(200), 0), Some(10));
        assert_eq!(trimmed(&bounded(40), 0), Some(26));
        let done = info(26, 30, Retention::of(None, Some(40)));
        assert_eq!(trimmed(&done, 0), None);
    }

    #[test]
    fn the_stricter_bound_holds() {
        let log = info(0, 30, Retention::of(Some(20), Some(250)));
        assert_eq!(trimmed(&log, 30), Some(5));
        assert_eq!(trimmed(&log, 31), Some(10));
    }

    #[test]
    fn a_segment_is_dead_when_no_log_can_read_it() {
        let first = |one: u64, two: Option<u64>| {
            move |log: LogId| if log == LogId(1) { Some(one) } else { two }
        };
        assert_eq!(boundary(&sealed(), first(10, Some(4))), None);
        assert_eq!(boundary(&sealed(), first(9, Some(5))), None);
        assert_eq!(boundary(&sealed(), first(10, Some(5))), Some(10));
        assert_eq!(boundary(&sealed(), first(20, None)), Some(20));
        let blank = [segment(0, Vec::new()), segment(10, vec![part(1, 0, 1, 1)])];
        assert_eq!(boundary(&blank, first(0, None)), Some(10));
    }
}
