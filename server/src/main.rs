//! `inkstone`, the server: its command line. What a command does stands in `cli`, what a node does in the library.

mod cli;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A node makes and drops many small things for each append, on threads that hand them to each other. The system's
/// allocator spent a sixth of the processor on that, and gave pages back only to ask for them again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
