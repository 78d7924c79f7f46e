//! Nodes of different releases: neighbours work together, others refuse each other and say what to do.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::future::select_all;
use inkstone_client::{Client, IfExists, NewRecord};
use inkstone_jepsen::cluster::ports;
use inkstone_server::clock::Clock;
use inkstone_server::config::Config;
use inkstone_server::node::{Leave, Node, StartError};
use inkstone_server::raft::{Span, Spoken, Versions};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const NODES: usize = 3;

/// A release that speaks these protocols.
fn release(oldest: u32, newest: u32) -> Versions {
    Versions::new(Spoken {
        protocols: Span { oldest, newest },
        formats: Spoken::own().formats,
        release: format!("0.{newest}.0"),
    })
}

fn this_release() -> Versions {
    Versions::new(Spoken::own())
}

/// The configurations of nodes that know each other. The first has free ports; the others take theirs likewise.
fn configs(dir: &Path) -> Vec<Config> {
    let addresses: Vec<(SocketAddr, SocketAddr)> = (0..NODES)
        .map(|_| {
            let local =
                || SocketAddr::from(([127, 0, 0, 1], ports::free().expect("a port is free")));
            (local(), local())
        })
        .collect();
    let seeds: Vec<String> = addresses.iter().map(|(_, peer)| peer.to_string()).collect();
    let config = |(number, (client, peer)): (usize, &(SocketAddr, SocketAddr))| Config {
        data_dir: dir.join(format!("node-{number}")),
        client_listen: *client,
        peer_listen: *peer,
        seeds: seeds.clone(),
        raft: Config::default_values().raft,
        ..Config::dev(dir, *client, 1, NODES).expect("a configuration")
    };
    addresses.iter().enumerate().map(config).collect()
}

fn start(config: &Config, versions: Versions) -> JoinHandle<Result<Node, StartError>> {
    tokio::spawn(Node::start_as(config.clone(), Clock::system(), versions))
}

async fn started(node: JoinHandle<Result<Node, StartError>>) -> Result<Node, StartError> {
    let node = timeout(PATIENCE, node).await.expect("it does not start");
    node.expect("it does not panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_two_neighbouring_releases_works_and_shows_what_each_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path());
    let starting = [
        start(&configs[0], this_release()),
        start(&configs[1], release(1, 2)),
        start(&configs[2], this_release()),
    ];
    let nodes = futures::future::try_join_all(starting.map(started))
        .await
        .unwrap();
    let addresses: Vec<String> = configs
        .iter()
        .map(|config| config.client_listen.to_string())
        .collect();
    let client = Client::builder()
        .servers(addresses)
        .timeout(PATIENCE)
        .build()
        .unwrap();
    client.create_log("skew", IfExists::Fail).await.unwrap();
    for _ in 0..20 {
        let records = vec![NewRecord::new("understood by all")];
        client.append("skew", records).await.unwrap();
    }
    let status = client.cluster_status().await.unwrap();
    let mut spoken: Vec<_> = status.nodes.iter().map(|node| node.protocols).collect();
    spoken.sort_unstable();
    assert_eq!(spoken, [Some((1, 1)), Some((1, 1)), Some((1, 2))]);
    for node in nodes {
        node.wait(async {}, Leave::AtOnce).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_too_new_to_work_with_is_refused_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path());
    let starting = [
        start(&configs[0], this_release()),
        start(&configs[1], release(2, 3)),
    ];
    // The one that hears of the other first ends, and may leave the other with nobody to hear of.
    let (first, _, others) = timeout(PATIENCE, select_all(starting)).await.unwrap();
    let said = first.unwrap().expect_err("they can't work together");
    others.iter().for_each(JoinHandle::abort);
    let (said, own) = (said.to_string(), Spoken::own().release);
    assert!(said.contains(&own) && said.contains("0.3.0"), "{said}");
    assert!(said.contains("upgrade"), "{said}");
}
