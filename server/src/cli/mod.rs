//! The commands of `inkstone`, what they print, and the codes with which they end.
//!
//! Promises: standard output carries one line that starts with `ready`, or what `check` and `config` print, and nothing else; an
//! error is one line on standard error. Must not know: how a node works.

mod check;
mod configuration;
mod dev;
mod output;
mod serve;
mod shutdown;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};
use inkstone_server::discovery::Misplaced;
use inkstone_server::node::{Ended, StartError};
use inkstone_storage::error::OpenError;
use tracing_subscriber::EnvFilter;

use self::shutdown::Shutdown;

const EXIT_CODES: &str = "\
Exit codes:
  0  stopped cleanly
  1  could not start, or was refused
  2  wrong usage or configuration
  4  the storage or the consensus failed: what was under way was answered as unknown; start it again, which recovers
     (a full disk needs room first)
  5  the node was removed from its cluster
  134  (SIGABRT) a bug: the process ended itself; start it again, which recovers";

const CHECK_HINT: &str = "`inkstone check` on it names all that is wrong";

/// Why the program ends, other than well.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn start(error: impl std::fmt::Display) -> Self {
        Self {
            code: 1,
            message: error.to_string(),
        }
    }

    /// What kept a node from starting: its surroundings, or storage or consensus, which a restart may cure.
    fn node(error: StartError) -> Self {
        match error {
            StartError::Fatal(fatal) => Self::fatal(fatal),
            StartError::Misplaced(Misplaced::Removed(removed)) => Self::removed(removed),
            StartError::Unmendable(error) => Self::start(format!("{error}; {CHECK_HINT}")),
            StartError::Open(error @ OpenError::Damaged(_)) => {
                Self::start(format!("{error}; keep the directory: {CHECK_HINT}"))
            }
            other => Self::start(other),
        }
    }

    /// Why a node that ran has ended.
    fn ended(ended: Ended) -> Self {
        match ended {
            Ended::Fatal(fatal) => Self::fatal(fatal),
            Ended::Removed(removed) => Self::removed(removed),
        }
    }

    fn removed(error: impl std::fmt::Display) -> Self {
        Self {
            code: 5,
            message: error.to_string(),
        }
    }

    fn usage(error: impl std::fmt::Display) -> Self {
        Self {
            code: 2,
            message: error.to_string(),
        }
    }

    fn fatal(error: impl std::fmt::Display) -> Self {
        Self {
            code: 4,
            message: error.to_string(),
        }
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let result = match command().try_get_matches() {
        Ok(matches) => dispatch(&matches),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                output::write(&error.render().to_string())
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                output::hint(error.render().to_string().trim_end());
                return ExitCode::from(2);
            }
            _ => Err(Failure::usage(one_line(&error.render().to_string()))),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn command() -> Command {
    Command::new("inkstone")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A replicated, append-only log that you can search: the server.")
        .after_help(EXIT_CODES)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("log-level")
                .long("log-level")
                .env("INKSTONE_LOG").hide_env_values(true)
                .value_name("LEVEL")
                .global(true)
                .help("error, warn, info, debug or trace, also by module [default: serve info, dev warn]"),
        )
        .subcommand(serve::command())
        .subcommand(dev::command())
        .subcommand(check::command())
        .subcommand(configuration::command())
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("dev", matches)) => dev::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("config", matches)) => configuration::run(matches),
        _ => Err(Failure::usage("no command; see `inkstone --help`")),
    }
}

/// What clap says in several lines, less the usage, which `--help` shows.
fn one_line(rendered: &str) -> String {
    let mut said: Vec<&str> = Vec::new();
    for line in rendered
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        said.push(line.strip_prefix("error: ").unwrap_or(line));
    }
    format!("{}; see `inkstone --help`", said.join("; "))
}

/// Sends the program's log to standard error, at the level that was asked for.
fn start_logging(matches: &ArgMatches, default: &str) -> Result<(), Failure> {
    let level = matches
        .get_one::<String>("log-level")
        .map_or(default, String::as_str);
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Failure::usage(format!(
            "--log-level is `{level}` ({error}); allowed: error, warn, info, debug, trace, or module=level,…"
        ))
    })?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .try_init()
        .map_err(Failure::start)
}

/// Runs the asynchronous part of a command, with the signals that end it.
fn block_on<F>(work: impl FnOnce(Shutdown) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::start)?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals().map_err(Failure::start)?;
        work(shutdown).await
    })
}

#[cfg(test)]
mod tests;
