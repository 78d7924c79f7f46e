//! What happened in a run, as one number that two runs of a seed must agree on.
//!
//! Promises: everything that is noted counts, in its order. Must not know: what it means.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::Result;

/// A run's events.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// For people, who look where two runs part.
    file: Option<BufWriter<File>>,
}

impl Trace {
    /// Into the file, too, if there is one.
    pub(crate) fn new(file: Option<&str>) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "no file of the store")]
        let file = file.map(File::create).transpose()?;
        Ok(Self {
            hasher: blake3::Hasher::new(),
            file: file.map(BufWriter::new),
        })
    }

    pub(crate) fn note(&mut self, ms: u64, event: impl Display) -> Result<()> {
        let line = format!("{ms} {event}\n");
        self.hasher.update(line.as_bytes());
        if let Some(file) = &mut self.file {
            file.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// The number, in hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        self.hasher.finalize().to_hex()[..16].to_owned()
    }
}
