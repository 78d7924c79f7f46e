//! What is appended comes back: from every node, every byte, in order.

use inkstone_client::{IfExists, ReadOptions, Start};
use inkstone_jepsen::lines::{Source, lines};

use crate::scene::{Stage, append_all, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_every_file_comes_back_from_every_node_byte_for_byte() {
    let stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    let files = [
        ("files/service", lines(Source::Service, 5_000), 500),
        ("files/web", lines(Source::Web, 5_000), 1_000),
        ("files/json", lines(Source::Json, 3_000), 7),
        ("files/garbage", lines(Source::Garbage, 2_000), 100),
    ];
    for (log, bodies, batch) in &files {
        client.create_log(log, IfExists::Fail).await.unwrap();
        let next_offset = append_all(&client, log, bodies, *batch).await.unwrap();
        assert_eq!(next_offset, bodies.len() as u64, "{log}");
    }
    for node in 0..stage.cluster.len() {
        let client = stage.cluster.client_of(node).unwrap();
        for (log, bodies, _) in &files {
            let records = read_all(&client, ReadOptions::new(*log)).await.unwrap();
            assert_eq!(records.len(), bodies.len(), "{log} on node {node}");
            for ((record, body), offset) in records.iter().zip(bodies).zip(0..) {
                assert_eq!(record.offset, offset, "{log} on node {node}");
                // Not assert_eq: a line may have a megabyte.
                assert!(
                    record.body == body,
                    "{log} on node {node}: offset {offset} differs"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_its_order_and_a_read_may_start_anywhere() {
    let stage = Stage::open().await;
    let client = stage.cluster.client().unwrap();
    client.create_log("session", IfExists::Fail).await.unwrap();
    let bodies = lines(Source::Json, 2_000);
    let mut session = client.append_session("session", inkstone_client::SessionOptions::default());
    let mut tickets = Vec::new();
    for bodies in bodies.chunks(20) {
        let records = bodies.iter().cloned().map(Into::into).collect();
        tickets.push(session.submit(records).await.unwrap());
    }
    for (ticket, offset) in tickets.into_iter().zip((0..).step_by(20)) {
        assert_eq!(ticket.await.unwrap().first_offset, offset);
    }
    session.close().await.unwrap();

    let read = async |node: usize, from: Start, until: Option<u64>, limit: Option<u64>| {
        let client = stage.cluster.client_of(node).unwrap();
        let options = ReadOptions {
            from,
            until,
            limit,
            ..ReadOptions::new("session")
        };
        let records = read_all(&client, options).await.unwrap();
        for record in &records {
            let place = usize::try_from(record.offset).unwrap();
            assert_eq!(record.body, bodies[place], "node {node}");
        }
        records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<u64>>()
    };
    for node in 0..stage.cluster.len() {
        assert_eq!(read(node, Start::First, None, Some(3)).await, [0, 1, 2]);
        assert_eq!(read(node, Start::Last(2), None, None).await, [1_998, 1_999]);
        assert_eq!(
            read(node, Start::Offset(777), Some(780), None).await,
            [777, 778, 779]
        );
        assert_eq!(
            read(node, Start::Offset(2_000), None, None).await,
            [0_u64; 0]
        );
    }
}
