//! Bytes of earlier formats open forever: data directories as version 1 wrote them, and what they must give. Together they
//! have every structure of FORMAT.md.
//!
//! `INKSTONE_WRITE_FIXTURE=NAME cargo test -p inkstone-storage --test compat` writes a directory anew: for a new version
//! beside the old ones, never over one that was released.

mod first;
mod purged;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use inkstone_storage::error::WriteError;
use inkstone_storage::log::Done;

/// A fixture's directory; written first when that is asked for.
fn fixture(name: &str, write: impl FnOnce(&Path)) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let path = path.join(name);
    if std::env::var_os("INKSTONE_WRITE_FIXTURE").is_some_and(|wanted| wanted == name) {
        write(&path);
    }
    path
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for item in fs::read_dir(from).expect("the fixture") {
        let item = item.expect("the fixture");
        let target = to.join(item.file_name());
        if item.file_type().expect("the fixture").is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::write(target, fs::read(item.path()).expect("the fixture")).expect("a copy");
        }
    }
}

fn wait(change: impl FnOnce(Done) -> Result<(), WriteError>) {
    let (tx, rx) = mpsc::sync_channel(1);
    change(Box::new(move |outcome| drop(tx.send(outcome)))).expect("the log goes on");
    rx.recv().expect("answered").expect("durable");
}
