//! Entries that rotted on a node which alone had them, and in whose place the others have committed other ones since: the
//! node gives them up where that is proven, says what to do where it is not, and never gives up one that was committed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use inkstone_client::{Client, ClusterStatus, Error, IfExists, NewRecord, NodeRole, RetryPolicy};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use inkstone_jepsen::lines::Numbers;
use tokio::time::{interval, timeout};

use crate::damage::{LOG, flip, segments};
use crate::heal::{all_nodes_agree, frames, read, status_until};
use crate::scene::{Stage, append_all, binary};

const SOON: Duration = Duration::from_secs(60);
/// Entries that the old leader alone has.
const ALONE: usize = 2;

fn bodies(count: usize, size: usize) -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(5 + size as u64);
    (0..count).map(|_| numbers.bytes(size)).collect()
}

/// Where the frames stand that hold these bodies, once all of them are in the file.
async fn frames_of(cluster: &Cluster, node: usize, bodies: &[Vec<u8>]) -> (PathBuf, Vec<usize>) {
    let file = segments(cluster, node).pop().expect("it has one");
    let mut looking = interval(Duration::from_millis(100));
    let found = async {
        loop {
            looking.tick().await;
            let bytes = read(&file);
            let begins = |start: &usize, body: &Vec<u8>| {
                let frame = &bytes[*start..(start + 1_024).min(bytes.len())];
                frame.windows(64).any(|part| part == &body[..64])
            };
            let is_one = |start: &usize| bodies.iter().any(|body| begins(start, body));
            let places: Vec<usize> = frames(&file).into_iter().filter(is_one).collect();
            if places.len() == bodies.len() {
                return places;
            }
        }
    };
    let places = timeout(SOON, found).await.expect("they are written");
    (file, places)
}

/// A cluster of three whose old leader, stopped, has entries that were committed nowhere.
struct Overwritten {
    stage: Stage,
    old: usize,
    /// That node's file.
    file: PathBuf,
    /// Where those entries stand in it.
    places: Vec<usize>,
    /// The records that everybody else has.
    all: Vec<Vec<u8>>,
}

async fn overwritten() -> Result<Overwritten> {
    let options = ClusterOptions {
        tables: "[search]\nenabled = false\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    let all = bodies(20, 2 << 10);
    // Too large for two of them to be one entry.
    let lost = bodies(ALONE, 600 << 10);
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    append_all(&client, LOG, &all[..10], 1).await?;
    all_nodes_agree(&stage.cluster, &all[..10]).await?;
    let old = stage.cluster.leader().await?;
    let others = [(old + 1) % 3, (old + 2) % 3];
    for node in others {
        stage.cluster.kill(node)?;
    }
    let alone = Client::builder()
        .stick_to(stage.cluster.address(old))
        .timeout(Duration::from_secs(2))
        .retry(RetryPolicy::never())
        .build()?;
    // At once: a leader that has not heard of a majority for a while refuses.
    let appends = lost.iter().map(|body| {
        let (alone, record) = (alone.clone(), NewRecord::new(body.clone()));
        tokio::spawn(async move { alone.append(LOG, vec![record]).await })
    });
    let appends: Vec<_> = appends.collect();
    let (file, places) = frames_of(&stage.cluster, old, &lost).await;
    for unknown in appends {
        let unknown = unknown.await?;
        assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
    }
    stage.cluster.kill(old)?;
    for node in others {
        stage.cluster.spawn(node)?;
    }
    for node in others {
        stage.cluster.ready(node).await?;
    }
    append_all(&client, LOG, &all[10..], 1).await?;
    Ok(Overwritten {
        stage,
        old,
        file,
        places,
        all,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_entry_that_the_others_have_overwritten_is_cut_and_the_node_takes_part_again() {
    let mut scene = overwritten().await.unwrap();
    // The payload of the first of them: later ones prove that it was durable.
    flip(&scene.file, scene.places[0] + 5_000);
    let cluster = &mut scene.stage.cluster;
    cluster.restart(scene.old).await.unwrap();
    let said = cluster.process(scene.old).unwrap().stderr();
    assert!(said.contains("the node is in quarantine"), "{said}");
    assert!(said.contains("was never committed"), "{said}");
    all_nodes_agree(cluster, &scene.all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_tell_which_of_its_lost_entries_were_overwritten_says_what_to_do() {
    let Overwritten {
        mut stage,
        old,
        file,
        places,
        all,
    } = overwritten().await.unwrap();
    for place in &places[..2] {
        flip(&file, place + 20);
    }
    let harmed = read(&file);
    stage.cluster.spawn(old).unwrap();
    let is_told = |status: &ClusterStatus| {
        status.nodes.iter().any(|row| {
            let waits_for = row.repair.as_ref().map(|repair| repair.waits_for.as_str());
            row.role == NodeRole::Quarantined
                && waits_for.is_some_and(|it| {
                    it.contains(&format!("`ink cluster remove {}`", row.node.id))
                        && it.contains("it joins as a new node")
                })
        })
    };
    // Whoever is asked.
    for node in [old, (old + 1) % 3] {
        status_until(&stage.cluster, node, is_told).await.unwrap();
    }
    stage.cluster.kill(old).unwrap();
    assert!(read(&file) == harmed, "nothing was cut");
    // One of the two headers is whole again: the other entry stands alone between the chain crcs around it.
    flip(&file, places[1] + 20);
    stage.cluster.restart(old).await.unwrap();
    all_nodes_agree(&stage.cluster, &all).await.unwrap();
}
