//! What the command line takes, and what it says otherwise.

use inkstone_server::config::KEYS;

use super::*;

fn refused(arguments: &[&str]) -> String {
    let error = command()
        .try_get_matches_from(arguments)
        .expect_err("refused");
    one_line(&error.render().to_string())
}

#[test]
fn the_commands_are_well_formed() {
    command().debug_assert();
}

#[test]
fn every_key_is_a_flag_of_serve_and_of_config() {
    for subcommand in ["serve", "config"] {
        for key in KEYS {
            let flag = format!("--{}", key.flag);
            let matches = command()
                .try_get_matches_from(["inkstone", subcommand, &flag, "7"])
                .expect("a flag");
            let (_, matches) = matches.subcommand().expect("a subcommand");
            let value = matches.get_one::<String>(key.name).map(String::as_str);
            assert_eq!(value, Some("7"), "{flag}");
        }
    }
}

#[test]
fn a_usage_error_is_one_line_that_says_where_help_is() {
    let message = refused(&["inkstone", "serve", "--datadir", "x"]);
    assert!(
        message.contains("--datadir") && message.contains("--data-dir"),
        "{message}"
    );
    assert!(
        !message.contains('\n') && !message.starts_with("error"),
        "{message}"
    );
    assert!(message.ends_with("; see `inkstone --help`"), "{message}");
    assert!(refused(&["inkstone", "dev", "--nodes", "8"]).contains("1..=7"));
    assert!(refused(&["inkstone", "frobnicate"]).contains("frobnicate"));
}

#[test]
fn help_documents_the_exit_codes() {
    let help = command().render_help().to_string();
    for line in [
        "0  stopped cleanly",
        "1  could not start",
        "2  wrong usage",
        "4  the storage",
        "5  the node was removed",
    ] {
        assert!(help.contains(line), "{line} is missing");
    }
}

#[test]
fn a_wrong_value_on_the_command_line_is_a_usage_failure_that_names_the_flag() {
    let matches = command()
        .try_get_matches_from(["inkstone", "config", "--raft-heartbeat-ms", "soon"])
        .expect("taken as text");
    let failure = dispatch(&matches).expect_err("not a number");
    assert_eq!(failure.code, 2);
    assert!(
        failure.message.contains("`soon` (--raft-heartbeat-ms)"),
        "{}",
        failure.message
    );
}

#[test]
fn a_missing_file_is_a_usage_failure() {
    let matches = command()
        .try_get_matches_from(["inkstone", "serve", "--config", "/nowhere/inkstone.toml"])
        .expect("taken as text");
    let failure = dispatch(&matches).expect_err("no file");
    assert_eq!(failure.code, 2);
    assert!(
        failure.message.contains("/nowhere/inkstone.toml"),
        "{}",
        failure.message
    );
}
