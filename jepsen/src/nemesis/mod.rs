//! What breaks a cluster, one fault per file. Each returns when the fault is in place, or over, as its name says, and
//! none waits by the clock: the next step comes when the cluster or the workload shows the effect.

mod kill_all;
mod kill_leader;
mod pause_leader;

pub use kill_all::kill_all_and_restart;
pub use kill_leader::kill_leader_and_restart;
pub use pause_leader::pause_leader_until_deposed;
