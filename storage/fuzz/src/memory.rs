//! A bound on memory: whatever a decoder makes of its bytes, it asks for no more than the caller says.
//!
//! Promises: memory beyond the bound is refused, and that ends the process, which the fuzzer reports with its input. Must
//! not know: who decodes what.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work`, which may hold at most so many bytes beyond those that are held now.
pub(crate) fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.limit();
    let limit = MEMORY.allocated().saturating_add(bytes).min(before);
    MEMORY
        .set_limit(limit)
        .expect("what is held is within the limit");
    let outcome = work();
    MEMORY
        .set_limit(before)
        .expect("the outer limit is no lower");
    outcome
}
