//! `ink append`: one record per line, streamed in batches over one pipelined session, in bounded memory.
//!
//! Standard input is appended under a random producer. A file is appended under one that is derived from it, so that
//! the same command can be run again after an interruption: see `append/resume.rs`.

mod resume;
mod source;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use inkstone_client::{
    AppendSession, Client, Error, IfExists, NewRecord, Receipt, SessionOptions, Ticket,
};
use serde_json::json;
use tokio::io::BufReader;
use tokio::time::Instant;

use crate::append::resume::Plan;
use crate::append::source::{Bounds, Cutter, Lines, Syntax};
use crate::output::{Format, Output, counted};
use crate::report::LogError;

/// Batches of one session in flight: as many as the server keeps receipts.
const IN_FLIGHT_MAX: usize = 16;
/// A record from standard input waits at most so long for others to share its batch.
const LINGER: Duration = Duration::from_millis(100);
/// Bytes of one batch.
const BATCH_SIZE_MAX: usize = 1 << 20;
/// How often a file may turn out to have been appended further by somebody else, before we give up.
const PLANS_MAX: usize = 5;

const AFTER_HELP: &str = "\
With --file the same command can be run again, after an interruption or when the file has grown: what was
appended is not appended twice, and new lines are added. This holds for 24 hours after the last append (the
servers remember it for that long), and as long as what was appended is unchanged in the file.

Exit codes: 0 ok; 1 refused or failed; 2 usage; 3 outcome unknown: some records may have been appended.";

/// What to append, and where.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Append {
    /// The log's name
    log: String,
    /// Append this file instead of standard input; safe to run again
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Create the log if it does not exist
    #[arg(long)]
    create: bool,
    /// Each line is a JSON object: `body` (or `body_base64`), `timestamp` (nanoseconds or RFC 3339), `attributes`
    #[arg(long)]
    json: bool,
    /// Records in one batch at most; with --file it is fixed, so that a later run cuts the same batches
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        conflicts_with = "file"
    )]
    batch: u32,
}

/// What has been appended so far.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    first_offset: Option<u64>,
    next_offset: Option<u64>,
    /// Records that an earlier run had appended.
    before: u64,
}

impl Tally {
    fn add(&mut self, receipt: &Receipt) {
        if receipt.duplicate {
            self.before += receipt.records();
        } else {
            self.records += receipt.records();
            self.first_offset.get_or_insert(receipt.first_offset);
        }
        self.next_offset = Some(receipt.next_offset);
    }
}

/// How a session ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
enum Pumped {
    /// Everything was appended.
    All,
    /// A batch had been appended before with another number of records: the cut must be found anew.
    CutOtherwise,
}

impl Append {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        let start = Instant::now();
        if self.create {
            let created = client.create_log(&self.log, IfExists::Keep).await;
            created.map_err(LogError::asking(&self.log))?;
        }
        let mut tally = Tally::default();
        let outcome = match &self.file {
            Some(file) => self.append_file(client, file, &mut tally, output).await,
            None => self.append_input(client, &mut tally, output).await,
        };
        if outcome.is_err() && tally.records > 0 {
            output.note(&format!(
                "{} appended before it failed, next offset {}",
                counted(tally.records, "record"),
                tally.next_offset.unwrap_or(0)
            ));
        }
        outcome?;
        print(&tally, start.elapsed(), output)
    }

    fn syntax(&self) -> Syntax {
        if self.json {
            Syntax::Json
        } else {
            Syntax::Text
        }
    }

    async fn append_input(
        &self,
        client: &Client,
        tally: &mut Tally,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let lines = Lines::new(Box::new(BufReader::new(tokio::io::stdin())), self.syntax());
        let bounds = Bounds {
            records: self.batch as usize,
            bytes: BATCH_SIZE_MAX,
            linger: Some(LINGER),
        };
        let mut cutter = Cutter::new(lines, bounds);
        let session = client.append_session(&self.log, SessionOptions::default());
        let bar = output.progress(None);
        let pumped = pump(&self.log, session, &mut cutter, 0, tally, &bar).await;
        bar.finish_and_clear();
        if pumped? == Pumped::CutOtherwise {
            bail!("the server answered a new batch with the receipt of another: report this");
        }
        Ok(())
    }

    async fn append_file(
        &self,
        client: &Client,
        path: &Path,
        tally: &mut Tally,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let input = resume::open(path).await?;
        let bar = output.progress(Some(input.size));
        for _ in 0..PLANS_MAX {
            let Some(plan) = resume::plan(client, &self.log, &input, self.syntax()).await? else {
                return Ok(());
            };
            let Plan {
                mut cutter,
                producer,
                appended,
                next_offset,
            } = plan;
            tally.before = appended.saturating_sub(tally.records);
            tally.next_offset = tally.next_offset.max(next_offset);
            let options = SessionOptions {
                producer: Some(producer),
                timeout: None,
            };
            let session = client.append_session(&self.log, options);
            // An interrupted run may have left this many batches on their way, and the last of them may have been cut
            // short by the end that the file had then. Going one by one until they are all behind us, we see it before
            // anything is sent that relies on another cut.
            let pumped = pump(&self.log, session, &mut cutter, IN_FLIGHT_MAX, tally, &bar).await;
            if pumped? == Pumped::All {
                bar.finish_and_clear();
                return Ok(());
            }
        }
        bail!(
            "{} is being appended by somebody else: wait for them to finish, then run this again",
            path.display()
        )
    }
}

/// Sends every batch, the first `careful` ones one at a time, and awaits every receipt.
async fn pump(
    log: &str,
    mut session: AppendSession,
    cutter: &mut Cutter,
    careful: usize,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> anyhow::Result<Pumped> {
    let mut in_flight: VecDeque<(usize, Ticket)> = VecDeque::with_capacity(IN_FLIGHT_MAX);
    let mut sent = 0;
    let input = loop {
        let batch: Vec<NewRecord> = match cutter.next_batch().await {
            Ok(Some(batch)) => batch,
            end => break end.map(drop),
        };
        let pipelined = if sent < careful { 1 } else { IN_FLIGHT_MAX };
        let records = batch.len();
        match session.submit(batch).await {
            Ok(ticket) => in_flight.push_back((records, ticket)),
            // The batch that ended the session knows why.
            Err(error) => break Err(LogError::appending(log)(error)),
        }
        sent += 1;
        while in_flight.len() >= pipelined {
            if !settle(&mut in_flight, tally)
                .await
                .map_err(LogError::appending(log))?
            {
                return Ok(Pumped::CutOtherwise);
            }
        }
        bar.set_position(cutter.position());
    };
    while !in_flight.is_empty() {
        if !settle(&mut in_flight, tally)
            .await
            .map_err(LogError::appending(log))?
        {
            return Ok(Pumped::CutOtherwise);
        }
    }
    // What could be read is appended; now the error of the input counts.
    input?;
    session.close().await.map_err(LogError::appending(log))?;
    Ok(Pumped::All)
}

/// Awaits the oldest receipt. False: it is that of a batch with another number of records.
async fn settle(
    in_flight: &mut VecDeque<(usize, Ticket)>,
    tally: &mut Tally,
) -> Result<bool, Error> {
    let Some((records, ticket)) = in_flight.pop_front() else {
        return Ok(true);
    };
    let receipt = ticket.await?;
    tally.add(&receipt);
    Ok(receipt.records() == records as u64)
}

fn print(tally: &Tally, elapsed: Duration, output: &mut Output) -> anyhow::Result<()> {
    let seconds = elapsed.as_secs_f64();
    let offset = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), |o| o.to_string());
    match output.format(Format::Text) {
        Format::Json => output.json(&json!({
            "records": tally.records,
            "first_offset": tally.first_offset,
            "next_offset": tally.next_offset,
            "seconds": (seconds * 1e6).round() / 1e6,
            "appended_before": tally.before,
        }))?,
        Format::Table => output.table(
            &[
                "records",
                "first offset",
                "next offset",
                "seconds",
                "appended before",
            ],
            vec![vec![
                tally.records.to_string(),
                offset(tally.first_offset),
                offset(tally.next_offset),
                format!("{seconds:.3}"),
                tally.before.to_string(),
            ]],
        )?,
        Format::Text => output.line(&receipt_text(tally, seconds))?,
    }
    Ok(())
}

fn receipt_text(tally: &Tally, seconds: f64) -> String {
    match (tally.first_offset, tally.next_offset) {
        (Some(first), Some(next)) => {
            let before = match tally.before {
                0 => String::new(),
                before => format!(" ({before} had been appended before)"),
            };
            format!(
                "appended {}, first offset {first}, next offset {next}, {seconds:.3} s{before}",
                counted(tally.records, "record")
            )
        }
        (None, Some(next)) => {
            let before = match tally.before {
                1 => "the only record".to_owned(),
                before => format!("all {before} records"),
            };
            format!("nothing to append: {before} had been appended before, next offset {next}")
        }
        _ => "nothing to append: there are no records".to_owned(),
    }
}
