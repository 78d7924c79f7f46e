//! Logs end: retention under load, followers that were down while the log's beginning went, producers that retry across
//! it, deleted logs. In real processes, with the smallest segments that the server allows.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{
    Bound, Client, Consistency, GapReason, IfExists, NewRecord, ReadEvent, ReadOptions, Reason,
    Record, Retention, Start,
};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;

use crate::scene::{Stage, binary, read_all};
use crate::search::search_all;

pub(crate) const SEGMENT: u64 = 16 << 20;
const LOG: &str = "retained";
/// How long a condition may take on a busy machine.
const SOON: Duration = Duration::from_secs(120);

pub(crate) fn small_segments() -> ClusterOptions {
    ClusterOptions {
        tables: format!(
            "[log]\nsegment_size = {SEGMENT}\nretention_interval_ms = 50\nfree_size_min = 0\n"
        ),
        ..ClusterOptions::new(binary())
    }
}

/// Bytes that do not compress, so that a record takes its size on the disk.
fn noise(mut seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed ^ (seed >> 33)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(crate) const RECORD: usize = 32 << 10;
const BATCH: u64 = 32;

/// The body of the record at an offset.
fn body(offset: u64) -> Vec<u8> {
    let mut body = offset.to_le_bytes().to_vec();
    body.extend(noise(offset, RECORD - 8));
    body
}

/// Appends so many MiB: the next offset.
pub(crate) async fn append_mib(client: &Client, log: &str, from: u64, mib: u64) -> Result<u64> {
    let mut next = from;
    for _ in 0..mib {
        let records = (next..next + BATCH).map(|at| NewRecord::new(body(at)));
        let receipt = client.append(log, records.collect()).await?;
        assert_eq!(receipt.first_offset, next);
        next = receipt.next_offset;
    }
    Ok(next)
}

/// Bytes of a node's files of segments.
pub(crate) fn segment_bytes(data_dir: &Path) -> u64 {
    let files = std::fs::read_dir(data_dir.join("group-1/log")).expect("a log's directory");
    let segments = files
        .map(|file| file.expect("listed"))
        .filter(|file| file.path().extension().is_some_and(|it| it == "seg"));
    // One may go between the two.
    segments
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// Waits for a condition that the cluster comes to by itself.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn within(cluster: &Cluster, bound: u64) {
    for node in 0..cluster.len() {
        let dir = cluster.data_dir(node);
        until(
            &format!("node {node} within {bound}, {} now", segment_bytes(&dir)),
            async || segment_bytes(&dir) <= bound,
        )
        .await;
    }
}

/// Every node has applied the same, and has the same chain of entries there.
async fn are_identical(cluster: &Cluster) {
    until("equal chains at equal indexes", async || {
        let Ok(status) = cluster
            .client()
            .expect("it has addresses")
            .cluster_status()
            .await
        else {
            return false;
        };
        let first = &status.nodes[0];
        status.nodes.iter().all(|node| {
            node.reachable
                && (node.durable_index, node.applied_index)
                    == (first.durable_index, first.durable_index)
        }) && {
            for node in &status.nodes {
                assert_eq!(
                    node.chain_crc, first.chain_crc,
                    "at {}",
                    first.durable_index
                );
            }
            true
        }
    })
    .await;
}

/// What a node gives of a log from its very beginning: where its gap ends, and the records behind it.
async fn read_from_0(client: &Client, log: &str) -> Result<(u64, Vec<Record>)> {
    let options = ReadOptions {
        from: Start::Offset(0),
        ..ReadOptions::new(log)
    };
    let mut stream = client.read(options);
    let (mut first, mut records) = (0, Vec::new());
    while let Some(event) = stream.next().await {
        match event? {
            ReadEvent::Records(batch) => records.extend(batch),
            ReadEvent::Gap(gap) => {
                assert!(records.is_empty(), "a gap behind records: {gap:?}");
                assert_eq!((gap.from, gap.reason), (first, GapReason::Trimmed));
                first = gap.to;
            }
            _ => {}
        }
    }
    Ok((first, records))
}

/// The newest records, and only these, byte for byte.
pub(crate) async fn has_the_newest(cluster: &Cluster, log: &str, next: u64) -> Result<()> {
    let info = cluster.client()?.log_info(log).await?;
    for node in 0..cluster.len() {
        let (first, records) = read_from_0(&cluster.client_of(node)?, log).await?;
        assert_eq!(first, info.first_offset, "node {node}");
        assert_eq!(records.len() as u64, next - first, "node {node}");
        for (offset, record) in (first..).zip(&records) {
            assert_eq!(record.offset, offset);
            assert_eq!(record.body, body(offset), "node {node}, offset {offset}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_the_disk_of_every_node_stays_within_two_segments_of_the_bound() -> Result<()> {
    const BOUND: u64 = 48 << 20;
    let stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    let bounded = Retention {
        max_bytes: Some(BOUND),
        ..Retention::default()
    };
    client.create_log_with(LOG, IfExists::Fail, bounded).await?;
    let mut next = 0;
    for _ in 0..4 {
        next = append_mib(&client, LOG, next, 40).await?;
        within(&stage.cluster, BOUND + 2 * SEGMENT).await;
    }
    are_identical(&stage.cluster).await;
    let kept = async || {
        let info = client.log_info(LOG).await.expect("it is there");
        assert_eq!(info.next_offset, next);
        (next - info.first_offset) * RECORD as u64
    };
    until("no more is kept than the bound", async || {
        kept().await <= BOUND
    })
    .await;
    let kept = kept().await;
    assert!(
        kept + (2 << 20) >= BOUND,
        "no more is removed than the bound asks for: {kept} bytes are kept"
    );
    has_the_newest(&stage.cluster, LOG, next).await?;
    for node in 0..stage.cluster.len() {
        let bytes = segment_bytes(&stage.cluster.data_dir(node));
        assert!(bytes <= BOUND + 2 * SEGMENT, "node {node}: {bytes} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_down_past_the_boundary_comes_back_by_itself() -> Result<()> {
    let mut stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    let mut next = append_mib(&client, LOG, 0, 4).await?;
    let leader = stage.cluster.leader().await?;
    let down = (leader + 1) % stage.cluster.len();
    stage.cluster.kill(down)?;
    next = append_mib(&client, LOG, next, 60).await?;
    client.trim_log(LOG, next).await?;
    let up: Vec<usize> = (0..stage.cluster.len()).filter(|at| *at != down).collect();
    for node in &up {
        let dir = stage.cluster.data_dir(*node);
        until("the segments are purged", async || {
            segment_bytes(&dir) <= 2 * SEGMENT
        })
        .await;
    }
    next = append_mib(&client, LOG, next, 2).await?;
    stage.cluster.restart(down).await?;
    are_identical(&stage.cluster).await;
    has_the_newest(&stage.cluster, LOG, next).await?;
    // Once more: what was installed is whole after a crash, and takes part.
    stage.cluster.kill_all()?;
    stage.cluster.start_all().await?;
    next = append_mib(&stage.cluster.client()?, LOG, next, 2).await?;
    are_identical(&stage.cluster).await;
    has_the_newest(&stage.cluster, LOG, next).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_log_frees_the_disk_and_its_name() -> Result<()> {
    let stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    client.create_log("other", IfExists::Fail).await?;
    client.create_log(LOG, IfExists::Fail).await?;
    append_mib(&client, LOG, 0, 60).await?;
    let before = client.log_info(LOG).await?;
    assert!(before.stored_bytes >= 60 << 20);
    client
        .alter_log(LOG, Bound::Set(Duration::from_secs(86_400)), Bound::Keep)
        .await?;
    client.delete_log(LOG).await?;
    within(&stage.cluster, 2 * SEGMENT).await;
    let gone = client.append(LOG, vec![NewRecord::new("x")]).await;
    assert_eq!(gone.unwrap_err().reason(), Some(Reason::LogNotFound));
    let gone = client.read(ReadOptions::new(LOG)).next().await;
    let gone = gone.context("an error")?;
    assert_eq!(gone.unwrap_err().reason(), Some(Reason::LogNotFound));
    client.create_log(LOG, IfExists::Fail).await?;
    let again = client.log_info(LOG).await?;
    assert_eq!((again.first_offset, again.next_offset), (0, 0));
    assert!(again.id > before.id && again.retention == Retention::default());
    let next = append_mib(&client, LOG, 0, 1).await?;
    has_the_newest(&stage.cluster, LOG, next).await
}

/// The base of a node's oldest segment.
fn oldest(data_dir: &Path) -> u64 {
    let files = std::fs::read_dir(data_dir.join("group-1/log")).expect("a log's directory");
    let bases = files.filter_map(|file| {
        let name = file.expect("listed").file_name();
        name.to_str()?.strip_suffix(".seg")?.parse().ok()
    });
    bases.min().unwrap_or(0)
}

/// One producer appends on and on; every try that is not answered is made again by the client, with its sequence number.
/// Were an append lost or taken twice, the next one's receipt would name another offset.
async fn append_until(client: Client, stop: watch::Receiver<bool>) -> Result<u64> {
    let mut next = 0;
    while !*stop.borrow() {
        next = append_mib(&client, LOG, next, 1).await?;
    }
    Ok(next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_retries_is_exactly_once_through_kills_snapshot_installs_and_purges()
-> Result<()> {
    let mut stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    let bounded = Retention {
        max_bytes: Some(24 << 20),
        ..Retention::default()
    };
    client.create_log_with(LOG, IfExists::Fail, bounded).await?;
    let stop = watch::Sender::new(false);
    let appends = tokio::spawn(append_until(stage.cluster.client()?, stop.subscribe()));
    for _ in 0..2 {
        let leader = stage.cluster.leader().await?;
        let down = (leader + 1) % stage.cluster.len();
        let status = stage.cluster.client_of(down)?.cluster_status().await?;
        let last = status.nodes.iter().map(|node| node.durable_index).max();
        let last = last.context("it has members")?;
        stage.cluster.kill(down)?;
        let dir = stage.cluster.data_dir(leader);
        until("what the follower lacks is purged", async || {
            assert!(!appends.is_finished(), "the appends have ended");
            oldest(&dir) > last
        })
        .await;
        stage.cluster.restart(down).await?;
        let dir = stage.cluster.data_dir(down);
        until("the follower has begun behind a snapshot", async || {
            oldest(&dir) > last
        })
        .await;
        stage.cluster.kill(leader)?;
        stage.cluster.leader_other_than(Some(leader)).await?;
        stage.cluster.restart(leader).await?;
    }
    stage.cluster.kill_all()?;
    stage.cluster.start_all().await?;
    let before = client.log_info(LOG).await?.next_offset;
    until("appends go on", async || {
        assert!(!appends.is_finished(), "the appends have ended");
        client
            .log_info(LOG)
            .await
            .is_ok_and(|log| log.next_offset > before)
    })
    .await;
    stop.send_replace(true);
    let next = appends.await??;
    until("what is over the bound is trimmed", async || {
        let log = client.log_info(LOG).await.expect("it is there");
        (log.next_offset - log.first_offset) * RECORD as u64 <= 24 << 20
    })
    .await;
    are_identical(&stage.cluster).await;
    has_the_newest(&stage.cluster, LOG, next).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimmed_records_are_neither_read_nor_found_and_a_trim_never_goes_back() -> Result<()> {
    let stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    let records = (0..10).map(|number| NewRecord::new(format!("timeout {number}")));
    client.append(LOG, records.collect()).await?;
    assert_eq!(client.trim_log(LOG, 7).await?.first_offset, 7);
    assert_eq!(client.trim_log(LOG, 3).await?.first_offset, 7);
    let beyond = client.trim_log(LOG, 11).await.unwrap_err();
    assert_eq!(beyond.reason(), Some(Reason::OffsetOutOfRange));
    for node in 0..stage.cluster.len() {
        let client = stage.cluster.client_of(node)?;
        let mut found = search_all(&client, LOG, "timeout").await;
        found.sort_unstable();
        assert_eq!(found, [7, 8, 9], "node {node}");
        for consistency in [Consistency::Linearizable, Consistency::AtLeast(10)] {
            let tail = client.tail(LOG, consistency).await?;
            assert_eq!((tail.first_offset, tail.next_offset), (7, 10), "{node}");
        }
        let (first, records) = read_from_0(&client, LOG).await?;
        assert_eq!((first, records.len()), (7, 3), "node {node}");
        let from_first = read_all(&client, ReadOptions::new(LOG)).await?;
        assert_eq!(from_first, records, "node {node}");
    }
    Ok(())
}
