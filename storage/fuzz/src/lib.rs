//! What the fuzz targets run: one function of bytes each, in `targets`, and the bound on memory that they run under.
//!
//! Promises: `targets` is plain code that a stable compiler runs too: `storage/tests/corruption` runs every committed
//! seed through it, and lends the directories that `open` starts from. Must not know: libFuzzer; only the binaries do.

#[expect(dead_code, reason = "the images' tests ask for more")]
#[path = "../../tests/corruption/check.rs"]
mod check;
#[path = "../../tests/corruption/disk.rs"]
mod disk;
#[expect(dead_code, reason = "the images' tests ask for more")]
#[path = "../../tests/corruption/image.rs"]
mod image;
mod memory;
#[path = "../../tests/corruption/region.rs"]
mod region;
mod targets;
#[path = "../../tests/corruption/workload.rs"]
mod workload;

/// Looks at an input as a frame.
pub fn frame(input: &[u8]) {
    targets::frame::run(input);
}

/// Looks at an input as the end of a sealed segment.
pub fn footer(input: &[u8]) {
    targets::footer::run(input);
}

/// Looks at an input as one of the small structures.
pub fn hard_state(input: &[u8]) {
    targets::hard_state::run(input);
}

/// Looks at an input as a group's directory.
pub fn open(input: &[u8]) {
    targets::open::run(input);
}
