//! The one place that writes to standard output and standard error (the program's log apart).
//!
//! A stream that is closed is no reason to stop a node: its `ready` line is dropped. What a command was asked to print and
//! can't is a failure of that command.

use std::io::{self, IsTerminal as _, Write, stderr, stdout};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Failure;

/// To standard output, as it is, at once. A reader that went away has what it wanted.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    match write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::start(format!(
            "can't write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The line that says that clients are served.
pub(super) fn ready(line: &str) {
    if let Err(error) = write_all(&format!("{line}\n")) {
        tracing::warn!(%error, "standard output is closed");
    }
}

/// A bar of so many bytes on standard error, when that is a terminal.
pub(super) fn progress(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    bar.set_draw_target(if stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    bar.with_style(
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// Something for whoever watches, on standard error.
pub(super) fn hint(text: &str) {
    if let Err(error) = writeln!(stderr().lock(), "{text}") {
        tracing::debug!(%error, "standard error is closed");
    }
}

/// The one line that says why the program ends.
pub(super) fn error(message: &str) {
    let message = message
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("; ");
    hint(&format!("inkstone: error: {message}"));
}
