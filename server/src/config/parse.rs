//! From the text of a value to the value, and what is allowed.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use crate::config::{
    Config, ConfigError, KEYS, Key, LogConfig, NODES_MAX, RaftConfig, SearchConfig, Settings,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What of the settings one key takes.
struct Field<'a> {
    settings: &'a Settings,
    name: &'static str,
}

impl Field<'_> {
    fn wrong(&self, found: impl Into<String>, allowed: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: self.name,
            found: found.into(),
            origin: self.settings.origin(self.name),
            allowed: allowed.into(),
        }
    }

    fn get(&self) -> Option<&str> {
        self.settings.get(self.name)
    }

    fn address(&self, default: &str) -> Result<SocketAddr, ConfigError> {
        let text = self.get().unwrap_or(default);
        text.parse().map_err(|_| {
            self.wrong(
                text,
                "an IP address and a port, such as 127.0.0.1:7420 or 0.0.0.0:7420",
            )
        })
    }

    /// A host (a name or an address) and a port, as another machine would dial it.
    fn check_host_port(&self, text: &str) -> Result<(), ConfigError> {
        const ALLOWED: &str = "HOST:PORT, such as node-1.example.org:7421";
        let wrong = || self.wrong(text, ALLOWED);
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let plain = !host.is_empty() && !host.contains(char::is_whitespace) && !host.contains('/');
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if port == 0 || !plain || (host.contains(':') && !bracketed) {
            return Err(wrong());
        }
        Ok(())
    }

    fn advertise(&self, listen: (&str, SocketAddr)) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.get() else {
            let (listen_name, listen) = listen;
            if listen.ip().is_unspecified() {
                let allowed = format!(
                    "the HOST:PORT at which others reach this node, because {listen_name} ({listen}) is every \
                     address of the machine"
                );
                return Err(self.wrong("", allowed));
            }
            return Ok(None);
        };
        self.check_host_port(text)?;
        Ok(Some(text.to_owned()))
    }

    fn list(&self) -> Result<Vec<String>, ConfigError> {
        let items = self.get().unwrap_or_default().split(',').map(str::trim);
        let items: Vec<String> = items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        for item in &items {
            self.check_host_port(item)?;
        }
        Ok(items)
    }

    fn number(&self, default: u64, (min, max): (u64, u64)) -> Result<u64, ConfigError> {
        let Some(text) = self.get() else {
            return Ok(default);
        };
        match text.trim().parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.wrong(text, format!("a whole number from {min} to {max}"))),
        }
    }

    fn millis(&self, default: u64, bounds: (u64, u64)) -> Result<Duration, ConfigError> {
        self.number(default, bounds).map(Duration::from_millis)
    }

    fn size(&self, default: u64, (min, max): (u64, u64)) -> Result<u64, ConfigError> {
        let Some(text) = self.get() else {
            return Ok(default);
        };
        match parse_size(text) {
            Some(size) if (min..=max).contains(&size) => Ok(size),
            _ => {
                let bounds = format!("{} to {}", size_text(min), size_text(max));
                Err(self.wrong(
                    text,
                    format!("bytes from {bounds}, such as 134217728 or 128MiB"),
                ))
            }
        }
    }

    fn memory(&self, default: u64, bounds: (u64, u64)) -> Result<usize, ConfigError> {
        let size = self.size(default, bounds)?;
        usize::try_from(size)
            .map_err(|_| self.wrong(size_text(size), "what this machine can address"))
    }

    fn boolean(&self, default: bool) -> Result<bool, ConfigError> {
        match self.get() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(text) => Err(self.wrong(text, "true or false")),
        }
    }
}

/// Everything, checked one by one and against each other.
pub(super) fn config(settings: &Settings) -> Result<Config, ConfigError> {
    let field = |name| Field { settings, name };
    let data_dir = field("data_dir")
        .get()
        .unwrap_or("inkstone-data")
        .to_owned();
    if data_dir.is_empty() {
        return Err(field("data_dir").wrong("", "the path of a directory"));
    }
    let client_listen = field("client_listen").address("127.0.0.1:7420")?;
    let peer_listen = field("peer_listen").address("127.0.0.1:7421")?;
    if client_listen == peer_listen && client_listen.port() != 0 {
        let allowed = "another address than client_listen's";
        return Err(field("peer_listen").wrong(peer_listen.to_string(), allowed));
    }
    let seeds = field("seeds").list()?;
    Ok(Config {
        data_dir: PathBuf::from(data_dir),
        client_listen,
        peer_listen,
        client_advertise: field("client_advertise").advertise(("client_listen", client_listen))?,
        peer_advertise: field("peer_advertise").advertise(("peer_listen", peer_listen))?,
        bootstrap_expect: bootstrap_expect(&field("bootstrap_expect"), &seeds)?,
        seeds,
        scrub_rate: field("scrub_rate").size(8 * MIB, (0, 16 * GIB))?,
        client_connections_max: client_connections_max(&field("client_connections_max"))?,
        log: log(&field)?,
        raft: raft(&field)?,
        search: SearchConfig {
            enabled: field("search.enabled").boolean(true)?,
            commit_interval: field("search.commit_interval_ms").millis(1_000, (50, 60_000))?,
            writer_memory: field("search.writer_memory").memory(64 * MIB, (15 * MIB, 4 * GIB))?,
        },
    })
}

fn log<'a>(field: &impl Fn(&'static str) -> Field<'a>) -> Result<LogConfig, ConfigError> {
    /// No disk is larger: a mark that is never reached is a way to stop appends.
    const FREE_MAX: u64 = 1 << 60;
    let segment_size = field("log.segment_size").size(128 * MIB, (16 * MIB, 4 * GIB))?;
    // What is refused last must still fit: a segment that is begun, the next one, checkpoints and the index's commits.
    let free_size_min = (2 * segment_size).max(512 * MIB);
    Ok(LogConfig {
        segment_size,
        tail_size: field("log.tail_size").memory(64 * MIB, (MIB, 16 * GIB))?,
        free_size_min: field("log.free_size_min").size(free_size_min, (0, FREE_MAX))?,
        retention_interval: field("log.retention_interval_ms").millis(5_000, (10, 3_600_000))?,
    })
}

fn bootstrap_expect(field: &Field<'_>, seeds: &[String]) -> Result<usize, ConfigError> {
    let default = if seeds.is_empty() { 1 } else { 3 };
    let expect = field.number(default, (1, NODES_MAX as u64))?;
    if expect > 1 && seeds.is_empty() {
        let allowed = "1 while `seeds` is empty; name the peer addresses of the other nodes there";
        return Err(field.wrong(expect.to_string(), allowed));
    }
    Ok(usize::try_from(expect).unwrap_or(NODES_MAX))
}

fn client_connections_max(field: &Field<'_>) -> Result<usize, ConfigError> {
    let connections = field.number(2_048, (1, 65_536))?;
    Ok(usize::try_from(connections).unwrap_or(usize::MAX))
}

fn raft<'a>(field: &impl Fn(&'static str) -> Field<'a>) -> Result<RaftConfig, ConfigError> {
    const MS: (u64, u64) = (10, 60_000);
    let heartbeat = field("raft.heartbeat_ms").millis(100, MS)?;
    let election_min = field("raft.election_min_ms").millis(1_000, MS)?;
    let election_max = field("raft.election_max_ms").millis(1_500, MS)?;
    if election_min < heartbeat * 4 {
        let found = election_min.as_millis().to_string();
        let allowed = format!(
            "at least four times raft.heartbeat_ms, that is {} or more: a late heartbeat is not a reason for an election",
            (heartbeat * 4).as_millis()
        );
        return Err(field("raft.election_min_ms").wrong(found, allowed));
    }
    if election_max <= election_min {
        let found = election_max.as_millis().to_string();
        let allowed = format!(
            "more than raft.election_min_ms, which is {}: each node picks a random timeout between the two",
            election_min.as_millis()
        );
        return Err(field("raft.election_max_ms").wrong(found, allowed));
    }
    let widest = election_min.saturating_sub(heartbeat) * 2;
    if election_max >= widest {
        let found = election_max.as_millis().to_string();
        let allowed = format!(
            "less than {}, which is 2 * (raft.election_min_ms - raft.heartbeat_ms): a leader's lease is half of election_max_ms",
            widest.as_millis()
        );
        return Err(field("raft.election_max_ms").wrong(found, allowed));
    }
    Ok(RaftConfig {
        heartbeat,
        election_min,
        election_max,
    })
}

/// Bytes: a whole number, with `KiB`, `MiB` or `GiB` behind it or nothing.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = match unit.trim_start() {
        "" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn size_text(size: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if size >= unit && size.is_multiple_of(unit) {
            return format!("{}{name}", size / unit);
        }
    }
    size.to_string()
}

/// The file that gives this configuration; a key without a value (an address to advertise) stands as a comment.
pub(super) fn to_toml(config: &Config, settings: &Settings) -> String {
    let mut file = String::new();
    let mut table = "";
    for key in KEYS {
        let name = match key.name.split_once('.') {
            None => key.name,
            Some((inside, name)) => {
                if table != inside {
                    writeln!(file, "\n[{inside}]").expect("a string takes it all");
                    table = inside;
                }
                name
            }
        };
        let origin = settings.origin(key.name);
        match value_of(config, &key) {
            Some(value) => writeln!(file, "{name} = {value}  # {origin}"),
            None => writeln!(file, "# {name} is not set: the address it listens on"),
        }
        .expect("a string takes it all");
    }
    file
}

fn value_of(config: &Config, key: &Key) -> Option<Value> {
    let text = |text: &str| Value::String(text.to_owned());
    let size = |size: u64| Value::String(size_text(size));
    let millis =
        |time: Duration| Value::Integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    Some(match key.name {
        "data_dir" => text(&config.data_dir.to_string_lossy()),
        "client_listen" => text(&config.client_listen.to_string()),
        "peer_listen" => text(&config.peer_listen.to_string()),
        "client_advertise" => text(config.client_advertise.as_deref()?),
        "peer_advertise" => text(config.peer_advertise.as_deref()?),
        "seeds" => Value::Array(config.seeds.iter().map(|seed| text(seed)).collect()),
        "bootstrap_expect" => {
            Value::Integer(i64::try_from(config.bootstrap_expect).unwrap_or(i64::MAX))
        }
        "scrub_rate" => size(config.scrub_rate),
        "client_connections_max" => {
            Value::Integer(i64::try_from(config.client_connections_max).unwrap_or(i64::MAX))
        }
        "log.segment_size" => size(config.log.segment_size),
        "log.tail_size" => size(config.log.tail_size as u64),
        "log.free_size_min" => size(config.log.free_size_min),
        "log.retention_interval_ms" => millis(config.log.retention_interval),
        "raft.heartbeat_ms" => millis(config.raft.heartbeat),
        "raft.election_min_ms" => millis(config.raft.election_min),
        "raft.election_max_ms" => millis(config.raft.election_max),
        "search.enabled" => Value::Boolean(config.search.enabled),
        "search.commit_interval_ms" => millis(config.search.commit_interval),
        "search.writer_memory" => size(config.search.writer_memory as u64),
        unknown => unreachable!("{unknown} is in KEYS and has no value: a test prints every key"),
    })
}
