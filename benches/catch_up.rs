//! Catch-up: a node joins a loaded cluster with nothing, and one that was down for long comes back; how fast each gets
//! what it lacks. Goal: 200 MB/s for the one that joins.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use inkstone_benches::{Extent, Table, append_corpus, millis, probe, program, run};
use inkstone_client::{Client, ClusterStatus};
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Turns of each side; the medians are printed.
const TURNS: usize = 3;
/// The sides: what they are called, and the tables of the nodes' configuration.
const SIDES: [(&str, &str); 2] = [
    ("index off", "[search]\nenabled = false\n"),
    ("index on", ""),
];
const BODY_SIZE: usize = 1 << 10;
/// MB/s of bodies that a new node is to get.
const GOAL: u64 = 200;
/// Between two looks at how far a node is.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than the slowest disk takes.
const PATIENCE: Duration = Duration::from_secs(900);

/// How one node got what it lacked.
#[derive(Debug, Clone, Copy)]
struct CaughtUp {
    /// Bytes of bodies.
    bodies: u64,
    took: Duration,
}

/// What one turn measured.
#[derive(Debug, Clone, Copy)]
struct Turn {
    learner: CaughtUp,
    follower: CaughtUp,
}

fn main() -> Result<()> {
    run(
        "catch-up (3 processes on one machine, and the one that catches up; medians)",
        async |table, extent| {
            let mut sides = [Vec::new(), Vec::new()];
            for _ in 0..extent.pick(TURNS, 1) {
                for (side, (_, tables)) in sides.iter_mut().zip(SIDES) {
                    side.push(turn(tables, &extent).await?);
                }
            }
            for (turns, (name, _)) in sides.iter().zip(SIDES) {
                let learners: Vec<CaughtUp> = turns.iter().map(|turn| turn.learner).collect();
                let followers: Vec<CaughtUp> = turns.iter().map(|turn| turn.follower).collect();
                rows(table, &format!("{name}: empty learner"), &learners);
                rows(
                    table,
                    &format!("{name}: far-behind follower, from its start"),
                    &followers,
                );
            }
            table.row(
                "goal: empty learner, bytes of bodies",
                format!("{GOAL} MB/s"),
            );
            let dir = tempfile::tempdir()?;
            let cost = probe(dir.path(), extent.pick(2_000, 300))?;
            table.row("raw 1 KiB pwrite + fdatasync, p50", millis(cost.p50));
            table.row("raw 1 KiB pwrite + fdatasync, p99", millis(cost.p99));
            Ok(())
        },
    )
}

fn rows(table: &mut Table, name: &str, turns: &[CaughtUp]) {
    let median = |value: fn(&CaughtUp) -> u64| {
        let mut values: Vec<u64> = turns.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let bodies = median(|turn| turn.bodies) / 1_000_000;
    let rate = median(|turn| rate(turn.bodies, turn.took));
    table.row(
        format!("{name}, {bodies} MB of bodies"),
        format!("{rate} MB/s"),
    );
}

/// Megabytes per second.
fn rate(bytes: u64, took: Duration) -> u64 {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    bytes / 1_000 / millis.max(1)
}

/// One cluster: a node joins it once it is loaded, then a follower is down while as much again is appended.
async fn turn(tables: &str, extent: &Extent) -> Result<Turn> {
    let mut cluster = Cluster::start(ClusterOptions {
        tables: tables.to_owned(),
        ..ClusterOptions::new(program()?)
    })
    .await?;
    let records = extent.pick(1_000_000, 200_000);
    let client = cluster.client()?;
    let bodies = append_corpus(&client, "bench/first", records, BODY_SIZE).await?;
    let learner = join(&mut cluster, bodies).await?;
    let follower = come_back(&mut cluster, records).await?;
    Ok(Turn { learner, follower })
}

/// A fourth node, from the moment at which it is added.
async fn join(cluster: &mut Cluster, bodies: u64) -> Result<CaughtUp> {
    let client = cluster.client()?;
    let node = cluster.add_node()?;
    cluster.spawn(node)?;
    let address = cluster.peer_address(node).to_owned();
    let waits = |status: &ClusterStatus| status.waiting_node(&address).map(|node| node.id);
    let id = until(&client, waits).await?;
    let target = end_of(&client).await?;
    let clock = Clock::start();
    client.add_member(&id.to_string()).await?;
    until(&client, |status| has(status, id, target)).await?;
    Ok(CaughtUp {
        bodies,
        took: clock.elapsed(),
    })
}

/// A follower that was down, from the moment at which it is started again.
async fn come_back(cluster: &mut Cluster, records: usize) -> Result<CaughtUp> {
    let client = cluster.client()?;
    let follower = (cluster.leader().await? + 1) % 3;
    let id = id_of(cluster, follower).await?;
    cluster.kill(follower)?;
    let bodies = append_corpus(&client, "bench/second", records, BODY_SIZE).await?;
    let target = end_of(&client).await?;
    let clock = Clock::start();
    cluster.spawn(follower)?;
    until(&client, |status| has(status, id, target)).await?;
    Ok(CaughtUp {
        bodies,
        took: clock.elapsed(),
    })
}

/// Whether a node has everything up to an entry durably.
fn has(status: &ClusterStatus, id: u64, target: u64) -> Option<()> {
    let node = status.nodes.iter().find(|node| node.node.id == id)?;
    (node.reachable && node.durable_index >= target).then_some(())
}

/// The leader's last durable entry.
async fn end_of(client: &Client) -> Result<u64> {
    let status = client.cluster_status().await?;
    let leader = status.leader.context("nobody leads")?;
    let leader = status.nodes.iter().find(|node| node.node.id == leader);
    let leader = leader.context("the leader is no member")?;
    Ok(leader.durable_index)
}

async fn id_of(cluster: &Cluster, node: usize) -> Result<u64> {
    let status = cluster.client()?.cluster_status().await?;
    let address = cluster.address(node);
    let node = status
        .nodes
        .iter()
        .find(|node| node.node.client_address == address);
    Ok(node.context("the node is no member")?.node.id)
}

/// Looks at the cluster until it is as it should be.
async fn until<T>(client: &Client, reached: impl Fn(&ClusterStatus) -> Option<T>) -> Result<T> {
    let looking = async {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Ok(status) = client.cluster_status().await
                && let Some(found) = reached(&status)
            {
                return found;
            }
        }
    };
    match timeout(PATIENCE, looking).await {
        Ok(found) => Ok(found),
        Err(_) => bail!("it has not caught up within {PATIENCE:?}"),
    }
}
