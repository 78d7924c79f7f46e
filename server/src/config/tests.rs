//! Precedence, messages, bounds.

use std::path::Path;

use super::*;

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut settings = Settings::default();
    for (name, value) in pairs {
        let key = Key::named(name).expect("a key");
        settings.set(key, (*value).to_owned(), Origin::Flag(key.flag));
    }
    Config::from_settings(&settings)
}

fn file(text: &str) -> Result<Settings, ConfigError> {
    Settings::from_toml(text, Path::new("inkstone.toml"))
}

#[test]
fn the_defaults_are_allowed_and_what_the_design_says() {
    let config = Config::default_values();
    assert_eq!(config.client_listen.to_string(), "127.0.0.1:7420");
    assert_eq!(config.peer_listen.to_string(), "127.0.0.1:7421");
    assert_eq!(config.log.segment_size, 128 << 20);
    assert_eq!(config.raft.heartbeat, Duration::from_millis(100));
    assert_eq!(config.raft.election_min, Duration::from_secs(1));
    assert_eq!(config.raft.election_max, Duration::from_millis(1_500));
    assert_eq!(config.search.commit_interval, Duration::from_secs(1));
    assert!(config.search.enabled && config.seeds.is_empty() && config.bootstrap_expect == 1);
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let heartbeat = Key::named("raft.heartbeat_ms").expect("a key");
    let tail = Key::named("log.tail_size").expect("a key");
    let below =
        file("[raft]\nheartbeat_ms = 100\nelection_min_ms = 1300\n[log]\ntail_size = '8MiB'")
            .expect("well-formed");
    let mut environment = Settings::default();
    environment.set(
        heartbeat,
        "200".to_owned(),
        Origin::Environment(heartbeat.env),
    );
    environment.set(tail, "16MiB".to_owned(), Origin::Environment(tail.env));
    let mut flags = Settings::default();
    flags.set(heartbeat, "250".to_owned(), Origin::Flag(heartbeat.flag));
    let config = Config::from_settings(&flags.over(environment).over(below)).expect("allowed");
    assert_eq!(config.raft.heartbeat, Duration::from_millis(250));
    assert_eq!(config.log.tail_size, 16 << 20);
    assert_eq!(config.raft.election_min, Duration::from_millis(1_300));
    assert_eq!(config.raft.election_max, Duration::from_millis(1_500));
}

#[test]
fn an_unknown_key_names_the_file_and_the_nearest_known_one() {
    for (text, key, nearest) in [
        ("dta_dir = 'x'", "dta_dir", "data_dir"),
        (
            "[raft]\nheartbeat = 1",
            "raft.heartbeat",
            "raft.heartbeat_ms",
        ),
        ("[search]\nenable = true", "search.enable", "search.enabled"),
        ("heartbeat_ms = 1", "heartbeat_ms", "raft.heartbeat_ms"),
        ("[data_dir]\nx = 1", "data_dir.x", "data_dir"),
    ] {
        let message = file(text).expect_err(text).to_string();
        let expected = format!("inkstone.toml: unknown key `{key}`; did you mean `{nearest}`?");
        assert_eq!(message, expected);
    }
}

#[test]
fn what_is_not_toml_names_file_and_line_in_one_line() {
    let message = file("data_dir = 'x'\nseeds = [\n")
        .expect_err("open bracket")
        .to_string();
    assert!(message.starts_with("inkstone.toml, line "), "{message}");
    assert!(!message.contains('\n'), "{message}");
    let twice = file("data_dir = 'x'\ndata_dir = 'y'\n")
        .expect_err("twice")
        .to_string();
    assert!(twice.starts_with("inkstone.toml, line 2: "), "{twice}");
}

#[test]
fn a_wrong_value_names_key_value_origin_and_what_is_allowed() {
    let settings = file("[log]\nsegment_size = '12 apples'").expect("well-formed");
    assert_eq!(
        Config::from_settings(&settings)
            .expect_err("apples")
            .to_string(),
        "log.segment_size is `12 apples` (inkstone.toml); allowed: bytes from 16MiB to 4GiB, such as 134217728 or \
         128MiB"
    );
    assert_eq!(
        with(&[("raft.heartbeat_ms", "fast")])
            .expect_err("fast")
            .to_string(),
        "raft.heartbeat_ms is `fast` (--raft-heartbeat-ms); allowed: a whole number from 10 to 60000"
    );
}

#[test]
fn every_bound_holds() {
    for (name, wrong) in [
        ("data_dir", ""),
        ("client_listen", "localhost"),
        ("client_listen", "7420"),
        ("peer_listen", "127.0.0.1:7420"),
        ("client_advertise", "node-1"),
        ("client_advertise", "node-1:0"),
        ("client_advertise", "http://node-1:7420"),
        ("peer_advertise", "::1:7421"),
        ("seeds", "a:1,b"),
        ("bootstrap_expect", "0"),
        ("bootstrap_expect", "3"),
        ("log.segment_size", "1MiB"),
        ("log.segment_size", "5GiB"),
        ("log.segment_size", "99999999999999999999"),
        ("log.segment_size", "18446744073709551615GiB"),
        ("log.tail_size", "0"),
        ("log.free_size_min", "-1"),
        ("log.free_size_min", "some"),
        ("raft.heartbeat_ms", "1"),
        ("raft.heartbeat_ms", "1000"),
        ("raft.election_min_ms", "399"),
        ("raft.election_max_ms", "1000"),
        ("raft.election_max_ms", "1800"),
        ("search.enabled", "yes"),
        ("search.commit_interval_ms", "10"),
        ("search.writer_memory", "1MiB"),
    ] {
        let error = with(&[(name, wrong)]).expect_err(name);
        assert!(matches!(error, ConfigError::Value { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn what_is_allowed_is_taken() {
    let config = with(&[
        ("client_listen", "0.0.0.0:7420"),
        ("client_advertise", "node-1.example.org:7420"),
        ("peer_listen", "[::1]:7421"),
        ("peer_advertise", "[::1]:7421"),
        ("seeds", " a:1, b:2 ,"),
        ("log.segment_size", "16 MiB"),
        ("search.enabled", "false"),
    ])
    .expect("allowed");
    assert_eq!(config.seeds, ["a:1", "b:2"]);
    assert_eq!((config.bootstrap_expect, config.search.enabled), (3, false));
    assert_eq!(config.log.segment_size, 16 << 20);
    assert_eq!(
        config.client_address(config.client_listen),
        "node-1.example.org:7420"
    );
}

#[test]
fn the_low_water_mark_grows_with_the_segments_and_can_be_switched_off() {
    let mark =
        |settings: &[(&'static str, &str)]| with(settings).expect("allowed").log.free_size_min;
    assert_eq!(mark(&[]), 512 << 20);
    assert_eq!(mark(&[("log.segment_size", "1GiB")]), 2 << 30);
    assert_eq!(mark(&[("log.free_size_min", "0")]), 0);
    assert_eq!(mark(&[("log.free_size_min", "1048576GiB")]), 1 << 50);
}

#[test]
fn every_address_of_the_machine_is_none_that_others_can_dial() {
    let error = with(&[("peer_listen", "0.0.0.0:7421")])
        .expect_err("what to dial?")
        .to_string();
    assert!(error.starts_with("peer_advertise is ``"), "{error}");
    assert!(error.contains("peer_listen (0.0.0.0:7421)"), "{error}");
}

#[test]
fn what_is_printed_gives_the_same_configuration_again() {
    let given = file(
        "data_dir = '/var/lib/ink stone'\nseeds = ['a:1', 'b:2']\nclient_advertise = 'c:3'\n\
         [raft]\nheartbeat_ms = 100\n[search]\nenabled = false\nwriter_memory = 20000000\n",
    )
    .expect("well-formed");
    let config = Config::from_settings(&given).expect("allowed");
    let printed = config.to_toml(&given);
    assert!(
        printed.contains("heartbeat_ms = 100  # inkstone.toml"),
        "{printed}"
    );
    assert!(
        printed.contains("segment_size = \"128MiB\"  # default"),
        "{printed}"
    );
    let again = file(&printed).expect("well-formed");
    assert_eq!(Config::from_settings(&again).expect("allowed"), config);
    for key in KEYS {
        let name = key.name.rsplit('.').next().expect("a name");
        assert!(printed.contains(name), "{name} is missing");
    }
}

#[test]
fn the_example_file_holds_every_key_and_is_allowed() {
    let text = include_str!("../../../deploy/inkstone.toml");
    let settings =
        Settings::from_toml(text, Path::new("deploy/inkstone.toml")).expect("known keys");
    let config = Config::from_settings(&settings).expect("allowed");
    assert_eq!(config.log, Config::default_values().log);
    for key in KEYS {
        let name = key.name.rsplit('.').next().expect("a name");
        let line = text
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(name));
        assert!(line, "{} is not in the example", key.name);
    }
}

#[test]
fn ports_of_dev_end_at_the_last_one() {
    let listen = "127.0.0.1:65534".parse().expect("an address");
    assert!(Config::dev(Path::new("d"), listen, 1, 1).is_some());
    assert!(Config::dev(Path::new("d"), listen, 1, 2).is_none());
}
