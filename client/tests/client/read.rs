//! Reads over connections that break.

use futures::{StreamExt, TryStreamExt};
use inkstone_client::{Client, Consistency, Follow, ReadEvent, ReadOptions, Reason, Start};
use inkstone_proto::v1;

use crate::fake::Fake;

async fn numbers(client: &Client, options: ReadOptions) -> Vec<u64> {
    let events: Vec<ReadEvent> = client.read(options).try_collect().await.unwrap();
    let mut numbers = Vec::new();
    for event in events {
        if let ReadEvent::Records(records) = event {
            let bodies = records
                .iter()
                .map(|record| String::from_utf8_lossy(&record.body).parse::<u64>());
            numbers.extend(bodies.map(Result::unwrap));
        }
    }
    numbers
}

async fn filled(records: u64, cuts: &[usize]) -> (Fake, Client) {
    let fake = Fake::start().await;
    fake.fill(0..records);
    fake.state.lock().read_cuts.extend(cuts);
    let client = Client::connect(fake.address.as_str()).unwrap();
    (fake, client)
}

#[tokio::test]
async fn a_read_goes_on_where_the_connection_was_lost() {
    let (fake, client) = filled(11, &[1, 0, 2, 1]).await;
    let read = numbers(&client, ReadOptions::new("log")).await;
    assert_eq!(read, (0..11).collect::<Vec<u64>>());
    assert_eq!(fake.state.lock().reads.len(), 5);
}

#[tokio::test]
async fn a_limit_counts_over_all_connections() {
    let (_fake, client) = filled(11, &[1, 1]).await;
    let options = ReadOptions {
        limit: Some(5),
        ..ReadOptions::new("log")
    };
    assert_eq!(numbers(&client, options).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn the_last_records_stay_the_last_of_the_first_look() {
    let (fake, client) = filled(10, &[1]).await;
    let options = ReadOptions {
        from: Start::Last(4),
        ..ReadOptions::new("log")
    };
    assert_eq!(numbers(&client, options).await, [6, 7, 8, 9]);
    let resumed = fake.state.lock().reads[1].from;
    assert_eq!(resumed, Some(v1::read_request::From::Offset(8)));
}

#[tokio::test]
async fn a_stale_read_that_is_resumed_asks_for_what_it_has_seen() {
    let (fake, client) = filled(4, &[1]).await;
    let options = ReadOptions {
        consistency: Consistency::Stale,
        ..ReadOptions::new("log")
    };
    assert_eq!(numbers(&client, options).await, [0, 1, 2, 3]);
    let resumed = fake.state.lock().reads[1].clone();
    assert_eq!(resumed.consistency(), v1::Consistency::AtLeast);
    assert_eq!(resumed.at_least_offset, 2);
}

#[tokio::test]
async fn offsets_that_are_skipped_in_silence_are_an_error() {
    let (fake, client) = filled(6, &[]).await;
    fake.state
        .lock()
        .logs
        .get_mut("log")
        .unwrap()
        .records
        .remove(2);
    let events: Vec<_> = client.read(ReadOptions::new("log")).collect().await;
    let error = events.last().unwrap().as_ref().unwrap_err();
    assert!(
        error.to_string().contains("from 2 to 3") || error.to_string().contains("skipped"),
        "{error}"
    );
    assert_eq!(error.reason(), Some(Reason::Internal));
}

#[tokio::test]
async fn a_follower_sees_the_mark_and_then_what_comes_after_a_lost_connection() {
    // The first connection is lost behind its mark.
    let (fake, client) = filled(2, &[2]).await;
    let options = ReadOptions {
        follow: Follow::Yes,
        ..ReadOptions::new("log")
    };
    let mut events = client.read(options);
    assert!(
        matches!(events.next().await, Some(Ok(ReadEvent::Records(records))) if records.len() == 2)
    );
    assert_eq!(
        events.next().await,
        Some(Ok(ReadEvent::CaughtUp { next_offset: 2 }))
    );
    fake.fill(2..3);
    let Some(Ok(ReadEvent::Records(records))) = events.next().await else {
        panic!("no records after the connection was lost");
    };
    assert_eq!(records[0].offset, 2);
}

#[tokio::test]
async fn a_refused_read_ends_with_its_reason() {
    let (_fake, client) = filled(2, &[]).await;
    let options = ReadOptions {
        from: Start::Offset(7),
        ..ReadOptions::new("log")
    };
    let events: Vec<_> = client.read(options).collect().await;
    assert_eq!(events.len(), 1);
    let error = events[0].as_ref().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::OffsetOutOfRange));
}

#[tokio::test]
async fn a_tail_tells_the_next_offset() {
    let (_fake, client) = filled(5, &[]).await;
    let tail = client.tail("log", Consistency::Linearizable).await.unwrap();
    assert_eq!((tail.first_offset, tail.next_offset), (0, 5));
}
