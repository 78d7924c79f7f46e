//! Damage that other nodes can mend: a node that finds it at its start stays in quarantine until every entry is what it
//! was, and only then takes part.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use inkstone_client::{
    Client, ClusterStatus, Error, IfExists, NewRecord, NodeRole, NodeStatus, ReadOptions, Reason,
};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions, PATIENCE};
use tokio::time::{interval, timeout};

use crate::damage::{
    LOG, bodies, find_records, flip, segments, stopped_follower_with_sealed_segments,
};
use crate::scene::{Stage, append_all, binary, read_all};

/// Bytes of a frame's header; the first frame stands at 4096.
const FIRST_FRAME: usize = 4_096;

/// The files of a stopped node that are harmed.
pub(crate) struct Files {
    pub(crate) sealed: PathBuf,
    pub(crate) open: PathBuf,
    /// Where records stand in the open segment, rising.
    pub(crate) records: Vec<usize>,
}

impl Files {
    pub(crate) fn of(cluster: &Cluster, node: usize, bodies: &[Vec<u8>]) -> Self {
        let mut segments = segments(cluster, node);
        let open = segments.pop().expect("there is one that is appended to");
        let found = find_records(&open, bodies);
        Self {
            sealed: segments.remove(0),
            records: found.into_iter().map(|(position, _)| position).collect(),
            open,
        }
    }
}

/// Does something to the files of a stopped node.
type Harm = fn(&Files);

/// What must be fetched from others, and what the node makes good by itself.
const HARMS: [(&str, Harm, bool); 10] = [
    (
        "the payload of the newest entry",
        |files| {
            flip(&files.open, files.records[files.records.len() - 1] + 100);
        },
        true,
    ),
    (
        "the payload of an earlier entry of the open segment",
        |files| {
            flip(&files.open, files.records[1] + 100);
        },
        true,
    ),
    (
        "the header of the open segment's first frame",
        |files| {
            flip(&files.open, FIRST_FRAME + 20);
        },
        true,
    ),
    (
        "the open segment cut in the newest entry",
        |files| {
            let bytes = read(&files.open);
            write(
                &files.open,
                &bytes[..files.records[files.records.len() - 1] + 100],
            );
        },
        true,
    ),
    (
        "a page of zeros in the open segment",
        |files| {
            let mut bytes = read(&files.open);
            let at = files.records[1];
            bytes[at..at + 4_096].fill(0);
            write(&files.open, &bytes);
        },
        true,
    ),
    (
        "the open segment is missing",
        |files| remove(&files.open),
        true,
    ),
    (
        "a sealed segment is missing",
        |files| remove(&files.sealed),
        true,
    ),
    (
        "a sealed segment is cut in half",
        |files| {
            let bytes = read(&files.sealed);
            write(&files.sealed, &bytes[..bytes.len() / 2]);
        },
        true,
    ),
    (
        "the header of a sealed segment",
        |files| flip(&files.sealed, 40),
        false,
    ),
    (
        "the footer of a sealed segment",
        |files| {
            let size = read(&files.sealed).len();
            flip(&files.sealed, size - 8);
        },
        false,
    ),
];

pub(crate) fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("the file can be read")
}

pub(crate) fn write(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("the file can be written");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the node that owns it does not run"
)]
pub(crate) fn remove(file: &Path) {
    std::fs::remove_file(file).expect("the file can be removed");
}

/// Where the frames of a segment stand, by its headers alone.
pub(crate) fn frames(segment: &Path) -> Vec<usize> {
    let bytes = read(segment);
    let mut found = Vec::new();
    let mut at = FIRST_FRAME;
    while bytes[at..].starts_with(b"IK") {
        found.push(at);
        let size = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes"));
        at += (64 + usize::try_from(size).expect("it fits")).next_multiple_of(8);
    }
    found
}

/// A node's own row in what it says of the cluster.
pub(crate) async fn own_status(client: &Client) -> Result<NodeStatus> {
    let status = client.cluster_status().await?;
    let by = status.answered_by;
    let own = status.nodes.into_iter().find(|row| row.node.id == by);
    own.context("a node that does not name itself")
}

/// Asks one node until its answer is what is waited for.
pub(crate) async fn status_until(
    cluster: &Cluster,
    node: usize,
    is_it: impl Fn(&ClusterStatus) -> bool,
) -> Result<ClusterStatus> {
    let client = Client::builder()
        .stick_to(cluster.address(node))
        .timeout(Duration::from_secs(5))
        .build()?;
    let mut asking = interval(Duration::from_millis(100));
    let mut last = None;
    let asked = async {
        loop {
            asking.tick().await;
            // A node that starts does not answer yet.
            let Ok(status) = client.cluster_status().await else {
                continue;
            };
            if is_it(&status) {
                return status;
            }
            last = Some(status);
        }
    };
    let found = timeout(PATIENCE, asked).await;
    found.with_context(|| format!("node {node} last said: {last:?}"))
}

/// All nodes have the same log: every record, and the same chain crc at the same index.
pub(crate) async fn all_nodes_agree(cluster: &Cluster, bodies: &[Vec<u8>]) -> Result<()> {
    for node in 0..cluster.len() {
        let client = cluster.client_of(node)?;
        let records = read_all(&client, ReadOptions::new(LOG))
            .await
            .with_context(|| format!("node {node}"))?;
        ensure!(
            records.len() == bodies.len(),
            "node {node}: {}",
            records.len()
        );
        let same = records
            .iter()
            .zip(bodies)
            .all(|(record, body)| record.body == *body);
        ensure!(same, "node {node} has another record");
    }
    let is_same = |status: &ClusterStatus| {
        let first = (status.nodes[0].durable_index, status.nodes[0].chain_crc);
        status
            .nodes
            .iter()
            .all(|row| (row.durable_index, row.chain_crc) == first)
    };
    status_until(cluster, 0, is_same).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_on_one_node_comes_back_from_the_others_before_it_takes_part() {
    let bodies = bodies();
    let (mut stage, follower, _) = stopped_follower_with_sealed_segments(&bodies)
        .await
        .unwrap();
    for (what, harm, is_fetched) in HARMS {
        let files = Files::of(&stage.cluster, follower, &bodies);
        let before = read(&files.open);
        harm(&files);
        stage
            .cluster
            .restart(follower)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let client = stage.cluster.client_of(follower).unwrap();
        let status = own_status(&client).await.unwrap();
        let repair = status.repair.expect("this release repairs");
        assert_eq!(
            repair.repaired_entries > 0,
            is_fetched,
            "{what}: {repair:?}"
        );
        assert_eq!(repair.damaged_entries, 0, "{what}: {repair:?}");
        assert_eq!(repair.last_time.is_some(), is_fetched, "{what}: {repair:?}");
        all_nodes_agree(&stage.cluster, &bodies)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert!(stage.cluster.terminate(follower).await.unwrap().success());
        let after = read(&files.open);
        let size = before.iter().rposition(|byte| *byte != 0).unwrap();
        assert_eq!(
            before[..FIRST_FRAME],
            after[..FIRST_FRAME],
            "{what}: the segment has another header"
        );
        assert!(after.len() > size, "{what}: the segment was cut");
    }
}

/// Records of the smaller clusters: one segment, which is appended to.
const FEW: usize = 200;

/// A cluster whose nodes have all of the records, and are all stopped.
async fn stopped_cluster(nodes: usize, bodies: &[Vec<u8>]) -> Result<Stage> {
    let options = ClusterOptions {
        nodes,
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    append_all(&client, LOG, bodies, 20).await?;
    all_nodes_agree(&stage.cluster, bodies).await?;
    stage.cluster.kill_all()?;
    Ok(stage)
}

/// Flips a byte of the payload of the frame with that number in the only segment of a node.
fn rot(cluster: &Cluster, node: usize, number: usize) -> PathBuf {
    let open = segments(cluster, node).pop().expect("it has one");
    flip(&open, frames(&open)[number] + 200);
    open
}

async fn repaired(cluster: &Cluster, node: usize) -> u64 {
    let client = cluster.client_of(node).expect("the address is one");
    let own = own_status(&client).await.expect("it answers");
    own.repair.expect("this release repairs").repaired_entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_damaged_nodes_of_five_are_mended_by_the_others() {
    let mut bodies = bodies();
    bodies.truncate(FEW);
    let mut stage = stopped_cluster(5, &bodies).await.unwrap();
    let open = segments(&stage.cluster, 0).pop().unwrap();
    let last = frames(&open).len() - 1;
    for (node, number) in [(0, last), (0, 4), (1, last), (1, 5)] {
        rot(&stage.cluster, node, number);
    }
    // Headers, too, and of the same entries: what was there is told by the chain alone.
    for node in [0, 1] {
        let open = segments(&stage.cluster, node).pop().unwrap();
        for number in [6, 7] {
            flip(&open, frames(&read_back(&stage.cluster, 2))[number] + 20);
        }
    }
    stage.cluster.start_all().await.unwrap();
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
    for node in [0, 1] {
        assert_eq!(repaired(&stage.cluster, node).await, 4, "node {node}");
    }
    for node in [2, 3, 4] {
        assert_eq!(repaired(&stage.cluster, node).await, 0, "node {node}");
    }
}

/// A whole node's segment: the others' are the same up to the last frame.
fn read_back(cluster: &Cluster, node: usize) -> PathBuf {
    segments(cluster, node).pop().expect("it has one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_in_quarantine_mend_each_other() {
    let mut bodies = bodies();
    bodies.truncate(FEW);
    let mut stage = stopped_cluster(3, &bodies).await.unwrap();
    rot(&stage.cluster, 0, 4);
    rot(&stage.cluster, 1, 6);
    // The third stays down: nobody can elect a leader before both are whole.
    for node in [0, 1] {
        stage.cluster.spawn(node).unwrap();
    }
    for node in [0, 1] {
        stage.cluster.ready(node).await.unwrap();
        assert_eq!(repaired(&stage.cluster, node).await, 1, "node {node}");
    }
    stage.cluster.restart(2).await.unwrap();
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_damaged_everywhere_keeps_all_nodes_in_quarantine_and_is_cut_nowhere() {
    let mut bodies = bodies();
    bodies.truncate(FEW);
    let mut stage = stopped_cluster(3, &bodies).await.unwrap();
    let open = segments(&stage.cluster, 0).pop().unwrap();
    let last = frames(&open).len() - 1;
    let whole = read(&rot(&stage.cluster, 0, last));
    for node in [1, 2] {
        rot(&stage.cluster, node, last);
    }
    for node in 0..3 {
        stage.cluster.spawn(node).unwrap();
    }
    let all_wait = |status: &ClusterStatus| {
        status.nodes.len() == 3
            && status.nodes.iter().all(|row| {
                let waits_for = row.repair.as_ref().map(|repair| repair.waits_for.as_str());
                row.role == NodeRole::Quarantined
                    && waits_for.is_some_and(|it| it.contains("it is damaged there, too"))
            })
    };
    let status = status_until(&stage.cluster, 1, all_wait).await.unwrap();
    assert_eq!(status.leader, None);
    for row in &status.nodes {
        let repair = row.repair.as_ref().unwrap();
        assert_eq!((repair.damaged_entries, repair.repaired_entries), (1, 0));
        assert_eq!(repair.damages.len(), 1);
        assert!(
            repair.damages[0].file.starts_with("group-1/log/"),
            "{repair:?}"
        );
    }
    // Nothing else is answered: neither a read nor an append.
    let client = Client::builder()
        .stick_to(stage.cluster.address(0))
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let refused = client
        .append(LOG, vec![NewRecord::new("x")])
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::Quarantined), "{refused}");
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("ink cluster status"),
        "{refused}"
    );
    let refused = read_all(&client, ReadOptions::new(LOG)).await.unwrap_err();
    assert!(format!("{refused:#}").contains("quarantine"), "{refused:#}");
    stage.cluster.kill_all().unwrap();
    assert!(
        read(&open) == whole,
        "the node changed what it could not mend"
    );
    // One copy is whole again: that is enough for all.
    rot(&stage.cluster, 0, last);
    stage.cluster.start_all().await.unwrap();
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
}
