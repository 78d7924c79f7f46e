//! What is sent when, with time that stands still.

use futures::channel::mpsc::{Sender, channel};
use futures::stream::BoxStream;
use inkstone_storage::types::EntryId;
use openraft::EntryPayload;
use tokio::time::advance;

use super::*;
use crate::raft::types::{RaftEntry, raft_log_id, raft_vote};

/// A stream of requests, and what comes out of it.
struct Scene {
    requests: Option<Sender<Request>>,
    ridden: BoxStream<'static, Request>,
}

fn id(index: u64) -> EntryId {
    EntryId {
        term: 1,
        node: 1,
        index,
    }
}

impl Scene {
    fn new() -> Self {
        let (requests, input) = channel(8);
        Self {
            requests: Some(requests),
            ridden: ridden(input).boxed(),
        }
    }

    /// openraft makes a request: the entry `index`, if any, and what is committed.
    fn request(&mut self, index: Option<u64>, committed: u64) {
        let vote = inkstone_storage::types::Vote {
            term: 1,
            node: 1,
            committed: true,
        };
        let entries = index.map(|index| RaftEntry {
            log_id: raft_log_id(id(index)),
            payload: EntryPayload::Blank,
        });
        let request = Request {
            vote: raft_vote(vote),
            prev_log_id: None,
            entries: entries.into_iter().collect(),
            leader_commit: Some(raft_log_id(id(committed))),
        };
        let requests = self.requests.as_mut().expect("it goes on");
        requests.try_send(request).expect("it is read");
    }

    /// Entries that follow each other quickly, which come out at once.
    async fn quick_entries(&mut self) {
        for index in [1, 2] {
            self.request(Some(index), 0);
            assert_eq!(self.at_once().await, (Some(index), 0));
        }
    }

    /// What comes out: the entry, if any, and what is committed.
    async fn next(&mut self) -> Option<(Option<u64>, u64)> {
        let request = self.ridden.next().await?;
        let entry = request.entries.first();
        let committed = request.leader_commit.expect("it has one");
        Some((entry.map(|entry| entry.log_id.index()), committed.index()))
    }

    /// What comes out without waiting.
    async fn at_once(&mut self) -> (Option<u64>, u64) {
        let now = Instant::now();
        let next = self.next().await.expect("it goes on");
        assert_eq!(now.elapsed(), Duration::ZERO, "{next:?} was held");
        next
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_left_out_for_the_entries_behind_it() {
    let mut scene = Scene::new();
    scene.quick_entries().await;
    scene.request(None, 1);
    scene.request(None, 2);
    scene.request(Some(3), 2);
    assert_eq!(scene.at_once().await, (Some(3), 2));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_nothing_follows_is_sent_all_the_same_and_the_last_is() {
    let mut scene = Scene::new();
    scene.quick_entries().await;
    scene.request(None, 1);
    scene.request(None, 2);
    let now = Instant::now();
    assert_eq!(scene.next().await, Some((None, 2)));
    assert_eq!(now.elapsed(), HOLD);
}

#[tokio::test(start_paused = true)]
async fn a_commit_behind_entries_that_stand_alone_is_sent_at_once() {
    let mut scene = Scene::new();
    scene.request(None, 0);
    assert_eq!(scene.at_once().await, (None, 0), "a probe");
    for (index, pause) in [(1, QUICK), (2, Duration::ZERO)] {
        scene.request(Some(index), index - 1);
        assert_eq!(scene.at_once().await, (Some(index), index - 1));
        scene.request(None, index);
        assert_eq!(scene.at_once().await, (None, index));
        advance(pause).await;
    }
}

#[tokio::test(start_paused = true)]
async fn commits_are_held_ever_more_seldom_where_nothing_overtakes_them() {
    let mut scene = Scene::new();
    scene.quick_entries().await;
    let mut held = Vec::new();
    // A writer that waits until a follower has its record.
    for index in 3..103 {
        scene.request(None, index);
        let asked = Instant::now();
        assert_eq!(scene.next().await, Some((None, index)));
        if asked.elapsed() >= HOLD {
            held.push(index);
        }
        scene.request(Some(index), index);
        assert_eq!(scene.at_once().await, (Some(index), index));
    }
    assert_eq!(held, [3, 20, 53], "the next is the 118th");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_burst_is_no_reason_to_hold_the_next_ones_commits_less() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.quick_entries().await;
        scene.request(None, 1);
        scene.request(Some(3), 1);
        assert_eq!(scene.at_once().await, (Some(3), 1), "it was overtaken");
        scene.request(None, 3);
        assert_eq!(scene.next().await, Some((None, 3)));
        advance(QUICK).await;
        // Of another disk that was slow: nothing is expected any more.
        scene.request(None, 4);
        assert_eq!(scene.at_once().await, (None, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_is_sent_when_the_stream_ends() {
    let mut scene = Scene::new();
    scene.quick_entries().await;
    scene.request(None, 2);
    scene.requests = None;
    assert_eq!(scene.at_once().await, (None, 2));
    assert_eq!(scene.next().await, None);
}
