//! A trap of openraft: installing a snapshot and applying entries at the same time. openraft looks up what it applies
//! next among entries that an install has already let go (its issue 2116), and panics: so nothing of an append may be
//! under way there when an install comes.

use super::*;

/// Snapshots that are installed under load.
const INSTALLS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_a_new_leader_that_are_under_way_when_its_snapshot_comes_do_not_end_the_node() {
    for _ in 0..20 {
        let scene = Scene::open().await;
        let mut appending = scene.appending().await;
        let entries = (0..=20).map(|index| entry(1, index)).collect();
        appending.accepted(append(1, None, entries, id(1, 5))).await;
        scene.applied(5).await;
        // The next leader finds out, step by step, that the node has these entries, which it does not know to be committed;
        // the one that follows is purged there, and so it sends its snapshot.
        for previous in [8, 12, 16, 20] {
            let nothing = append(2, Some(id(1, previous)), Vec::new(), id(1, 5));
            appending.send(nothing).await;
        }
        let body = state_at(id(2, 100)).encode_to_vec();
        let sent = scene.send(2, body);
        let (installed, ()) = tokio::join!(sent, async {
            for _ in 0..4 {
                appending.answer().await;
            }
        });
        installed.expect("it is installed");
        scene.goes_on();
        let behind = vec![entry(2, 101)];
        appending
            .accepted(append(2, Some(id(2, 100)), behind, id(2, 101)))
            .await;
        scene.applied(101).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_falls_behind_the_boundary_again_and_again_under_load_goes_on() {
    let scene = Scene::open().await;
    let mut appending = scene.appending().await;
    let entries = (0..10).map(|index| entry(1, index)).collect();
    appending.accepted(append(1, None, entries, id(1, 9))).await;
    let (mut term, mut next) = (1, 10);
    for round in 0..INSTALLS {
        // Appends that are not answered yet when the snapshot comes, some of them of a new leader, some seen before.
        let before = next - 1;
        let last = id(term, before);
        if round % 3 == 0 {
            term += 1;
        }
        let load = 1 + round % 7;
        let mut previous = last;
        for _ in 0..load {
            let more: Vec<_> = (next..next + 4).map(|index| entry(term, index)).collect();
            let committed = id(previous.term, previous.index);
            let again = append(term, Some(last), Vec::new(), last);
            appending
                .send(append(term, Some(previous), more, committed))
                .await;
            appending.send(again).await;
            next += 4;
            previous = id(term, next - 1);
        }
        let boundary = id(term, next + 50);
        let sent = scene.send(term, state_at(boundary).encode_to_vec());
        let (installed, ()) = tokio::join!(sent, async {
            for _ in 0..2 * load {
                appending.answer().await;
            }
        });
        installed.expect("it is installed");
        scene.goes_on();
        next = boundary.index + 1;
    }
    let behind = vec![entry(term, next)];
    let last = id(term, next - 1);
    appending
        .accepted(append(term, Some(last), behind, id(term, next)))
        .await;
    scene.applied(next).await;
    let info = scene
        .node
        .services
        .group
        .log_info("a")
        .expect("it is there");
    assert_eq!(
        info.next_offset,
        next - 1,
        "each entry but two has one record"
    );
    let log = scene.node.services.group.log();
    let record = log.read(LogId(1), next - 2, next - 1, 1 << 20).unwrap();
    assert_eq!(record.records[0].body, format!("record of entry {next}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_new_leader_sends_at_once_does_not_end_the_node() {
    for previous in [8, 12, 20].repeat(10) {
        let scene = Scene::open().await;
        let mut appending = scene.appending().await;
        let entries = (0..=20).map(|index| entry(1, index)).collect();
        appending.accepted(append(1, None, entries, id(1, 5))).await;
        scene.applied(5).await;
        // Past the network: between these openraft gets nothing else to do.
        let group = &scene.node.services.group;
        let taken = |previous| {
            let nothing = append(2, Some(id(1, previous)), Vec::new(), id(1, 5));
            let request = append_request(group, nothing).expect("well formed");
            group.raft().append_entries(request)
        };
        let body = state_at(id(2, 100)).encode_to_vec();
        let (first, second, installed) = tokio::join!(
            taken(6),
            taken(previous),
            install(group.raft(), Some(leader_vote(2)), body.into()),
        );
        assert!(first.is_ok() && second.is_ok() && installed.is_ok());
        scene.applied(100).await;
        scene.goes_on();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_openraft_is_told_as_what_ends_the_process() {
    let scene = Scene::open().await;
    let group = scene.node.services.group.clone();
    let raft = group.raft().clone();
    let asked = raft.external_request(|_| panic!("as it does in issue 2116"));
    asked.await.expect("it was there to be asked");
    let fatal = timeout(PATIENCE, group.failed())
        .await
        .expect("it is noticed");
    assert!(!fatal.to_string().is_empty());
    let body = state_at(id(2, 100)).encode_to_vec();
    let refused = scene.send(2, body).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
}
