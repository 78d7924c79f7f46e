//! `inkstone dev`: a whole cluster in one process, on loopback, for a laptop or a test.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use futures::future::{join_all, try_join_all};
use inkstone_server::clock::Clock;
use inkstone_server::config::{Config, NODES_MAX};
use inkstone_server::node::{Leave, Node};
use tokio::sync::watch;

use crate::cli::shutdown::Shutdown;
use crate::cli::{EXIT_CODES, Failure, block_on, output, start_logging};

const DATA_DIR: &str = "inkstone-data";
const LISTEN: &str = "127.0.0.1:7420";

pub(super) fn command() -> Command {
    Command::new("dev")
        .after_help(EXIT_CODES)
        .about("Runs a cluster in one process on this machine, to try things out")
        .long_about(
            "Runs a cluster in one process on this machine, to try things out. Node k keeps its data in \
             DIR/node-k, listens for clients on the base port + 2(k-1) and for the other nodes on the next port. \
             What was appended is there again after a restart with the same number of nodes. Prints one line that \
             starts with `ready` once all of them serve.",
        )
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("1")
                .value_parser(value_parser!(u64).range(1..=NODES_MAX as u64))
                .help("How many nodes, 1 to 7; an odd number is usual"),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .env("INKSTONE_DATA_DIR").hide_env_values(true)
                .value_name("DIR")
                .default_value(DATA_DIR)
                .value_parser(value_parser!(PathBuf))
                .help("Where the data of all nodes is kept; made when missing"),
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("IP:PORT")
                .default_value(LISTEN)
                .value_parser(value_parser!(SocketAddr))
                .help("Where the first node listens for clients: the base port"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let configs = configs(matches)?;
    start_logging(matches, "warn")?;
    block_on(|shutdown| serve(configs, shutdown))
}

fn configs(matches: &ArgMatches) -> Result<Vec<Config>, Failure> {
    let required = "clap gives the default";
    let nodes = *matches.get_one::<u64>("nodes").expect(required);
    let data_dir = matches.get_one::<PathBuf>("data-dir").expect(required);
    let listen = *matches.get_one::<SocketAddr>("listen").expect(required);
    let nodes = usize::try_from(nodes).map_err(Failure::usage)?;
    if listen.port() == 0 || listen.ip().is_unspecified() {
        return Err(Failure::usage(format!(
            "--listen is `{listen}`; allowed: an address of this machine and the first of {} free ports, such as {LISTEN}",
            2 * nodes
        )));
    }
    (1..=nodes)
        .map(|node| Config::dev(data_dir, listen, node, nodes))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Failure::usage(format!(
                "--listen is `{listen}`, and {nodes} nodes take {} ports from there on; choose a lower port",
                2 * nodes
            ))
        })
}

async fn serve(configs: Vec<Config>, shutdown: Shutdown) -> Result<(), Failure> {
    let hint = hint(&configs);
    let line = ready_line(&configs);
    // All at once: each waits for the others to form the cluster.
    let starting = try_join_all(
        configs
            .into_iter()
            .map(|config| Node::start(config, Clock::system())),
    );
    let nodes = tokio::select! {
        nodes = starting => nodes.map_err(Failure::node)?,
        () = shutdown.requested() => return Ok(()),
    };
    match nodes.as_slice() {
        [only] => output::ready(&only.ready_line()),
        _ => output::ready(&line),
    }
    output::hint(&hint);
    wait(nodes, shutdown).await
}

/// Serves until the signal, or until one of the nodes fails: then the others are stopped, too.
async fn wait(nodes: Vec<Node>, shutdown: Shutdown) -> Result<(), Failure> {
    let (fail, failed) = watch::channel(false);
    let running = nodes.into_iter().map(async |node| {
        let mut failed = failed.clone();
        let ended = node
            .wait(
                async {
                    tokio::select! {
                        () = shutdown.requested() => {}
                        _ = failed.wait_for(|failed| *failed) => {}
                    }
                },
                Leave::AtOnce,
            )
            .await;
        if ended.is_err() {
            fail.send_replace(true);
        }
        ended
    });
    join_all(running)
        .await
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(Failure::ended)
}

fn ready_line(configs: &[Config]) -> String {
    format!("ready nodes={} client={}", configs.len(), clients(configs))
}

fn clients(configs: &[Config]) -> String {
    let clients: Vec<String> = configs
        .iter()
        .map(|config| config.client_listen.to_string())
        .collect();
    clients.join(",")
}

fn hint(configs: &[Config]) -> String {
    let clients = clients(configs);
    let server = if clients == LISTEN {
        String::new()
    } else {
        format!(" --server {clients}")
    };
    format!(
        "append:  echo 'hello, world' | ink{server} append demo --create\n\
         search:  ink{server} search demo hello"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(arguments: &[&str]) -> Result<Vec<Config>, Failure> {
        let arguments = std::iter::once(&"dev").chain(arguments);
        configs(
            &command()
                .try_get_matches_from(arguments)
                .expect("arguments"),
        )
    }

    #[test]
    fn three_nodes_stand_on_neighbouring_ports_and_seed_each_other() {
        let nodes = configured(&[
            "--nodes",
            "3",
            "--data-dir",
            "/d",
            "--listen",
            "127.0.0.1:9000",
        ])
        .expect("configured");
        let ports: Vec<_> = nodes
            .iter()
            .map(|node| (node.client_listen.port(), node.peer_listen.port()))
            .collect();
        assert_eq!(ports, [(9_000, 9_001), (9_002, 9_003), (9_004, 9_005)]);
        for (number, node) in nodes.iter().enumerate() {
            assert_eq!(
                node.seeds,
                ["127.0.0.1:9001", "127.0.0.1:9003", "127.0.0.1:9005"]
            );
            assert_eq!(node.bootstrap_expect, 3);
            assert_eq!(
                node.data_dir,
                PathBuf::from(format!("/d/node-{}", number + 1))
            );
        }
        assert_eq!(
            ready_line(&nodes),
            "ready nodes=3 client=127.0.0.1:9000,127.0.0.1:9002,127.0.0.1:9004"
        );
        assert!(hint(&nodes).contains("ink --server 127.0.0.1:9000,"));
    }

    #[test]
    fn one_node_needs_no_seeds_and_no_server_flag() {
        let nodes = configured(&[]).expect("configured");
        assert_eq!((nodes.len(), nodes[0].bootstrap_expect), (1, 1));
        assert!(nodes[0].seeds.is_empty());
        assert!(!hint(&nodes).contains("--server"));
    }

    #[test]
    fn ports_beyond_the_last_and_unusable_addresses_are_refused() {
        for listen in ["127.0.0.1:65534", "127.0.0.1:0", "0.0.0.0:7420"] {
            let refused = configured(&["--nodes", "3", "--listen", listen]).expect_err(listen);
            assert_eq!(refused.code, 2);
            assert!(refused.message.contains(listen), "{}", refused.message);
        }
    }
}
