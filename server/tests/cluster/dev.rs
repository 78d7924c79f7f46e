//! `inkstone dev`: one command, and it serves.

use std::path::Path;
use std::time::Duration;

use inkstone_client::{Client, IfExists, ReadOptions};
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::cluster::ports;
use inkstone_jepsen::lines::{Source, lines};
use inkstone_jepsen::process::Process;
use nix::sys::signal::Signal;

use crate::scene::{append_all, binary, read_all};

const SOON: Duration = Duration::from_secs(30);

async fn start(dir: &Path, port: u16) -> (Process, Duration) {
    let data_dir = dir.join("data");
    let data_dir = data_dir.to_str().expect("the directory's name is UTF-8");
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["dev", "--data-dir", data_dir, "--listen", &listen];
    let clock = Clock::start();
    let mut process = Process::spawn(&binary(), &arguments, dir).expect("it starts");
    if let Err(error) = process.ready(SOON).await {
        panic!("{error:#}");
    }
    (process, clock.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_development_server_stops_cleanly_and_comes_back_with_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let port = ports::free_pair().unwrap();
    let client = Client::connect(format!("127.0.0.1:{port}")).unwrap();
    let bodies = lines(Source::Json, 500);
    for (signal, run) in [
        (Signal::SIGINT, 0),
        (Signal::SIGTERM, 1),
        (Signal::SIGKILL, 2),
    ] {
        let (mut process, took) = start(dir.path(), port).await;
        println!("start {run}: ready after {took:?}");
        client.create_log("dev", IfExists::Keep).await.unwrap();
        let next_offset = append_all(&client, "dev", &bodies, 50).await.unwrap();
        assert_eq!(next_offset, (run + 1) * bodies.len() as u64);
        let records = read_all(&client, ReadOptions::new("dev")).await.unwrap();
        let expected = bodies.iter().cycle();
        assert!(
            records
                .iter()
                .zip(expected)
                .all(|(record, body)| record.body == body)
        );
        assert_eq!(records.len() as u64, next_offset);

        process.signal(signal).unwrap();
        let status = process.exited(SOON).await.unwrap();
        if signal != Signal::SIGKILL {
            assert_eq!(status.code(), Some(0), "{signal}: {}", process.stderr());
        }
    }
}
