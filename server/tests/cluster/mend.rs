//! Damage in a sealed segment of a node that runs: readers are answered through another node, the segment is mended, and
//! the node goes on, also when it leads and a follower needs what rotted.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use inkstone_client::{
    Client, ClusterStatus, Gap, GapReason, IfExists, NewRecord, ReadEvent, ReadOptions, Reason,
    Record, Start,
};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use tokio_stream::StreamExt as _;

use crate::damage::{LOG, bodies, find_records, segments};
use crate::heal::{all_nodes_agree, own_status, read, status_until};
use crate::scene::{Stage, append_all, binary, read_all};
use crate::scrub::flip_in_place;

const OTHER: &str = "other";
/// Records of one append.
const BATCH: u64 = 20;

/// A cluster with sealed segments on these nodes, whose scrubbers are off: only readers find damage.
pub(crate) async fn sealed_cluster(bodies: &[Vec<u8>], on: &[usize]) -> Result<Stage> {
    let options = ClusterOptions {
        // Entries are read from the disk, not from memory.
        tables: "[log]\nsegment_size = 16777216\ntail_size = 1048576\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    for node in 0..3 {
        stage.cluster.write_config(node, "scrub_rate = 0\n")?;
        assert!(stage.cluster.terminate(node).await?.success());
        stage.cluster.restart(node).await?;
    }
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    client.create_log(OTHER, IfExists::Fail).await?;
    for node in (0..3).filter(|node| !on.contains(node)) {
        stage.cluster.kill(node)?;
    }
    client.append(OTHER, vec![NewRecord::new("kept")]).await?;
    append_all(&client, LOG, bodies, 20).await?;
    for node in on {
        // What was read here is applied here, so that every segment but the last is sealed.
        let asked = stage.cluster.client_of(*node)?;
        assert_eq!(
            read_all(&asked, ReadOptions::new(LOG)).await?.len(),
            bodies.len()
        );
        // Written when the footer of the segment before is durable.
        let is_sealed = || {
            let second = segments(&stage.cluster, *node).into_iter().nth(1);
            second.is_some_and(|second| second.with_extension("ckpt").exists())
        };
        while !is_sealed() {
            tokio::task::yield_now().await;
        }
    }
    Ok(stage)
}

/// A record of the first segment: its offset, and on each of these nodes a byte of it.
fn a_record(cluster: &Cluster, nodes: &[usize], bodies: &[Vec<u8>]) -> (u64, Vec<(PathBuf, u64)>) {
    let mut place = None;
    let mut bytes = Vec::new();
    for node in nodes {
        let file = segments(cluster, *node).remove(0);
        let found = find_records(&file, bodies);
        let (start, of) = match place {
            None => found[30],
            Some(place) => *found
                .iter()
                .find(|(_, of)| *of == place)
                .expect("same entries"),
        };
        place = Some(of);
        bytes.push((file, start as u64 + 1_000));
    }
    (place.expect("at least one node") as u64, bytes)
}

fn only(offset: u64) -> ReadOptions {
    ReadOptions {
        from: Start::Offset(offset),
        until: Some(offset + 1),
        ..ReadOptions::new(LOG)
    }
}

async fn read_at(client: &Client, offset: u64) -> Result<Record> {
    let mut records = read_all(client, only(offset)).await?;
    anyhow::ensure!(records.len() == 1, "{} records", records.len());
    Ok(records.remove(0))
}

fn has_repaired(status: &ClusterStatus) -> bool {
    let own = status
        .nodes
        .iter()
        .find(|row| row.node.id == status.answered_by);
    own.and_then(|own| own.repair.as_ref())
        .is_some_and(|repair| repair.repaired_entries == 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_read_through_another_node_and_then_mended() {
    let bodies = bodies();
    let stage = sealed_cluster(&bodies, &[0, 1, 2]).await.unwrap();
    let (offset, bytes) = a_record(&stage.cluster, &[1], &bodies);
    let (file, position) = &bytes[0];
    let before = read(file);
    flip_in_place(file, *position);
    let client = stage.cluster.client_of(1).unwrap();
    let record = read_at(&client, offset).await.unwrap();
    let body = &bodies[usize::try_from(offset).unwrap()];
    assert!(record.offset == offset && record.body == *body);
    status_until(&stage.cluster, 1, has_repaired).await.unwrap();
    assert!(read(file) == before, "the segment is another one");
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
}

/// What a read of these offsets gives: how many records, and each gap.
async fn with_gaps(client: &Client, from: u64, until: u64) -> Result<(usize, Vec<Gap>)> {
    let options = ReadOptions {
        from: Start::Offset(from),
        until: Some(until),
        ..ReadOptions::new(LOG)
    };
    let mut events = client.read(options);
    let (mut records, mut gaps) = (0, Vec::new());
    while let Some(event) = events.next().await {
        match event? {
            ReadEvent::Records(more) => records += more.len(),
            ReadEvent::Gap(gap) => gaps.push(gap),
            _ => {}
        }
    }
    Ok((records, gaps))
}

/// Node 0 does not know whether the record is lost.
async fn is_told_that_it_may_be_elsewhere(cluster: &Cluster, offset: u64) -> Result<()> {
    let brief = Client::builder()
        .stick_to(cluster.address(0))
        .timeout(Duration::from_secs(1))
        .build()?;
    let error = read_at(&brief, offset).await.expect_err("it is not read");
    let error: &inkstone_client::Error = error.downcast_ref().expect("the client's");
    assert_eq!(error.reason(), Some(Reason::Damaged), "{error}");
    assert!(error.to_string().contains("is not known"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_damaged_everywhere_is_a_gap_and_all_else_goes_on() {
    let bodies = bodies();
    let mut stage = sealed_cluster(&bodies, &[0, 1, 2]).await.unwrap();
    let (offset, bytes) = a_record(&stage.cluster, &[0, 1, 2], &bodies);
    for (file, position) in &bytes {
        flip_in_place(file, *position);
    }
    // What was appended with it is under one crc with it.
    let batch = offset / BATCH * BATCH;
    for node in 0..3 {
        let client = stage.cluster.client_of(node).unwrap();
        let (records, gaps) = with_gaps(&client, batch - 5, batch + BATCH + 5)
            .await
            .unwrap();
        let gap = Gap {
            from: batch,
            to: batch + BATCH,
            reason: GapReason::Damaged,
        };
        assert_eq!((records, gaps), (10, vec![gap]), "node {node}");
        // At once, though nothing scrubs.
        let own = own_status(&client).await.unwrap().repair.unwrap();
        assert_eq!(own.damaged_entries, 1, "{own:?}");
        assert!(own.damages[0].entries.is_some(), "{own:?}");
        // Another log, and appends.
        let other = read_all(&client, ReadOptions::new(OTHER)).await.unwrap();
        assert_eq!(other[0].body, "kept");
        client
            .append(OTHER, vec![NewRecord::new("more")])
            .await
            .unwrap();
    }
    let waits = |status: &ClusterStatus| {
        status.nodes.iter().all(|row| {
            let waits_for = row.repair.as_ref().map(|repair| repair.waits_for.as_str());
            waits_for.is_some_and(|it| it.contains("it is damaged there, too"))
        })
    };
    status_until(&stage.cluster, 0, waits).await.unwrap();
    // One copy is whole again, on a node that does not answer: nobody may be told that there is none.
    stage.cluster.kill(2).unwrap();
    let (file, position) = &bytes[2];
    flip_in_place(file, *position);
    is_told_that_it_may_be_elsewhere(&stage.cluster, offset)
        .await
        .unwrap();
    // It comes back: the next reader of each node brings the record back.
    stage.cluster.restart(2).await.unwrap();
    for node in 0..3 {
        let client = stage.cluster.client_of(node).unwrap();
        let body = &bodies[usize::try_from(offset).unwrap()];
        assert!(
            read_at(&client, offset).await.unwrap().body == *body,
            "node {node}"
        );
    }
    for node in [0, 1] {
        let status = status_until(&stage.cluster, node, has_repaired)
            .await
            .unwrap();
        let own = status
            .nodes
            .iter()
            .find(|row| row.node.id == status.answered_by);
        let repair = own.and_then(|own| own.repair.as_ref()).unwrap();
        assert_eq!(
            (repair.damaged_entries, repair.damages.len()),
            (0, 0),
            "{repair:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_mends_what_a_follower_needs_and_outlives_it_when_nobody_can() {
    let bodies = bodies();
    let mut stage = sealed_cluster(&bodies, &[0, 1]).await.unwrap();
    // Both that have the entry have lost it: the third cannot be given it.
    let (_, bytes) = a_record(&stage.cluster, &[0, 1], &bodies);
    let leader = stage.cluster.leader().await.unwrap();
    let (file, position) = &bytes[leader];
    let (other_file, other_position) = &bytes[1 - leader];
    flip_in_place(file, *position);
    flip_in_place(other_file, *other_position);
    stage.cluster.spawn(2).unwrap();
    let client = stage.cluster.client().unwrap();
    for _ in 0..20 {
        client
            .append(OTHER, vec![NewRecord::new("more")])
            .await
            .unwrap();
    }
    let has_tried = |status: &ClusterStatus| {
        status.nodes.iter().any(|row| {
            let repair = row.repair.as_ref();
            repair.is_some_and(|repair| repair.waits_for.contains("it is damaged there, too"))
        })
    };
    status_until(&stage.cluster, leader, has_tried)
        .await
        .unwrap();
    client
        .append(OTHER, vec![NewRecord::new("more")])
        .await
        .unwrap();
    assert_eq!(stage.cluster.leader().await.unwrap(), leader);
    for node in 0..3 {
        assert!(stage.cluster.is_running(node), "node {node} has ended");
    }
    // One copy is whole again.
    flip_in_place(other_file, *other_position);
    stage.cluster.ready(2).await.unwrap();
    status_until(&stage.cluster, leader, has_repaired)
        .await
        .unwrap();
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
}
