//! What follows from what others answer, and what this node answers them.

use super::*;

fn node(id: u64) -> NodeInfo {
    NodeInfo {
        id,
        client_address: format!("127.0.0.1:{}", 7_000 + id),
        peer_address: format!("127.0.0.1:{}", 8_000 + id),
    }
}

fn met(ids: &[u64]) -> BTreeMap<u64, NodeInfo> {
    ids.iter().map(|id| (*id, node(*id))).collect()
}

fn answer(id: u64, seen: &[u64]) -> Answer {
    let response = HelloResponse {
        node: Some(node(id)),
        protocol: PROTOCOL,
        seen: seen.iter().map(|id| node(*id)).collect(),
        bootstrap_expect: 3,
        ..HelloResponse::default()
    };
    Answer {
        address: node(id).peer_address,
        response,
    }
}

fn in_cluster(id: u64, cluster_id: [u8; 16], members: &[u64]) -> Answer {
    let mut answer = answer(id, &[id]);
    answer.response.cluster_id = cluster_id.to_vec().into();
    answer.response.members = members.iter().map(|id| node(*id)).collect();
    answer
}

fn evaluated(
    me: u64,
    expected: usize,
    cluster_id: [u8; 16],
    met: &BTreeMap<u64, NodeInfo>,
    answers: &[Answer],
) -> Result<Step, Misplaced> {
    evaluated_by_member(me, expected, cluster_id, None, met, answers)
}

fn evaluated_by_member(
    me: u64,
    expected: usize,
    cluster_id: [u8; 16],
    member_since: Option<u64>,
    met: &BTreeMap<u64, NodeInfo>,
    answers: &[Answer],
) -> Result<Step, Misplaced> {
    let own = Own {
        node: &node(me),
        expected,
        cluster_id,
        member_since,
        silent: 0,
    };
    evaluate(&own, met, answers)
}

fn all_agree(me: u64) -> Step {
    let others = [1, 2, 3].into_iter().filter(|id| *id != me);
    let answers: Vec<_> = others.map(|id| answer(id, &[1, 2, 3])).collect();
    evaluated(me, 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap()
}

#[test]
fn all_nodes_that_agree_come_to_one_cluster() {
    let Step::Form {
        cluster_id,
        members,
    } = all_agree(1)
    else {
        panic!("no agreement")
    };
    assert_ne!(cluster_id, NO_CLUSTER);
    assert_eq!(members.len(), 3);
    assert_eq!(all_agree(2), all_agree(1));
    assert_eq!(all_agree(3), all_agree(1));
}

#[test]
fn one_node_that_has_met_others_holds_it_back() {
    let answers = [answer(2, &[1, 2, 3]), answer(3, &[1, 3])];
    let step = evaluated(1, 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap();
    assert_eq!(
        step,
        Step::Wait {
            met: 3,
            expected: 3,
            differing: None
        }
    );
    let four = evaluated(1, 3, NO_CLUSTER, &met(&[1, 2, 3, 4]), &answers).unwrap();
    assert_eq!(
        four,
        Step::Wait {
            met: 4,
            expected: 3,
            differing: None
        }
    );
}

#[tokio::test]
async fn a_node_that_expects_nobody_else_forms_no_cluster_while_a_seed_is_silent() {
    let discovery = |seeds: &[&str]| {
        let seeds = seeds.iter().map(|seed| (*seed).to_owned()).collect();
        Discovery::new(node(1), NO_CLUSTER, 1, seeds, Clock::system())
    };
    let conclude = |discovery: &Discovery, answers, asked| {
        discovery.conclude(Standing::None, answers, asked).unwrap()
    };
    let alone = discovery(&["127.0.0.1:8002"]);
    assert_eq!(
        conclude(&alone, Vec::new(), 1),
        Step::WaitForAnswers { silent: 1 }
    );
    let cluster_id = [9; 16];
    let found = conclude(&alone, vec![in_cluster(2, cluster_id, &[2, 3])], 1);
    assert_eq!(found, Step::AskToBeAdded { cluster_id });
    let formed = conclude(&discovery(&[]), Vec::new(), 0);
    assert!(matches!(formed, Step::Form { .. }), "{formed:?}");
}

#[test]
fn another_expectation_holds_it_back() {
    let mut other = answer(2, &[1, 2, 3]);
    other.response.bootstrap_expect = 5;
    let answers = [other, answer(3, &[1, 2, 3])];
    let step = evaluated(1, 3, NO_CLUSTER, &met(&[1, 2, 3]), &answers).unwrap();
    assert_eq!(
        step,
        Step::Wait {
            met: 3,
            expected: 3,
            differing: Some((node(2).peer_address, 5))
        }
    );
}

#[test]
fn a_node_that_stopped_half_way_goes_on() {
    let Step::Form { cluster_id, .. } = all_agree(1) else {
        panic!("no agreement")
    };
    // Node 2 has kept the cluster's id already; node 3 has not.
    let answers = [in_cluster(2, cluster_id, &[]), answer(3, &[1, 2, 3])];
    let seen = met(&[1, 2, 3]);
    let fresh = evaluated(1, 3, NO_CLUSTER, &seen, &answers).unwrap();
    assert!(matches!(fresh, Step::Form { .. }));
    let kept = evaluated(1, 3, cluster_id, &seen, &answers).unwrap();
    assert!(matches!(kept, Step::Form { .. }));
}

#[test]
fn a_member_joins_and_a_stranger_waits_to_be_added() {
    let answers = [in_cluster(2, [7; 16], &[1, 2, 3])];
    let cluster_id = [7; 16];
    let joined = evaluated(1, 3, NO_CLUSTER, &met(&[1]), &answers).unwrap();
    let moved_from = None;
    assert_eq!(
        joined,
        Step::Join {
            cluster_id,
            moved_from
        }
    );
    for own in [NO_CLUSTER, cluster_id] {
        let stranger = evaluated(9, 3, own, &met(&[9]), &answers).unwrap();
        assert_eq!(stranger, Step::AskToBeAdded { cluster_id });
    }
    // One member knows already that it was added.
    let answers = [
        in_cluster(2, [7; 16], &[1, 2, 3]),
        in_cluster(3, [7; 16], &[1, 2, 3, 9]),
        in_cluster(1, [7; 16], &[1, 2, 3]),
    ];
    let added = evaluated(9, 3, NO_CLUSTER, &met(&[9]), &answers).unwrap();
    assert!(matches!(added, Step::Join { .. }));
}

#[test]
fn a_member_that_moved_hears_where_it_is_looked_for() {
    let mut answer = in_cluster(2, [7; 16], &[1, 2, 3]);
    answer.response.members[0].peer_address = "elsewhere:1".to_owned();
    let step = evaluated(1, 3, [7; 16], &met(&[1]), &[answer]).unwrap();
    let Step::Join {
        moved_from: Some(old),
        ..
    } = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(old.peer_address, "elsewhere:1");
}

#[test]
fn only_a_newer_committed_membership_says_that_a_node_was_removed() {
    let mut answer = in_cluster(2, [7; 16], &[2, 3]);
    answer.response.committed_members = vec![2, 3];
    answer.response.committed_index = 50;
    let since = |index| {
        let answers = [answer.clone()];
        evaluated_by_member(1, 3, [7; 16], Some(index), &met(&[1]), &answers)
    };
    assert!(matches!(
        since(49),
        Err(Misplaced::Removed(Removed { node: 1, .. }))
    ));
    // The one who answers lags: what it knows is older than what this node's own log says.
    for index in [50, 51] {
        assert!(matches!(since(index), Ok(Step::Wait { .. })));
    }
    let answers = [answer.clone()];
    let never = evaluated(1, 3, [7; 16], &met(&[1]), &answers);
    assert!(matches!(never, Ok(Step::AskToBeAdded { .. })));
}

#[test]
fn who_is_no_member_waits_where_a_cluster_runs() {
    let clock = Clock::system();
    let discovery = Discovery::new(node(1), [7; 16], 3, Vec::new(), clock);
    let known = Known {
        members: vec![node(1), node(2)],
        ..Known::default()
    };
    for (asker, cluster_id) in [(2, vec![7; 16]), (8, vec![]), (9, vec![8; 16])] {
        let request = HelloRequest {
            node: Some(node(asker)),
            cluster_id: cluster_id.into(),
            protocol: PROTOCOL,
            ..HelloRequest::default()
        };
        discovery.answer(&request, known.clone());
    }
    let waiting = discovery.waiting(|id| id <= 2);
    assert_eq!(waiting, [node(8)]);
    assert_eq!(discovery.waiting(|id| id == 8), []);
}

#[test]
fn another_cluster_is_refused() {
    let answers = [in_cluster(2, [7; 16], &[1, 2, 3])];
    let error = evaluated(1, 3, [8; 16], &met(&[1]), &answers).unwrap_err();
    assert!(matches!(error, Misplaced::OtherCluster { .. }));
}

#[test]
fn a_node_that_knows_where_it_belongs_leaves_out_who_does_not_belong_there() {
    let discovery = Discovery::new(node(1), [8; 16], 3, Vec::new(), Clock::system());
    let mut newer = in_cluster(4, [8; 16], &[1, 3, 4]);
    newer.response.protocol = PROTOCOL + 1;
    let all = [
        in_cluster(2, [7; 16], &[2]),
        in_cluster(3, [8; 16], &[1, 3, 4]),
        newer,
        // It has no cluster yet.
        answer(5, &[5]),
    ];
    let mut answers = all.to_vec();
    discovery.leave_out(&mut answers, 4).unwrap();
    let kept = answers.iter().map(|kept| kept.address.as_str());
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [node(3).peer_address, node(5).peer_address]
    );
    assert_eq!(discovery.shared.lock().left_out.len(), 2);
    // The address was given to a member.
    let mut answers = vec![in_cluster(2, [8; 16], &[1, 2, 3])];
    discovery.leave_out(&mut answers, 3).unwrap();
    assert_eq!(answers.len(), 1);
    assert_eq!(discovery.shared.lock().left_out.len(), 1);
    // Those that are left may be of this cluster, as long as one has not answered.
    let foreign = [in_cluster(3, [7; 16], &[3]), in_cluster(4, [7; 16], &[3])];
    let mut answers = foreign.to_vec();
    discovery.leave_out(&mut answers, 3).unwrap();
    assert_eq!(answers.len(), 0);
    let misplaced = discovery.leave_out(&mut foreign.to_vec(), 2).unwrap_err();
    assert!(misplaced.to_string().contains(&node(3).peer_address));
}

#[tokio::test]
async fn a_wrong_answer_ends_a_node_without_a_log_only_when_nobody_of_its_cluster_answers() {
    let stranger = in_cluster(2, [7; 16], &[2]);
    let friend = in_cluster(3, [8; 16], &[1, 3, 4]);
    let mut newer = in_cluster(4, [8; 16], &[1, 3, 4]);
    newer.response.protocol = PROTOCOL + 1;
    let concluded = |answers: &[&Answer]| {
        let answers: Vec<_> = answers.iter().map(|it| (*it).clone()).collect();
        let asked = answers.len();
        let discovery = Discovery::new(node(1), [8; 16], 3, Vec::new(), Clock::system());
        let step = discovery.conclude(Standing::None, answers, asked);
        (step, discovery.shared.lock().left_out.len())
    };
    for (answers, said) in [
        (vec![&stranger, &friend], 1),
        (vec![&friend, &newer, &stranger], 2),
    ] {
        let (step, left_out) = concluded(&answers);
        assert!(matches!(step, Ok(Step::Join { .. })), "{step:?}");
        assert_eq!(left_out, said);
    }
    let waits = answer(5, &[5]);
    for answers in [vec![&stranger], vec![&waits, &stranger]] {
        let (step, _) = concluded(&answers);
        assert!(
            matches!(step, Err(Misplaced::OtherCluster { .. })),
            "{step:?}"
        );
    }
    let (step, _) = concluded(&[&newer]);
    assert!(matches!(step, Err(Misplaced::Protocol { .. })), "{step:?}");
}

#[test]
fn a_copied_data_directory_is_refused_and_the_node_itself_is_not() {
    let itself = answer(1, &[1]);
    evaluated(1, 3, NO_CLUSTER, &met(&[1]), std::slice::from_ref(&itself)).unwrap();
    let mut copy = itself;
    copy.response.node = Some(NodeInfo { id: 1, ..node(2) });
    let error = evaluated(1, 3, NO_CLUSTER, &met(&[1]), &[copy]).unwrap_err();
    assert!(matches!(error, Misplaced::Copied { node: 1, .. }));
}

#[test]
fn a_single_node_needs_nobody() {
    let step = evaluated(1, 1, NO_CLUSTER, &met(&[1]), &[]).unwrap();
    assert!(matches!(step, Step::Form { members, .. } if members.len() == 1));
}

#[test]
fn one_address_is_one_node() {
    let discovery = Discovery::new(node(1), NO_CLUSTER, 3, Vec::new(), Clock::system());
    let old = NodeInfo {
        peer_address: node(2).peer_address,
        ..node(5)
    };
    for asker in [old, node(2)] {
        let request = HelloRequest {
            node: Some(asker),
            ..HelloRequest::default()
        };
        discovery.answer(&request, Known::default());
    }
    let seen = discovery
        .answer(&HelloRequest::default(), Known::default())
        .seen;
    assert_eq!(seen.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2]);
}
