//! Rot in a sealed segment that nobody reads.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inkstone_client::{ClusterStatus, IfExists, ReadOptions, ScrubStatus};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions, PATIENCE};
use tokio::time::{interval, timeout};

use crate::damage::{LOG, RECORDS, bodies, file_name, segments};
use crate::heal::status_until;
use crate::scene::{Stage, append_all, binary, read_all};

/// Changes one byte where it stands: the file of a running node must not be cut.
pub(crate) fn flip_in_place(file: &Path, position: u64) {
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .expect("the segment can be opened");
    let mut byte = [0];
    file.seek(SeekFrom::Start(position)).expect("seekable");
    file.read_exact(&mut byte).expect("readable");
    file.seek(SeekFrom::Start(position)).expect("seekable");
    file.write_all(&[byte[0] ^ 0x20]).expect("writable");
    file.sync_all().expect("synced");
}

/// Asks one node until it says of its own scrubbing what is waited for.
async fn scrub_status(
    cluster: &Cluster,
    node: usize,
    is_it: impl Fn(&ScrubStatus) -> bool,
) -> Result<ScrubStatus> {
    let client = cluster.client_of(node)?;
    let mut asking = interval(Duration::from_millis(100));
    let asked = async {
        loop {
            asking.tick().await;
            let status = client.cluster_status().await?;
            let own = status
                .nodes
                .into_iter()
                .find(|member| member.node.id == status.answered_by);
            let scrub = own
                .and_then(|own| own.scrub)
                .context("the node says nothing of scrubbing")?;
            if is_it(&scrub) {
                return Ok(scrub);
            }
        }
    };
    timeout(PATIENCE, asked).await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_a_sealed_segment_of_a_running_node_is_found_and_mended() {
    let bodies = bodies();
    let options = ClusterOptions {
        tables: "[log]\nsegment_size = 16777216\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    // Ten times what there is, in a second.
    for node in 0..3 {
        stage
            .cluster
            .write_config(node, "scrub_rate = \"256MiB\"\n")
            .unwrap();
    }
    let client = stage.cluster.client().unwrap();
    client.create_log(LOG, IfExists::Fail).await.unwrap();
    append_all(&client, LOG, &bodies, 20).await.unwrap();
    let node = (stage.cluster.leader().await.unwrap() + 1) % 3;
    stage.cluster.kill(node).unwrap();
    stage.cluster.restart(node).await.unwrap();
    // What was read here is applied here, so that every segment but the last is sealed.
    let asked = stage.cluster.client_of(node).unwrap();
    let records = read_all(&asked, ReadOptions::new(LOG)).await.unwrap();
    assert_eq!(records.len(), RECORDS);

    let whole = scrub_status(&stage.cluster, node, |scrub| scrub.last_pass.is_some())
        .await
        .unwrap();
    let pass = whole.last_pass.unwrap();
    assert_eq!(whole.rate, 256 << 20);
    assert!(pass.bytes > 10 << 20 && pass.start_time <= pass.end_time);
    assert_eq!((whole.damages.len(), whole.damages_count), (0, 0));

    let sealed = segments(&stage.cluster, node)[0].clone();
    let middle = std::fs::metadata(&sealed).unwrap().len() / 2;
    let before = std::fs::read(&sealed).unwrap();
    flip_in_place(&sealed, middle);
    // Another file, with the same bytes as before.
    let is_mended = |status: &ClusterStatus| {
        let own = status
            .nodes
            .iter()
            .find(|row| row.node.id == status.answered_by);
        own.is_some_and(|own| {
            own.repair
                .as_ref()
                .is_some_and(|repair| repair.repaired_entries == 1)
                && own
                    .scrub
                    .as_ref()
                    .is_some_and(|scrub| scrub.damages_count == 0)
        })
    };
    status_until(&stage.cluster, node, is_mended).await.unwrap();
    assert!(std::fs::read(&sealed).unwrap() == before);
    let passes = scrub_status(&stage.cluster, node, |_| true)
        .await
        .unwrap()
        .passes;
    let again = scrub_status(&stage.cluster, node, |scrub| scrub.passes > passes)
        .await
        .unwrap();
    assert_eq!((again.damages.len(), again.damages_count), (0, 0));

    // The same offline, once nobody has the directory.
    let data = stage.cluster.data_dir(node);
    let (code, _, said) = check(&data);
    assert_eq!(code, Some(1));
    assert!(said.contains("is in use by another process"), "{said}");
    stage.cluster.kill(node).unwrap();
    let (code, verdicts, _) = check(&data);
    assert_eq!(code, Some(0), "{verdicts}");
    assert!(verdicts.contains("nothing is lost"), "{verdicts}");
    flip_in_place(&sealed, middle);
    let (code, verdicts, _) = check(&data);
    assert_eq!(code, Some(1), "{verdicts}");
    assert!(verdicts.contains("(entry "), "{verdicts}");
    assert!(verdicts.contains(file_name(&sealed)), "{verdicts}");
}

/// `inkstone check`: its exit code, and what it said on standard output and standard error.
fn check(dir: &Path) -> (Option<i32>, String, String) {
    let ended = std::process::Command::new(binary())
        .arg("check")
        .arg(dir)
        .output()
        .expect("the program can be run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}
