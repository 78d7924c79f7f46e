//! `ink read`: the records of a log, in order.

use clap::Args;
use futures::TryStreamExt;
use inkstone_client::{Client, Consistency, Follow, Gap, GapReason, ReadEvent, ReadOptions, Start};
use serde_json::json;

use crate::arguments;
use crate::output::{Format, Output, offsets};
use crate::report::LogError;
use crate::time;

/// What to read.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// The log's name
    log: String,
    /// Where to start: `first`, an OFFSET, `-N` for the last N records, or a TIME
    /// (2026-01-31, 2026-01-31T12:00:00Z, or an age like 15m, 2h, 1d)
    #[arg(long, value_name = "first|OFFSET|-N|TIME", default_value = "first", value_parser = arguments::start, allow_hyphen_values = true)]
    from: Start,
    /// Stop before this offset
    #[arg(long, value_name = "OFFSET")]
    until: Option<u64>,
    /// Stop after N records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Wait for more at the end of the log
    #[arg(short, long)]
    follow: bool,
    /// How current: `stale` (what the server has), `linearizable` (everything acknowledged), `lease` (the same, trusting clocks),
    /// or an OFFSET that must be there
    #[arg(long, value_name = "stale|lease|linearizable|OFFSET", default_value = "linearizable", value_parser = arguments::consistency)]
    consistency: Consistency,
}

impl Read {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        let format = output.format(Format::Text);
        let options = ReadOptions {
            from: self.from,
            until: self.until,
            limit: self.limit,
            follow: if self.follow { Follow::Yes } else { Follow::No },
            consistency: self.consistency,
            ..ReadOptions::new(&self.log)
        };
        let mut events = client.read(options);
        while let Some(event) = events
            .try_next()
            .await
            .map_err(LogError::asking(&self.log))?
        {
            match event {
                ReadEvent::Records(records) => {
                    for record in &records {
                        output.record(record, format)?;
                    }
                    if self.follow || output.is_terminal() {
                        output.flush()?;
                    }
                }
                ReadEvent::Gap(gap) => print_gap(&gap, format, output)?,
                ReadEvent::View { as_of_time, .. } => output.note(&view_text(as_of_time)),
                // A follower that has died notices it at the next record; one that lives needs no mark.
                ReadEvent::CaughtUp { .. } | ReadEvent::Heartbeat { .. } => output.flush()?,
            }
        }
        Ok(())
    }
}

fn view_text(as_of_time: Option<i64>) -> String {
    match as_of_time {
        Some(time) => format!(
            "stale: what was acknowledged before {} is there; what came later may be missing",
            time::format(time)
        ),
        None => "stale: the server does not know how current it is".to_owned(),
    }
}

fn print_gap(gap: &Gap, format: Format, output: &mut Output) -> anyhow::Result<()> {
    let reason = match gap.reason {
        GapReason::Trimmed => "trimmed",
        GapReason::Damaged => "damaged",
        GapReason::Other => "not readable",
    };
    if format == Format::Json {
        output.json(&json!({ "gap": { "from": gap.from, "to": gap.to, "reason": reason } }))?;
    } else {
        let verb = if gap.to.saturating_sub(gap.from) == 1 {
            "is"
        } else {
            "are"
        };
        output.note(&format!("gap: {} {verb} missing: {reason}", offsets(gap)));
    }
    Ok(())
}
