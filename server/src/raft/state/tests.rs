//! The promises "One order", "Exactly once" and "Conditional" of README.md, at their source.

use inkstone_storage::types::Codec;

use super::*;

const HOUR: i64 = 3_600_000_000_000;

fn state() -> State {
    let mut state = State::default();
    state.create_log("a", 1, Retention::default()).unwrap();
    state
}

fn batch(records: u32) -> BatchHeader {
    BatchHeader {
        log: LogId(1),
        records,
        producer: None,
        expected_offset: None,
        append_time: 10,
        timestamp_min: 0,
        timestamp_max: 0,
        codec: Codec::Plain,
        encoded_size: 0,
        plain_size: 0,
        crc: 0,
    }
}

fn from(id: u64, epoch: u32, sequence: u64) -> BatchHeader {
    BatchHeader {
        producer: Some(Producer {
            id,
            epoch,
            sequence,
        }),
        ..batch(2)
    }
}

#[test]
fn offsets_are_dense() {
    let mut state = state();
    for (records, first) in [(3, 0), (1, 3), (5, 4)] {
        let receipt = state.apply_batch(&batch(records)).unwrap();
        assert_eq!(receipt.first_offset, first);
        assert_eq!(receipt.next_offset, first + u64::from(records));
    }
    assert_eq!(state.log(LogId(1)).unwrap().next_offset, 9);
}

#[test]
fn a_retry_gets_the_original_receipt_and_changes_nothing() {
    let mut state = state();
    let first = state.apply_batch(&from(7, 0, 0)).unwrap();
    state.apply_batch(&from(7, 0, 1)).unwrap();
    let before = state.clone();
    let again = state.apply_batch(&from(7, 0, 0)).unwrap();
    assert_eq!(
        again,
        Receipt {
            duplicate: true,
            ..first
        }
    );
    assert_eq!(state, before);
}

#[test]
fn a_retry_beats_its_own_expected_offset() {
    let mut state = state();
    let conditional = BatchHeader {
        expected_offset: Some(0),
        ..from(7, 0, 0)
    };
    let first = state.apply_batch(&conditional).unwrap();
    let again = state.apply_batch(&conditional).unwrap();
    assert_eq!(
        again,
        Receipt {
            duplicate: true,
            ..first
        }
    );
}

#[test]
fn a_wrong_expected_offset_is_refused_with_the_tail_and_uses_no_sequence() {
    let mut state = state();
    state.apply_batch(&batch(4)).unwrap();
    let wrong = BatchHeader {
        expected_offset: Some(3),
        ..from(7, 0, 0)
    };
    assert_eq!(
        state.apply_batch(&wrong),
        Err(Refusal::OffsetMismatch { next_offset: 4 })
    );
    let right = BatchHeader {
        expected_offset: Some(4),
        ..from(7, 0, 0)
    };
    assert_eq!(state.apply_batch(&right).unwrap().first_offset, 4);
}

#[test]
fn a_newer_epoch_fences_the_older_one() {
    let mut state = state();
    state.apply_batch(&from(7, 0, 0)).unwrap();
    state.apply_batch(&from(7, 1, 0)).unwrap();
    assert_eq!(
        state.apply_batch(&from(7, 0, 1)),
        Err(Refusal::ProducerFenced { epoch: 1 })
    );
    assert_eq!(
        state.apply_batch(&from(7, 2, 3)),
        Err(Refusal::SequenceGap { expected: 0 })
    );
    assert!(!state.apply_batch(&from(7, 1, 1)).unwrap().duplicate);
}

#[test]
fn gaps_and_forgotten_receipts_are_refused() {
    let mut state = state();
    assert_eq!(
        state.apply_batch(&from(7, 0, 1)),
        Err(Refusal::SequenceGap { expected: 0 })
    );
    let kept = PRODUCER_RECEIPTS_MAX as u64;
    for sequence in 0..=kept {
        state.apply_batch(&from(7, 0, sequence)).unwrap();
    }
    assert_eq!(
        state.apply_batch(&from(7, 0, 0)),
        Err(Refusal::ReceiptForgotten)
    );
    assert!(state.apply_batch(&from(7, 0, 1)).unwrap().duplicate);
    let gap = Refusal::SequenceGap { expected: kept + 1 };
    assert_eq!(state.apply_batch(&from(7, 0, kept + 2)), Err(gap));
}

#[test]
fn producers_are_forgotten_by_the_time_of_appends_to_whichever_log() {
    for written in [LogId(1), LogId(2)] {
        let mut state = state();
        state.create_log("b", 1, Retention::default()).unwrap();
        state.apply_batch(&from(7, 0, 0)).unwrap();
        let later = |time| BatchHeader {
            append_time: time,
            log: written,
            ..batch(1)
        };
        state.apply_batch(&later(10 + 24 * HOUR)).unwrap();
        assert!(state.apply_batch(&from(7, 0, 0)).unwrap().duplicate);
        state.apply_batch(&later(11 + 24 * HOUR)).unwrap();
        assert!(state.by_time.is_empty(), "in {written:?}");
        assert!(!state.apply_batch(&from(7, 0, 0)).unwrap().duplicate);
    }
}

#[test]
fn a_leader_whose_clock_is_behind_makes_nobody_forgotten_early() {
    let mut state = state();
    let at = |time, sequence| BatchHeader {
        append_time: time,
        ..from(7, 0, sequence)
    };
    state.create_log("b", 1, Retention::default()).unwrap();
    let ahead = BatchHeader {
        append_time: 100 * HOUR,
        log: LogId(2),
        ..batch(1)
    };
    state.apply_batch(&ahead).unwrap();
    state.apply_batch(&at(HOUR, 0)).unwrap();
    state.apply_batch(&at(2 * HOUR, 1)).unwrap();
    assert!(state.apply_batch(&at(2 * HOUR, 0)).unwrap().duplicate);
    assert_eq!(state.by_time.len(), 1);
}

#[test]
fn append_time_never_falls() {
    let mut state = state();
    state
        .apply_batch(&BatchHeader {
            append_time: 100,
            ..batch(1)
        })
        .unwrap();
    let receipt = state
        .apply_batch(&BatchHeader {
            append_time: 50,
            ..batch(1)
        })
        .unwrap();
    assert_eq!(receipt.append_time, 100);
}

#[test]
fn a_log_is_created_once() {
    let mut state = state();
    let forever = Retention::default();
    assert_eq!(
        state.create_log("a", 9, forever),
        Ok((state.log(LogId(1)).unwrap().clone(), false))
    );
    let (b, created) = state.create_log("b", 9, forever).unwrap();
    assert!(created);
    assert_eq!(b.id, LogId(2));
    assert_eq!(
        state.apply_batch(&BatchHeader {
            log: LogId(3),
            ..batch(1)
        }),
        Err(Refusal::LogNotFound)
    );
}

#[test]
fn a_delayed_trim_never_moves_a_first_offset_back() {
    let mut state = state();
    state.apply_batch(&batch(10)).unwrap();
    assert_eq!(state.trim_to(LogId(1), 7).unwrap().first_offset, 7);
    assert_eq!(state.trim_to(LogId(1), 3).unwrap().first_offset, 7);
    assert_eq!(state.log(LogId(1)).unwrap().first_offset, 7);
}

#[test]
fn a_trim_beyond_the_end_is_refused_and_changes_nothing() {
    let mut state = state();
    state.apply_batch(&batch(10)).unwrap();
    let before = state.clone();
    assert_eq!(
        state.trim_to(LogId(1), 11),
        Err(LogRefusal::OffsetOutOfRange { next_offset: 10 })
    );
    assert_eq!(state, before);
    assert_eq!(state.trim_to(LogId(1), 10).unwrap().first_offset, 10);
    assert_eq!(state.trim_to(LogId(9), 0), Err(LogRefusal::LogNotFound));
}

#[test]
fn a_deleted_logs_number_is_never_used_again_and_its_name_begins_at_0() {
    let mut state = state();
    state.apply_batch(&from(7, 0, 0)).unwrap();
    assert_eq!(state.delete_log(LogId(1)).unwrap().name, "a");
    assert_eq!(state.apply_batch(&batch(1)), Err(Refusal::LogNotFound));
    assert_eq!(state.delete_log(LogId(1)), Err(LogRefusal::LogNotFound));
    assert_eq!(
        state.alter_log(LogId(1), Some(1), None),
        Err(LogRefusal::LogNotFound)
    );
    let (again, created) = state.create_log("a", 2, Retention::default()).unwrap();
    assert!(created);
    assert_eq!(
        (again.id, again.first_offset, again.next_offset),
        (LogId(2), 0, 0)
    );
    assert!(state.by_time.is_empty(), "its producers went with it");
}

#[test]
fn altering_leaves_what_is_not_named_and_0_keeps_for_ever() {
    let mut state = state();
    let set = |age, bytes| Retention {
        max_age_ms: age,
        max_bytes: bytes,
    };
    let mut alter = |age, bytes| state.alter_log(LogId(1), age, bytes).unwrap().retention;
    assert_eq!(alter(Some(5), None), set(Some(5), None));
    assert_eq!(alter(None, Some(9)), set(Some(5), Some(9)));
    assert_eq!(alter(Some(0), None), set(None, Some(9)));
    assert_eq!(alter(None, None), set(None, Some(9)));
}

#[test]
fn all_logs_together_remember_a_bounded_number_of_producers() {
    let mut state = state();
    for (id, name) in (2..).zip(["b", "c", "d", "e"]) {
        state.create_log(name, 1, Retention::default()).unwrap();
        for producer in 0..PRODUCERS_MAX.min(PRODUCERS_TOTAL_MAX - state.by_time.len()) {
            let known = ProducerState {
                epoch: 0,
                receipts: VecDeque::new(),
                last_append_time: 10,
            };
            assert!(state.restore_producer(LogId(id), producer as u64, known));
        }
    }
    assert_eq!(state.by_time.len(), PRODUCERS_TOTAL_MAX);
    let refused = state.apply_batch(&from(7, 0, 0));
    assert_eq!(refused, Err(Refusal::TooManyProducersInAll));
    state.delete_log(LogId(4)).unwrap();
    state.apply_batch(&from(7, 0, 0)).unwrap();
    // With nothing but time, all of them go.
    let later = BatchHeader {
        append_time: 11 + 24 * HOUR,
        ..batch(1)
    };
    state.apply_batch(&later).unwrap();
    assert!(state.by_time.is_empty());
}

#[test]
fn beyond_the_bound_no_log_is_created_and_what_is_there_goes_on() {
    use inkstone_storage::limits::LOGS_MAX;
    let mut state = State::default();
    for number in 0..LOGS_MAX {
        let created = state.create_log(&format!("log/{number}"), 1, Retention::default());
        assert!(created.expect("below the bound").1);
    }
    let before = state.clone();
    let one_more = state.create_log("one/more", 2, Retention::default());
    assert_eq!(one_more, Err(LogRefusal::TooManyLogs));
    assert_eq!(state, before, "a refusal changes nothing");
    let there = state.create_log("log/7", 2, Retention::default()).unwrap();
    assert_eq!((there.0.id, there.1), (LogId(8), false));
    state.apply_batch(&batch(1)).unwrap();
    // Room is made by deleting, and the number of the one that is gone stays its own.
    state.delete_log(LogId(8)).unwrap();
    let next = state
        .create_log("one/more", 3, Retention::default())
        .unwrap();
    assert_eq!((next.0.id, next.1), (LogId(LOGS_MAX as u64 + 1), true));
    let again = state.create_log("log/7", 4, Retention::default());
    assert_eq!(again, Err(LogRefusal::TooManyLogs));
}
