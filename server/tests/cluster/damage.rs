//! One byte of a sealed segment is not what was written.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use inkstone_client::{IfExists, ReadEvent, ReadOptions, Reason};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use inkstone_jepsen::lines::Numbers;
use tokio_stream::StreamExt as _;

use crate::scene::{Stage, append_all, binary, read_all};

pub(crate) const LOG: &str = "damaged";
/// More than one of the smallest segments that the server allows.
pub(crate) const RECORDS: usize = 1_300;

/// Bodies that don't compress, so that their bytes stand in the file as they are.
pub(crate) fn bodies() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(99);
    (0..RECORDS).map(|_| numbers.bytes(16 << 10)).collect()
}

/// A cluster with a sealed segment that holds records of the log; and a follower, stopped.
pub(crate) async fn stopped_follower_with_sealed_segments(
    bodies: &[Vec<u8>],
) -> Result<(Stage, usize, PathBuf)> {
    let options = ClusterOptions {
        tables: "[log]\nsegment_size = 16777216\n".to_owned(),
        ..ClusterOptions::new(binary())
    };
    let mut stage = Stage::open_with(options).await;
    let client = stage.cluster.client()?;
    client.create_log(LOG, IfExists::Fail).await?;
    append_all(&client, LOG, bodies, 20).await?;
    let follower = (stage.cluster.leader().await? + 1) % 3;
    // What a linearizable read of this node returned is applied on it, so every segment but the last is sealed.
    let asked = stage.cluster.client_of(follower)?;
    let records = read_all(&asked, ReadOptions::new(LOG)).await?;
    assert_eq!(records.len(), RECORDS);
    assert!(stage.cluster.terminate(follower).await?.success());
    let segments = segments(&stage.cluster, follower);
    assert!(segments.len() > 1, "{segments:?}");
    let sealed = segments[0].clone();
    Ok((stage, follower, sealed))
}

pub(crate) fn segments(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let dir = cluster.data_dir(node).join("group-1/log");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the log's directory is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    files.sort();
    files
}

pub(crate) fn flip(file: &Path, position: usize) {
    let mut bytes = std::fs::read(file).expect("the segment can be read");
    bytes[position] ^= 0x10;
    std::fs::write(file, bytes).expect("the segment can be written");
}

/// Where in the file records of the log stand, uncompressed: the position, and which one it is. Never empty.
pub(crate) fn find_records(file: &Path, bodies: &[Vec<u8>]) -> Vec<(usize, usize)> {
    let bytes = std::fs::read(file).expect("the segment can be read");
    // Bodies are random: their first bytes are enough to find them, and two of those to rule most positions out.
    let mut starts: HashMap<[u8; 2], Vec<usize>> = HashMap::new();
    for (place, body) in bodies.iter().enumerate() {
        starts.entry([body[0], body[1]]).or_default().push(place);
    }
    let mut may_start = vec![false; 1 << 16];
    for start in starts.keys() {
        may_start[usize::from(u16::from_le_bytes(*start))] = true;
    }
    let mut found = Vec::new();
    for position in 0..bytes.len() - 1 {
        let start = [bytes[position], bytes[position + 1]];
        if may_start[usize::from(u16::from_le_bytes(start))] {
            let places = starts[&start].iter();
            let here = places.filter(|place| bytes[position..].starts_with(&bodies[**place]));
            found.extend(here.map(|place| (position, *place)));
        }
    }
    assert!(
        !found.is_empty(),
        "{} holds no record as it was appended",
        file.display()
    );
    found
}

pub(crate) fn file_name(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .expect("segment names are ASCII")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_anywhere_in_a_sealed_segment_is_never_served() {
    let bodies = bodies();
    let (mut stage, follower, sealed) = stopped_follower_with_sealed_segments(&bodies)
        .await
        .unwrap();
    let whole = std::fs::read(&sealed).unwrap();
    let mut numbers = Numbers::new(7);
    let mut positions: Vec<usize> = (0..3)
        .map(|_| usize::try_from(numbers.below(whole.len() as u64)).unwrap())
        .collect();
    // The segment's header, its first frame's header, and its end.
    positions.extend([9, 4_096 + 20, whole.len() - 8]);
    for position in positions {
        flip(&sealed, position);
        match stage.cluster.restart(follower).await {
            Ok(()) => {
                serves_nothing_wrong(&stage.cluster, follower, &bodies, position).await;
                stage.cluster.kill(follower).unwrap();
            }
            Err(error) => {
                let message = format!("{error:#}");
                assert!(
                    message.contains(file_name(&sealed)),
                    "byte {position}: {message}"
                );
                stage.cluster.kill(follower).unwrap();
            }
        }
        std::fs::write(&sealed, &whole).unwrap();
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

/// Reads the log from one node: what comes is right, and what does not come is an error that says so.
async fn serves_nothing_wrong(cluster: &Cluster, node: usize, bodies: &[Vec<u8>], position: usize) {
    let client = cluster.client_of(node).expect("the address is one");
    let mut stream = client.read(ReadOptions::new(LOG));
    let mut next = 0;
    while let Some(event) = stream.next().await {
        match event {
            Ok(ReadEvent::Records(records)) => {
                for record in records {
                    assert_eq!(record.offset, next as u64, "byte {position}");
                    assert!(
                        record.body == bodies[next],
                        "byte {position}: offset {next}"
                    );
                    next += 1;
                }
            }
            Ok(event) => panic!("byte {position}: {event:?}"),
            Err(error) => {
                let reason = error.detail().map(|detail| detail.reason);
                assert_eq!(reason, Some(Reason::Damaged), "byte {position}: {error}");
                return;
            }
        }
    }
    assert_eq!(
        next,
        bodies.len(),
        "byte {position}: the read ended early, without an error"
    );
}
