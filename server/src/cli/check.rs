//! `inkstone check`: a verdict on every file of a data directory whose node is stopped.
//!
//! Promises: nothing is changed; the exit code says whether everything is whole. Must not know: how a verdict is found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use indicatif::ProgressBar;
use inkstone_storage::io::RealDisk;
use inkstone_storage::log::check::{CheckError, CheckProgress, FileKind, FileReport, State, check};
use inkstone_storage::log::{DirLock, Fault};
use serde_json::{Value, json};

use crate::cli::{Failure, output};

const AFTER_HELP: &str = "\
Verdicts:
  whole      every byte was verified
  torn       a crash interrupted a write that was never acknowledged: the next start cuts it off; nothing is lost
  leftover   a crash left a file that is not used: the next start deletes it
  damaged    bytes are not what was written; each place is named, with the entries that it takes
  missing    a file that must be there
  foreign    of another cluster, group or node
  newer      of a newer release
  unchecked  derived from the other files
  unknown    not a file of this release; it is left alone

Exit codes:
  0  nothing is lost: no file is damaged, missing, foreign or newer
  1  something is, or the directory is in use or cannot be read
  2  wrong usage: no such directory, or not a data directory";

pub(super) fn command() -> Command {
    Command::new("check")
        .about("Checks every file of a data directory whose node is stopped")
        .long_about(
            "Checks every file of a data directory whose node is stopped, and prints one verdict for each. Every byte \
             of the log is read and verified. Nothing is changed. While it runs no node can start in the directory.",
        )
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The data directory of a node, as `data_dir` names it"),
        )
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FORMAT")
                .default_value("text")
                .value_parser(["text", "json"])
                .help("How verdicts are printed; json: one object per line, the summary last"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let dir: &PathBuf = matches.get_one("dir").expect("clap requires it");
    if !dir.is_dir() {
        let what = if dir.exists() {
            "is not a directory"
        } else {
            "does not exist"
        };
        return Err(Failure::usage(format!(
            "{} {what}; name the data directory of a node",
            dir.display()
        )));
    }
    let lock = DirLock::acquire_existing(dir).map_err(Failure::start)?;
    let mut bar = None;
    let reports = check(&RealDisk, dir, &mut |progress| show(&mut bar, progress));
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let reports = reports.map_err(|error| match error {
        CheckError::NoData { .. } => Failure::usage(error),
        CheckError::Unlistable { .. } => Failure::start(error),
    })?;
    let summary = Summary::of(&reports);
    let is_json = matches
        .get_one::<String>("output")
        .is_some_and(|format| format == "json");
    output::write(&if is_json {
        json_lines(&reports, &summary)
    } else {
        text(dir, &reports, &summary)
    })?;
    if lock.is_none() {
        output::hint("there is no LOCK: no node was kept from starting here meanwhile");
    }
    if summary.bad == 0 {
        return Ok(());
    }
    let (bad, files) = (summary.bad, summary.files);
    Err(Failure::start(format!(
        "{}: {bad} of {files} files not whole; the lines above say what is wrong",
        dir.display()
    )))
}

/// The bar comes with the first step that is not the last: a small directory needs none.
fn show(bar: &mut Option<ProgressBar>, progress: CheckProgress) {
    if progress.verified < progress.total {
        bar.get_or_insert_with(|| output::progress(progress.total));
    }
    if let Some(bar) = bar {
        bar.set_position(progress.verified);
    }
}

/// All files together.
#[derive(Debug, Default)]
struct Summary {
    files: usize,
    size: u64,
    entries: u64,
    faults: u64,
    bad: usize,
}

impl Summary {
    fn of(reports: &[FileReport]) -> Self {
        let mut summary = Self::default();
        for report in reports {
            summary.files += 1;
            summary.size += report.size.unwrap_or_default();
            summary.faults += report.faults_count;
            summary.bad += usize::from(!report.state.is_good());
            let entries = report.entries.as_ref().filter(|_| report.size.is_some());
            summary.entries += entries.map_or(0, |entries| entries.end() - entries.start() + 1);
        }
        summary
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Identity => "identity",
        FileKind::Lock => "lock",
        FileKind::HardState => "hard-state",
        FileKind::Watermark => "watermark",
        FileKind::Snapshot => "snapshot",
        FileKind::SealedSegment => "sealed-segment",
        FileKind::Segment => "segment",
        FileKind::Checkpoint => "checkpoint",
        FileKind::Search => "search-index",
        FileKind::Unknown => "unknown",
    }
}

fn verdict(state: State) -> &'static str {
    match state {
        State::Whole => "whole",
        State::Torn => "torn",
        State::Leftover => "leftover",
        State::Damaged => "damaged",
        State::Missing => "missing",
        State::Foreign => "foreign",
        State::NewerVersion => "newer",
        State::NotChecked => "unchecked",
        State::Unknown => "unknown",
    }
}

fn text(dir: &Path, reports: &[FileReport], summary: &Summary) -> String {
    let shown = |report: &FileReport| report.file.display().to_string();
    let width = reports.iter().map(|report| shown(report).chars().count());
    let width = width.max().unwrap_or_default();
    let mut text = String::new();
    for report in reports {
        let size = report
            .size
            .map_or_else(|| "-".to_owned(), |size| size.to_string());
        let mut notes = Vec::new();
        if let Some(entries) = &report.entries {
            notes.push(entries_text(entries));
        }
        notes.extend(report.notes.iter().cloned());
        let line = format!(
            "{:width$}  {:9}  {size:>11}  {:14}  {}",
            shown(report),
            verdict(report.state),
            kind(report.kind),
            notes.join("; ")
        );
        writeln!(text, "{}", line.trim_end()).expect("a string takes it all");
        for fault in &report.faults {
            writeln!(text, "  {}", fault_text(fault)).expect("a string takes it all");
        }
        let more = report
            .faults_count
            .saturating_sub(report.faults.len() as u64);
        if more > 0 {
            writeln!(text, "  and {more} more places").expect("a string takes it all");
        }
    }
    let Summary {
        files,
        size,
        entries,
        faults,
        bad,
    } = summary;
    let outcome = if *bad == 0 {
        "nothing is lost".to_owned()
    } else {
        format!(
            "{} not whole, {}",
            count(*bad as u64, "file"),
            count(*faults, "damaged place")
        )
    };
    writeln!(
        text,
        "{}: {}, {size} bytes, {entries} entries: {outcome}",
        dir.display(),
        count(*files as u64, "file"),
    )
    .expect("a string takes it all");
    text
}

fn count(number: u64, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}

fn entries_text(entries: &std::ops::RangeInclusive<u64>) -> String {
    if entries.start() == entries.end() {
        return format!("entry {}", entries.start());
    }
    format!("entries {} to {}", entries.start(), entries.end())
}

fn fault_text(fault: &Fault) -> String {
    let taken = fault.entries.as_ref().map_or_else(String::new, |entries| {
        format!(" ({})", entries_text(entries))
    });
    format!(
        "at byte {}: {}{taken}",
        fault.damage.position, fault.damage.what
    )
}

fn json_lines(reports: &[FileReport], summary: &Summary) -> String {
    let mut text = String::new();
    for report in reports {
        writeln!(text, "{}", report_json(report)).expect("a string takes it all");
    }
    let summary = json!({
        "summary": {
            "files": summary.files,
            "bytes": summary.size,
            "entries": summary.entries,
            "not_whole": summary.bad,
            "damages": summary.faults,
        }
    });
    writeln!(text, "{summary}").expect("a string takes it all");
    text
}

fn report_json(report: &FileReport) -> Value {
    let range = |entries: &Option<std::ops::RangeInclusive<u64>>| {
        let first = entries.as_ref().map(|entries| *entries.start());
        let last = entries.as_ref().map(|entries| *entries.end());
        (first, last)
    };
    let fault = |fault: &Fault| {
        let (first, last) = range(&fault.entries);
        json!({
            "position": fault.damage.position,
            "what": fault.damage.what,
            "first_index": first,
            "last_index": last,
        })
    };
    let (first, last) = range(&report.entries);
    json!({
        "file": report.file.display().to_string(),
        "kind": kind(report.kind),
        "verdict": verdict(report.state),
        "bytes": report.size,
        "first_index": first,
        "last_index": last,
        "notes": report.notes,
        "damages": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "damages_count": report.faults_count,
    })
}
