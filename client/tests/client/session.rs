//! Append sessions over connections that break.

use std::time::Duration;

use inkstone_client::{AppendSession, Client, Error, Reason, SessionOptions, Ticket};
use inkstone_proto::v1;

use crate::append::nobody;
use crate::fake::{Fake, Fault};

fn open(address: &str) -> AppendSession {
    let client = Client::builder()
        .servers(address)
        .timeout(Duration::from_secs(5))
        .build();
    client
        .unwrap()
        .append_session("log", SessionOptions::default())
}

async fn submit(session: &mut AppendSession, numbers: std::ops::Range<u64>) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for number in numbers {
        tickets.push(
            session
                .submit(vec![number.to_string().into()])
                .await
                .unwrap(),
        );
    }
    tickets
}

/// Every batch has the offset of its number, and the log holds each once.
async fn all_in_order(fake: &Fake, tickets: Vec<Ticket>) {
    for (number, ticket) in (0..).zip(tickets) {
        assert_eq!(ticket.await.unwrap().first_offset, number);
    }
    let bodies: Vec<u64> = fake
        .bodies()
        .iter()
        .map(|body| body.parse().unwrap())
        .collect();
    assert_eq!(bodies, (0..bodies.len() as u64).collect::<Vec<u64>>());
}

#[tokio::test]
async fn batches_are_answered_in_order() {
    let fake = Fake::start().await;
    let mut session = open(&fake.address);
    let tickets = submit(&mut session, 0..100).await;
    all_in_order(&fake, tickets).await;
    session.close().await.unwrap();
    assert_eq!(fake.state.lock().appends.len(), 100);
}

#[tokio::test]
async fn lost_connections_lose_and_repeat_nothing() {
    let fake = Fake::start().await;
    fake.faults((0..150).map(|number| match number % 7 {
        3 => Fault::LoseAfter,
        5 => Fault::LoseBefore,
        _ => Fault::Nothing,
    }));
    let mut session = open(&fake.address);
    let tickets = submit(&mut session, 0..100).await;
    all_in_order(&fake, tickets).await;
    session.close().await.unwrap();
    assert_eq!(fake.bodies().len(), 100);
    // Otherwise nothing was lost, and nothing was tested.
    assert!(fake.state.lock().appends.len() > 120);
}

#[tokio::test]
async fn a_refusal_that_passes_is_waited_out() {
    let fake = Fake::start().await;
    let busy = Fault::Refuse(v1::Reason::Busy, true, None);
    fake.faults([Fault::Nothing, busy.clone(), busy]);
    let mut session = open(&fake.address);
    let tickets = submit(&mut session, 0..10).await;
    all_in_order(&fake, tickets).await;
    session.close().await.unwrap();
}

#[tokio::test]
async fn a_session_follows_the_leader_hint() {
    let (follower, leader) = (Fake::start().await, Fake::start().await);
    let hint = Some(leader.address.clone());
    follower.faults([Fault::Refuse(v1::Reason::NotLeader, true, hint)]);
    let mut session = open(&follower.address);
    let tickets = submit(&mut session, 0..10).await;
    all_in_order(&leader, tickets).await;
    assert!(follower.bodies().is_empty());
}

#[tokio::test]
async fn a_refused_batch_ends_the_session_and_leaves_those_behind_in_doubt() {
    let fake = Fake::start().await;
    fake.faults([
        Fault::Nothing,
        Fault::Refuse(v1::Reason::DiskFull, false, None),
    ]);
    let mut session = open(&fake.address);
    let mut tickets = submit(&mut session, 0..3).await.into_iter();
    assert!(tickets.next().unwrap().await.is_ok());
    let refused = tickets.next().unwrap().await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::DiskFull));
    let behind = tickets.next().unwrap().await.unwrap_err();
    assert!(
        matches!(behind, Error::Unknown { .. } | Error::Unavailable { .. }),
        "{behind:?}"
    );
    let late = session
        .submit(vec!["late".into()])
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(late, Error::Unavailable { .. }), "{late:?}");
    assert_eq!(session.close().await.unwrap_err(), refused);
    assert_eq!(fake.bodies(), ["0"]);
}

#[tokio::test]
async fn a_batch_that_was_lost_and_then_refused_is_unknown() {
    let fake = Fake::start().await;
    fake.faults([
        Fault::LoseBefore,
        Fault::Refuse(v1::Reason::DiskFull, false, None),
    ]);
    let mut session = open(&fake.address);
    let ticket = session.submit(vec!["a".into()]).await.unwrap();
    let error = ticket.await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_batch_that_is_never_answered_is_unknown_at_its_deadline() {
    let fake = Fake::start().await;
    fake.faults([Fault::Silence]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    let options = SessionOptions {
        timeout: Some(Duration::from_millis(200)),
        ..SessionOptions::default()
    };
    let mut session = client.append_session("log", options);
    let ticket = session.submit(vec!["a".into()]).await.unwrap();
    let error = ticket.await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_batch_that_never_left_is_unavailable() {
    let client = Client::builder()
        .servers(nobody().await)
        .timeout(Duration::from_millis(200));
    let client = client.build().unwrap();
    let mut session = client.append_session("log", SessionOptions::default());
    let ticket = session.submit(vec!["a".into()]).await.unwrap();
    let error = ticket.await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_session_without_batches_ends_well() {
    let fake = Fake::start().await;
    open(&fake.address).close().await.unwrap();
    assert!(fake.state.lock().appends.is_empty());
}
