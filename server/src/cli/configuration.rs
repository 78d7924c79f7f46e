//! The keys of the configuration as flags and variables, the file, and `inkstone config`, which prints what comes of it.

use std::fs;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};
use inkstone_server::config::{Config, KEYS, Origin, Settings};

use crate::cli::{Failure, output};

pub(super) fn command() -> Command {
    Command::new("config")
        .about("Prints the effective configuration as TOML, with where each value comes from")
        .args(arguments())
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (config, settings) = load(matches)?;
    output::write(&config.to_toml(&settings))
}

/// `--config`, and a flag and a variable for every key.
pub(super) fn arguments() -> Vec<Arg> {
    let file = Arg::new("config")
        .long("config")
        .env("INKSTONE_CONFIG")
        .hide_env_values(true)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("A TOML file with the keys below [default: none]");
    let keys = KEYS.iter().map(|key| {
        Arg::new(key.name)
            .long(key.flag)
            .env(key.env)
            .hide_env_values(true)
            .value_name(key.value)
            .help(key.help)
    });
    std::iter::once(file).chain(keys).collect()
}

/// The configuration: flags over variables over the file over the defaults.
pub(super) fn load(matches: &ArgMatches) -> Result<(Config, Settings), Failure> {
    let mut settings = given(matches);
    if let Some(file) = matches.get_one::<PathBuf>("config") {
        let text = fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!(
                "--config {}: {error}; name a file that can be read",
                file.display()
            ))
        })?;
        let below = Settings::from_toml(&text, file).map_err(Failure::usage)?;
        settings = settings.over(below);
    }
    let config = Config::from_settings(&settings).map_err(Failure::usage)?;
    Ok((config, settings))
}

fn given(matches: &ArgMatches) -> Settings {
    let mut settings = Settings::default();
    for key in &KEYS {
        let Some(value) = matches.get_one::<String>(key.name) else {
            continue;
        };
        let origin = match matches.value_source(key.name) {
            Some(ValueSource::EnvVariable) => Origin::Environment(key.env),
            _ => Origin::Flag(key.flag),
        };
        settings.set(key, value.clone(), origin);
    }
    settings
}
