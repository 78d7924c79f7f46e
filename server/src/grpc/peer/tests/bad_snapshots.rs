//! A trap of openraft: an error of the storage is fatal to it, and it takes what it installs for granted. So a
//! snapshot is received and verified before openraft hears of it, and meanwhile the node answers whoever leads.

use inkstone_storage::limits::SNAPSHOT_SIZE_MAX;

use super::*;

type Parts = Vec<peer::SnapshotPart>;

/// A snapshot in one part, with another start than its own.
fn part(start: peer::SnapshotStart, body: &[u8]) -> Parts {
    vec![peer::SnapshotPart {
        start: Some(start),
        bytes: Bytes::copy_from_slice(body),
    }]
}

/// The same with its own start, of a leader of term 3.
fn whole(state: &peer::Checkpoint) -> Parts {
    let body = state.encode_to_vec();
    part(start_of(3, &body), &body)
}

/// The body of a good snapshot.
fn body() -> Vec<u8> {
    state_at(id(2, 100)).encode_to_vec()
}

/// A good snapshot's start, with another header.
fn meant_for(change: impl Fn(&mut peer::Header)) -> peer::SnapshotStart {
    let mut header = header();
    change(&mut header);
    peer::SnapshotStart {
        header: Some(header),
        ..start_of(3, &body())
    }
}

/// Transfers of which nothing may come, and what each has wrong.
fn bad_transfers() -> Vec<(&'static str, Parts)> {
    let body = body();
    let start = || start_of(3, &body);
    let sized = |size| peer::SnapshotStart { size, ..start() };
    let mut flipped = body.clone();
    flipped[body.len() / 2] ^= 4;
    let nobody = peer::SnapshotStart {
        header: None,
        ..start()
    };
    let voteless = peer::SnapshotStart {
        vote: None,
        ..start()
    };
    let cluster = meant_for(|header| header.cluster_id = vec![8; 16].into());
    let longer = [body.as_slice(), b"x"].concat();
    let twice = [part(start(), b""), part(start(), &body)].concat();
    vec![
        ("nothing", Vec::new()),
        ("no start", vec![peer::SnapshotPart::default()]),
        ("no header", part(nobody, &body)),
        ("another cluster's", part(cluster, &body)),
        (
            "another group's",
            part(meant_for(|header| header.group = 2), &body),
        ),
        (
            "another node's",
            part(meant_for(|header| header.to = 5), &body),
        ),
        ("too short", part(start(), &body[..body.len() - 1])),
        ("too long", part(start(), &longer)),
        ("started twice", twice),
        ("a flipped bit", part(start(), &flipped)),
        (
            "over the bound",
            part(sized(SNAPSHOT_SIZE_MAX as u64 + 1), b""),
        ),
        ("an absurd size", part(sized(u64::MAX), b"")),
        ("no vote", part(voteless, &body)),
    ]
}

/// Bodies that came as they were sent, and on which nothing may be built.
fn bad_bodies() -> Vec<(&'static str, Parts)> {
    let good = || state_at(id(2, 100));
    let garbage: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(151)).collect();
    let mut of_nothing = good();
    of_nothing.applied = None;
    let mut of_nobody = good();
    of_nobody.membership = None;
    let mut of_strangers = good();
    of_strangers.membership = Some(peer::Membership {
        nodes: Vec::new(),
        ..membership()
    });
    let mut homeless = good();
    homeless.producers = vec![peer::ProducerState {
        log_id: 77,
        ..peer::ProducerState::default()
    }];
    vec![
        ("garbage", part(start_of(3, &garbage), &garbage)),
        ("an empty body", part(start_of(3, b""), b"")),
        ("no entry", whole(&of_nothing)),
        ("no membership", whole(&of_nobody)),
        ("members that are nowhere", whole(&of_strangers)),
        ("a producer of no log", whole(&homeless)),
        (
            "a later term than its sender's",
            whole(&state_at(id(4, 100))),
        ),
        (
            "an index that nothing can follow",
            whole(&state_at(id(2, u64::MAX))),
        ),
        ("another history", whole(&state_at(id(2, 7)))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_snapshot_is_refused_before_raft_hears_of_it_and_the_node_goes_on() {
    let scene = Scene::open().await;
    let mut appending = scene.appending().await;
    let entries = (0..=20).map(|index| entry(1, index)).collect();
    appending
        .accepted(append(1, None, entries, id(1, 20)))
        .await;
    scene.applied(20).await;
    let before = scene.node.services.group.log().state();
    for (what, parts) in bad_transfers().into_iter().chain(bad_bodies()) {
        let refused = scene.send_parts(parts).await;
        assert!(refused.is_err(), "{what}: taken");
        scene.goes_on();
        assert_eq!(scene.node.services.group.log().state(), before, "{what}");
        assert_eq!(
            scene.node.services.group.term(),
            1,
            "{what}: its vote was heard"
        );
    }
    // A good body with another crc is refused for that.
    let body = body();
    let start = start_of(3, &body);
    let crc = start.crc ^ 1;
    let refused = scene
        .send_parts(part(peer::SnapshotStart { crc, ..start }, &body))
        .await;
    assert!(refused.unwrap_err().message().contains("crc"));
    assert_eq!(scene.node.services.group.log().state(), before);
    // It still follows, and a good one is installed.
    appending
        .accepted(append(1, Some(id(1, 20)), vec![entry(1, 21)], id(1, 21)))
        .await;
    scene.send(3, body).await.expect("it is good");
    assert_eq!(scene.node.services.group.log().state().first_index, 101);
    scene.applied(100).await;
    scene.goes_on();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_snapshot_comes_slowly_appends_and_heartbeats_are_answered() {
    let scene = Scene::open().await;
    let mut appending = scene.appending().await;
    appending
        .accepted(append(1, None, vec![entry(1, 0), entry(1, 1)], id(1, 1)))
        .await;
    let body = state_at(id(1, 1_000)).encode_to_vec();
    let (parts, input) = mpsc::channel(1);
    let mut client = scene.client.clone();
    let transfer =
        tokio::spawn(async move { client.send_snapshot(ReceiverStream::new(input)).await });
    // A byte at a time: between any two of them the node does all that a follower does.
    let mut start = Some(start_of(1, &body));
    let mut last = 1;
    for byte in &body[..body.len() - 1] {
        let bytes = Bytes::copy_from_slice(&[*byte]);
        let start = start.take();
        parts
            .send(peer::SnapshotPart { start, bytes })
            .await
            .unwrap();
        let more = append(1, Some(id(1, last)), vec![entry(1, last + 1)], id(1, last));
        appending.accepted(more).await;
        last += 1;
        let heartbeat = append(1, Some(id(1, last)), Vec::new(), id(1, last));
        appending.accepted(heartbeat).await;
    }
    scene.applied(last).await;
    assert!(!transfer.is_finished(), "nothing was answered yet");
    // The leader goes away in the midst of it: nothing came of it.
    drop(parts);
    assert!(transfer.await.unwrap().is_err());
    assert_eq!(scene.node.services.group.log().snapshot(), None);
    let more = append(
        1,
        Some(id(1, last)),
        vec![entry(1, last + 1)],
        id(1, last + 1),
    );
    appending.accepted(more).await;
    scene.applied(last + 1).await;
    scene.goes_on();
}
