//! `ink cluster status`: what was scrubbed, and what is damaged.

use inkstone_proto::v1;

use crate::command_line::{ink, stdout};
use crate::fake::Fake;

fn node_status(id: u64, scrub: Option<v1::ScrubStatus>) -> v1::NodeStatus {
    v1::NodeStatus {
        node: Some(v1::NodeInfo {
            id,
            client_address: format!("node-{id}:7420"),
            peer_address: format!("node-{id}:7421"),
        }),
        role: v1::NodeRole::Follower.into(),
        reachable: scrub.is_some(),
        version: "0.1.0".to_owned(),
        scrub,
        ..v1::NodeStatus::default()
    }
}

fn damaged() -> v1::ScrubStatus {
    v1::ScrubStatus {
        rate: 8 << 20,
        passes: 2,
        last_pass_start_time: 1_700_000_000_000_000_000,
        last_pass_end_time: 1_700_000_100_500_000_000,
        last_pass_bytes: 1_000,
        verified_bytes: 10,
        total_bytes: 1_000,
        damages: vec![
            v1::DamagedPlace {
                file: "group-1/log/5.seg".to_owned(),
                position: 4_096,
                what: "crc".to_owned(),
                first_index: Some(5),
                last_index: Some(7),
            },
            v1::DamagedPlace {
                file: "group-1/log/5.seg".to_owned(),
                position: 9_000,
                what: "footer".to_owned(),
                first_index: None,
                last_index: None,
            },
        ],
        damages_count: 3,
    }
}

/// The scrubber is off, or has found one of the two places that readers have met, and a footer besides.
#[tokio::test]
async fn the_status_counts_damage_whoever_found_it_and_names_each_place_once() {
    let fake = Fake::start().await;
    let found = damaged();
    let met = v1::DamagedPlace {
        position: 7_000,
        ..found.damages[0].clone()
    };
    let repair = v1::RepairStatus {
        damaged_entries: 6,
        damages: vec![found.damages[0].clone(), met],
        ..v1::RepairStatus::default()
    };
    let scrubs = [v1::ScrubStatus::default(), damaged()];
    fake.state.lock().nodes = Vec::from(scrubs.map(|scrub| v1::NodeStatus {
        repair: Some(repair.clone()),
        ..node_status(1, Some(scrub))
    }));
    let text = stdout(&ink(&fake.address, &["cluster", "status", "-o", "text"], "").await);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("\toff\t6\t0\t-"), "{text}");
    assert!(lines[1].ends_with("Z\t7\t0\t-"), "{text}");
    let crc = "damage: node 1: group-1/log/5.seg at byte 4096: crc (entries 5 to 7)";
    let met = "damage: node 1: group-1/log/5.seg at byte 7000: crc (entries 5 to 7)";
    let footer = "damage: node 1: group-1/log/5.seg at byte 9000: footer";
    let more = "damage: node 1: and 1 more place";
    assert_eq!(lines[2..], [crc, met, crc, met, footer, more]);
}

#[tokio::test]
async fn the_status_says_when_a_node_was_scrubbed_and_what_is_damaged() {
    let fake = Fake::start().await;
    let first_pass = v1::ScrubStatus {
        rate: 8 << 20,
        verified_bytes: 421,
        total_bytes: 1_000,
        ..v1::ScrubStatus::default()
    };
    fake.state.lock().nodes = vec![
        node_status(1, Some(damaged())),
        node_status(2, Some(first_pass)),
        node_status(3, Some(v1::ScrubStatus::default())),
        node_status(4, None),
    ];
    let status =
        async |form| stdout(&ink(&fake.address, &["cluster", "status", "-o", form], "").await);
    let text = status("text").await;
    let lines: Vec<&str> = text.lines().collect();
    let ends = [
        "0.1.0\t2023-11-14T22:15:00Z\t3\t-\t-",
        "0.1.0\t42%\t0\t-\t-",
        "0.1.0\toff\t0\t-\t-",
        "0.1.0\t-\t-\t-\t-",
    ];
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
    let damage = [
        "damage: node 1: group-1/log/5.seg at byte 4096: crc (entries 5 to 7)",
        "damage: node 1: group-1/log/5.seg at byte 9000: footer",
        "damage: node 1: and 1 more place",
    ];
    assert_eq!(lines[4..], damage);
    let table = status("table").await;
    assert!(
        table.contains("SCRUBBED") && table.contains("DAMAGED"),
        "{table}"
    );
    assert!(damage.iter().all(|line| table.contains(line)), "{table}");
    let json: serde_json::Value = serde_json::from_str(&status("json").await).unwrap();
    let scrub = &json["nodes"][0]["scrub"];
    assert_eq!(scrub["damages"][0]["last_index"], 7);
    assert_eq!(scrub["damages"][1]["first_index"], serde_json::Value::Null);
    assert_eq!(scrub["last_pass"]["bytes"], 1_000);
    assert_eq!(
        json["nodes"][1]["scrub"]["last_pass"],
        serde_json::Value::Null
    );
    assert_eq!(json["nodes"][3]["scrub"], serde_json::Value::Null);
}
