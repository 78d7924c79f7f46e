//! Checking a data directory whose node is stopped: one verdict for every file, and nothing is changed.
//!
//! Promises: reads, never writes; every byte of every segment is read from the disk and verified, and so are identity,
//! hard state, watermark, checkpoints and snapshots; whatever the bytes, it comes to an end without a panic, and memory
//! holds windows of the files, never a whole one. What would be made good at the next start is not called damage. Must
//! not know: how a verdict is shown, how damage is repaired.
//!
//! Order of reading: the types here, `group` (what stands beside the segments), `segments`.

mod group;
mod segments;
mod slots;

use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use self::group::GroupCheck;
use super::checkpoint::TMP;
use super::segment::damage;
use super::verify::{Fault, Faults};
use crate::format::fields::FormatError;
use crate::format::identity::{self, BadIdentity};
use crate::io::Disk;
use crate::types::{Identity, NO_CLUSTER};

/// What a file of a data directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Whose directory it is.
    Identity,
    /// What a running node locks.
    Lock,
    /// Vote and purge.
    HardState,
    /// How far the log was durable.
    Watermark,
    /// The last snapshot.
    Snapshot,
    /// A segment with a footer.
    SealedSegment,
    /// A segment without one.
    Segment,
    /// The small state as of a segment's begin.
    Checkpoint,
    /// The search index, which is derived from the log.
    Search,
    /// Not Inkstone's, or not this release's.
    Unknown,
}

/// A verdict on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every byte that matters was verified.
    Whole,
    /// What a crash leaves of a write that was never acknowledged: the next start sets it right, and nothing is lost.
    Torn,
    /// What a crash leaves of a file that is not used, or not any more: the next start deletes it.
    Leftover,
    /// Bytes are not what was written, or the disk does not give them.
    Damaged,
    /// The file should be there.
    Missing,
    /// The file belongs to another cluster, group or node.
    Foreign,
    /// The file's format is newer than this release.
    NewerVersion,
    /// The file was not looked into: it can be derived from the others.
    NotChecked,
    /// The file means nothing to this release.
    Unknown,
}

impl State {
    /// Whether nothing is lost: the next start goes well, as far as this file is concerned.
    pub fn is_good(self) -> bool {
        match self {
            Self::Whole | Self::Torn | Self::Leftover | Self::NotChecked | Self::Unknown => true,
            Self::Damaged | Self::Missing | Self::Foreign | Self::NewerVersion => false,
        }
    }

    /// The worse one of two.
    fn worst(self, other: Self) -> Self {
        if self == Self::Whole || (self.is_good() && !other.is_good()) {
            return other;
        }
        self
    }
}

/// What is known of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file, relative to the data directory.
    pub file: PathBuf,
    /// What it is for.
    pub kind: FileKind,
    /// The verdict.
    pub state: State,
    /// Bytes; `None` of what is missing, and of directories.
    pub size: Option<u64>,
    /// The indexes of a segment's entries, as far as they are known.
    pub entries: Option<RangeInclusive<u64>>,
    /// What is in it, human-readable: half sentences.
    pub notes: Vec<String>,
    /// The damaged places, as many as there is room for.
    pub faults: Vec<Fault>,
    /// How many damaged places were found.
    pub faults_count: u64,
}

impl FileReport {
    fn new(file: PathBuf, kind: FileKind, size: Option<u64>) -> Self {
        Self {
            file,
            kind,
            state: State::Whole,
            size,
            entries: None,
            notes: Vec::new(),
            faults: Vec::new(),
            faults_count: 0,
        }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn set(&mut self, state: State, note: impl Into<String>) {
        self.state = self.state.worst(state);
        self.note(note);
    }

    /// Takes what was found wrong with it.
    fn add(&mut self, faults: Faults) {
        if faults.count == 0 {
            return;
        }
        self.state = self.state.worst(State::Damaged);
        self.faults.extend(faults.list);
        self.faults_count += faults.count;
    }

    fn fault(
        &mut self,
        path: &Path,
        position: u64,
        error: FormatError,
        entries: Option<RangeInclusive<u64>>,
    ) {
        let mut faults = Faults::default();
        let damage = damage(path, position, error);
        faults.push(Fault { damage, entries });
        self.add(faults);
    }

    /// What could not be decoded: damage, or a newer release's.
    fn bad(&mut self, path: &Path, position: u64, error: FormatError) {
        match error {
            FormatError::Version { found } => {
                let note = format!("format version {found}, which is newer than this release");
                self.set(State::NewerVersion, note);
            }
            error @ FormatError::Bad { .. } => self.fault(path, position, error, None),
        }
    }

    /// What the disk did not give.
    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let what = format!("the disk does not read it: {error}");
        self.fault(path, 0, FormatError::bad(0, what), None);
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes of segments that were verified.
    pub verified: u64,
    /// Bytes of all segments.
    pub total: u64,
}

/// Why a directory could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no such directory, or it cannot be listed.
    #[error("{dir}: {source}", dir = dir.display())]
    Unlistable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds nothing that a node keeps.
    #[error("{dir} is not a data directory: it holds neither an identity nor a group", dir = dir.display())]
    NoData {
        /// The directory.
        dir: PathBuf,
    },
}

/// Checks every file of a data directory. Nobody may write to it meanwhile: the caller holds its lock.
///
/// Damage is no error: it stands in the reports. `progress` is told of every step.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<Vec<FileReport>, CheckError> {
    let unlistable = |source| CheckError::Unlistable {
        dir: dir.to_owned(),
        source,
    };
    let mut names = disk.list(dir).map_err(unlistable)?;
    names.sort();
    let groups: Vec<(u32, &String)> = names
        .iter()
        .filter_map(|name| Some((name.strip_prefix("group-")?.parse().ok()?, name)))
        .collect();
    let has_identity = names.iter().any(|name| name == "identity");
    if groups.is_empty() && !has_identity {
        return Err(CheckError::NoData {
            dir: dir.to_owned(),
        });
    }
    let mut check = Check {
        disk,
        root: dir,
        reports: Vec::new(),
        progress,
        done: CheckProgress {
            verified: 0,
            total: 0,
        },
    };
    let identity = check.identity(has_identity, !groups.is_empty());
    for (_, name) in &groups {
        check.add_total(&dir.join(name));
    }
    for name in &names {
        match name.as_str() {
            "identity" => {}
            "LOCK" => {
                let report = check.report(&dir.join(name), FileKind::Lock);
                check.reports.push(report);
            }
            name => match groups.iter().find(|(_, group)| *group == name) {
                Some((group, _)) => GroupCheck::run(&mut check, &dir.join(name), *group, identity)?,
                None => check.other(&dir.join(name)),
            },
        }
    }
    if groups.is_empty() && is_in_cluster(identity) {
        check.missing_group(dir);
    }
    Ok(check.reports)
}

/// What a group without its hard state lacks.
const NO_HARD_STATE: &str = "the hard state is missing, and with it what this node voted for";

/// Whether the node was in a cluster when it stopped.
fn is_in_cluster(identity: Option<Identity>) -> bool {
    identity.is_some_and(|identity| identity.cluster_id != NO_CLUSTER)
}

/// A check under way.
struct Check<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    reports: Vec<FileReport>,
    progress: &'a mut dyn FnMut(CheckProgress),
    done: CheckProgress,
}

impl Check<'_> {
    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root).unwrap_or(path).to_owned()
    }

    /// A report on a file that is there.
    fn report(&self, path: &Path, kind: FileKind) -> FileReport {
        let size = self.disk.open_to_read(path).and_then(|file| file.size());
        FileReport::new(self.relative(path), kind, size.ok())
    }

    /// A report on a file that should be there, and takes these entries with it.
    fn missing(
        &self,
        path: &Path,
        kind: FileKind,
        what: impl Into<String>,
        entries: Option<RangeInclusive<u64>>,
    ) -> FileReport {
        let mut report = FileReport::new(self.relative(path), kind, None);
        report.state = State::Missing;
        report.entries.clone_from(&entries);
        report.fault(path, 0, FormatError::bad(0, what), entries);
        report.state = State::Missing;
        report
    }

    /// A node in a cluster had a hard state before its identity named the cluster.
    fn missing_group(&mut self, dir: &Path) {
        let path = dir.join("group-1").join("hard-state");
        let report = self.missing(&path, FileKind::HardState, NO_HARD_STATE, None);
        self.reports.push(report);
    }

    fn add_total(&mut self, group_dir: &Path) {
        let log_dir = group_dir.join("log");
        for name in self.disk.list(&log_dir).unwrap_or_default() {
            let path = log_dir.join(name);
            if path.extension().is_some_and(|extension| extension == "seg") {
                let file = self.disk.open_to_read(&path);
                self.done.total += file.and_then(|file| file.size()).unwrap_or_default();
            }
        }
    }

    fn advance(&mut self, size: u64) {
        self.done.verified += size;
        (self.progress)(self.done);
    }

    /// A file that belongs to no known part of the directory.
    fn other(&mut self, path: &Path) {
        let mut report = self.report(path, FileKind::Unknown);
        if path.extension().is_some_and(|extension| extension == TMP) {
            report.set(
                State::Leftover,
                "deleted or replaced when it is needed next",
            );
        } else {
            report.set(
                State::Unknown,
                "not a file of this release; it is left alone",
            );
        }
        self.reports.push(report);
    }

    fn identity(&mut self, is_there: bool, has_group: bool) -> Option<Identity> {
        let path = self.root.join("identity");
        if !is_there {
            if has_group {
                let what = "the identity is missing, though a group is there";
                let report = self.missing(&path, FileKind::Identity, what, None);
                self.reports.push(report);
            }
            return None;
        }
        let mut report = self.report(&path, FileKind::Identity);
        let found = match self.read_bounded(&path, identity::SIZE_MAX) {
            Ok(bytes) => match identity::parse(&bytes) {
                Ok(found) => Some(found),
                Err(BadIdentity::Version(found)) => {
                    report.bad(&path, 0, FormatError::Version { found });
                    None
                }
                Err(BadIdentity::Damaged { position, what }) => {
                    report.bad(&path, 0, FormatError::bad(position, what));
                    None
                }
            },
            Err(error) => {
                report.unreadable(&path, &error);
                None
            }
        };
        if let Some(found) = found {
            report.note(format!("node {}", found.node_id));
            report.note(if found.cluster_id == NO_CLUSTER {
                "in no cluster yet".to_owned()
            } else {
                format!("cluster {}", uuid(found.cluster_id))
            });
        }
        self.reports.push(report);
        found
    }

    fn read_bounded(&self, path: &Path, size_max: usize) -> io::Result<Vec<u8>> {
        let file = self.disk.open_to_read(path)?;
        let size = usize::try_from(file.size()?).unwrap_or(size_max);
        let mut bytes = vec![0; size.min(size_max)];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// A cluster id as it is shown everywhere.
fn uuid(id: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (number, byte) in id.iter().enumerate() {
        if [4, 6, 8, 10].contains(&number) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a string takes it all");
    }
    text
}
