//! Looks at what openraft publishes of itself.
//!
//! Promises: a look is never taken within another. Each holds a lock that Raft's own task waits for to publish the next
//! state, and lets nobody in behind one who waits: a thread that looks twice at a time stands still for ever, and Raft
//! with it. That takes an unlucky moment; this makes it a panic in every test that comes by. Must not know: what is
//! looked for.

use std::cell::Cell;

use openraft::async_runtime::watch::{Watch, WatchReceiver};

thread_local! {
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Ends the look, also when it panics.
struct Look;

impl Look {
    fn begin() -> Self {
        assert!(
            !LOOKING.replace(true),
            "a look within a look at Raft's state"
        );
        Self
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        LOOKING.set(false);
    }
}

/// What `seen` makes of the newest state. It must not look itself, nor ask the group what it would have to look for.
pub(crate) fn look<W, T, R>(published: &impl WatchReceiver<W, T>, seen: impl FnOnce(&T) -> R) -> R
where
    W: Watch,
    T: openraft::OptionalSend + openraft::OptionalSync,
{
    let _look = Look::begin();
    seen(&published.borrow_watched())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use openraft::async_runtime::watch::WatchSender as _;

    use super::*;
    use crate::raft::types::TypeConfig;

    #[test]
    fn a_look_within_a_look_is_a_panic_and_looks_one_after_the_other_are_none() {
        type Runtime = openraft::type_config::alias::AsyncRuntimeOf<TypeConfig>;
        let (sender, receiver) =
            <<Runtime as openraft::AsyncRuntime>::Watch as Watch>::channel(1_u64);
        let other = receiver.clone();
        let twice = || look(&receiver, |seen| seen + look(&other, |seen| *seen));
        catch_unwind(AssertUnwindSafe(twice)).expect_err("it looked twice at a time");
        sender.send(2).expect("there are receivers");
        assert_eq!(
            look(&receiver, |seen| *seen) + look(&other, |seen| *seen),
            4
        );
    }
}
