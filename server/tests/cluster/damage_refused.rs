//! What may have been acknowledged is gone or changed, and the node can't know it whole: it does not start, cuts nothing,
//! and says which file it is. A node that started anyway would vote as if it had never stored what it lacks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use inkstone_client::ReadOptions;
use inkstone_jepsen::cluster::Cluster;

use crate::damage::{
    LOG, RECORDS, bodies, file_name, find_records, flip, segments,
    stopped_follower_with_sealed_segments,
};
use crate::scene::read_all;

const SOON: Duration = Duration::from_secs(30);

/// Does something to the files of a stopped node and returns the file that the refusal must name.
type Harm = fn(&Files) -> PathBuf;

/// The files of the stopped node that can be harmed.
struct Files {
    data_dir: PathBuf,
    sealed: PathBuf,
    open: PathBuf,
    /// Where the newest record stands in the open segment.
    last_record: usize,
    /// Where an older one stands there.
    earlier_record: usize,
}

const HARMS: [(&str, Harm); 7] = [
    ("a byte of the newest record", |files| {
        flip(&files.open, files.last_record + 100);
        files.open.clone()
    }),
    ("a byte of an earlier record of the open segment", |files| {
        flip(&files.open, files.earlier_record + 100);
        files.open.clone()
    }),
    ("the open segment cut in the newest record", |files| {
        let bytes = read(&files.open);
        write(&files.open, &bytes[..files.last_record + 100]);
        files.open.clone()
    }),
    ("a page of zeros in the open segment", |files| {
        let mut bytes = read(&files.open);
        bytes[files.earlier_record..files.earlier_record + 4_096].fill(0);
        write(&files.open, &bytes);
        files.open.clone()
    }),
    ("the sealed segment is missing", |files| {
        remove(&files.sealed);
        files.sealed.clone()
    }),
    ("both slots of the hard state", |files| {
        both_slots(&files.data_dir.join("group-1/hard-state"))
    }),
    ("a byte of the identity", |files| {
        let file = files.data_dir.join("identity");
        flip(&file, 20);
        file
    }),
];

fn both_slots(file: &Path) -> PathBuf {
    flip(file, 24);
    flip(file, 4_096 + 24);
    file.to_owned()
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("the file can be read")
}

fn write(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("the file can be written");
}

/// The file is gone.
#[expect(
    clippy::disallowed_methods,
    reason = "the node that owns it does not run"
)]
fn remove(file: &Path) {
    std::fs::remove_file(file).expect("the file can be removed");
}

/// Every file below a directory with its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory can be listed") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = read(&path);
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

/// Starts the node, which must end by itself with code 1: what it said.
async fn refusal(cluster: &mut Cluster, node: usize, what: &str) -> String {
    cluster.spawn(node).expect("it starts");
    let process = cluster.process(node).expect("it was started");
    let ended = process.exited(SOON).await;
    let said = process.stderr();
    cluster.kill(node).expect("it has ended");
    match ended {
        Ok(status) => assert_eq!(status.code(), Some(1), "{what}: {said}"),
        Err(error) => panic!("{what}: it runs on: {error:#}\n{said}"),
    }
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("inkstone: error: "))
        .collect();
    assert_eq!(lines.len(), 1, "{what}: {said}");
    lines[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_damage_that_it_cannot_judge_is_refused_by_file_and_cuts_nothing() {
    let bodies = bodies();
    let (mut stage, follower, sealed) = stopped_follower_with_sealed_segments(&bodies)
        .await
        .unwrap();
    let data_dir = stage.cluster.data_dir(follower);
    let open = segments(&stage.cluster, follower).pop().unwrap();
    let records = find_records(&open, &bodies);
    let files = Files {
        last_record: records[records.len() - 1].0,
        earlier_record: records[1].0,
        data_dir: data_dir.clone(),
        sealed,
        open,
    };
    assert!(files.earlier_record + (64 << 10) < files.last_record);
    let whole = contents(&data_dir);
    for (what, harm) in HARMS {
        let named = harm(&files);
        let harmed = contents(&named_group(&data_dir));
        let line = refusal(&mut stage.cluster, follower, what).await;
        assert!(line.contains(file_name(&named)), "{what}: {line}");
        assert!(
            contents(&named_group(&data_dir)) == harmed,
            "{what}: the refusal changed files"
        );
        for (file, bytes) in &whole {
            write(file, bytes);
        }
    }
    stage.cluster.restart(follower).await.unwrap();
    let client = stage.cluster.client_of(follower).unwrap();
    assert_eq!(
        read_all(&client, ReadOptions::new(LOG))
            .await
            .unwrap()
            .len(),
        RECORDS
    );
}

/// Where the log's files are; the index beside them may change at any time.
fn named_group(data_dir: &Path) -> PathBuf {
    data_dir.join("group-1/log")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_slot_of_two_and_a_bad_watermark_over_a_whole_log_are_survived() {
    let bodies = bodies();
    let (mut stage, follower, _) = stopped_follower_with_sealed_segments(&bodies)
        .await
        .unwrap();
    let group = stage.cluster.data_dir(follower).join("group-1");
    for (file, slots) in [
        ("hard-state", [0].as_slice()),
        ("hard-state", [4_096].as_slice()),
        ("watermark", [0, 4_096].as_slice()),
    ] {
        for slot in slots {
            flip(&group.join(file), slot + 24);
        }
        stage.cluster.restart(follower).await.unwrap();
        assert!(stage.cluster.terminate(follower).await.unwrap().success());
    }
    stage.cluster.restart(follower).await.unwrap();
    let client = stage.cluster.client_of(follower).unwrap();
    assert_eq!(
        read_all(&client, ReadOptions::new(LOG))
            .await
            .unwrap()
            .len(),
        RECORDS
    );
}
