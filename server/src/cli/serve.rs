//! `inkstone serve`: one node, as it is configured.

use clap::{ArgMatches, Command};
use inkstone_server::clock::Clock;
use inkstone_server::config::Config;
use inkstone_server::node::{Leave, Node};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::shutdown::Shutdown;
use crate::cli::{EXIT_CODES, Failure, block_on, configuration, output, start_logging};

/// The libraries below say more at `info` than an operator wants to know, and openraft says at `warn`, at every try, that
/// a peer is down, which `raft::network` says once.
const LOG_LEVEL: &str = "info,openraft=warn,openraft::replication=error,openraft::core::heartbeat=error,\
                         openraft::engine::handler::replication_handler=error,tantivy=warn";

pub(super) fn command() -> Command {
    Command::new("serve")
        .about("Runs one node until it is told to stop (SIGINT, SIGTERM)")
        .long_about(
            "Runs one node until it is told to stop (SIGINT, SIGTERM). Every setting is a flag, an environment \
             variable and a key of the configuration file; a flag wins over the variable, that over the file, that \
             over the default. Prints one line that starts with `ready` once it serves.",
        )
        .after_help(EXIT_CODES)
        .args(configuration::arguments())
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let (config, _) = configuration::load(matches)?;
    start_logging(matches, LOG_LEVEL)?;
    raise_files_max();
    block_on(|shutdown| serve(config, shutdown))
}

/// Takes as many file descriptors as the system gives without being asked twice: every connection and every index
/// file takes one, and the usual soft bound of 1,024 is for programs of another age.
fn raise_files_max() {
    let bounds = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: bounds.maximum,
        ..bounds
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, files_max = bounds.current, "the bound of open files stays as it is");
    }
}

async fn serve(config: Config, shutdown: Shutdown) -> Result<(), Failure> {
    let node = tokio::select! {
        node = Node::start(config, Clock::system()) => node.map_err(Failure::node)?,
        () = shutdown.requested() => return Ok(()),
    };
    output::ready(&node.ready_line());
    node.wait(shutdown.requested(), Leave::HandOver)
        .await
        .map_err(Failure::ended)
}
