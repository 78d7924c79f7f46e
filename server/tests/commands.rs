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
