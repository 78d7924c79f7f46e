//! What a client is told when nobody leads, and what it can hold of a node by not reading.

use std::sync::Arc;
use std::time::Duration;

use inkstone_proto::v1::{Effect, Reason};
use inkstone_storage::io::sim::SimDisk;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::grpc::PERMIT_SIZE;
use crate::grpc::limits::APPENDS_SIZE_MAX;
use crate::grpc::lone_node::{LoneNode, one_record, within_ms};

/// Shorter than a request looks for a leader when its client sets no deadline.
const SHORT_MS: u32 = 400;
/// Longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(60);
fn room(services: &Services) -> usize {
    Semaphore::available_permits(&services.append_room)
}

#[tokio::test]
async fn without_a_leader_an_append_is_refused_before_its_deadline_makes_it_unknown() {
    let node = LoneNode::without_leader().await;
    let refused = append(&node.services, &within_ms(SHORT_MS), one_record("x")).await;
    let detail = error::detail_of(&refused.expect_err("nobody leads")).expect("detail");
    assert_eq!(detail.reason(), Reason::NoLeader);
    assert_eq!(detail.effect(), Effect::None);
}

#[tokio::test]
async fn a_leader_sees_what_was_acknowledged_before_its_term_before_it_takes_a_log_by_its_name() {
    let node = LoneNode::leading().await;
    let group = &node.services.group;
    let ask = async |next_offset| {
        let appended = append(&node.services, &MetadataMap::new(), one_record("x")).await;
        assert_eq!(appended.expect("appended").next_offset, next_offset);
        assert!(group.is_current());
    };
    ask(1).await;
    group.forget_term();
    assert!(!group.is_current());
    ask(2).await;
}

#[tokio::test]
async fn what_a_session_has_handed_to_the_group_holds_no_room_while_its_answer_is_not_read() {
    let node = LoneNode::leading().await;
    let step = begin(node.services.clone(), one_record("x")).await;
    let Step::Underway(unread) = step else {
        panic!("this node leads");
    };
    assert_eq!(room(&node.services), APPENDS_SIZE_MAX / PERMIT_SIZE);
    let receipt = unread.await.expect("appended");
    assert_eq!((receipt.first_offset, receipt.next_offset), (0, 1));
}

#[tokio::test]
async fn an_append_waits_for_room_before_it_is_handed_to_the_group() {
    let node = LoneNode::leading().await;
    let all = u32::try_from(room(&node.services)).expect("a small number");
    let held = node.services.append_room.acquire_many(all).await;
    let mut begun = Box::pin(begin(node.services.clone(), one_record("x")));
    assert!(futures::poll!(&mut begun).is_pending());
    drop(held);
    assert!(matches!(begun.await, Step::Underway(_)));
}

#[tokio::test]
async fn an_append_that_is_never_decided_gives_its_room_back_and_is_in_doubt() {
    let disk = SimDisk::new();
    let node = LoneNode::leading_on(Arc::new(disk.clone())).await;
    let services = &node.services;
    let all = u32::try_from(room(services)).expect("a small number");
    // As for a leader that lost its majority: what it has taken is neither done nor refused.
    let held = disk.hold_next_sync();
    let undecided = append(services, &within_ms(SHORT_MS), one_record("x")).await;
    let detail = error::detail_of(&undecided.expect_err("nobody agrees")).expect("detail");
    assert_eq!(detail.effect(), Effect::Unknown);
    let given_back = timeout(PATIENCE, services.append_room.acquire_many(all)).await;
    drop(given_back.expect("its task holds room for ever"));
    // The write was not cancelled by that.
    held.release();
    let after = append(services, &within_ms(60_000), one_record("y")).await;
    let after = after.expect("it is decided again");
    assert_eq!(after.first_offset, 1, "the first one took effect");
}
