//! What breaks a cluster, one fault per file. Each returns when the fault is in place, or over, as its name says, and
//! none waits by the clock: the next step comes when the cluster or the workload shows the effect. [`Schedule`] makes a
//! sequence of them from a seed.

mod kill_all;
mod kill_follower;
mod kill_leader;
mod partition;
mod pause_follower;
mod pause_leader;
mod schedule;

pub use kill_all::kill_all_and_restart;
pub use kill_follower::kill_follower_and_restart;
pub use kill_leader::kill_leader_and_restart;
pub use partition::{Deafness, lose_one_way, split_off_leader};
pub use pause_follower::pause_follower;
pub use pause_leader::pause_leader_until_deposed;
pub use schedule::{Fault, Schedule, Step};
