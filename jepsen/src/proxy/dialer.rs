//! Which process holds the other end of a connection on this machine, as the kernel tells it in `/proc`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};

/// The place in `processes` of the one whose socket has this address as its own.
pub(super) fn find(source: SocketAddr, processes: &[Option<u32>]) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
    let inode = inode(&table, source).with_context(|| format!("{source} is nobody's socket"))?;
    let socket = format!("socket:[{inode}]");
    processes
        .iter()
        .position(|process| process.is_some_and(|process| holds(process, &socket)))
        .with_context(|| format!("{source} is no node's socket"))
}

/// The inode in the row whose local address is this one.
fn inode(table: &str, source: SocketAddr) -> Option<u64> {
    let IpAddr::V4(address) = source.ip() else {
        return None;
    };
    // The kernel writes the address as it stands in memory, as one hexadecimal number, and the port as another.
    let word = if cfg!(target_endian = "little") {
        address.to_bits().swap_bytes()
    } else {
        address.to_bits()
    };
    let local = format!("{word:08X}:{:04X}", source.port());
    let mut rows = table.lines().skip(1);
    let row = rows.find(|row| row.split_whitespace().nth(1) == Some(&local))?;
    let inode = row.split_whitespace().nth(9)?.parse().ok()?;
    // A socket that its process has closed already has none.
    (inode != 0).then_some(inode)
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
