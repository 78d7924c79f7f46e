//! Idle: how much of a processor the nodes of a cluster take that nobody uses.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_benches::measure;
use inkstone_jepsen::clock::Clock;

fn main() -> Result<()> {
    measure("idle (3 processes on one machine)", async |mut bench| {
        let length = bench.pick(Duration::from_secs(30), Duration::from_secs(5));
        let before = cpu_times(&mut bench.cluster)?;
        let clock = Clock::start();
        tokio::time::sleep(length).await;
        let after = cpu_times(&mut bench.cluster)?;
        let took = clock.elapsed();
        let leader = bench.cluster.leader().await?;
        for (node, (before, after)) in before.into_iter().zip(after).enumerate() {
            let role = if node == leader { "leader" } else { "follower" };
            let share = after.saturating_sub(before).as_secs_f64() / took.as_secs_f64();
            bench.table.row(
                format!("node {node} ({role}), share of one core"),
                format!("{:.2} %", share * 100.0),
            );
        }
        Ok(bench)
    })
}

/// The processor time that each node has taken since it started, in user and in kernel mode.
fn cpu_times(cluster: &mut inkstone_jepsen::cluster::Cluster) -> Result<Vec<Duration>> {
    (0..cluster.len())
        .map(|node| {
            let id = cluster.process(node)?.id();
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
            // Behind the name, which stands in parentheses and may hold anything: state is field 3, utime 14, stime 15.
            let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
            let fields: Vec<&str> = fields.split_whitespace().collect();
            let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
            Ok(Duration::from_millis(
                ticks * 1_000 / rustix::param::clock_ticks_per_second(),
            ))
        })
        .collect()
}
