//! Small files that break one rule each, and small files that look like it and break none.

use super::check;

/// What `check` reports for a file with a module doc and this code behind it, as `line: what`.
fn reported(file: &str, code: &str) -> Vec<String> {
    check(file, &format!("//! Doc.\n{code}"))
        .into_iter()
        .map(|violation| format!("{}: {}", violation.line, violation.what))
        .collect()
}

#[track_caller]
fn breaks(file: &str, code: &str, what: &str) {
    let reported = reported(file, code);
    let hits = reported
        .iter()
        .filter(|report| report.contains(what))
        .count();
    assert_eq!(
        (hits, reported.len()),
        (1, 1),
        "{file}: {code}: {what} expected, got {reported:?}"
    );
}

#[track_caller]
fn breaks_nothing(file: &str, code: &str) {
    assert_eq!(reported(file, code), [""; 0], "{file}: {code}");
}

#[test]
fn packages_name_only_those_below_them() {
    breaks(
        "jepsen/src/lib.rs",
        "use inkstone_proto::v1;",
        "2: jepsen may not name proto",
    );
    breaks(
        "jepsen/src/a.rs",
        "fn f() { inkstone_server::g() }",
        "jepsen may not name server",
    );
    breaks(
        "client/src/lib.rs",
        "use inkstone_storage::types::Vote;",
        "client may not name storage",
    );
    breaks(
        "storage/tests/a.rs",
        "use inkstone_proto::v1;",
        "storage may not name proto",
    );
    breaks(
        "server/src/node.rs",
        "use inkstone_client::Client;",
        "server may not name client",
    );
    breaks_nothing("jepsen/src/lib.rs", "use inkstone_client::Client;");
    breaks_nothing(
        "client/src/bin/ink/main.rs",
        "use inkstone_client::Client; use inkstone_proto::v1;",
    );
    breaks_nothing(
        "server/tests/cluster/main.rs",
        "use inkstone_jepsen::Cluster;",
    );
    breaks_nothing(
        "jepsen/src/lib.rs",
        "// inkstone_proto::v1\nconst S: &str = \"inkstone_proto::v1\";",
    );
}

#[test]
fn storage_s_layers_hold() {
    breaks(
        "storage/src/search/feed.rs",
        "use crate::log::Log;",
        "search may not name log",
    );
    breaks(
        "storage/src/log/read.rs",
        "use crate::search::open;",
        "log may not name search",
    );
    breaks(
        "storage/src/log/read.rs",
        "use crate::{error::ReadError, search};",
        "log may not name search",
    );
    breaks(
        "storage/src/log/mod.rs",
        "use super::search;",
        "log may not name search",
    );
    breaks(
        "storage/src/log/segment/active.rs",
        "use super::super::super::search::open;",
        "search",
    );
    breaks(
        "storage/src/log/mod.rs",
        "mod tests { use super::super::search; }",
        "log may not name search",
    );
    breaks(
        "storage/src/format/frame.rs",
        "fn f(disk: &crate::io::Disk) {}",
        "format may not name io",
    );
    breaks(
        "storage/src/types.rs",
        "use crate::format::batch;",
        "types may not name format",
    );
    breaks(
        "storage/src/search/mod.rs",
        "use crate::format::batch;",
        "search may not name format",
    );
    breaks(
        "storage/src/extra/mod.rs",
        "use std::io;",
        "module extra has no layer",
    );
    breaks_nothing(
        "storage/src/log/read.rs",
        "use crate::{error, format::{batch, frame}, io::Disk};",
    );
    breaks_nothing(
        "storage/src/log/mod.rs",
        "use self::search::Found; mod tests { use super::search; }",
    );
    breaks_nothing(
        "storage/src/lib.rs",
        "pub use crate::log::Log; pub use crate::search::open;",
    );
}

#[test]
fn the_server_s_layers_hold() {
    breaks(
        "server/src/raft/repair.rs",
        "use crate::grpc::peer::Peer;",
        "raft may not name grpc",
    );
    breaks(
        "server/src/tail.rs",
        "use crate::raft::Group;",
        "tail may not name raft",
    );
    breaks(
        "server/src/clock.rs",
        "use crate::config::Config;",
        "clock may not name config",
    );
    breaks(
        "server/src/grpc/read.rs",
        "use crate::node::Node;",
        "grpc may not name node",
    );
    breaks_nothing(
        "server/src/main.rs",
        "use inkstone_server::node::Node; use inkstone_server::config;",
    );
    breaks_nothing(
        "server/src/node.rs",
        "use crate::{clock, config, grpc, raft, tail};",
    );
}

#[test]
fn fenced_crates_stay_behind_their_door() {
    breaks(
        "server/src/node.rs",
        "use openraft::Raft;",
        "openraft is named outside of server/src/raft/",
    );
    breaks(
        "server/src/node.rs",
        "use ::openraft as raft;",
        "openraft is named outside",
    );
    breaks(
        "server/src/grpc/read.rs",
        "fn f() -> openraft::Vote { g() }",
        "openraft is named outside",
    );
    breaks(
        "server/tests/sim/main.rs",
        "use openraft_rt::Runtime;",
        "openraft_rt is named outside",
    );
    breaks(
        "storage/src/log/mod.rs",
        "use tantivy::Index;",
        "tantivy is named outside of storage/src/search/",
    );
    breaks_nothing("server/src/raft/network.rs", "use openraft::Raft;");
    breaks_nothing("server/src/grpc/peer.rs", "use openraft::Raft;");
    breaks_nothing("storage/src/search/feed.rs", "use tantivy::Index;");
}

#[test]
fn storage_has_no_runtime_network_or_clock() {
    breaks(
        "storage/src/log/writer.rs",
        "use tokio::sync::mpsc;",
        "storage may not name tokio",
    );
    breaks(
        "storage/tests/crash.rs",
        "#[tokio::test] async fn f() {}",
        "storage may not name tokio",
    );
    breaks(
        "storage/src/io/real.rs",
        "use tonic::Status;",
        "storage may not name tonic",
    );
    breaks(
        "storage/src/log/writer.rs",
        "let t = std::time::Instant::now();",
        "may not read a clock",
    );
    breaks(
        "storage/src/log/writer.rs",
        "use std::time::SystemTime;",
        "may not read a clock",
    );
    breaks_nothing(
        "storage/src/log/writer.rs",
        "fn f(at: Instant, tokio: u8) { g(tokio) }",
    );
    breaks_nothing("server/src/clock.rs", "let t = std::time::Instant::now();");
}

/// In pieces, so that whoever looks for what is silenced or unfinished in this tree finds only what is.
const SILENCED: &str = concat!("[al", "low(dead_code)]");
const UNFINISHED: [&str; 2] = [concat!("to", "do"), concat!("unimple", "mented")];

#[test]
fn words_that_no_file_may_contain_are_found() {
    breaks(
        "storage/src/io/real.rs",
        "fn f() { unsafe { g() } }",
        "2: unsafe outside of",
    );
    breaks(
        "client/src/lib.rs",
        &format!("\n#{SILENCED}\nfn f() {{}}"),
        "3: #[allow]",
    );
    breaks("client/src/lib.rs", &format!("#!{SILENCED}"), "#[allow]");
    breaks(
        "client/src/lib.rs",
        "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        "#[allow]",
    );
    for word in UNFINISHED {
        let text = format!("fn f() {{ {word}!() }}");
        breaks("client/src/lib.rs", &text, &format!("{word}! is left"));
    }
    breaks_nothing("storage/src/io/mmap.rs", "fn f() { unsafe { g() } }");
    let look = "fn f() { metrics.borrow_watched() }";
    breaks("server/src/raft/a.rs", look, "a look at Raft's state");
    breaks_nothing("server/src/raft/look.rs", look);
    let [unfinished, _] = UNFINISHED;
    let comment = format!(
        "#![deny(unsafe_code)] // unsafe, {unfinished}!(), #[{}(x)]",
        "allow"
    );
    breaks_nothing("client/src/lib.rs", &comment);
    breaks_nothing(
        "client/src/lib.rs",
        "#[expect(x, reason = \"todo!\")] fn allow() { allow() }",
    );
}

#[test]
fn files_open_with_a_doc_and_end_in_time() {
    let without = check("client/src/lib.rs", "// No doc.\n//! Too late.\n");
    assert_eq!(without.len(), 1, "{without:?}");
    let long = "fn f() {}\n".repeat(499);
    breaks_nothing("client/src/lib.rs", &long);
    breaks(
        "client/src/lib.rs",
        &format!("{long}\n"),
        "501: 501 lines before its tests",
    );
    breaks(
        "client/src/lib.rs",
        &format!("#[cfg(test)]\nmod tests;\n{long}"),
        "502 lines",
    );
    breaks_nothing(
        "client/src/lib.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"),
    );
    breaks_nothing("client/src/tests.rs", &format!("{long}{long}"));
}

#[test]
fn paths_of_one_machine_are_found_in_any_text() {
    for dir in super::MACHINE_DIRS {
        let path = format!("/{dir}/somebody/x");
        let what = format!("a path of one machine: /{dir}/");
        breaks(
            "client/src/lib.rs",
            &format!("const P: &str = \"{path}\"; // why"),
            &what,
        );
        breaks("README.md", &format!("see {path}"), &what);
        breaks(".ci/run", &format!("cd {path}"), &what);
        breaks_nothing(
            "README.md",
            &format!("https://example.org{path} and a{path}"),
        );
    }
}

#[test]
fn documents_that_are_elsewhere_are_found_in_source_and_contract() {
    let promise = |number: u8| format!("P{number}");
    for word in [super::DOCUMENT_ELSEWHERE.to_owned(), promise(1), promise(9)] {
        let what = format!("{word} can't be looked up here");
        breaks("client/src/lib.rs", &format!("// As in {word}.md"), &what);
        breaks("proto/a.proto", &format!("// So it is ({word})."), &what);
        breaks_nothing("README.md", &format!("see {word}"));
    }
    let others = format!("// {} {}x x{}", promise(0), promise(1), promise(1));
    breaks_nothing("client/src/lib.rs", &others);
}

#[test]
fn manifests_keep_the_same_edges() {
    breaks(
        "storage/Cargo.toml",
        "[dependencies]\ntokio.workspace = true",
        "may not depend on tokio",
    );
    breaks(
        "jepsen/Cargo.toml",
        "[dependencies]\ninkstone-proto.workspace = true",
        "3: jepsen",
    );
    breaks(
        "client/Cargo.toml",
        "[dev-dependencies]\ntantivy = \"1\"",
        "may not depend on tantivy",
    );
    breaks(
        "server/Cargo.toml",
        "[dependencies]\ninkstone-client.workspace = true",
        "inkstone_client",
    );
    breaks(
        "client/Cargo.toml",
        "[build-dependencies]\nopenraft-rt = \"1\"",
        "openraft_rt",
    );
    breaks_nothing(
        "server/Cargo.toml",
        "[dev-dependencies]\ninkstone-client.workspace = true",
    );
    breaks_nothing(
        "server/Cargo.toml",
        "[dependencies]\nopenraft.workspace = true",
    );
    breaks_nothing(
        "Cargo.toml",
        "[workspace.dependencies]\ntokio = \"1\"\ninkstone-proto = \"1\"",
    );
}
