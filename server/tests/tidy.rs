//! The rules of the tree that the compiler does not know: who may name whom, and what no file may contain.
//!
//! Promises: the tables below are the allowed edges; a new one is a change here, in a commit of its own. Every violation
//! is reported at once, with file and line. Must not know: anything of ours but names; it reads text and runs nothing.

#[path = "tidy/fixtures.rs"]
#[cfg(test)]
mod fixtures;
#[path = "tidy/source.rs"]
mod source;

use std::fmt;
use std::fs;
use std::path::Path;

/// A package, and those of ours that it may name: in what it ships, and in its tests besides.
struct Package {
    dir: &'static str,
    may_name: &'static [&'static str],
    tests_may_name: &'static [&'static str],
}

const fn package(
    dir: &'static str,
    may_name: &'static [&'static str],
    tests_may_name: &'static [&'static str],
) -> Package {
    Package {
        dir,
        may_name,
        tests_may_name,
    }
}

/// proto ← client ← jepsen, and storage, proto ← server. Benchmarks measure the store, and clusters from outside.
/// The storage tests name their own package, to switch its deliberate bugs on.
const PACKAGES: [Package; 8] = [
    package("proto", &[], &[]),
    package("net", &[], &[]),
    package("storage", &[], &["storage"]),
    package("storage/fuzz", &["storage"], &[]),
    package("client", &["net", "proto"], &[]),
    package(
        "server",
        &["net", "proto", "storage"],
        &["client", "jepsen"],
    ),
    package("jepsen", &["client"], &[]),
    package("benches", &["client", "jepsen", "storage"], &[]),
];

/// A module at the top of a package, and its neighbours that it may name, by groups.
type Layer = (&'static str, &'static [&'static [&'static str]]);

/// types, limits, error ← format, io ← log; types, limits, error ← search. `log` and `search` never meet.
const STORAGE_LAYERS: &[Layer] = &[
    ("types", &[WORDS]),
    ("limits", &[WORDS]),
    ("error", &[WORDS]),
    ("format", &[WORDS]),
    ("io", &[WORDS]),
    ("log", &[WORDS, &["format", "io"]]),
    ("search", &[WORDS]),
];
const WORDS: &[&str] = &["types", "limits", "error"];

/// tail, blocking, indexer, scrub ← raft ← discovery ← grpc ← node ← cli ← main, with clock and config below all of them.
const SERVER_LAYERS: &[Layer] = &[
    ("clock", &[]),
    ("config", &[]),
    ("tail", &[LEAVES, PARTS]),
    ("blocking", &[LEAVES, PARTS]),
    ("indexer", &[LEAVES, PARTS]),
    ("scrub", &[LEAVES, PARTS]),
    ("raft", &[LEAVES, PARTS]),
    ("discovery", &[LEAVES, PARTS, &["raft"]]),
    ("grpc", &[LEAVES, PARTS, &["raft", "discovery"]]),
    ("node", &[LEAVES, PARTS, &["raft", "discovery", "grpc"]]),
    (
        "cli",
        &[LEAVES, PARTS, &["raft", "discovery", "grpc", "node"]],
    ),
    (
        "main",
        &[LEAVES, PARTS, &["raft", "discovery", "grpc", "node", "cli"]],
    ),
];
const LEAVES: &[&str] = &["clock", "config"];
const PARTS: &[&str] = &["tail", "blocking", "indexer", "scrub"];

const LAYERED: [(&str, &[Layer]); 2] = [("storage", STORAGE_LAYERS), ("server", SERVER_LAYERS)];

/// Others' crates that stay behind one door: the crate, and where alone it may be named.
const FENCES: [(&str, &[&str]); 5] = [
    ("openraft", OPENRAFT_HOME),
    ("openraft_macros", OPENRAFT_HOME),
    ("openraft_rt", OPENRAFT_HOME),
    ("openraft_rt_tokio", OPENRAFT_HOME),
    ("tantivy", &["storage/src/search/"]),
];
const OPENRAFT_HOME: &[&str] = &["server/src/raft/", "server/src/grpc/peer.rs"];

/// `storage` is synchronous: it has no runtime, no network, no consensus.
const STORAGE_NEVER: [&str; 2] = ["tokio", "tonic"];

/// The time is an argument: what reads a clock is named by its last two segments, or by a type.
const CLOCK_CALLS: [[&str; 2]; 3] = [["Instant", "now"], ["Timestamp", "now"], ["Zoned", "now"]];
const CLOCK_TYPE: &str = "SystemTime";

/// A look at Raft's state within another can stand still for ever: all go through one function, which refuses that.
const LOOK_HOME: &str = "server/src/raft/look.rs";

/// What a reader can't look up: a document that is not in the tree, by whose numbers nothing may be called either.
const DOCUMENT_ELSEWHERE: &str = concat!("DES", "IGN");

const UNSAFE_HOME: &str = "storage/src/io/mmap.rs";
const LINES_MAX: usize = 500;

/// Directories at the root of somebody's machine; a path below one works nowhere else.
const MACHINE_DIRS: [&str; 4] = ["home", "root", "Users", "work"];

/// A rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace is above");
    let files = read_tree(root);
    for package in &PACKAGES {
        let manifest = format!("{}/Cargo.toml", package.dir);
        assert!(
            files.iter().any(|(file, _)| *file == manifest),
            "{manifest} was not read"
        );
    }
    let violations: Vec<_> = files
        .iter()
        .flat_map(|(file, text)| check(file, text))
        .collect();
    let report: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(
        report.is_empty(),
        "{} violations:\n{}",
        report.len(),
        report.join("\n")
    );
}

/// Every text file of the tree, by its path from the root.
fn read_tree(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name == "target" || name == ".git" {
                continue;
            }
            if entry.file_type().expect("the tree can be read").is_dir() {
                dirs.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let below = path
                    .strip_prefix(root)
                    .expect("it was found below the root");
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                files.push((parts.join("/"), text));
            }
        }
    }
    files.sort();
    files
}

/// What one file breaks.
fn check(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = check_machine_paths(file, text);
    let extension = Path::new(file).extension().and_then(|it| it.to_str());
    if matches!(extension, Some("rs" | "proto")) {
        violations.extend(check_references(file, text));
    }
    if extension == Some("rs") {
        violations.extend(check_source(file, text));
    } else if file.ends_with("Cargo.toml") {
        violations.extend(check_manifest(file, text));
    }
    violations.sort_by_key(|violation| violation.line);
    violations.dedup();
    violations
}

fn violation(file: &str, line: usize, what: impl Into<String>) -> Violation {
    Violation {
        file: file.to_owned(),
        line,
        what: what.into(),
    }
}

fn check_machine_paths(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for dir in MACHINE_DIRS.map(|dir| format!("/{dir}/")) {
            let is_root = |(place, _): (usize, &str)| {
                let before = line[..place].chars().next_back().unwrap_or(' ');
                !(before.is_alphanumeric() || "._-/}>*".contains(before))
            };
            if line.match_indices(&dir).any(is_root) {
                violations.push(violation(
                    file,
                    number + 1,
                    format!("a path of one machine: {dir}"),
                ));
            }
        }
    }
    violations
}

/// Comments count: a promise has its name in README.md, and that is what it is called by.
fn check_references(file: &str, text: &str) -> Vec<Violation> {
    let is_elsewhere = |word: &&str| {
        *word == DOCUMENT_ELSEWHERE
            || matches!(word.as_bytes(), [b'P', digit] if (b'1'..=b'9').contains(digit))
    };
    let mut violations = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split(|char: char| !(char.is_alphanumeric() || char == '_'));
        if let Some(word) = words.find(is_elsewhere) {
            let what = format!("{word} can't be looked up here: say what is meant");
            violations.push(violation(file, number + 1, what));
        }
    }
    violations
}

fn check_source(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !text.starts_with("//!") {
        violations.push(violation(file, 1, "the first line is no module doc (//!)"));
    }
    let tokens = source::tokens(&source::strip(text));
    let lines = source::tests_begin(&tokens).map_or(text.lines().count(), |line| line - 1);
    if lines > LINES_MAX && !is_test(file) {
        violations.push(violation(
            file,
            LINES_MAX + 1,
            format!("{lines} lines before its tests"),
        ));
    }
    violations.extend(check_layer_is_known(file).map(|what| violation(file, 1, what)));
    violations.extend(check_words(file, &tokens));
    for path in source::paths(&tokens) {
        let broken = check_packages(file, &path)
            .or_else(|| check_layers(file, &path))
            .or_else(|| check_fences(file, &path))
            .or_else(|| check_storage(file, &path));
        violations.extend(broken.map(|what| violation(file, path.line, what)));
    }
    violations
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

fn check_words(file: &str, tokens: &[source::Token]) -> Vec<Violation> {
    let text = |place: usize| tokens.get(place).map_or("", |token| token.text.as_str());
    let mut violations = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let before = place.checked_sub(1).map_or("", text);
        let what = match (token.text.as_str(), text(place + 1)) {
            ("unsafe", _) if file != UNSAFE_HOME => format!("unsafe outside of {UNSAFE_HOME}"),
            ("allow", "(") if before == "[" || before == "," => {
                "#[allow]: say #[expect(lint, reason = …)]".to_owned()
            }
            ("borrow_watched", "(") if file != LOOK_HOME => {
                format!("a look at Raft's state outside of {LOOK_HOME}: use look()")
            }
            ("todo" | "unimplemented", "!") => format!("{}! is left", token.text),
            _ => continue,
        };
        violations.push(violation(file, token.line, what));
    }
    violations
}

fn check_packages(file: &str, path: &source::Path) -> Option<String> {
    let package = package_of(file)?;
    let named = path.segments.first()?.strip_prefix("inkstone_")?;
    let is_package = PACKAGES.iter().any(|package| package.dir == named);
    let may = named == package.dir
        || package.may_name.contains(&named)
        || (!file.contains("/src/") && package.tests_may_name.contains(&named));
    (is_package && !may).then(|| format!("{} may not name {named}", package.dir))
}

fn package_of(file: &str) -> Option<&'static Package> {
    let holds = |package: &&Package| {
        let below = file.strip_prefix(package.dir);
        below.is_some_and(|below| below.starts_with('/'))
    };
    // The fuzz targets are a package inside of another.
    PACKAGES
        .iter()
        .filter(holds)
        .max_by_key(|package| package.dir.len())
}

fn check_layers(file: &str, path: &source::Path) -> Option<String> {
    let (dir, layers, module) = layered(file)?;
    let from = layer_of(file, &module)?;
    let to = named_module(dir, &module, path)?;
    let (_, may_name) = layers.iter().find(|(layer, _)| *layer == from)?;
    let is_layer = layers.iter().any(|(layer, _)| *layer == to);
    (is_layer && from != to && !may_name.concat().contains(&to))
        .then(|| format!("{dir}: {from} may not name {to}"))
}

/// A module without a layer would escape the table.
fn check_layer_is_known(file: &str) -> Option<String> {
    let (_, layers, module) = layered(file)?;
    let from = layer_of(file, &module)?;
    let missing = from != "lib" && !layers.iter().any(|(layer, _)| *layer == from);
    missing.then(|| format!("module {from} has no layer: give it one in server/tests/tidy.rs"))
}

/// The package with layers that a file ships in, those layers, and the modules that lead to the file.
fn layered(file: &str) -> Option<(&'static str, &'static [Layer], Vec<&str>)> {
    let (dir, below) = file.split_once("/src/")?;
    let (package, layers) = LAYERED.iter().find(|(package, _)| *package == dir)?;
    Some((package, layers, module_of(below)))
}

fn layer_of<'a>(file: &'a str, module: &[&'a str]) -> Option<&'a str> {
    let root = || file.rsplit('/').next()?.strip_suffix(".rs");
    module.first().copied().or_else(root)
}

/// The modules that lead to a file below `src/`; none for the root.
fn module_of(below: &str) -> Vec<&str> {
    let mut module: Vec<_> = below.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") || matches!(module[..], ["lib" | "main"]) {
        module.pop();
    }
    module
}

/// The module at the top of its own package that a path leads to, if it does.
fn named_module<'a>(package: &str, module: &[&str], path: &'a source::Path) -> Option<&'a str> {
    let mut segments = path.segments.iter().map(String::as_str).peekable();
    let first = segments.next()?;
    if first == "crate" || first.strip_prefix("inkstone_") == Some(package) {
        return segments.next();
    }
    if first != "self" && first != "super" {
        return None;
    }
    let mut depth = module.len() + path.inline_depth;
    depth = depth.saturating_sub(usize::from(first == "super"));
    while segments.next_if_eq(&"super").is_some() {
        depth = depth.saturating_sub(1);
    }
    if depth == 0 { segments.next() } else { None }
}

fn check_fences(file: &str, path: &source::Path) -> Option<String> {
    let first = path.segments.first()?;
    let (named, homes) = FENCES.iter().find(|(named, _)| first == named)?;
    let names_crate = path.imported || path.segments.len() > 1;
    let at_home = homes.iter().any(|home| file.starts_with(home));
    (names_crate && !at_home).then(|| format!("{named} is named outside of {}", homes.join(", ")))
}

fn check_storage(file: &str, path: &source::Path) -> Option<String> {
    if !file.starts_with("storage/") {
        return None;
    }
    let first = path.segments.first()?;
    if STORAGE_NEVER.contains(&first.as_str()) && (path.imported || path.segments.len() > 1) {
        return Some(format!("storage may not name {first}"));
    }
    let calls_clock = path
        .segments
        .windows(2)
        .any(|pair| CLOCK_CALLS.iter().any(|call| pair == call));
    let reads_clock = calls_clock || path.segments.iter().any(|segment| segment == CLOCK_TYPE);
    reads_clock.then(|| "storage may not read a clock: the time is an argument".to_owned())
}

/// The same edges, as dependencies.
fn check_manifest(file: &str, text: &str) -> Vec<Violation> {
    let Some(package) = package_of(file) else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    let mut section = "";
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if !section.ends_with("dependencies") || name.is_empty() || name.starts_with(['#', '[']) {
            continue;
        }
        let named = name.strip_prefix("inkstone-").unwrap_or_default();
        let is_package = PACKAGES.iter().any(|package| package.dir == named);
        let may = package.may_name.contains(&named)
            || (section == "dev-dependencies" && package.tests_may_name.contains(&named));
        let name = name.replace('-', "_");
        let fence = FENCES.iter().find(|(fenced, _)| *fenced == name);
        let fenced =
            fence.is_some_and(|(_, homes)| !homes.iter().any(|home| home.starts_with(package.dir)));
        let never = package.dir == "storage" && STORAGE_NEVER.contains(&name.as_str());
        if (is_package && !may) || fenced || never {
            let what = format!("{} may not depend on {name}", package.dir);
            violations.push(violation(file, number + 1, what));
        }
    }
    violations
}
