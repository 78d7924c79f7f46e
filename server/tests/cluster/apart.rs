//! An entry that is damaged on every node, on each in another of its batches: no record is lost, and nobody is told that one is.

use std::path::Path;

use anyhow::Result;
use futures::future::try_join_all;
use inkstone_client::{Client, NewRecord, ReadOptions};
use inkstone_storage::format::frame::{FRAME_HEADER_SIZE, FrameHeader};
use inkstone_storage::format::segment_header::SEGMENT_HEADER_SIZE;

use crate::damage::{find_records, segments};
use crate::heal::own_status;
use crate::lost_hits::{LOG, search, searched_cluster_after, texts};
use crate::scene::read_all;
use crate::scrub::flip_in_place;

/// Appends that are under way together, so that entries carry many batches.
const TOGETHER: usize = 48;

async fn append_together(client: &Client, texts: &[Vec<u8>]) -> Result<()> {
    for texts in texts.chunks(TOGETHER) {
        let appends = texts.iter().map(|text| {
            let record = NewRecord::new(text.clone());
            client.append(LOG, vec![record])
        });
        try_join_all(appends).await?;
    }
    Ok(())
}

/// Which of the texts stand in the first entry of the segment that holds at least three, each a batch of its own.
fn in_one_entry(segment: &Path, texts: &[Vec<u8>]) -> (u64, Vec<usize>) {
    let bytes = std::fs::read(segment).expect("the segment can be read");
    let found = find_records(segment, texts);
    let mut at = SEGMENT_HEADER_SIZE;
    loop {
        let header = bytes[at..at + FRAME_HEADER_SIZE]
            .try_into()
            .expect("so many");
        let header = FrameHeader::decode(header).expect("some entry holds three");
        let end = at + usize::try_from(header.frame_size()).expect("it fits memory");
        let inside = found
            .iter()
            .filter(|(position, _)| (at..end).contains(position));
        let inside: Vec<usize> = inside.map(|(_, text)| *text).collect();
        if inside.len() >= 3 {
            return (header.id.index, inside);
        }
        at = end;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_damaged_elsewhere_on_each_node_is_read_and_found_whole() {
    let texts = texts();
    let appended = async |client: &Client| append_together(client, &texts).await;
    let (stage, asked) = searched_cluster_after(appended).await;
    let (index, inside) = in_one_entry(&segments(&stage.cluster, 0)[0], &texts);
    for (node, text) in inside[..3].iter().enumerate() {
        let segment = &segments(&stage.cluster, node)[0];
        let found = find_records(segment, &texts);
        let (position, _) = found
            .iter()
            .find(|(_, of)| of == text)
            .expect("same entries");
        flip_in_place(segment, *position as u64 + 9_000);
    }
    let words: Vec<String> = inside[..3]
        .iter()
        .map(|text| format!("needle{text}"))
        .collect();
    for client in &asked {
        // A gap is an error here.
        let mut bodies: Vec<Vec<u8>> = read_all(client, ReadOptions::new(LOG))
            .await
            .unwrap()
            .into_iter()
            .map(|record| record.body.into())
            .collect();
        bodies.sort_unstable();
        let mut all = texts.clone();
        all.sort_unstable();
        assert!(bodies == all);
        let answer = search(client, &words.join(" OR ")).await;
        assert!(
            answer.complete && answer.gaps.is_empty(),
            "{:?}",
            answer.gaps
        );
        assert_eq!(answer.hits.len(), 3);
        assert!(
            answer
                .hits
                .is_sorted_by(|newer, older| newer.record.offset > older.record.offset)
        );
        for hit in &answer.hits {
            let is_it = |text: &&usize| texts[**text] == hit.record.body;
            assert!(inside[..3].iter().any(|text| is_it(&text)));
        }
        // It is this entry that is damaged here, and stays so: no member has all of it.
        let repair = own_status(client).await.unwrap().repair.unwrap();
        let entries: Vec<_> = repair
            .damages
            .iter()
            .map(|damage| damage.entries.clone())
            .collect();
        assert_eq!(entries, [Some(index..=index)], "{repair:?}");
    }
}
