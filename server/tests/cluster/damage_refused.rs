//! What may have been acknowledged is gone or changed, and the node can't know it whole: it does not start, cuts nothing,
//! and says which file it is. A node that started anyway would vote as if it had never stored what it lacks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use inkstone_client::ReadOptions;
use inkstone_jepsen::cluster::Cluster;

use crate::damage::{
    LOG, RECORDS, bodies, file_name, flip, segments, stopped_follower_with_sealed_segments,
};
use crate::heal::{frames, read, remove, write};
use crate::scene::read_all;

const SOON: Duration = Duration::from_secs(30);

/// Does something to the files of a stopped node and returns the file that the refusal must name, and what it must say.
type Harm = fn(&Files) -> (PathBuf, &'static str);

/// The files of the stopped node that can be harmed.
struct Files {
    data_dir: PathBuf,
    open: PathBuf,
    /// Where the newest frame stands in the open segment.
    last_frame: usize,
}

/// What tells the operator how to go on.
pub(crate) const AS_A_NEW_NODE: &str = "it joins as a new node";

const HARMS: [(&str, Harm); 4] = [
    ("both slots of the hard state", |files| {
        let file = files.data_dir.join("group-1/hard-state");
        (both_slots(&file), AS_A_NEW_NODE)
    }),
    ("no hard state", |files| {
        let file = files.data_dir.join("group-1/hard-state");
        remove(&file);
        (file, AS_A_NEW_NODE)
    }),
    (
        "the newest frame's header, and the watermark that could tell what stood there",
        |files| {
            flip(&files.open, files.last_frame + 20);
            both_slots(&files.data_dir.join("group-1/watermark"));
            (files.open.clone(), AS_A_NEW_NODE)
        },
    ),
    ("a byte of the identity", |files| {
        let file = files.data_dir.join("identity");
        flip(&file, 20);
        (file, "")
    }),
];

pub(crate) fn both_slots(file: &Path) -> PathBuf {
    flip(file, 24);
    flip(file, 4_096 + 24);
    file.to_owned()
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
pub(crate) async fn refusal(cluster: &mut Cluster, node: usize, what: &str) -> String {
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
    drop(sealed);
    let data_dir = stage.cluster.data_dir(follower);
    let open = segments(&stage.cluster, follower).pop().unwrap();
    let files = Files {
        last_frame: *frames(&open).last().unwrap(),
        data_dir: data_dir.clone(),
        open,
    };
    let whole = contents(&data_dir);
    for (what, harm) in HARMS {
        let (named, says) = harm(&files);
        let harmed = contents(&named_group(&data_dir));
        let line = refusal(&mut stage.cluster, follower, what).await;
        assert!(line.contains(file_name(&named)), "{what}: {line}");
        assert!(line.contains(says), "{what}: {line}");
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
