//! Which process holds the other end of a connection on this machine, as the kernel tells it in `/proc`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};

/// The place in `processes` of the one that holds the dialing end of a connection from `source` to `relay`.
pub(super) fn find(
    source: SocketAddr,
    relay: SocketAddr,
    processes: &[Option<u32>],
) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
    let inode =
        inode(&table, source, relay).with_context(|| format!("{source} is nobody's socket"))?;
    let socket = format!("socket:[{inode}]");
    processes
        .iter()
        .position(|process| process.is_some_and(|process| holds(process, &socket)))
        .with_context(|| format!("{source} is no node's socket"))
}

/// The inode in the row of this connection, as its dialing end has it. By both addresses: other connections may have, or have
/// had, the same port for other targets.
fn inode(table: &str, source: SocketAddr, relay: SocketAddr) -> Option<u64> {
    let ends = [written(source)?, written(relay)?];
    let mut rows = table.lines().skip(1).map(str::split_whitespace);
    let mut row = rows.find(|row| row.clone().skip(1).take(2).eq(&ends))?;
    let inode = row.nth(9)?.parse().ok()?;
    // A socket that its process has closed already has none.
    (inode != 0).then_some(inode)
}

/// As the kernel writes it: the address as it stands in memory, as one hexadecimal number, and the port as another.
fn written(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let word = if cfg!(target_endian = "little") {
        ip.to_bits().swap_bytes()
    } else {
        ip.to_bits()
    };
    Some(format!("{word:08X}:{:04X}", address.port()))
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        // It has ended.
        return false;
    };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(socket)))
}
