//! `ink cluster add|promote|demote|remove|replace|transfer` against a fake cluster whose learners catch up as one looks.

use inkstone_proto::v1;
use serde_json::Value;

use crate::command_line::{code, ink, stderr, stdout};
use crate::fake::Fake;

fn node(id: u64) -> v1::NodeInfo {
    v1::NodeInfo {
        id,
        client_address: format!("node-{id}:7420"),
        peer_address: format!("node-{id}:7421"),
    }
}

/// Voters 1 to 3, and node 4 that waits at the address of node 3, which was wiped.
async fn cluster() -> Fake {
    let fake = Fake::start().await;
    let mut state = fake.state.lock();
    state.nodes = (1..=3)
        .map(|id| v1::NodeStatus {
            node: Some(node(id)),
            role: v1::NodeRole::Follower.into(),
            reachable: true,
            voter: true,
            ..v1::NodeStatus::default()
        })
        .collect();
    state.waiting = vec![v1::NodeInfo { id: 4, ..node(3) }];
    drop(state);
    fake
}

fn members(fake: &Fake) -> Vec<(u64, bool)> {
    let state = fake.state.lock();
    let nodes = state.nodes.iter();
    nodes
        .map(|status| (status.node.as_ref().map_or(0, |node| node.id), status.voter))
        .collect()
}

#[tokio::test]
async fn a_node_that_waits_is_listed_added_and_promoted() {
    let fake = cluster().await;
    let run = async |arguments: &[&str]| ink(&fake.address, arguments, "").await;
    let status = stdout(&run(&["cluster", "status"]).await);
    assert!(
        status.contains("waiting: node 4 at node-3:7421") && status.contains("`ink cluster add 4`"),
        "{status}"
    );
    let added = run(&["cluster", "add", "4"]).await;
    assert_eq!(code(&added), Some(0), "{}", stderr(&added));
    assert_eq!(stdout(&added), "added node 4 at node-3:7421 as a learner\n");
    assert!(stderr(&added).contains("ink cluster promote 4"));
    let early = run(&["cluster", "promote", "4"]).await;
    assert_eq!(code(&early), Some(1), "{}", stdout(&early));
    let again = run(&["cluster", "add", "4"]).await;
    assert_eq!(code(&again), Some(1), "{}", stdout(&again));
    // Goes on where the first run ended, and waits until it has caught up.
    let joined = run(&["cluster", "add", "4", "--promote", "-o", "json"]).await;
    assert_eq!(code(&joined), Some(0), "{}", stderr(&joined));
    let said: Value = serde_json::from_str(&stdout(&joined)).unwrap();
    assert_eq!(
        (&said["action"], &said["node"]["id"]),
        (&"promoted".into(), &4.into())
    );
    assert!(
        stderr(&joined).contains("behind the leader"),
        "{}",
        stderr(&joined)
    );
    assert_eq!(members(&fake), [(1, true), (2, true), (3, true), (4, true)]);
    let done = run(&["cluster", "add", "4", "--promote"]).await;
    assert_eq!((code(&done), stdout(&done).as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_wiped_node_is_replaced_under_its_own_address_and_a_second_run_goes_on() {
    let fake = cluster().await;
    let replace = ["cluster", "replace", "node-3:7421", "node-3:7421"];
    let replaced = ink(&fake.address, &replace, "").await;
    assert_eq!(code(&replaced), Some(0), "{}", stderr(&replaced));
    let lines = stdout(&replaced);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        lines,
        [
            "added node 4 at node-3:7421 as a learner",
            "promoted node 4 at node-3:7421: it has a vote",
            "removed node 3 at node-3:7421"
        ]
    );
    assert_eq!(members(&fake), [(1, true), (2, true), (4, true)]);

    // By ids it can be run as often as one likes.
    let again = ink(&fake.address, &["cluster", "replace", "3", "4"], "").await;
    assert_eq!(code(&again), Some(0), "{}", stderr(&again));
    assert_eq!(stdout(&again), "");
    assert!(stderr(&again).contains("3 is not a member any more"));
}

#[tokio::test]
async fn an_interrupted_replacement_goes_on_and_an_ambiguous_address_is_told() {
    let fake = cluster().await;
    let added = ink(&fake.address, &["cluster", "add", "4"], "").await;
    assert_eq!(code(&added), Some(0), "{}", stderr(&added));
    let replace = ["cluster", "replace", "node-3:7421", "node-3:7421"];
    let ambiguous = ink(&fake.address, &replace, "").await;
    assert_eq!(code(&ambiguous), Some(1), "{}", stdout(&ambiguous));
    let said = stderr(&ambiguous);
    assert!(
        said.contains("nodes 3 and 4 both have the address"),
        "{said}"
    );
    let replaced = ink(&fake.address, &["cluster", "replace", "3", "4"], "").await;
    assert_eq!(code(&replaced), Some(0), "{}", stderr(&replaced));
    assert_eq!(members(&fake), [(1, true), (2, true), (4, true)]);
}

#[tokio::test]
async fn refusals_exit_with_1_and_a_lost_transfer_with_3() {
    let fake = cluster().await;
    let run = async |arguments: &[&str]| ink(&fake.address, arguments, "").await;
    for arguments in [
        ["cluster", "add", "9"],
        ["cluster", "promote", "9"],
        ["cluster", "promote", "1"],
        ["cluster", "demote", "2"],
        ["cluster", "remove", "9"],
        ["cluster", "transfer", "9"],
    ] {
        let refused = run(&arguments).await;
        assert_eq!(code(&refused), Some(1), "{arguments:?}");
        assert!(stderr(&refused).starts_with("error: "), "{arguments:?}");
    }
    let forced = run(&["cluster", "demote", "2", "--force"]).await;
    assert_eq!(
        stdout(&forced),
        "demoted node 2 at node-2:7421: it is a learner\n"
    );
    let removed = run(&["cluster", "remove", "node-2:7420"]).await;
    assert_eq!(stdout(&removed), "removed node 2 at node-2:7421\n");
    let transferred = run(&["cluster", "transfer", "3"]).await;
    assert_eq!(stdout(&transferred), "node 3 at node-3:7421 leads now\n");
    let transferred = run(&["cluster", "transfer", "-o", "json"]).await;
    let said: Value = serde_json::from_str(&stdout(&transferred)).unwrap();
    assert_eq!(said["action"], "transferred");
    let lost = run(&["cluster", "transfer", "lost"]).await;
    assert_eq!(code(&lost), Some(3), "{}", stderr(&lost));
    let usage = run(&["cluster", "add"]).await;
    assert_eq!(code(&usage), Some(2));
}
