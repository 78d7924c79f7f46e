//! A node whose disk fails under it: who waits is told that the outcome is unknown, the process ends with its own code,
//! and a restart recovers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inkstone_client::{AppendOptions, Error, IfExists, NewRecord, ReadOptions, Retry};
use inkstone_jepsen::cluster::ClusterOptions;

use crate::scene::{Stage, binary, read_all};

const LOG: &str = "failed";
const SOON: Duration = Duration::from_secs(60);

/// Starts the server so that a file that may not grow is an error to it, and not its end.
fn ignoring_the_signal(script: &Path) {
    let text = format!(
        "#!/bin/sh\ntrap '' XFSZ\nexec \"{}\" \"$@\"\n",
        binary().display()
    );
    std::fs::write(script, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(script, mode).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_is_answered_as_unknown_ends_the_node_with_code_4_and_a_restart_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("serve");
    ignoring_the_signal(&script);
    let options = ClusterOptions {
        nodes: 1,
        dir: Some(dir.path().to_owned()),
        tables: "[search]\nenabled = false\n".to_owned(),
        ..ClusterOptions::new(&script)
    };
    let mut stage = Stage::open_with(options).await;
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    client
        .append(LOG, vec![NewRecord::new("kept")])
        .await
        .unwrap();
    // From now on no file may be written beyond its first page: every write of an entry fails.
    let id = stage.cluster.process(0).unwrap().id();
    let limited = Command::new("prlimit")
        .args(["--pid", &id.to_string(), "--fsize=4096"])
        .status();
    if !limited.is_ok_and(|status| status.success()) {
        println!("NOT RUN: there is no prlimit");
        return;
    }
    let once = AppendOptions {
        retry: Retry::Never,
        ..AppendOptions::default()
    };
    let failed = client
        .append_with(LOG, vec![NewRecord::new("lost")], once)
        .await
        .expect_err("it can't be written");
    let Error::Unknown { message, detail } = &failed else {
        panic!("{failed:?}");
    };
    assert!(detail.is_some(), "not answered, only cut off: {message}");
    let process = stage.cluster.process(0).unwrap();
    let ended = process.exited(SOON).await.unwrap();
    let said = process.stderr();
    assert_eq!(ended.code(), Some(4), "{said}");
    assert!(said.contains("the log has stopped"), "{said}");

    stage.cluster.kill(0).unwrap();
    stage.cluster.restart(0).await.unwrap();
    let client = stage.cluster.client().unwrap();
    let records = read_all(&client, ReadOptions::new(LOG)).await.unwrap();
    assert_eq!(records[0].body, "kept");
    let next = client
        .append(LOG, vec![NewRecord::new("on")])
        .await
        .unwrap();
    assert_eq!(next.first_offset, records.len() as u64);
}
