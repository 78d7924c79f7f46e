//! `inkstone`, the server: its command line. What a command does stands in `cli`, what a node does in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
