//! Disks without room: a leader refuses appends before they have any effect, and goes on with all else; a node whose disk
//! is really full ends, and says so.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inkstone_client::{
    AppendOptions, Client, Error, IfExists, NewRecord, ReadOptions, Reason, Retry, RetryPolicy,
};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use inkstone_jepsen::lines::{Source, lines};

use crate::scene::{Stage, append_all, binary, read_all};
use crate::search::{scan, search_all};

const LOG: &str = "full";
/// More than any disk has: every append is refused.
const NEVER_ENOUGH: &str = "log.free_size_min = \"1048576GiB\"";
const WORD: &str = "timeout";
const SOON: Duration = Duration::from_secs(60);

/// Stops the nodes and starts them with these lines in their configurations.
async fn restart_with(cluster: &mut Cluster, nodes: &[usize], lines: &str) {
    for node in nodes {
        let ended = cluster.terminate(*node).await.expect("it stops");
        assert!(ended.success());
        cluster.write_config(*node, lines).expect("written");
    }
    cluster.start_all().await.expect("they start");
}

/// One try to append: it must be refused for want of room, and definitely.
async fn is_refused(client: &Client) {
    let options = AppendOptions {
        retry: Retry::Never,
        ..AppendOptions::default()
    };
    let records = vec![NewRecord::new("never to be seen")];
    let error = client
        .append_with(LOG, records, options)
        .await
        .expect_err("there is no room");
    let Error::Refused {
        reason,
        detail,
        message,
    } = &error
    else {
        panic!("not a definite refusal: {error:?}");
    };
    assert_eq!(*reason, Reason::DiskFull, "{message}");
    let bound = ("free_size_min".to_owned(), 1_u64 << 50);
    assert_eq!(detail.bound, Some(bound));
    assert!(detail.retryable && detail.retry_after.is_some());
    assert!(message.contains("make room"), "{message}");
}

/// Every node gives every record, and finds them.
async fn reads_and_searches_go_on(cluster: &Cluster, bodies: &[Vec<u8>]) {
    let expected = scan(bodies, |words| words.iter().any(|word| word == WORD));
    assert!(!expected.is_empty());
    for node in 0..cluster.len() {
        let client = cluster.client_of(node).expect("a client");
        let records = read_all(&client, ReadOptions::new(LOG))
            .await
            .expect("readable");
        assert_eq!(records.len(), bodies.len(), "node {node}");
        assert_eq!(
            search_all(&client, LOG, WORD).await,
            expected,
            "node {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_nearly_full_disks_refuses_appends_and_goes_on_to_vote_read_and_search() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let bodies = lines(Source::Service, 2_000);
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    append_all(&client, LOG, &bodies, 200).await.unwrap();
    restart_with(cluster, &[0, 1, 2], NEVER_ENOUGH).await;
    for node in 0..cluster.len() {
        is_refused(&cluster.client_of(node).unwrap()).await;
    }
    let policy = RetryPolicy::never();
    let once = Client::builder().servers(cluster.addresses()).retry(policy);
    let created = once
        .build()
        .unwrap()
        .create_log("another", IfExists::Fail)
        .await;
    assert_eq!(created.unwrap_err().reason(), Some(Reason::DiskFull));
    reads_and_searches_go_on(cluster, &bodies).await;

    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    let next = cluster.leader_other_than(Some(leader)).await.unwrap();
    is_refused(&cluster.client_of(next).unwrap()).await;
    cluster.restart(leader).await.unwrap();
    reads_and_searches_go_on(cluster, &bodies).await;

    restart_with(cluster, &[0, 1, 2], "").await;
    let client = cluster.client().unwrap();
    let receipt = client
        .append(LOG, vec![NewRecord::new("there is room again")])
        .await
        .unwrap();
    assert_eq!(
        receipt.first_offset,
        bodies.len() as u64,
        "what was refused had no effect"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_what_a_leader_with_room_accepts_whatever_its_own_mark() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let client = cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let others: Vec<usize> = (0..cluster.len()).filter(|node| *node != leader).collect();
    for other in &others {
        restart_with(cluster, &[*other], NEVER_ENOUGH).await;
    }
    // Elections may have moved it to a node that refuses: then it is asked for again where there is room.
    while cluster.leader().await.unwrap() != leader {
        let other = cluster.leader().await.unwrap();
        cluster.kill(other).unwrap();
        cluster.leader_other_than(Some(other)).await.unwrap();
        cluster.restart(other).await.unwrap();
    }
    let bodies = lines(Source::Service, 200);
    let client = cluster.client_of(leader).unwrap();
    append_all(&client, LOG, &bodies, 20).await.unwrap();
    for other in others {
        let client = cluster.client_of(other).unwrap();
        let records = read_all(&client, ReadOptions::new(LOG)).await.unwrap();
        assert_eq!(records.len(), bodies.len());
    }
}

/// Starts the server with its data directory on a small tmpfs of its own.
fn on_a_small_disk(script: &Path, data_dir: &Path) {
    let (data_dir, binary) = (data_dir.display(), binary());
    let text = format!(
        "#!/bin/sh\n\
         mkdir -p \"{data_dir}\" && exec unshare --user --map-root-user --mount sh -c \
         'mount -t tmpfs -o size=48m none \"{data_dir}\" && exec \"$@\"' sh \"{}\" \"$@\"\n",
        binary.display()
    );
    std::fs::write(script, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(script, mode).expect("it is ours");
}

/// Takes a mount namespace of its own, which needs no privilege where user namespaces are allowed; where they are not,
/// this says that it did not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_really_full_ends_with_code_4_and_says_so() {
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status();
    if !may.is_ok_and(|status| status.success()) {
        println!("NOT RUN: this process may not have a mount namespace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("on-a-small-disk");
    on_a_small_disk(&script, &dir.path().join("node-0/data"));
    let options = ClusterOptions {
        nodes: 1,
        dir: Some(dir.path().to_owned()),
        tables: "[log]\nsegment_size = \"16MiB\"\nfree_size_min = 0\n[search]\nenabled = false\n"
            .to_owned(),
        ..ClusterOptions::new(&script)
    };
    let mut stage = Stage::open_with(options).await;
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    let once = AppendOptions {
        retry: Retry::Never,
        ..AppendOptions::default()
    };
    let mut acknowledged = 0;
    let failed = loop {
        let record = NewRecord::new(vec![u8::try_from(acknowledged % 251).unwrap(); 1_000_000]);
        let noise = NewRecord::new(noise(acknowledged));
        match client
            .append_with(LOG, vec![record, noise], once.clone())
            .await
        {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "it does not become full");
    };
    assert!(!failed.is_definite(), "it may have been written: {failed}");
    assert!(acknowledged > 20, "{acknowledged}: {failed}");
    let process = stage.cluster.process(0).unwrap();
    let ended = process.exited(SOON).await.unwrap();
    let said = process.stderr();
    assert_eq!(ended.code(), Some(4), "{said}");
    let error = said
        .lines()
        .find(|line| line.starts_with("inkstone: error: "));
    let error = error.unwrap_or_default();
    assert!(error.contains("the disk is full"), "{said}");
    assert!(error.contains("make room"), "{error}");
}

/// A megabyte that does not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.take(1_000_000).collect()
}
