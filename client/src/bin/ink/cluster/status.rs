//! `ink cluster status`.

use std::collections::HashSet;

use inkstone_client::{
    ClusterStatus, DamagedPlace, NodeInfo, NodeRole, NodeStatus, RepairStatus, ScrubStatus,
};
use serde_json::json;

use crate::output::{Format, Output, counted};
use crate::time;

pub(super) fn print(status: &ClusterStatus, output: &mut Output) -> anyhow::Result<()> {
    match output.format(Format::Table) {
        Format::Json => {
            output.json(&json!({
                "cluster_id": status.cluster_id,
                "leader": status.leader,
                "term": status.term,
                "answered_by": status.answered_by,
                "changing": status.changing,
                "waiting": status.waiting.iter().map(info_json).collect::<Vec<_>>(),
                "nodes": status.nodes.iter().map(node_json).collect::<Vec<_>>(),
            }))?;
        }
        Format::Text => {
            for node in &status.nodes {
                output.line(&row(node).join("\t"))?;
            }
            print_waiting(status, output)?;
            print_damages(status, output)?;
        }
        Format::Table => {
            let leader = status
                .leader
                .map_or_else(|| "none".to_owned(), |id| id.to_string());
            output.line(&format!(
                "cluster {}  term {}  leader {leader}  answered by {}",
                status.cluster_id, status.term, status.answered_by
            ))?;
            if status.changing {
                output.line("a change of the members is under way")?;
            }
            let heading = [
                "node",
                "address",
                "role",
                "reachable",
                "behind",
                "durable",
                "committed",
                "applied",
                "indexed",
                "bytes",
                "version",
                "scrubbed",
                "damaged",
                "repaired",
                "protocol",
            ];
            output.table(&heading, status.nodes.iter().map(row).collect())?;
            print_waiting(status, output)?;
            print_damages(status, output)?;
        }
    }
    Ok(())
}

fn row(status: &NodeStatus) -> Vec<String> {
    let figure = |value: u64| {
        if status.reachable {
            value.to_string()
        } else {
            "-".to_owned()
        }
    };
    vec![
        status.node.id.to_string(),
        status.node.client_address.clone(),
        shown_role(status).to_owned(),
        if status.reachable { "yes" } else { "no" }.to_owned(),
        behind(status),
        figure(status.durable_index),
        figure(status.committed_index),
        figure(status.applied_index),
        figure(status.indexed_index),
        figure(status.log_bytes),
        if status.version.is_empty() {
            "-".to_owned()
        } else {
            status.version.clone()
        },
        scrubbed(status.scrub.as_ref()),
        damaged(status),
        status.repair.as_ref().map_or_else(
            || "-".to_owned(),
            |repair| repair.repaired_entries.to_string(),
        ),
        match status.protocols {
            None => "-".to_owned(),
            Some((oldest, newest)) if oldest == newest => newest.to_string(),
            Some((oldest, newest)) => format!("{oldest}-{newest}"),
        },
    ]
}

/// What it is, or could be if it was reached.
fn shown_role(status: &NodeStatus) -> &'static str {
    if status.role == NodeRole::Unknown && !status.voter {
        return "learner";
    }
    role(status.role)
}

/// How many entries the leader still has to bring it.
fn behind(status: &NodeStatus) -> String {
    match &status.progress {
        None if status.role == NodeRole::Leader => "0".to_owned(),
        None => "-".to_owned(),
        Some(progress) if progress.caught_up => progress.behind.to_string(),
        Some(progress) if progress.heard => format!("{} (catching up)", progress.behind),
        Some(progress) => format!("{} (silent)", progress.behind),
    }
}

/// A line for each node that may be added.
fn print_waiting(status: &ClusterStatus, output: &mut Output) -> anyhow::Result<()> {
    for node in &status.waiting {
        output.line(&format!(
            "waiting: node {} at {} (clients: {}); `ink cluster add {}` adds it",
            node.id, node.peer_address, node.client_address, node.id
        ))?;
    }
    Ok(())
}

pub(super) fn info_json(node: &NodeInfo) -> serde_json::Value {
    json!({
        "id": node.id,
        "client_address": node.client_address,
        "peer_address": node.peer_address,
    })
}

/// When the last pass over all sealed segments ended; before that, how far the first one is.
fn scrubbed(scrub: Option<&ScrubStatus>) -> String {
    let Some(scrub) = scrub else {
        return "-".to_owned();
    };
    match scrub.last_pass {
        _ if scrub.rate == 0 => "off".to_owned(),
        Some(pass) => time::format(pass.end_time - pass.end_time.rem_euclid(1_000_000_000)),
        None => scrub
            .verified_bytes
            .saturating_mul(100)
            .checked_div(scrub.total_bytes)
            .map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
    }
}

/// Damaged entries, whoever found them, and the places that the scrubber found and that take no entry.
fn damaged(status: &NodeStatus) -> String {
    let count = match (&status.repair, &status.scrub) {
        (None, None) => return "-".to_owned(),
        (None, Some(scrub)) => scrub.damages_count,
        (Some(repair), None) => repair.damaged_entries,
        (Some(repair), Some(scrub)) => {
            let places = scrub.damages.iter();
            let without = places.filter(|place| place.entries.is_none()).count();
            repair.damaged_entries + without as u64
        }
    };
    count.to_string()
}

/// The places that readers and repairs have met, and those that the scrubber found, each once.
fn places(node: &NodeStatus) -> Vec<&DamagedPlace> {
    let met = node.repair.iter().flat_map(|repair| &repair.damages);
    let scrubbed = node.scrub.iter().flat_map(|scrub| &scrub.damages);
    let mut seen = HashSet::new();
    met.chain(scrubbed)
        .filter(|place| seen.insert((&place.file, place.position)))
        .collect()
}

/// A line for each damaged place that a node knows of, and for those that there was no room for.
fn print_damages(status: &ClusterStatus, output: &mut Output) -> anyhow::Result<()> {
    for node in &status.nodes {
        let id = node.node.id;
        for place in places(node) {
            output.line(&format!("damage: node {id}: {}", damage_text(place)))?;
        }
        let more = node.scrub.as_ref().map_or(0, |scrub| {
            let shown = scrub.damages.len() as u64;
            scrub.damages_count.saturating_sub(shown)
        });
        if more > 0 {
            let more = counted(more, "more place");
            output.line(&format!("damage: node {id}: and {more}"))?;
        }
        let waits_for = node.repair.as_ref().map(|repair| &repair.waits_for);
        if let Some(waits_for) = waits_for.filter(|waits_for| !waits_for.is_empty()) {
            output.line(&format!("repair: node {id} waits for {waits_for}"))?;
        }
    }
    Ok(())
}

fn damage_text(place: &DamagedPlace) -> String {
    let DamagedPlace {
        file,
        position,
        what,
        entries,
    } = place;
    let entries = match entries {
        None => String::new(),
        Some(one) if one.start() == one.end() => format!(" (entry {})", one.start()),
        Some(more) => format!(" (entries {} to {})", more.start(), more.end()),
    };
    format!("{file} at byte {position}: {what}{entries}")
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Candidate => "candidate",
        NodeRole::Learner => "learner",
        NodeRole::Quarantined => "quarantined",
        NodeRole::Unknown => "unknown",
    }
}

fn node_json(status: &NodeStatus) -> serde_json::Value {
    json!({
        "id": status.node.id,
        "client_address": status.node.client_address,
        "peer_address": status.node.peer_address,
        "role": role(status.role),
        "reachable": status.reachable,
        "voter": status.voter,
        "progress": status.progress.map(|progress| json!({
            "matched_index": progress.matched_index,
            "behind": progress.behind,
            "caught_up": progress.caught_up,
            "heard": progress.heard,
        })),
        "durable_index": status.durable_index,
        "committed_index": status.committed_index,
        "applied_index": status.applied_index,
        "indexed_index": status.indexed_index,
        "log_bytes": status.log_bytes,
        "chain_crc": status.chain_crc,
        "version": status.version,
        "oldest_protocol": status.protocols.map(|(oldest, _)| oldest),
        "newest_protocol": status.protocols.map(|(_, newest)| newest),
        "scrub": status.scrub.as_ref().map(scrub_json),
        "repair": status.repair.as_ref().map(repair_json),
    })
}

fn repair_json(repair: &RepairStatus) -> serde_json::Value {
    json!({
        "damaged_entries": repair.damaged_entries,
        "repaired_entries": repair.repaired_entries,
        "last_time": repair.last_time,
        "damages": repair.damages.iter().map(place_json).collect::<Vec<_>>(),
        "waits_for": repair.waits_for,
    })
}

fn place_json(place: &DamagedPlace) -> serde_json::Value {
    json!({
        "file": place.file,
        "position": place.position,
        "what": place.what,
        "first_index": place.entries.as_ref().map(|entries| *entries.start()),
        "last_index": place.entries.as_ref().map(|entries| *entries.end()),
    })
}

fn scrub_json(scrub: &ScrubStatus) -> serde_json::Value {
    json!({
        "rate": scrub.rate,
        "passes": scrub.passes,
        "last_pass": scrub.last_pass.map(|pass| json!({
            "start_time": pass.start_time,
            "end_time": pass.end_time,
            "bytes": pass.bytes,
        })),
        "verified_bytes": scrub.verified_bytes,
        "total_bytes": scrub.total_bytes,
        "damages": scrub.damages.iter().map(place_json).collect::<Vec<_>>(),
        "damages_count": scrub.damages_count,
    })
}
