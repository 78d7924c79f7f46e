//! A page of a mapped segment that the disk cannot read: there is no error to answer with, the system ends the process, and
//! its next start finds what is gone and mends it. (A file that was cut under the map stands in for a bad sector: the system
//! sends the same signal for both.)

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use inkstone_client::{Client, ReadOptions, Start};
use nix::sys::signal::Signal;

use crate::damage::{LOG, bodies, find_records, segments};
use crate::heal::{all_nodes_agree, own_status};
use crate::mend::sealed_cluster;
use crate::scene::read_all;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_cannot_be_read_ends_the_process_and_a_restart_mends_it() {
    let bodies = bodies();
    let mut stage = sealed_cluster(&bodies, &[0, 1, 2]).await.unwrap();
    let sealed = segments(&stage.cluster, 1).remove(0);
    let size = std::fs::metadata(&sealed).unwrap().len();
    let (position, record) = *find_records(&sealed, &bodies).last().unwrap();
    assert!(position as u64 > size / 2);
    let file = std::fs::File::options().write(true).open(&sealed).unwrap();
    file.set_len(size / 2).unwrap();
    let reader = Client::builder()
        .stick_to(stage.cluster.address(1))
        .timeout(SOON)
        .build()
        .unwrap();
    let options = ReadOptions {
        from: Start::Offset(record as u64),
        until: Some(record as u64 + 1),
        ..ReadOptions::new(LOG)
    };
    let reading = tokio::spawn(async move { read_all(&reader, options).await });
    let process = stage.cluster.process(1).unwrap();
    let ended = process.exited(SOON).await.unwrap();
    assert_eq!(ended.signal(), Some(Signal::SIGBUS as i32), "{ended:?}");
    reading.abort();
    stage.cluster.kill(1).unwrap();

    stage.cluster.restart(1).await.unwrap();
    let client = stage.cluster.client_of(1).unwrap();
    let repair = own_status(&client).await.unwrap().repair.unwrap();
    assert!(repair.repaired_entries > 0, "{repair:?}");
    all_nodes_agree(&stage.cluster, &bodies).await.unwrap();
}
