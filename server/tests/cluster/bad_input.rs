//! What people get wrong, and what they are told: one line that says what is wrong and what to do.

use std::path::Path;
use std::time::Duration;

use inkstone_client::{Client, Error, IfExists, NewRecord, ReadOptions, Reason, SearchOptions};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions, ports};
use inkstone_jepsen::process::Process;

use crate::members::start_waiting;
use crate::scene::{Stage, binary, read_all};

const SOON: Duration = Duration::from_secs(30);
/// The node could not start or run.
const FAILED: i32 = 1;
/// The command line or the configuration is wrong.
const USAGE: i32 = 2;

fn one_node() -> ClusterOptions {
    ClusterOptions {
        nodes: 1,
        ..ClusterOptions::new(binary())
    }
}

/// The refusal's message, which must be one line, for that reason.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>, expected: Reason) -> String {
    let error = result.expect_err("it was taken");
    let Error::Refused {
        reason, message, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(reason, expected, "{message}");
    assert!(
        !message.is_empty() && !message.contains('\n'),
        "{message:?}"
    );
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_refused_with_its_reason_in_one_line() {
    let stage = Stage::open_with(one_node()).await;
    let client = stage.cluster.client().unwrap();
    client.create_log("good", IfExists::Fail).await.unwrap();
    let record = || vec![NewRecord::new("x")];

    let message = refusal(
        client.append("nowhere", record()).await,
        Reason::LogNotFound,
    );
    assert!(message.contains("nowhere"), "{message}");
    let tail = client
        .tail("nowhere", inkstone_client::Consistency::Linearizable)
        .await;
    refusal(tail, Reason::LogNotFound);
    let read = read_all(&client, ReadOptions::new("nowhere")).await;
    let read = read.map_err(|error| error.downcast::<Error>().unwrap());
    refusal(read, Reason::LogNotFound);
    let search = client.search(SearchOptions::new("nowhere", "x")).await;
    refusal(search, Reason::LogNotFound);

    let again = client.create_log("good", IfExists::Fail).await;
    refusal(again, Reason::LogExists);
    for name in ["", "/good", "good/", "Good", "go od", "g\u{f6}\u{f6}d"] {
        let created = client.create_log(name, IfExists::Fail).await;
        refusal(created, Reason::Invalid);
    }
    let long = client
        .create_log(&"a".repeat(256), IfExists::Fail)
        .await
        .unwrap_err();
    let reason = long.reason();
    assert!(
        matches!(reason, Some(Reason::TooLarge | Reason::Invalid)),
        "{long:?}"
    );

    let large = vec![NewRecord::new(vec![b'x'; (1 << 20) + 1])];
    let message = refusal(client.append("good", large).await, Reason::TooLarge);
    assert!(
        message.contains("1048576") || message.contains("1 MiB"),
        "{message}"
    );
    let many = (0..10_001).map(|_| NewRecord::new("x")).collect();
    refusal(client.append("good", many).await, Reason::TooLarge);
    refusal(client.append("good", Vec::new()).await, Reason::Invalid);

    let bad = client
        .search(SearchOptions::new("good", "level:(error"))
        .await;
    let detail = bad.as_ref().unwrap_err().detail().cloned();
    refusal(bad, Reason::BadQuery);
    assert!(detail.unwrap().position.is_some());
    let deep = format!("{}x{}", "(".repeat(2_500), ")".repeat(2_500));
    let deep = client
        .search(SearchOptions::new("good", deep))
        .await
        .unwrap_err();
    assert!(
        matches!(deep.reason(), Some(Reason::QueryLimit | Reason::TooLarge)),
        "{deep:?}"
    );

    // None of it had an effect, and the node still serves.
    let receipt = client.append("good", record()).await.unwrap();
    assert_eq!(receipt.first_offset, 0);
}

/// Runs the server until it ends by itself: its exit code and what it said.
async fn run(arguments: &[&str], dir: &Path) -> (Option<i32>, String) {
    let mut process = Process::spawn(&binary(), arguments, dir).expect("it starts");
    match process.exited(SOON).await {
        Ok(status) => (status.code(), process.stderr()),
        Err(error) => panic!("{arguments:?}: {error:#}\n{}", process.stderr()),
    }
}

async fn serve(config: &str, dir: &Path) -> (Option<i32>, String) {
    let file = dir.join("inkstone.toml");
    std::fs::write(&file, config).expect("the configuration can be written");
    run(
        &[
            "serve",
            "--config",
            file.to_str().expect("the name is UTF-8"),
        ],
        dir,
    )
    .await
}

/// The one line of the output that is the error.
#[track_caller]
fn error_line(stderr: &str) -> &str {
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("inkstone: error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0]
}

#[track_caller]
fn says(outcome: &(Option<i32>, String), code: i32, words: &[&str]) {
    let (exit, stderr) = outcome;
    assert_eq!(*exit, Some(code), "{stderr}");
    let line = error_line(stderr);
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
}

fn config(dir: &Path, lines: &str) -> String {
    let port = ports::free_pair().expect("a port is free");
    format!(
        "data_dir = \"{}\"\nclient_listen = \"127.0.0.1:{port}\"\npeer_listen = \"127.0.0.1:{}\"\n\
         bootstrap_expect = 1\n{lines}\n",
        dir.join("data").display(),
        port + 1,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_is_refused_in_one_line_that_names_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let unknown_key = serve(&config(dir.path(), "segment_sizes = 5"), dir.path()).await;
    says(&unknown_key, USAGE, &["segment_sizes", "inkstone.toml"]);
    let wrong_type = serve(
        &config(dir.path(), "[log]\nsegment_size = \"big\""),
        dir.path(),
    )
    .await;
    says(&wrong_type, USAGE, &["segment_size"]);
    let bad_address = serve(&config(dir.path(), "seeds = [\"nowhere\"]"), dir.path()).await;
    says(&bad_address, USAGE, &["nowhere"]);
    let missing = dir.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    let missing = run(&["serve", "--config", missing], dir.path()).await;
    says(&missing, USAGE, &["missing.toml"]);
    let (exit, _) = run(&["serve", "--no-such-flag"], dir.path()).await;
    assert_eq!(exit, Some(USAGE));
    assert!(
        !dir.path().join("data").exists(),
        "a refused configuration leaves no directory"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_and_a_directory_in_use_are_refused_by_name() {
    let stage = Stage::open_with(one_node()).await;
    let cluster = &stage.cluster;
    let dir = tempfile::tempdir().unwrap();

    // Another directory, the same addresses.
    let same_address = cluster.config(0, &dir.path().join("data"), "");
    let outcome = serve(&same_address, dir.path()).await;
    says(&outcome, FAILED, &["in use", "127.0.0.1:"]);

    // The same directory, other addresses.
    let port = ports::free_pair().unwrap();
    let same_directory = format!(
        "data_dir = \"{}\"\nclient_listen = \"127.0.0.1:{port}\"\npeer_listen = \"127.0.0.1:{}\"\n\
         bootstrap_expect = 1\n",
        cluster.data_dir(0).display(),
        port + 1,
    );
    let outcome = serve(&same_directory, dir.path()).await;
    says(&outcome, FAILED, &["in use by another process"]);
    // The node that holds both did not notice.
    cluster
        .client()
        .unwrap()
        .create_log("still-here", IfExists::Fail)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_and_a_node_of_another_cluster_do_not_join() {
    let mut stage = Stage::open().await;
    let cluster = &mut stage.cluster;
    let follower = (cluster.leader().await.unwrap() + 1) % 3;
    assert!(cluster.terminate(follower).await.unwrap().success());
    let data_dir = cluster.data_dir(follower);
    let kept = data_dir.with_extension("kept");

    // Wiped: it would be a new member under a new id, and waits until somebody adds it.
    copy_dir(&data_dir, &kept);
    std::fs::remove_dir_all(&data_dir).unwrap();
    let new_id = start_waiting(cluster, follower).await.unwrap();
    let status = cluster.client().unwrap().cluster_status().await.unwrap();
    assert!(status.nodes.iter().all(|node| node.node.id != new_id));
    cluster.kill(follower).unwrap();

    // Another cluster's directory.
    std::fs::remove_dir_all(&data_dir).unwrap();
    let mut other = Cluster::start(one_node()).await.unwrap();
    assert!(other.terminate(0).await.unwrap().success());
    copy_dir(&other.data_dir(0), &data_dir);
    let outcome = end_of(cluster, follower).await;
    says(&outcome, FAILED, &["cluster"]);

    // Its own directory is welcome again, and the others were never disturbed.
    std::fs::remove_dir_all(&data_dir).unwrap();
    copy_dir(&kept, &data_dir);
    cluster.restart(follower).await.unwrap();
    let client: Client = cluster.client_of(follower).unwrap();
    client.create_log("welcome", IfExists::Fail).await.unwrap();
    assert_eq!(client.cluster_status().await.unwrap().nodes.len(), 3);
}

/// Starts a node that must not be able to run: its exit code and what it said.
async fn end_of(cluster: &mut Cluster, node: usize) -> (Option<i32>, String) {
    cluster.spawn(node).expect("it starts");
    let process = cluster.process(node).expect("it was started");
    let outcome = match process.exited(SOON).await {
        Ok(status) => (status.code(), process.stderr()),
        Err(error) => panic!("{error:#}\n{}", process.stderr()),
    };
    cluster.kill(node).expect("it has ended");
    outcome
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the directory can be made");
    for entry in std::fs::read_dir(from).expect("the directory can be listed") {
        let entry = entry.expect("its entries can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}
