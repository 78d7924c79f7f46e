//! What is planned, and what is refused, for each state of the members.

use openraft::ChangeMembers;

use super::*;

fn node(id: u64) -> v1::NodeInfo {
    v1::NodeInfo {
        id,
        client_address: format!("127.0.0.1:{}", 7_000 + id),
        peer_address: format!("127.0.0.1:{}", 8_000 + id),
    }
}

/// Voters 1 to 3, of which 1 leads, and the learner 4.
fn members() -> Members {
    Members {
        nodes: (1..=4).map(|id| (id, node(id))).collect(),
        voters: BTreeSet::from([1, 2, 3]),
        changing: false,
        index: 1,
    }
}

fn at(matched: u64, heard: bool) -> Progress {
    Progress::new(10_000, Some(matched), heard)
}

fn all_well() -> BTreeMap<u64, Progress> {
    (2..=4).map(|id| (id, at(10_000, true))).collect()
}

fn refused(progress: &BTreeMap<u64, Progress>, change: Change) -> MemberError {
    plan(1, &members(), progress, change).unwrap_err()
}

#[test]
fn each_change_becomes_one_of_openrafts() {
    let planned = |change| plan(1, &members(), &all_well(), change).unwrap().1;
    let (change, retain) = planned(Change::Add(node(5)));
    assert!(retain && matches!(change, ChangeMembers::AddNodes(nodes) if nodes.contains_key(&5)));
    let (change, _) = planned(Change::Promote(4));
    assert_eq!(change, ChangeMembers::AddVoterIds(BTreeSet::from([4])));
    let (change, retain) = planned(Change::Demote(2, Able::CaughtUp));
    assert!(retain);
    assert_eq!(change, ChangeMembers::RemoveVoters(BTreeSet::from([2])));
    let (change, retain) = planned(Change::Remove(2, Able::CaughtUp));
    assert!(!retain);
    assert_eq!(change, ChangeMembers::RemoveVoters(BTreeSet::from([2])));
    let (change, _) = planned(Change::Remove(4, Able::CaughtUp));
    assert_eq!(change, ChangeMembers::RemoveNodes(BTreeSet::from([4])));
}

#[test]
fn strangers_and_members_in_the_wrong_part_are_refused() {
    let progress = all_well();
    for change in [
        Change::Promote(9),
        Change::Demote(9, Able::CaughtUp),
        Change::Remove(9, Able::CaughtUp),
    ] {
        assert!(matches!(
            refused(&progress, change),
            MemberError::NotFound(_)
        ));
    }
    let twice = refused(&progress, Change::Add(node(4)));
    assert!(matches!(
        twice,
        MemberError::AlreadyMember { voter: false, .. }
    ));
    assert_eq!(
        refused(&progress, Change::Promote(2)),
        MemberError::NotLearner { node: 2 }
    );
    assert_eq!(
        refused(&progress, Change::Demote(4, Able::CaughtUp)),
        MemberError::NotVoter { node: 4 }
    );
}

#[test]
fn a_wiped_node_may_take_the_address_of_its_former_self() {
    let again = v1::NodeInfo { id: 5, ..node(3) };
    assert!(plan(1, &members(), &all_well(), Change::Add(again)).is_ok());
}

#[test]
fn a_learner_is_promoted_only_when_it_is_heard_from_and_near_the_end() {
    for (progress, says) in [
        (at(10_000, false), "not heard from"),
        (at(8_000, true), "2000 entries behind"),
    ] {
        let progress = BTreeMap::from([(4, progress)]);
        let refused = refused(&progress, Change::Promote(4)).to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let unknown = refused(&BTreeMap::new(), Change::Promote(4));
    assert!(matches!(unknown, MemberError::NotCaughtUp { .. }));
}

#[test]
fn a_dead_voter_is_removed_and_a_live_one_not_while_another_is_dead() {
    let one_dead = BTreeMap::from([(2, at(10_000, true)), (3, at(9_000, false))]);
    let dead = Change::Remove(3, Able::CaughtUp);
    assert!(plan(1, &members(), &one_dead, dead).is_ok());
    for able in [Able::CaughtUp, Able::Reachable] {
        let live = refused(&one_dead, Change::Remove(2, able));
        assert!(
            matches!(&live, MemberError::WouldLoseQuorum { node: 2, able, remaining }
                if *able == BTreeSet::from([1]) && *remaining == BTreeSet::from([1, 3])),
            "{live}"
        );
        assert!(live.to_string().contains("(not: 3)"), "{live}");
    }
    // The leader itself may go, too, while two others are well.
    assert!(
        plan(
            1,
            &members(),
            &all_well(),
            Change::Remove(1, Able::CaughtUp)
        )
        .is_ok()
    );
    let itself = refused(&one_dead, Change::Remove(1, Able::CaughtUp));
    assert!(matches!(itself, MemberError::WouldLoseQuorum { .. }));
}

#[test]
fn force_counts_voters_that_are_behind_and_none_that_are_silent() {
    let behind = BTreeMap::from([(2, at(10_000, true)), (3, at(1, true))]);
    let refused = refused(&behind, Change::Demote(2, Able::CaughtUp));
    assert!(matches!(refused, MemberError::WouldLoseQuorum { .. }));
    let forced = Change::Demote(2, Able::Reachable);
    assert!(plan(1, &members(), &behind, forced).is_ok());
}

#[test]
fn the_last_voter_stays() {
    let mut alone = members();
    alone.voters = BTreeSet::from([1]);
    for change in [
        Change::Remove(1, Able::Reachable),
        Change::Demote(1, Able::Reachable),
    ] {
        let refused = plan(1, &alone, &all_well(), change).unwrap_err();
        assert_eq!(refused, MemberError::LastVoter { node: 1 });
    }
}

#[test]
fn a_member_is_found_by_id_and_by_either_address() {
    let members = members();
    for name in ["3", "127.0.0.1:7003", "127.0.0.1:8003"] {
        assert_eq!(members.find(name).map(|node| node.id), Some(3), "{name}");
    }
    assert_eq!(members.find("127.0.0.1:9"), None);
    assert_eq!(members.find(""), None);
}
