//! A STALE answer says how stale it is, and is no staler than that; a LEASE answer sees every acknowledged append while
//! nothing stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inkstone_client::{Client, Consistency, IfExists, NewRecord, Tail};
use inkstone_server::clock::Clock;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::scene::Stage;

const LOG: &str = "staleness";

/// For every acknowledged append: when its acknowledgement had arrived, and the offset behind it.
type Acked = Arc<Mutex<Vec<(i64, u64)>>>;

/// Appends one record after the other until it is told to stop.
fn append(client: Client, acked: Acked, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let records = vec![NewRecord::new("x")];
            let receipt = client.append(LOG, records).await.expect("taken");
            acked
                .lock()
                .push((Clock::system().unix_nanos(), receipt.next_offset));
        }
    })
}

/// Every append whose acknowledgement had arrived before the answer's time is in the answer.
fn check(tail: &Tail, acked: &Acked) {
    let Some(as_of) = tail.as_of_time else { return };
    let missing = acked
        .lock()
        .iter()
        .copied()
        .find(|(time, next)| *time < as_of && *next > tail.next_offset);
    assert_eq!(
        missing, None,
        "as of {as_of} it ends at {}",
        tail.next_offset
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_lacks_nothing_that_was_acknowledged_before_the_time_that_it_names() {
    let mut stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let (acked, stop) = (Acked::default(), Arc::new(AtomicBool::new(false)));
    let appends = append(client, Arc::clone(&acked), Arc::clone(&stop));

    let leader = stage.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    for node in [leader, follower] {
        let asked = stage.cluster.client_of(node).unwrap();
        // Until it has heard twice how current it is: then it also gets on.
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let tail = asked.tail(LOG, Consistency::Stale).await.unwrap();
            check(&tail, &acked);
            heard.extend(tail.as_of_time);
            heard.dedup();
        }
        assert!(heard[0] < heard[1], "{heard:?}");
    }
    // A follower that slept has the leader's old messages in its sockets when it wakes, and is asked at that moment.
    for _ in 0..3 {
        let before = acked.lock().len();
        stage.cluster.pause(follower).unwrap();
        let asked = stage.cluster.client_of(follower).unwrap();
        let questions = (0..50).map(|_| {
            let asked = asked.clone();
            tokio::spawn(async move { asked.tail(LOG, Consistency::Stale).await })
        });
        let questions: Vec<_> = questions.collect();
        while acked.lock().len() < before + 200 {
            tokio::task::yield_now().await;
        }
        stage.cluster.resume(follower).unwrap();
        for question in questions {
            check(&question.await.unwrap().unwrap(), &acked);
        }
    }
    stop.store(true, Ordering::Relaxed);
    appends.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_answer_of_every_node_sees_what_was_acknowledged() {
    let stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    for _ in 0..30 {
        let records = vec![NewRecord::new("x")];
        let receipt = client.append(LOG, records).await.unwrap();
        for node in 0..3 {
            let asked = stage.cluster.client_of(node).unwrap();
            let tail = asked.tail(LOG, Consistency::Lease).await.unwrap();
            assert_eq!(tail.next_offset, receipt.next_offset, "node {node}");
        }
    }
}
