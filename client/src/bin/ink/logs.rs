//! `ink logs create|list|show`.

use clap::{Args, Subcommand};
use inkstone_client::{Client, Created, IfExists, LogInfo};
use serde_json::{Value, json};

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
        /// A log of that name is fine
        #[arg(long)]
        if_not_exists: bool,
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
}

const HEADING: [&str; 7] = [
    "name",
    "id",
    "records",
    "first",
    "next",
    "created",
    "last append",
];

impl Logs {
    pub(crate) async fn run(self, client: &Client, output: &mut Output) -> anyhow::Result<()> {
        match self.command {
            Command::Create {
                name,
                if_not_exists,
            } => {
                let if_exists = if if_not_exists {
                    IfExists::Keep
                } else {
                    IfExists::Fail
                };
                let created = client.create_log(&name, if_exists).await;
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
        }
    }
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
    })
}
