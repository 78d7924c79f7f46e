//! `ink logs create|list|show|alter|trim|delete`.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use inkstone_client::{Bound, Client, Created, IfExists, LogInfo, Retention};
use serde_json::{Value, json};

use crate::arguments::{byte_size, or_none};
use crate::output::{Format, Output};
use crate::report::LogError;
use crate::time;

/// What to do with logs.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a log
    Create {
        /// 1 to 255 bytes of `a-z 0-9 . _ - /`, not starting or ending with `/`
        name: String,
        /// Accept an existing log of that name
        #[arg(long)]
        if_not_exists: bool,
        /// Remove records that were appended longer ago than this: 12h, 7d [default: never]
        #[arg(long, value_name = "TIME", value_parser = time::parse_duration)]
        max_age: Option<Duration>,
        /// Remove the oldest records while there are more bytes than this: 10GiB [default: never]
        #[arg(long, value_name = "BYTES", value_parser = byte_size)]
        max_bytes: Option<u64>,
    },
    /// List the logs, by name
    List {
        /// Only names that start with this
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
    },
    /// Show one log
    Show {
        /// The log's name
        name: String,
    },
    /// Change the retention of a log
    #[command(group = clap::ArgGroup::new("bounds").required(true).multiple(true))]
    Alter {
        /// The log's name
        name: String,
        /// Remove records that were appended longer ago than this: 12h, 7d, or none
        #[arg(long, value_name = "TIME|none", group = "bounds", value_parser = or_none(time::parse_duration))]
        max_age: Option<Bound<Duration>>,
        /// Remove the oldest records while there are more bytes than this: 10GiB, or none
        #[arg(long, value_name = "BYTES|none", group = "bounds", value_parser = or_none(byte_size))]
        max_bytes: Option<Bound<u64>>,
    },
    /// Remove the records of a log below an offset
    Trim {
        /// The log's name
        name: String,
        /// The first offset that stays
        #[arg(long, value_name = "OFFSET")]
        before: u64,
    },
    /// Delete a log and all of its records
    Delete {
        /// The log's name
        name: String,
        /// Delete without asking back
        #[arg(long)]
        yes: bool,
    },
}

const HEADING: [&str; 10] = [
    "name",
    "id",
    "records",
    "first",
    "next",
    "created",
    "last append",
    "max age",
    "max bytes",
    "stored",
];

impl Logs {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        match self.command {
            Command::Create {
                name,
                if_not_exists,
                max_age,
                max_bytes,
            } => {
                let retention = Retention { max_age, max_bytes };
                let if_exists = if if_not_exists {
                    IfExists::Keep
                } else {
                    IfExists::Fail
                };
                let created = client.create_log_with(&name, if_exists, retention).await;
                print_created(&created.map_err(LogError::asking(&name))?, output)
            }
            Command::List { prefix } => {
                let logs = client.list_logs(&prefix).await?;
                print_logs(&logs, Format::Table, output)
            }
            Command::Show { name } => {
                let log = client
                    .log_info(&name)
                    .await
                    .map_err(LogError::asking(&name))?;
                print_logs(&[log], Format::Table, output)
            }
            Command::Alter {
                name,
                max_age,
                max_bytes,
            } => {
                let (age, bytes) = (max_age.unwrap_or_default(), max_bytes.unwrap_or_default());
                let altered = client.alter_log(&name, age, bytes).await;
                print_changed(
                    "altered",
                    &altered.map_err(LogError::asking(&name))?,
                    output,
                )
            }
            Command::Trim { name, before } => {
                let trimmed = client.trim_log(&name, before).await;
                print_changed(
                    "trimmed",
                    &trimmed.map_err(LogError::asking(&name))?,
                    output,
                )
            }
            Command::Delete { name, yes: false } => bail!(
                "all records of `{name}` would be gone for good: `ink logs delete {name} --yes` deletes it"
            ),
            Command::Delete { name, yes: true } => {
                let deleted = client.delete_log(&name).await;
                print_changed(
                    "deleted",
                    &deleted.map_err(LogError::asking(&name))?,
                    output,
                )
            }
        }
    }
}

fn print_changed(done: &str, log: &LogInfo, output: &mut Output) -> anyhow::Result<()> {
    match output.format(Format::Text) {
        Format::Text => output.line(&format!("{done} {}", log.name))?,
        Format::Table => output.table(&HEADING, vec![row(log)])?,
        Format::Json => output.json(&log_json(log))?,
    }
    Ok(())
}

fn print_created(created: &Created, output: &mut Output) -> anyhow::Result<()> {
    let log = created.log();
    let is_new = matches!(created, Created::New(_));
    match output.format(Format::Text) {
        Format::Text if is_new => output.line(&format!("created {}", log.name))?,
        Format::Text => output.line(&format!("{} exists", log.name))?,
        Format::Table => output.table(&HEADING, vec![row(log)])?,
        Format::Json => {
            let mut value = log_json(log);
            value["created"] = is_new.into();
            output.json(&value)?;
        }
    }
    Ok(())
}

fn print_logs(logs: &[LogInfo], default: Format, output: &mut Output) -> anyhow::Result<()> {
    match output.format(default) {
        Format::Text => {
            for log in logs {
                output.line(&log.name)?;
            }
        }
        Format::Table => output.table(&HEADING, logs.iter().map(row).collect())?,
        Format::Json => {
            for log in logs {
                output.json(&log_json(log))?;
            }
        }
    }
    Ok(())
}

fn row(log: &LogInfo) -> Vec<String> {
    vec![
        log.name.clone(),
        log.id.to_string(),
        log.next_offset.saturating_sub(log.first_offset).to_string(),
        log.first_offset.to_string(),
        log.next_offset.to_string(),
        time::format(log.created_time),
        log.last_append_time
            .map_or_else(|| "-".to_owned(), time::format),
        log.retention
            .max_age
            .map_or_else(|| "-".to_owned(), time::format_duration),
        log.retention
            .max_bytes
            .map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
        log.stored_bytes.to_string(),
    ]
}

fn log_json(log: &LogInfo) -> Value {
    json!({
        "name": log.name,
        "id": log.id,
        "first_offset": log.first_offset,
        "next_offset": log.next_offset,
        "created_time": log.created_time,
        "last_append_time": log.last_append_time,
        "max_age_ms": log.retention.max_age.map(|age| age.as_millis()),
        "max_bytes": log.retention.max_bytes,
        "stored_bytes": log.stored_bytes,
    })
}
