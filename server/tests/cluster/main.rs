//! Real processes of the server, on real disks, under what happens to servers: every promise that takes more than one
//! node, or a crash, to be broken.
//!
//! Each module is one situation, each test in it a claim. [`scene`] starts the clusters.

mod absent;
mod aged;
mod apart;
mod bad_input;
mod conditional;
mod damage;
mod damage_refused;
mod dev;
mod failed;
mod faults;
mod foreign;
mod forward;
mod full;
mod hard_state;
mod heal;
mod hostile;
mod kill_all;
mod kill_leader;
mod kill_sealing;
mod left_out;
mod locked_out;
mod lost_hits;
mod members;
mod members_under_load;
mod mend;
mod partition;
mod pause;
mod producer;
mod read_back;
mod rebuild;
mod retention;
mod scene;
mod scrub;
mod search;
mod staleness;
mod superseded;
mod unreadable;
mod versions;
