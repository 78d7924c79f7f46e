//! Reads and searches of a log whose beginning goes while they look at it, or went and the state does not say so yet, as
//! after a snapshot, which brings the state as it was before the trim: a gap, or a hit less. Never a wrong byte, and never
//! a defect.

use futures::StreamExt as _;
use inkstone_proto::v1::read_request::From;
use inkstone_proto::v1::read_response::Event;
use inkstone_proto::v1::{ReadRequest, SearchRequest};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::grpc::lone_node::{LOG, LoneNode, one_record};
use crate::grpc::{Services, append, read, search};

/// The body of the record at an offset.
fn body(offset: u64) -> String {
    format!("record {offset} of those that go")
}

/// A node with so many records, each in an entry of its own, and all of them indexed: the index of the first one's entry.
async fn node_with(records: u64) -> (LoneNode, u64) {
    let node = LoneNode::leading().await;
    let before = node.services.group.applied().index();
    for offset in 0..records {
        let receipt = append::append_here(&node.services, one_record(&body(offset))).await;
        assert_eq!(receipt.expect("appended").next_offset, offset + 1);
    }
    node.index_all().await;
    let last = node.services.group.applied().index();
    assert_eq!(last, before + records, "each in an entry of its own");
    (node, before + 1)
}

/// Lets everything up to an entry go, as a purge does; nothing is trimmed.
async fn purge(services: &Services, index: u64) {
    let log = services.group.log();
    let id = log
        .entry_id(index)
        .expect("in memory")
        .expect("it is there");
    let (done, purged) = oneshot::channel();
    let done = Box::new(move |result| drop(done.send(result)));
    log.purge(id, done).expect("the log goes on");
    purged.await.expect("answered").expect("purged");
}

/// What a read gives: where it begins behind the gap in front, and the offsets of the records, whose bodies are looked at.
/// A purge may overtake a read that has begun: then there is a gap in the midst, but never a hole that nobody names.
async fn read_all(services: &Services, from: Option<From>) -> Result<(u64, Vec<u64>), Status> {
    let request = ReadRequest {
        log: LOG.to_owned(),
        from,
        ..ReadRequest::default()
    };
    let (mut events, _) = read::read(services, &MetadataMap::new(), request, None).await?;
    let (mut first, mut next, mut offsets) = (0, None, Vec::new());
    while let Some(event) = events.next().await {
        match event?.event.expect("an event") {
            Event::Gap(gap) => {
                assert_eq!(next.unwrap_or(gap.from), gap.from, "{gap:?}");
                if offsets.is_empty() {
                    first = gap.to;
                }
                next = Some(gap.to);
            }
            Event::Batch(batch) => {
                for record in batch.records {
                    assert_eq!(record.body, body(record.offset), "a wrong byte");
                    assert_eq!(next.unwrap_or(record.offset), record.offset, "a hole");
                    next = Some(record.offset + 1);
                    offsets.push(record.offset);
                }
            }
            _ => {}
        }
    }
    Ok((first, offsets))
}

/// The offsets of all hits.
async fn search_all(services: &Services) -> Result<Vec<u64>, Status> {
    let request = SearchRequest {
        log: LOG.to_owned(),
        query: "record".to_owned(),
        limit: 1_000,
        ..SearchRequest::default()
    };
    let (answer, _held) = search::search_here(services, request, None).await?;
    let records = answer.hits.into_iter().filter_map(|hit| hit.record);
    let offsets = records.map(|record| {
        assert_eq!(record.body, body(record.offset), "a wrong byte");
        record.offset
    });
    Ok(offsets.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_before_its_trim_is_seen_is_a_gap_and_no_hit() {
    let (node, first) = node_with(10).await;
    let services = &node.services;
    let newest_first = |from: u64| (from..10).rev().collect::<Vec<u64>>();
    assert_eq!(search_all(services).await.unwrap(), newest_first(0));
    for gone in [4, 9, 10] {
        purge(services, first + gone - 1).await;
        assert_eq!(services.group.log_info(LOG).unwrap().first_offset, 0);
        assert_eq!(
            search_all(services).await.unwrap(),
            newest_first(gone),
            "{gone}"
        );
        let (gap_to, offsets) = read_all(services, None).await.unwrap();
        assert_eq!((gap_to, offsets), (gone, (gone..10).collect()), "{gone}");
        // By time: from the first that is there, all of which are of now.
        let by_time = read_all(services, Some(From::Timestamp(1))).await.unwrap();
        assert_eq!(by_time.1, (gone..10).collect::<Vec<u64>>(), "{gone}");
    }
    // And it goes on behind.
    let receipt = append::append_here(services, one_record(&body(10))).await;
    assert_eq!(receipt.expect("appended").next_offset, 11);
    node.index_all().await;
    assert_eq!(search_all(services).await.unwrap(), [10]);
    assert_eq!(read_all(services, None).await.unwrap(), (10, vec![10]));
    let by_time = read_all(services, Some(From::Timestamp(1))).await.unwrap();
    assert_eq!(by_time.1, [10]);
}

/// Whether a read or a search may end so: another one than those is a defect.
fn is_typed(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::OutOfRange | Code::ResourceExhausted | Code::DeadlineExceeded
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_open_while_their_records_are_purged_give_no_wrong_byte_and_no_defect() {
    const RECORDS: u64 = 200;
    let (node, first) = node_with(RECORDS).await;
    let done = watch::Sender::new(false);
    let mut readers = JoinSet::new();
    for reader in 0..4 {
        let (services, done) = (node.services.clone(), done.subscribe());
        readers.spawn(async move {
            let mut answered = 0_u64;
            while !*done.borrow() {
                let outcome = match reader {
                    0 | 1 => read_all(&services, None).await.map(|(_, offsets)| offsets),
                    2 => read_all(&services, Some(From::Timestamp(1)))
                        .await
                        .map(|found| found.1),
                    _ => search_all(&services).await,
                };
                match outcome {
                    Ok(_) => answered += 1,
                    Err(status) => assert!(is_typed(&status), "reader {reader}: {status}"),
                }
            }
            answered
        });
    }
    for index in first..first + RECORDS {
        purge(&node.services, index).await;
        tokio::task::yield_now().await;
    }
    done.send_replace(true);
    let answered = readers.join_all().await;
    assert!(
        answered.iter().all(|answered| *answered > 0),
        "{answered:?}"
    );
    assert_eq!(search_all(&node.services).await.unwrap(), Vec::<u64>::new());
    let after = read_all(&node.services, None).await.unwrap();
    assert_eq!(after, (RECORDS, Vec::new()));
}
