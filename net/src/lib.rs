//! Sockets and connections as every part of Inkstone uses them: clients, nodes among each other, and both ports.
//!
//! Promises: what a task and its neighbours write in one turn leaves in one system call. Must not know: messages.

mod dial;
mod gathered;

pub use dial::Dial;
pub use gathered::Gathered;
