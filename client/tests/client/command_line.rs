//! `ink` itself, run as a process against a fake server.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use inkstone_proto::v1;

use crate::append::nobody;
use crate::fake::{Fake, Fault};

pub(crate) async fn ink(server: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ink"));
    command
        .args(["--server", server, "--timeout", "2s"])
        .args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that fails early does not read its input.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn write_lines(path: &Path, lines: std::ops::Range<usize>) {
    let mut text = String::new();
    for line in lines {
        writeln!(text, "line {line}").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// The log holds exactly these lines, each once, in order.
fn holds(fake: &Fake, lines: usize) {
    let expected: Vec<String> = (0..lines).map(|line| format!("line {line}")).collect();
    assert!(fake.bodies() == expected, "{} records", fake.bodies().len());
}

#[tokio::test]
async fn what_is_appended_is_read_back_byte_for_byte() {
    let fake = Fake::start().await;
    let appended = ink(&fake.address, &["append", "log"], "a\r\n\nlast").await;
    assert_eq!(code(&appended), Some(0), "{}", stderr(&appended));
    assert!(stdout(&appended).starts_with("appended 3 records, first offset 0, next offset 3, "));
    let read = ink(&fake.address, &["read", "log"], "").await;
    assert_eq!(stdout(&read), "a\n\nlast\n");
    let found = ink(&fake.address, &["search", "log", "last"], "").await;
    assert_eq!(stdout(&found), "last\n");
    assert_eq!(stderr(&found), "1 hit; covers offsets < 3 of 3; complete\n");
}

#[tokio::test]
async fn a_search_that_is_behind_fails_or_says_so_as_asked() {
    let fake = Fake::start().await;
    fake.fill(0..3);
    let search = ["search", "log", "2", "--consistency", "5"];
    let refused = ink(&fake.address, &search, "").await;
    assert_eq!(code(&refused), Some(1), "{}", stderr(&refused));
    assert_eq!(stdout(&refused), "");

    let allowed = [&search[..], &["--allow-behind"]].concat();
    let behind = ink(&fake.address, &allowed, "").await;
    assert_eq!(code(&behind), Some(0), "{}", stderr(&behind));
    assert_eq!(stdout(&behind), "2\n");
    assert_eq!(
        stderr(&behind),
        "BEHIND: acknowledged records may be missing; 1 hit; covers offsets < 3; complete\n"
    );

    for (consistency, expected) in [("5", true), ("3", false)] {
        let search = ["search", "log", "2", "--allow-behind", "-o", "json"];
        let search = [&search[..], &["--consistency", consistency]].concat();
        let printed = stdout(&ink(&fake.address, &search, "").await);
        let summary = printed.lines().last().unwrap();
        let behind = format!("\"behind\":{expected}");
        assert!(summary.contains(&behind), "{consistency}: {summary}");
    }
}

#[tokio::test]
async fn json_read_is_json_to_append() {
    let fake = Fake::start().await;
    let line = r#"{"body":"x","timestamp":7,"attributes":{"level":"error"}}"#;
    let appended = ink(
        &fake.address,
        &["append", "log", "--json", "-o", "json"],
        line,
    )
    .await;
    assert_eq!(code(&appended), Some(0), "{}", stderr(&appended));
    let read = stdout(&ink(&fake.address, &["read", "log", "-o", "json"], "").await);
    assert_eq!(
        read,
        "{\"attributes\":{\"level\":\"error\"},\"body\":\"x\",\"offset\":0,\"timestamp\":7}\n"
    );
    let again = ink(&fake.address, &["append", "log", "--json"], &read).await;
    assert_eq!(code(&again), Some(0), "{}", stderr(&again));
    assert_eq!(fake.bodies(), ["x", "x"]);
}

#[tokio::test]
async fn a_missing_log_names_the_command_that_creates_it() {
    let fake = Fake::start().await;
    let missing = ink(&fake.address, &["append", "new"], "a\n").await;
    assert_eq!(code(&missing), Some(1));
    assert_eq!(
        stderr(&missing),
        "error: there is no log `new`: create it with `ink logs create new`, or append with --create\n"
    );
    let created = ink(&fake.address, &["append", "new", "--create"], "a\n").await;
    assert_eq!(code(&created), Some(0), "{}", stderr(&created));
}

#[tokio::test]
async fn a_file_is_appended_once_however_often_it_is_run() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let file = path.to_str().unwrap();
    // 17 batches and a piece: more than the server keeps receipts for.
    write_lines(&path, 0..17_300);
    let first = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert_eq!(code(&first), Some(0), "{}", stderr(&first));
    holds(&fake, 17_300);
    let second = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert!(
        stdout(&second).starts_with("nothing to append: all 17300 records"),
        "{}",
        stdout(&second)
    );
    holds(&fake, 17_300);

    // It grows, twice, and each time only the new lines are appended.
    for lines in [19_500, 19_501] {
        write_lines(&path, 0..lines);
        let grown = ink(&fake.address, &["append", "log", "--file", file], "").await;
        assert_eq!(code(&grown), Some(0), "{}", stderr(&grown));
        holds(&fake, lines);
        let again = ink(&fake.address, &["append", "log", "--file", file], "").await;
        assert!(
            stdout(&again).starts_with("nothing to append"),
            "{}",
            stdout(&again)
        );
        holds(&fake, lines);
    }
}

#[tokio::test]
async fn an_interrupted_file_is_resumed() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let file = path.to_str().unwrap();
    write_lines(&path, 0..5_500);
    // The first append is the question how far an earlier run came; then three batches go through.
    let full = Fault::Refuse(v1::Reason::DiskFull, false, None);
    fake.faults([
        Fault::Nothing,
        Fault::Nothing,
        Fault::Nothing,
        Fault::LoseAfter,
        full,
    ]);
    let first = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert_eq!(code(&first), Some(3), "{}", stderr(&first));
    holds(&fake, 3_000);
    let second = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert_eq!(code(&second), Some(0), "{}", stderr(&second));
    assert!(
        stdout(&second).contains("appended 2500 records, first offset 3000"),
        "{}",
        stdout(&second)
    );
    holds(&fake, 5_500);
}

#[tokio::test]
async fn what_an_interrupted_run_had_on_its_way_is_noticed() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let file = path.to_str().unwrap();
    write_lines(&path, 0..5_500);
    // Between the question how far an earlier run came and our third batch, that run's last batch arrives, which was
    // cut short by the end that the file had then.
    fake.faults([
        Fault::Nothing,
        Fault::Nothing,
        Fault::Nothing,
        Fault::CutShort(300),
    ]);
    let appended = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert_eq!(code(&appended), Some(0), "{}", stderr(&appended));
    holds(&fake, 5_500);
}

#[tokio::test]
async fn logs_are_created_listed_and_shown() {
    let fake = Fake::start().await;
    let run = |arguments: &'static [&'static str]| ink(&fake.address, arguments, "");
    assert_eq!(
        stdout(&run(&["logs", "create", "a/b"]).await),
        "created a/b\n"
    );
    let taken = run(&["logs", "create", "a/b"]).await;
    assert_eq!(code(&taken), Some(1));
    assert_eq!(
        stderr(&taken),
        "error: there is a log `a/b` already: --if-not-exists accepts it\n"
    );
    assert_eq!(
        stdout(&run(&["logs", "create", "a/b", "--if-not-exists"]).await),
        "a/b exists\n"
    );
    assert_eq!(
        stdout(&run(&["logs", "list", "-o", "text"]).await),
        "a/b\nlog\n"
    );
    assert_eq!(
        stdout(&run(&["logs", "list", "a/", "-o", "text"]).await),
        "a/b\n"
    );
    let shown = stdout(&run(&["logs", "show", "a/b", "-o", "json"]).await);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["name"], &shown["next_offset"]),
        (&"a/b".into(), &0.into())
    );
    let missing = run(&["logs", "show", "nothing"]).await;
    assert_eq!(code(&missing), Some(1));
    let status = stdout(&run(&["cluster", "status", "-o", "json"]).await);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["term"], &status["leader"]),
        (&3.into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn logs_are_altered_trimmed_and_deleted() {
    let fake = Fake::start().await;
    let run = |arguments: &'static [&'static str]| ink(&fake.address, arguments, "");
    let show = || async {
        let shown = run(&["logs", "show", "a", "-o", "json"]).await;
        let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
        (shown["max_age_ms"].clone(), shown["max_bytes"].clone())
    };
    let null = serde_json::Value::Null;
    let week = serde_json::Value::from(604_800_000_u64);
    run(&["logs", "create", "a", "--max-age", "7d"]).await;
    assert_eq!(show().await, (week.clone(), null.clone()));
    let altered = run(&["logs", "alter", "a", "--max-bytes", "10GiB"]).await;
    assert_eq!(stdout(&altered), "altered a\n");
    assert_eq!(show().await, (week, (10_u64 << 30).into()));
    run(&["logs", "alter", "a", "--max-age", "none"]).await;
    assert_eq!(show().await, (null, (10_u64 << 30).into()));
    assert_eq!(code(&run(&["logs", "alter", "a"]).await), Some(2));

    let trimmed = run(&["logs", "trim", "a", "--before", "0"]).await;
    assert_eq!(stdout(&trimmed), "trimmed a\n");
    let beyond = run(&["logs", "trim", "a", "--before", "1"]).await;
    assert_eq!(code(&beyond), Some(1));

    let asked = run(&["logs", "delete", "a"]).await;
    assert_eq!(code(&asked), Some(1));
    assert!(stderr(&asked).contains("ink logs delete a --yes"));
    let deleted = run(&["logs", "delete", "a", "--yes"]).await;
    assert_eq!(stdout(&deleted), "deleted a\n");
    assert_eq!(code(&run(&["logs", "delete", "a", "--yes"]).await), Some(1));
}

#[tokio::test]
async fn a_file_that_was_changed_is_refused() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "a\nb\nc").unwrap();
    ink(&fake.address, &["append", "log", "--file", file], "").await;
    for (changed, why) in [("a\nb\ncd\n", "record 3"), ("a\n", "fewer lines")] {
        std::fs::write(&path, changed).unwrap();
        let refused = ink(&fake.address, &["append", "log", "--file", file], "").await;
        assert_eq!(code(&refused), Some(1));
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
    // Another first line: another file.
    std::fs::write(&path, "new\n").unwrap();
    let rotated = ink(&fake.address, &["append", "log", "--file", file], "").await;
    assert_eq!(code(&rotated), Some(0), "{}", stderr(&rotated));
    assert_eq!(fake.bodies(), ["a", "b", "c", "new"]);
}

#[tokio::test]
async fn an_unknown_outcome_exits_with_3() {
    let fake = Fake::start().await;
    fake.faults([Fault::Silence]);
    let unknown = ink(
        &fake.address,
        &["append", "log", "--timeout", "200ms"],
        "a\n",
    )
    .await;
    assert_eq!(code(&unknown), Some(3), "{}", stderr(&unknown));
    assert!(
        stderr(&unknown).starts_with("error: outcome unknown: "),
        "{}",
        stderr(&unknown)
    );
}

#[tokio::test]
async fn a_server_that_is_down_exits_with_1_even_for_an_append() {
    let server = nobody().await;
    for arguments in [&["read", "log"][..], &["append", "log"], &["logs", "list"]] {
        let arguments = [arguments, &["--timeout", "300ms"]].concat();
        let down = ink(&server, &arguments, "a\n").await;
        assert_eq!(code(&down), Some(1), "{arguments:?}: {}", stderr(&down));
        assert!(
            stderr(&down).contains("is the server running?"),
            "{}",
            stderr(&down)
        );
        assert_eq!(stderr(&down).lines().count(), 1, "{}", stderr(&down));
    }
}

#[tokio::test]
async fn a_bad_line_of_json_is_named_and_what_came_before_it_is_appended() {
    let fake = Fake::start().await;
    let bad = ink(
        &fake.address,
        &["append", "log", "--json"],
        "{\"body\":\"a\"}\noops\n",
    )
    .await;
    assert_eq!(code(&bad), Some(1));
    assert!(
        stderr(&bad).contains("error: line 2: not a record in JSON"),
        "{}",
        stderr(&bad)
    );
    assert_eq!(fake.bodies(), ["a"]);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let fake = Fake::start().await;
    fake.fill(0..200_000);
    let ink = env!("CARGO_BIN_EXE_ink");
    let script = format!(
        "{{ {ink} --server {} read log; echo $? >&2; }} | head -n 1",
        fake.address
    );
    let run = move || Command::new("sh").args(["-c", &script]).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(stdout(&output), "0\n");
    assert_eq!(stderr(&output), "0\n");
}

/// A device that takes nothing is a full disk.
#[test]
fn what_cannot_be_printed_is_a_failure_that_is_told() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let failed = Command::new(env!("CARGO_BIN_EXE_ink"))
        .args(["completions", "bash"])
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("can't write to standard output"), "{said}");
}
