//! The disk trait: what it promises, on every disk, and what the simulated one does besides.

mod conformance;
mod crashes;
mod faults;
