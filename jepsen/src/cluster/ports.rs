//! Ports on loopback that nobody uses.
//!
//! Not from the kernel's ephemeral range: while a node is down, its port must not be handed to somebody's outgoing
//! connection, or the node could not come back.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 10_240;
const COUNT: u16 = 20_000;

/// The next port on which a bind succeeds now. Another process may still take it before it is used; then the caller
/// asks for another one.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side start at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT - 1)
}

/// A free port whose next one is free too: a development server takes both.
pub fn free_pair() -> Result<u16> {
    let mut low = free()?;
    loop {
        let high = free()?;
        if high == low + 1 {
            return Ok(low);
        }
        low = high;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_given() {
        let first = free().unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        for _ in 0..100 {
            assert_ne!(free().unwrap(), held.local_addr().unwrap().port());
        }
    }
}
