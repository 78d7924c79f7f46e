//! What open found and what it did about it, row by row of the table in FORMAT.md, "Recovery".
//!
//! Promises: a verdict for every row, and for nothing else; what a log was opened with says all that was not as a clean
//! stop leaves it. Must not know: how it is found out.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Verdict;
use crate::limits::FINDINGS_MAX;

/// One thing that open found and made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row of the table.
    pub verdict: Verdict,
    /// Where it was found.
    pub file: PathBuf,
    /// And where in it, in bytes.
    pub position: u64,
    /// Bytes that were cut, written anew or deleted there.
    pub size: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict,
            file,
            position,
            size,
        } = self;
        let file = file.display();
        write!(out, "{file}: {verdict:?} at byte {position}, {size} bytes")
    }
}

/// What [`Log::open`](super::Log::open) found, in the order in which it was made good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Empty after a clean stop. At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Recovery {
    /// Whether the log was as a clean stop leaves it.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The first finding of a row, if there is one.
    pub fn find(&self, verdict: Verdict) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.verdict == verdict)
    }

    /// The write that was cut off the end, if there was one.
    pub fn torn(&self) -> Option<&Finding> {
        self.find(Verdict::TornTail)
    }

    pub(super) fn note(&mut self, verdict: Verdict, file: &Path, position: u64, size: u64) {
        let finding = Finding {
            verdict,
            file: file.to_owned(),
            position,
            size,
        };
        if verdict != Verdict::NewLog {
            tracing::warn!(%finding, "recovered");
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}
