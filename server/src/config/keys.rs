//! The table of keys: the one place that names them.

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file, with its table: `raft.heartbeat_ms`.
    pub name: &'static str,
    /// Its flag, without the dashes in front.
    pub flag: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// What stands for its value in the help.
    pub value: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
}

const fn key(
    name: &'static str,
    flag: &'static str,
    env: &'static str,
    value: &'static str,
    help: &'static str,
) -> Key {
    Key {
        name,
        flag,
        env,
        value,
        help,
    }
}

/// All keys, in the order in which they are printed.
pub const KEYS: [Key; 19] = [
    key(
        "data_dir",
        "data-dir",
        "INKSTONE_DATA_DIR",
        "DIR",
        "Where the node keeps all of its data [default: inkstone-data]",
    ),
    key(
        "client_listen",
        "client-listen",
        "INKSTONE_CLIENT_LISTEN",
        "IP:PORT",
        "Where to listen for clients [default: 127.0.0.1:7420]",
    ),
    key(
        "peer_listen",
        "peer-listen",
        "INKSTONE_PEER_LISTEN",
        "IP:PORT",
        "Where to listen for other nodes [default: 127.0.0.1:7421]",
    ),
    key(
        "client_advertise",
        "client-advertise",
        "INKSTONE_CLIENT_ADVERTISE",
        "HOST:PORT",
        "How clients reach this node [default: client_listen]",
    ),
    key(
        "peer_advertise",
        "peer-advertise",
        "INKSTONE_PEER_ADVERTISE",
        "HOST:PORT",
        "How other nodes reach this node [default: peer_listen]",
    ),
    key(
        "seeds",
        "seeds",
        "INKSTONE_SEEDS",
        "HOST:PORT,…",
        "Peer addresses of the cluster's nodes [default: none]",
    ),
    key(
        "bootstrap_expect",
        "bootstrap-expect",
        "INKSTONE_BOOTSTRAP_EXPECT",
        "N",
        "Nodes that must see each other before they form a cluster, 1 to 7 [default: 1; with seeds: 3]",
    ),
    key(
        "scrub_rate",
        "scrub-rate",
        "INKSTONE_SCRUB_RATE",
        "BYTES",
        "Bytes per second to read in search of damaged segments; 0: off [default: 8MiB]",
    ),
    key(
        "client_connections_max",
        "client-connections-max",
        "INKSTONE_CLIENT_CONNECTIONS_MAX",
        "N",
        "Client connections at most; a further one takes the place of an idle one [default: 2048]",
    ),
    key(
        "log.segment_size",
        "log-segment-size",
        "INKSTONE_LOG_SEGMENT_SIZE",
        "BYTES",
        "Size of a segment file [default: 128MiB]",
    ),
    key(
        "log.tail_size",
        "log-tail-size",
        "INKSTONE_LOG_TAIL_SIZE",
        "BYTES",
        "Recent entries kept in memory [default: 64MiB]",
    ),
    key(
        "log.free_size_min",
        "log-free-size-min",
        "INKSTONE_LOG_FREE_SIZE_MIN",
        "BYTES",
        "Appends are refused while less is free on the disk [default: 512MiB or 2 segments, whichever is larger]",
    ),
    key(
        "log.retention_interval_ms",
        "log-retention-interval-ms",
        "INKSTONE_LOG_RETENTION_INTERVAL_MS",
        "MS",
        "How often retention is applied [default: 5000]",
    ),
    key(
        "raft.heartbeat_ms",
        "raft-heartbeat-ms",
        "INKSTONE_RAFT_HEARTBEAT_MS",
        "MS",
        "Heartbeat interval of the leader [default: 100]",
    ),
    key(
        "raft.election_min_ms",
        "raft-election-min-ms",
        "INKSTONE_RAFT_ELECTION_MIN_MS",
        "MS",
        "Silence after which a follower may campaign [default: 1000]",
    ),
    key(
        "raft.election_max_ms",
        "raft-election-max-ms",
        "INKSTONE_RAFT_ELECTION_MAX_MS",
        "MS",
        "Silence after which a follower does campaign [default: 1500]",
    ),
    key(
        "search.enabled",
        "search-enabled",
        "INKSTONE_SEARCH_ENABLED",
        "BOOL",
        "Whether this node keeps a search index [default: true]",
    ),
    key(
        "search.commit_interval_ms",
        "search-commit-interval-ms",
        "INKSTONE_SEARCH_COMMIT_INTERVAL_MS",
        "MS",
        "How often the index is committed [default: 1000]",
    ),
    key(
        "search.writer_memory",
        "search-writer-memory",
        "INKSTONE_SEARCH_WRITER_MEMORY",
        "BYTES",
        "Memory of the index's writer [default: 64MiB]",
    ),
];

impl Key {
    /// The key of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key whose name is spelled most like `name`.
    pub(crate) fn nearest(name: &str) -> &'static Self {
        KEYS.iter()
            .min_by_key(|key| {
                // The table is often what is wrong: `heartbeat_ms` alone is near `raft.heartbeat_ms`.
                let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
                edits(key.name, name).min(1 + edits(&last(key.name), &last(name)))
            })
            .expect("there are keys")
    }
}

/// How many characters must be put in, taken out or changed to make `b` of `a` (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_and_variable_follow_from_the_name() {
        for key in KEYS {
            assert_eq!(key.flag, key.name.replace(['.', '_'], "-"));
            let variable = key.name.replace('.', "_").to_uppercase();
            assert_eq!(key.env, format!("INKSTONE_{variable}"));
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        assert_eq!(Key::nearest("raft.heartbeat").name, "raft.heartbeat_ms");
        assert_eq!(Key::nearest("heartbeat_ms").name, "raft.heartbeat_ms");
        assert_eq!(Key::nearest("datadir").name, "data_dir");
        assert_eq!(Key::nearest("log.segmentsize").name, "log.segment_size");
        assert_eq!(Key::nearest("seed").name, "seeds");
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
