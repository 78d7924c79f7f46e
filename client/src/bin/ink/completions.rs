//! `ink completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Ink;
use crate::output::Output;

/// Where the script goes.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell that will read it
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, output: &mut Output) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Ink::command(), "ink", &mut script);
        Ok(output.bytes(&script)?)
    }
}
