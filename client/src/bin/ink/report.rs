//! What went wrong, in one line that says what to do next, and the exit code that goes with it.

use std::io;
use std::process::ExitCode;

use inkstone_client::{Error, Reason};

use crate::output::Output;

/// A mistake on the command line that only shows after parsing: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

impl Usage {
    /// What the client library refused before it sent anything.
    pub(crate) fn from_error(error: &Error) -> Self {
        Self(error.to_string())
    }
}

/// The error of a request about one log, which a hint may name.
#[derive(Debug, thiserror::Error)]
#[error("{}", about_log(log, source, *appending))]
pub(crate) struct LogError {
    log: String,
    appending: bool,
    source: Error,
}

impl LogError {
    /// An error of a read, a search or a look at that log.
    pub(crate) fn asking(log: &str) -> impl FnOnce(Error) -> anyhow::Error {
        let log = log.to_owned();
        |source| {
            Self {
                log,
                appending: false,
                source,
            }
            .into()
        }
    }

    /// An error of an append to that log.
    pub(crate) fn appending(log: &str) -> impl FnOnce(Error) -> anyhow::Error {
        let log = log.to_owned();
        |source| {
            Self {
                log,
                appending: true,
                source,
            }
            .into()
        }
    }
}

fn about_log(log: &str, error: &Error, appending: bool) -> String {
    let advice = match error.reason() {
        Some(Reason::LogNotFound) if appending => {
            return format!(
                "there is no log `{log}`: create it with `ink logs create {log}`, or append with --create"
            );
        }
        Some(Reason::LogNotFound) => {
            return format!("there is no log `{log}`: `ink logs list` shows those that there are");
        }
        Some(Reason::LogExists) => {
            return format!("there is a log `{log}` already: --if-not-exists accepts it");
        }
        _ if !error.is_definite() => "; look at the log before you do it again",
        _ => advice(error),
    };
    format!("{error}{advice}")
}

/// What to do next, to be put behind an error's own text.
fn advice(error: &Error) -> &'static str {
    match error {
        Error::Unavailable { .. } => {
            "; is the server running? Name others with --server HOST:PORT[,..] or INK_SERVER"
        }
        Error::Unknown { .. } => "; `ink cluster status` shows what became of it",
        Error::Refused { reason, .. } => match reason {
            Reason::NotLeader | Reason::NoLeader | Reason::ShuttingDown => {
                "; `ink cluster status` shows who is up; a longer --timeout waits for a leader"
            }
            Reason::Busy => "; try again later, or send less at once",
            Reason::Timeout => "; give it more --timeout",
            Reason::NoIndex => "; `ink cluster status` shows which nodes have an index",
            _ => "",
        },
    }
}

/// Prints the error on standard error and says how to exit. A reader that went away is no error.
pub(crate) fn report(error: &anyhow::Error, output: &mut Output) -> ExitCode {
    let causes = || error.chain();
    let broken = causes()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if broken {
        return ExitCode::SUCCESS;
    }
    let library = causes().find_map(|cause| cause.downcast_ref::<Error>());
    let code = if error.is::<Usage>() {
        2
    } else if library.is_some_and(|error| !error.is_definite()) {
        3
    } else {
        1
    };
    let text = match error.downcast_ref::<Error>() {
        Some(error) => format!("{error}{}", advice(error)),
        None if error.is::<LogError>() => error.to_string(),
        None => format!("{error:#}"),
    };
    output.error(&text);
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Error {
        Error::Unknown {
            message: "no answer".to_owned(),
            detail: None,
        }
    }

    #[test]
    fn an_unknown_outcome_exits_with_3_however_deep_it_is() {
        let mut output = Output::new(None);
        let error = LogError::appending("a")(unknown()).context("while appending line 7");
        assert_eq!(report(&error, &mut output), ExitCode::from(3));
    }

    #[test]
    fn usage_exits_with_2_and_the_rest_with_1() {
        let mut output = Output::new(None);
        assert_eq!(
            report(&Usage("bad".to_owned()).into(), &mut output),
            ExitCode::from(2)
        );
        let down = Error::Unavailable {
            message: "down".to_owned(),
            detail: None,
        };
        assert_eq!(
            report(&LogError::asking("a")(down), &mut output),
            ExitCode::from(1)
        );
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(
            report(&error.into(), &mut Output::new(None)),
            ExitCode::SUCCESS
        );
    }
}
