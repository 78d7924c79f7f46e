//! Appends whose answers are lost, refused or late.

use std::time::Duration;

use futures::future::join_all;
use inkstone_client::{
    AppendOptions, Client, Error, IfExists, NewRecord, ProducerChoice, Reason, Retry, RetryPolicy,
};
use inkstone_proto::v1;
use tokio::net::TcpListener;

use crate::fake::{Fake, Fault};

fn record(body: &'static str) -> Vec<NewRecord> {
    vec![NewRecord::new(body)]
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn unnumbered() -> AppendOptions {
    AppendOptions {
        producer: ProducerChoice::None,
        ..AppendOptions::default()
    }
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_takes_effect_once() {
    let fake = Fake::start().await;
    fake.faults([Fault::LoseAfter, Fault::LoseBefore]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    let receipt = client.append("log", record("a")).await.unwrap();
    assert!(receipt.duplicate);
    assert_eq!((receipt.first_offset, receipt.next_offset), (0, 1));
    assert_eq!(
        client
            .append("log", record("b"))
            .await
            .unwrap()
            .first_offset,
        1
    );
    assert_eq!(fake.bodies(), ["a", "b"]);
    assert_eq!(fake.state.lock().logs["log"].producers.len(), 1);
}

#[tokio::test]
async fn without_a_producer_a_lost_answer_is_unknown_and_not_repeated() {
    let fake = Fake::start().await;
    fake.faults([Fault::LoseBefore]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    let error = client
        .append_with("log", record("a"), unnumbered())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    assert_eq!(fake.state.lock().appends.len(), 1);
}

#[tokio::test]
async fn without_a_producer_a_refusal_is_repeated() {
    let fake = Fake::start().await;
    fake.faults([Fault::Refuse(v1::Reason::Busy, true, None)]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    client
        .append_with("log", record("a"), unnumbered())
        .await
        .unwrap();
    assert_eq!(fake.bodies(), ["a"]);
}

#[tokio::test]
async fn a_missing_log_is_a_definite_refusal() {
    let fake = Fake::start().await;
    let client = Client::connect(fake.address.as_str()).unwrap();
    let error = client.append("other", record("a")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::LogNotFound));
    assert!(error.is_definite());
    client.create_log("other", IfExists::Fail).await.unwrap();
    // The refused append used up no sequence.
    client.append("other", record("a")).await.unwrap();
    assert_eq!(fake.state.lock().appends.len(), 2);
}

#[tokio::test]
async fn a_refusal_behind_a_lost_try_is_unknown() {
    let fake = Fake::start().await;
    fake.faults([
        Fault::LoseBefore,
        Fault::Refuse(v1::Reason::DiskFull, false, None),
    ]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    let error = client.append("log", record("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    assert_eq!(error.detail().unwrap().reason, Reason::DiskFull);
}

#[tokio::test]
async fn what_never_left_is_unavailable() {
    let address = nobody().await;
    let client = Client::builder()
        .servers(address.as_str())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let error = client.append("log", record("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn an_append_that_is_never_answered_is_unknown() {
    let fake = Fake::start().await;
    fake.faults([Fault::Silence]);
    let client = Client::connect(fake.address.as_str()).unwrap();
    let options = AppendOptions {
        timeout: Some(Duration::from_millis(200)),
        retry: Retry::Never,
        ..AppendOptions::default()
    };
    let error = client
        .append_with("log", record("a"), options)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
    // Its producer is given up, because nobody knows its next sequence.
    client.append("log", record("b")).await.unwrap();
    assert_eq!(fake.bodies(), ["b"]);
}

#[tokio::test]
async fn a_leader_hint_is_followed_and_remembered() {
    let (follower, leader) = (Fake::start().await, Fake::start().await);
    let hint = Some(leader.address.clone());
    follower.faults([Fault::Refuse(v1::Reason::NotLeader, true, hint)]);
    let client = Client::connect(follower.address.as_str()).unwrap();
    client.append("log", record("a")).await.unwrap();
    client.append("log", record("b")).await.unwrap();
    assert_eq!(leader.bodies(), ["a", "b"]);
    assert_eq!(follower.state.lock().appends.len(), 1);
}

#[tokio::test]
async fn a_pinned_client_gives_the_answer_of_its_one_server() {
    let (follower, leader) = (Fake::start().await, Fake::start().await);
    let hint = Some(leader.address.clone());
    follower.faults([Fault::Refuse(v1::Reason::NotLeader, true, hint)]);
    let client = Client::builder()
        .stick_to(follower.address.as_str())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let error = client.append("log", record("a")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotLeader));
    assert!(leader.state.lock().appends.is_empty());
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over() {
    let fake = Fake::start().await;
    let client = Client::connect([nobody().await, fake.address.clone()]).unwrap();
    client.append("log", record("a")).await.unwrap();
    assert_eq!(fake.bodies(), ["a"]);
}

#[tokio::test]
async fn concurrent_appends_each_take_effect_once() {
    let fake = Fake::start().await;
    fake.faults((0..100).map(|number| match number % 4 {
        0 => Fault::LoseAfter,
        1 => Fault::LoseBefore,
        _ => Fault::Nothing,
    }));
    let client = Client::connect(fake.address.as_str()).unwrap();
    let appends = (0..60).map(|number| {
        let client = client.clone();
        async move { client.append("log", vec![number.to_string().into()]).await }
    });
    let mut offsets: Vec<u64> = join_all(appends)
        .await
        .into_iter()
        .map(|receipt| receipt.unwrap().first_offset)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..60).collect::<Vec<u64>>());
    let mut bodies: Vec<u64> = fake
        .bodies()
        .iter()
        .map(|body| body.parse().unwrap())
        .collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..60).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_producer_that_the_cluster_forgot_is_replaced() {
    let fake = Fake::start().await;
    let client = Client::connect(fake.address.as_str()).unwrap();
    client.append("log", record("a")).await.unwrap();
    fake.state
        .lock()
        .logs
        .get_mut("log")
        .unwrap()
        .producers
        .clear();
    client.append("log", record("b")).await.unwrap();
    assert_eq!(fake.bodies(), ["a", "b"]);
}
