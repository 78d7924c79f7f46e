//! A client that knows a follower alone: its first append is passed on, and the next ones go to the leader directly.

use inkstone_client::{Client, IfExists, NewRecord, SessionOptions};
use inkstone_jepsen::cluster::PATIENCE;

use crate::scene::Stage;

const LOG: &str = "forwarded";

fn one() -> Vec<NewRecord> {
    vec![NewRecord::new("x")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_follower_is_told_who_leads_and_goes_there_directly() {
    let mut stage = Stage::open().await;
    let everywhere = stage.cluster.client().unwrap();
    everywhere.create_log(LOG, IfExists::Fail).await.unwrap();
    let leader = stage.cluster.leader().await.unwrap();
    let follower = (leader + 1) % 3;
    let client_of_follower = || {
        Client::builder()
            .servers([stage.cluster.address(follower)])
            .timeout(PATIENCE)
            .build()
            .unwrap()
    };
    let (single, pipelined) = (client_of_follower(), client_of_follower());
    assert_eq!(single.append(LOG, one()).await.unwrap().next_offset, 1);
    let mut session = pipelined.append_session(LOG, SessionOptions::default());
    let first = session.submit(one()).await.unwrap();
    assert_eq!(first.await.unwrap().next_offset, 2);

    // The only server that the two were given goes; who still talked to it, or wanted to, would be stuck.
    stage.cluster.kill(follower).unwrap();
    assert_eq!(single.append(LOG, one()).await.unwrap().next_offset, 3);
    let mut tickets = Vec::new();
    for _ in 0..100 {
        tickets.push(session.submit(one()).await.unwrap());
    }
    let mut next_offset = 3;
    for ticket in tickets {
        next_offset += 1;
        assert_eq!(ticket.await.unwrap().next_offset, next_offset);
    }
    session.close().await.unwrap();
}
