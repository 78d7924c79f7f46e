//! What the commands of `inkstone` print and the codes with which they end, as a shell sees them: the sessions in
//! `commands/`. Nothing here starts a node.

use std::process::Command;

use inkstone_storage::log::DirLock;

#[test]
fn the_commands_say_what_the_sessions_show() {
    trycmd::TestCases::new()
        .case("tests/commands/*.trycmd")
        .run();
}

#[test]
fn a_directory_in_use_is_not_checked() {
    let dir = tempfile::tempdir().unwrap();
    let held = DirLock::acquire(dir.path()).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_inkstone"))
        .arg("check")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.stdout, b"");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("is in use by another process"), "{said}");
    drop(held);
}

/// A device that takes nothing is a full disk.
#[test]
fn what_cannot_be_printed_is_a_failure_that_is_told() {
    for arguments in [&["config"][..], &["--help"]] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let failed = Command::new(env!("CARGO_BIN_EXE_inkstone"))
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let said = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains("can't write to standard output"), "{said}");
    }
}
