//! An index that is built anew over a record which is damaged on every node: it goes on behind it, says so, and takes the
//! record in when it is mended.

use std::time::Duration;

use inkstone_client::{
    Client, Gap, GapReason, IfExists, NewRecord, ReadEvent, ReadOptions, SearchOptions, Start,
};
use inkstone_jepsen::cluster::PATIENCE;
use tokio::time::{interval, timeout};
use tokio_stream::StreamExt as _;

use crate::lost_hits::{LOG, RECORDS, a_record, search, searched_cluster, texts};
use crate::scene::{node_ids, read_all};
use crate::scrub::flip_in_place;

const OTHER: &str = "other";

/// Returns once the node answers from its own index and finds `hits` in all of the log.
async fn finds_itself(client: &Client, own_id: u64, query: &str, hits: usize) {
    let mut said = None;
    let search = async {
        let mut turns = interval(Duration::from_millis(50));
        loop {
            turns.tick().await;
            let answer = client.search(SearchOptions::new(LOG, query)).await;
            if let Ok(answer) = &answer
                && (answer.node, answer.hits.len()) == (own_id, hits)
                && answer.indexed_next_offset == RECORDS
            {
                return;
            }
            said = Some(answer.map(|it| (it.node, it.hits.len(), it.gaps)));
        }
    };
    let found = timeout(PATIENCE, search).await;
    found.unwrap_or_else(|_| panic!("{hits} hits of {query}: {said:?}"));
}

/// The first of what a read from that time on gives: a gap, or the offset of a record.
async fn first_at(client: &Client, time: i64) -> Result<Gap, u64> {
    let options = ReadOptions {
        from: Start::Timestamp(time),
        ..ReadOptions::new(LOG)
    };
    let mut events = client.read(options);
    loop {
        match events.next().await.expect("something").expect("no error") {
            ReadEvent::Records(records) => return Err(records[0].offset),
            ReadEvent::Gap(gap) => return Ok(gap),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_built_anew_goes_on_behind_what_is_damaged_on_every_node() {
    let texts = texts();
    let (mut stage, asked) = searched_cluster(&texts).await;
    asked[0].create_log(OTHER, IfExists::Fail).await.unwrap();
    let kept = NewRecord::new("kept");
    asked[0].append(OTHER, vec![kept]).await.unwrap();
    let (lost, bytes) = a_record(&stage.cluster, &texts);
    let only = ReadOptions {
        from: Start::Offset(lost),
        until: Some(lost + 1),
        ..ReadOptions::new(LOG)
    };
    let time = read_all(&asked[0], only.clone()).await.unwrap()[0].timestamp;
    for (file, position) in &bytes {
        flip_in_place(file, *position);
    }
    let node = (stage.cluster.leader().await.unwrap() + 1) % 3;
    let own_id = node_ids(&stage.cluster).await.unwrap()[node];
    let index = stage.cluster.data_dir(node).join("group-1/search");
    let client = &asked[node];
    let query = format!("needle{lost} OR needle{}", RECORDS - 1);
    // With its index deleted, and then as it is.
    for is_deleted in [true, false] {
        assert!(stage.cluster.terminate(node).await.unwrap().success());
        if is_deleted {
            std::fs::remove_dir_all(&index).unwrap();
        }
        stage.cluster.restart(node).await.unwrap();
        finds_itself(client, own_id, &query, 1).await;
        let answer = search(client, &query).await;
        assert_eq!(answer.hits[0].record.offset, RECORDS - 1);
        assert!(!answer.complete);
        let [gap] = answer.gaps[..] else {
            panic!("{:?}", answer.gaps);
        };
        assert_eq!(gap.reason, GapReason::Damaged);
        assert!((gap.from..gap.to).contains(&lost) && gap.to - gap.from <= 10);
        // Records around it, and another log.
        for beside in [gap.from - 1, gap.to] {
            let answer = search(client, &format!("needle{beside}")).await;
            assert_eq!(answer.hits[0].record.offset, beside);
        }
        let options = SearchOptions::new(OTHER, "kept");
        let other = client.search(options).await.unwrap();
        assert!(other.complete && other.hits.len() == 1 && other.gaps.is_empty());
        // A read by time begins at it as well.
        let first = first_at(client, time).await;
        assert_eq!(first.map(|gap| (gap.from, gap.to)), Ok((gap.from, gap.to)));
    }
    // One copy is whole again, elsewhere: who reads it brings it back, and the index takes it in.
    let (file, position) = &bytes[(node + 1) % 3];
    flip_in_place(file, *position);
    assert_eq!(read_all(client, only).await.unwrap()[0].offset, lost);
    finds_itself(client, own_id, &query, 2).await;
    let answer = search(client, &query).await;
    assert!(
        answer.complete && answer.gaps.is_empty(),
        "{:?}",
        answer.gaps
    );
}
