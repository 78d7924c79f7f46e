//! What a node that runs watches about its own place: whether it indexes, whether it has to end another leader's change of
//! the members, whether it is still a member.
//!
//! Promises: each task ends when the node stops. A node is taken for removed only on proof: its own log, or a newer
//! committed membership of another member. Must not know: what is served.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use crate::discovery::{Discovery, Misplaced, Removed, Standing};
use crate::raft::{Group, Leader};

/// Between questions to the other members whether this node is one.
const MEMBER_TICK: Duration = Duration::from_secs(1);
/// Before another try to end a change that could not be ended.
const FINISH_PAUSE: Duration = Duration::from_millis(500);

/// Says whether this node should index: followers do, and the only node of a cluster.
pub(super) fn watch_whether_to_index(
    group: Group,
    mut stop: watch::Receiver<bool>,
) -> watch::Receiver<bool> {
    let (say, wanted) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let changed = group.leader_change();
            let indexes = match group.leader() {
                Leader::Here => group.members().len() == 1,
                Leader::There(_) => true,
                // Between leaders nothing new is applied: as it was.
                Leader::Unknown => *say.borrow(),
            };
            say.send_if_modified(|now| std::mem::replace(now, indexes) != indexes);
            tokio::select! {
                () = changed => {}
                _ = stop.wait_for(|stop| *stop) => {
                    say.send_replace(false);
                    return;
                }
            }
        }
    });
    wanted
}

/// As long as this node leads, ends the changes of voters that earlier leaders began and could not end.
pub fn finish_changes(group: Group, mut stop: watch::Receiver<bool>) {
    tokio::spawn(async move {
        loop {
            let changed = group.leader_change();
            if group.is_half_changed() {
                if let Err(error) = group.finish_change().await {
                    tracing::warn!(%error, "a change of the members could not be ended; trying on");
                }
                tokio::select! {
                    () = sleep(FINISH_PAUSE) => continue,
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
            tokio::select! {
                () = changed => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    });
}

/// What the node has kept that says where it belongs.
pub(super) fn standing(group: &Group) -> Standing {
    match group.member_since() {
        Some(since) => Standing::Member { since },
        // Raft tells of the members a moment after it has started.
        None if group.log().state().last.is_some() => Standing::HasLog,
        None => Standing::None,
    }
}

/// Tells when this node was removed from its cluster.
pub fn watch_for_removal(
    group: Group,
    discovery: Discovery,
    mut stop: watch::Receiver<bool>,
) -> watch::Receiver<Option<Removed>> {
    let (say, removed) = watch::channel(None);
    tokio::spawn(async move {
        let watching = async {
            loop {
                if let Some(removed) = is_removed(&group, &discovery).await {
                    say.send_replace(Some(removed));
                    return;
                }
                sleep(MEMBER_TICK).await;
            }
        };
        tokio::select! {
            () = watching => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    removed
}

/// The leader that removes a node closes its connection to it, so that the node seldom reads of it in its own log: it
/// asks the others.
async fn is_removed(group: &Group, discovery: &Discovery) -> Option<Removed> {
    let me = group.node_id();
    let (since, (committed, members)) = (group.member_since(), group.committed_membership());
    if since.is_some_and(|since| since < committed) && !members.contains(&me) {
        let cluster = Uuid::from_bytes(group.cluster_id());
        return Some(Removed { node: me, cluster });
    }
    if group.leader() == Leader::Here {
        return None;
    }
    match discovery.round(standing(group)).await {
        Err(Misplaced::Removed(removed)) => Some(removed),
        Err(misplaced) => {
            tracing::warn!(%misplaced, "while this node runs");
            None
        }
        Ok(_) => None,
    }
}
