//! Others hold every connection that a node takes: whoever operates the cluster, and the other nodes, still get through.

use bytes::Bytes;
use inkstone_client::{
    AppendOptions, Client, Error, IfExists, NewRecord, Reason, Retry, RetryPolicy, SessionOptions,
};
use inkstone_jepsen::cluster::ClusterOptions;
use tokio::time::timeout;

use crate::hostile::{SOON, attacker, peer_address, request};
use crate::scene::{Stage, append_all, binary};

const LOG: &str = "locked-out";
const CLIENTS_MAX: usize = 64;
/// As the server's limits have it.
const PEERS_MAX: usize = 128;

/// A stream on a connection of its own, on which nothing is ever said.
struct Silent {
    _sender: h2::client::SendRequest<Bytes>,
    running: tokio::task::JoinHandle<()>,
    _requests: h2::SendStream<Bytes>,
    _answers: h2::RecvStream,
}

/// Opens one; `None`: it is refused.
async fn silent(address: &str, path: &str) -> Option<Silent> {
    let (mut sender, running) = attacker(address).await;
    let asked = sender.send_request(request(path), false);
    let (answer, requests) = asked.expect("the connection is open");
    let answer = timeout(SOON, answer).await.expect("it is answered").ok()?;
    let is_open = answer.headers().get("grpc-status").is_none();
    is_open.then(|| Silent {
        _sender: sender,
        running,
        _requests: requests,
        _answers: answer.into_body(),
    })
}

/// A client of that node alone, whose every call is one try.
fn once(address: &str) -> Client {
    let client = Client::builder().stick_to(address);
    client
        .retry(RetryPolicy::never())
        .build()
        .expect("a client")
}

/// The refusal of a call for which there is no connection: definite, and it says which bound.
fn is_refused(error: &Error) {
    assert_eq!(error.reason(), Some(Reason::Busy), "{error:?}");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    let bound = error.detail().and_then(|detail| detail.bound.clone());
    let expected = ("client_connections_max".to_owned(), CLIENTS_MAX as u64);
    assert_eq!(bound, Some(expected));
}

/// What `ink cluster status` and `ink logs create` ask.
async fn operators_are_served(address: &str) {
    let operator = once(address);
    let status = operator.cluster_status().await.expect("it is answered");
    assert!(status.nodes.iter().all(|node| node.reachable));
    let created = operator.create_log(LOG, IfExists::Keep).await;
    created.expect("it is carried out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sessions_on_every_connection_leave_operators_a_way_in() {
    let options = ClusterOptions {
        nodes: 1,
        tables: format!("client_connections_max = {CLIENTS_MAX}\n[search]\nenabled = false\n"),
        ..ClusterOptions::new(binary())
    };
    let stage = Stage::open_with(options).await;
    let address = stage.cluster.address(0);
    operators_are_served(address).await;
    let mut held = Vec::new();
    while let Some(one) = silent(address, "/inkstone.v1.Logs/AppendSession").await {
        held.push(one);
        assert!(held.len() <= CLIENTS_MAX, "there is no bound");
    }
    // Appends, alone and in a session, are refused, and for certain: nothing of them was taken.
    let late = once(address);
    let appended = late.append(LOG, vec![NewRecord::new("late")]).await;
    is_refused(&appended.expect_err("there is no place"));
    let mut session = late.append_session(LOG, SessionOptions::default());
    let ticket = session.submit(vec![NewRecord::new("late")]).await;
    let behind = session.submit(vec![NewRecord::new("later")]).await;
    let outcome = ticket.expect("it is queued").await;
    is_refused(&outcome.expect_err("there is no place"));
    if let Ok(behind) = behind {
        let error = behind.await.expect_err("there is no place");
        assert!(error.is_definite(), "{error:?}");
    }

    operators_are_served(address).await;
    // Clients that come all the same, more than there are places beyond the bound, and stay.
    let mut insisting = Vec::new();
    for _ in 0..100 {
        let (mut sender, running) = attacker(address).await;
        let asked = sender.send_request(request("/inkstone.v1.Logs/AppendSession"), false);
        insisting.push((asked, sender, running));
    }
    operators_are_served(address).await;
    for running in held.iter().map(|one| &one.running) {
        running.abort();
    }
    for (_, _, running) in &insisting {
        running.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_on_the_peer_port_make_room_for_the_members() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let mut held = Vec::new();
    for node in 0..cluster.len() {
        let address = peer_address(cluster, node);
        for _ in 0..PEERS_MAX + 40 {
            held.extend(silent(&address, "/inkstone.peer.v1.Peer/AppendEntries").await);
        }
    }
    assert!(held.len() > PEERS_MAX, "they took no places");
    // A member that comes anew needs new connections to all others, and they to it.
    let follower = (leader + 1) % cluster.len();
    cluster.kill(follower).unwrap();
    cluster.restart(follower).await.unwrap();
    let through = cluster.client_of(follower).unwrap();
    let options = AppendOptions {
        retry: Retry::Never,
        ..AppendOptions::default()
    };
    let forwarded = through.append_with(LOG, vec![NewRecord::new("forwarded")], options);
    forwarded.await.expect("the leader takes it");
    let bodies: Vec<Vec<u8>> = (0..50_u8).map(|number| vec![number]).collect();
    append_all(&through, LOG, &bodies, 10).await.unwrap();
    let status = through.cluster_status().await.unwrap();
    assert!(status.nodes.iter().all(|node| node.reachable));
    for one in &held {
        one.running.abort();
    }
}
