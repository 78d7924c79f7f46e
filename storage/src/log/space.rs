//! The low-water mark: appends are refused while there is still room for what must be written.
//!
//! Promises: a refusal comes before anything was written, and says how much is free and how much must be. Must not know:
//! who else fills the disk.

use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::error::LowSpace;

/// Whether an append may be proposed: how many bytes are free above the mark.
pub(super) fn check(shared: &Shared) -> Result<u64, LowSpace> {
    let options = &shared.options;
    if options.free_size_min == 0 {
        return Ok(u64::MAX);
    }
    match free_size(shared) {
        Some(free_size) if free_size < options.free_size_min => {
            let low = LowSpace {
                dir: options.dir.clone(),
                free_size,
                free_size_min: options.free_size_min,
            };
            // Once for all appends that are refused until there is room again.
            if !shared.is_low.swap(true, Ordering::Relaxed) {
                tracing::warn!(%low, "appends are refused until there is room");
            }
            Err(low)
        }
        free_size => {
            if shared.is_low.swap(false, Ordering::Relaxed) {
                tracing::info!(dir = %options.dir.display(), "there is room again: appends are taken");
            }
            // A disk that does not say how full it is is no full disk. If it fails, the next write finds out.
            Ok(free_size.map_or(u64::MAX, |free_size| free_size - options.free_size_min))
        }
    }
}

/// Bytes that are free.
pub(super) fn free_size(shared: &Shared) -> Option<u64> {
    let asked = shared.disk.free_size(&shared.options.dir);
    asked
        .inspect_err(|error| tracing::debug!(%error, "the free space is not known"))
        .ok()
}
