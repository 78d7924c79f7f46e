//! Real clusters of Inkstone under faults, and the checkers that read what their clients saw.
//!
//! A run has four parts, in this order of reading:
//!
//! 1. [`cluster`] starts real `inkstone` processes on loopback ([`process`] holds one of them; [`proxy`] is the network
//!    between them, when links are to fail);
//! 2. [`workload`] drives them ([`reach`] says how) with clients and notes in a [`history`] what each of them asked, what came back, and
//!    when; bodies say by themselves who wrote them ([`payload`]);
//! 3. [`nemesis`] breaks things meanwhile;
//! 4. [`checker`] reads the history, and nothing else, and says which promise was broken; [`report`] says it in words.
//!
//! [`scenario`] puts all of that together into a run from a seed.
//!
//! [`lines`] makes up log files for those who need nothing but data.
//!
//! Knows the system by its client library only: what a client can't see is not judged here. Time is read in [`clock`].

pub mod checker;
pub mod clock;
pub mod cluster;
pub mod history;
pub mod lines;
pub mod nemesis;
pub mod payload;
pub mod process;
pub mod proxy;
pub mod reach;
pub mod report;
pub mod scenario;
pub mod workload;
