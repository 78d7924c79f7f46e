//! Clients that mean no good: they are refused or bounded, others are served all the while, and the node's memory stays
//! below a bound that its limits add up to.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use inkstone_client::{Client, IfExists, NewRecord, Reason};
use inkstone_jepsen::cluster::{Cluster, ClusterOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scene::{Stage, binary};

const LOG: &str = "hostile";
pub(crate) const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// One node, with a log and a client that behaves.
struct Scene {
    stage: Stage,
    client: Client,
    /// Its memory before anybody misbehaved.
    idle: u64,
}

impl Scene {
    async fn open() -> Self {
        let options = ClusterOptions {
            nodes: 1,
            tables: "client_connections_max = 512\n[log]\ntail_size = \"4MiB\"\n[search]\nenabled = false\n".to_owned(),
            ..ClusterOptions::new(binary())
        };
        let mut stage = Stage::open_with(options).await;
        let client = stage.cluster.client().expect("as the scene has it");
        client
            .create_log(LOG, IfExists::Fail)
            .await
            .expect("as the scene has it");
        // What a node takes for its first work it keeps: that is not the attackers'.
        for _ in 0..16 {
            let records = vec![NewRecord::new(vec![b'x'; 500_000]); 4];
            client
                .append(LOG, records)
                .await
                .expect("as the scene has it");
        }
        let idle = memory(&mut stage, 0);
        Self {
            stage,
            client,
            idle,
        }
    }

    fn address(&self) -> &str {
        self.stage.cluster.address(0)
    }

    fn peer_address(&self) -> String {
        peer_address(&self.stage.cluster, 0)
    }

    /// Others are served: an append and a read, each within a time that a person would wait.
    async fn others_are_served(&self) {
        let served = async {
            let receipt = self.client.append(LOG, vec![NewRecord::new("well")]).await;
            let offset = receipt.expect("appended").first_offset;
            let from = inkstone_client::ReadOptions {
                limit: Some(1),
                from: inkstone_client::Start::Offset(offset),
                ..inkstone_client::ReadOptions::new(LOG)
            };
            let records = crate::scene::read_all(&self.client, from).await;
            assert_eq!(records.expect("readable").len(), 1);
        };
        timeout(SOON, served).await.expect("others are not served");
    }

    /// What the attack has cost so far is below `bound`.
    fn memory_is_below(&mut self, bound: u64) -> u64 {
        let now = memory(&mut self.stage, 0);
        let more = now.saturating_sub(self.idle);
        assert!(more <= bound, "{} MiB more than idle", more / MIB);
        more
    }
}

/// Where other nodes reach that node.
pub(crate) fn peer_address(cluster: &Cluster, node: usize) -> String {
    let config = std::fs::read_to_string(cluster.config_file(node)).expect("as the scene has it");
    let line = config.lines().find(|line| line.starts_with("peer_listen"));
    let quoted = line.expect("as the scene has it").split('"').nth(1);
    quoted.expect("as the scene has it").to_owned()
}

/// Bytes of memory that a node's process has, but for files that it has mapped.
pub(crate) fn memory(stage: &mut Stage, node: usize) -> u64 {
    let id = stage.cluster.process(node).expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("in KiB").parse::<u64>().expect("a number") * 1_024
}

type Sender = h2::client::SendRequest<Bytes>;

/// A connection whose windows take anything, and the right to end it.
pub(crate) async fn attacker(address: &str) -> (Sender, tokio::task::JoinHandle<()>) {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size((1 << 31) - 1)
        .initial_connection_window_size((1 << 31) - 1)
        .initial_max_send_streams(100_000)
        .handshake::<_, Bytes>(socket)
        .await
        .expect("it speaks HTTP/2");
    let running = tokio::spawn(async move {
        drop(connection.await);
    });
    (sender, running)
}

pub(crate) fn request(path: &str) -> http::Request<()> {
    http::Request::builder()
        .method("POST")
        .uri(format!("http://node{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

/// As HTTP/2 and gRPC write their numbers.
fn big_endian(number: usize) -> [u8; 4] {
    let mut bytes = u32::try_from(number).expect("a small number").to_le_bytes();
    bytes.reverse();
    bytes
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(big_endian(message.len()));
    bytes.extend(message);
    bytes
}

/// `ReadRequest { log, follow: true }`, or any request whose first field is the log's name.
fn about_the_log() -> Vec<u8> {
    let name = u8::try_from(LOG.len()).expect("as the scene has it");
    [&[0x0a, name], LOG.as_bytes()].concat()
}

/// Runs an attack to its end while others are served.
async fn while_others_are_served(scene: &Scene, attack: impl Future<Output = ()>) {
    let mut attack = std::pin::pin!(attack);
    loop {
        tokio::select! {
            () = &mut attack => return,
            () = scene.others_are_served() => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_both_ports_is_let_go_and_others_are_served() {
    let mut scene = Scene::open().await;
    let ports = [scene.address().to_owned(), scene.peer_address()];
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let absurd = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let noise: Vec<u8> = (0..4_096_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let pieces: Vec<Vec<u8>> = vec![
        noise.clone(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        greeting[..10].to_vec(),
        [&greeting[..], &settings[..5]].concat(),
        [&greeting[..], &settings, &absurd].concat(),
        [&greeting[..], &settings, &noise].concat(),
        Vec::new(),
    ];
    let attack = async {
        let all = ports.iter().flat_map(|port| {
            pieces.iter().map(move |piece| async move {
                let mut socket = TcpStream::connect(port).await.unwrap();
                drop(socket.write_all(piece).await);
                let mut answer = Vec::new();
                // What can become HTTP/2 is asked by pings whether it lives; the rest is let go at once or after a while.
                let ended = timeout(SOON, socket.read_to_end(&mut answer)).await;
                assert!(ended.is_ok(), "it holds on to {} bytes", piece.len());
            })
        });
        futures::future::join_all(all).await;
    };
    while_others_are_served(&scene, attack).await;
    scene.memory_is_below(32 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_are_bounded_and_idle_ones_make_room() {
    let mut scene = Scene::open().await;
    let address = scene.address().to_owned();
    let mut open = Vec::new();
    // Idle ones, far more than there may be: each newer one takes an older one's place, so others always find one.
    let attack = async {
        for _ in 0..2_000 {
            // Both ends of every connection count against this process's and the node's descriptors.
            if open.len() > 300 {
                open.remove(0);
            }
            open.push(TcpStream::connect(&address).await.unwrap());
        }
    };
    while_others_are_served(&scene, attack).await;
    drop(open);

    // Busy ones: following reads on every place. Who comes then is told which bound it is.
    let mut busy = Vec::new();
    for _ in 0..512 {
        let (mut sender, running) = attacker(&address).await;
        let (answer, mut body) = sender
            .send_request(request("/inkstone.v1.Logs/AppendSession"), false)
            .unwrap();
        body.send_data(Bytes::new(), false).unwrap();
        busy.push((sender, running, answer, body));
    }
    let refused = loop {
        // The client that behaves holds a place of its own while it is not idle: the bound may be reached a little later.
        let late = Client::builder()
            .stick_to(address.as_str())
            .retry(inkstone_client::RetryPolicy::never())
            .build()
            .unwrap();
        if let Err(error) = late.append(LOG, vec![NewRecord::new("late")]).await {
            break error;
        }
        let (mut sender, running) = attacker(&address).await;
        let (answer, body) = sender
            .send_request(request("/inkstone.v1.Logs/AppendSession"), false)
            .unwrap();
        busy.push((sender, running, answer, body));
        assert!(busy.len() < 600, "there is no bound");
    };
    assert_eq!(refused.reason(), Some(Reason::Busy), "{refused:?}");
    let detail = refused.detail().unwrap();
    assert_eq!(
        detail.bound,
        Some(("client_connections_max".to_owned(), 512))
    );
    assert!(detail.retryable && detail.retry_after.is_some());
    // 512 connections of 192 KiB and as many requests of 16 KiB.
    scene.memory_is_below(104 * MIB);
    for (_, running, ..) in &busy {
        running.abort();
    }
    drop(busy);
    scene.others_are_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_the_bounds_are_refused_and_others_are_served() {
    let mut scene = Scene::open().await;
    let address = scene.address().to_owned();
    let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (mut held, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let (mut sender, running) = attacker(&address).await;
        for _ in 0..1_200 {
            // Beyond what the node lets a connection have open they wait on this side: nothing more is sent.
            let Ok((answer, body)) =
                sender.send_request(request("/inkstone.v1.Logs/AppendSession"), false)
            else {
                break;
            };
            let refused = Arc::clone(&refused);
            held.push(body);
            tokio::spawn(async move {
                if let Ok(answer) = answer.await
                    && answer
                        .headers()
                        .get("grpc-status")
                        .is_some_and(|code| code == "8")
                {
                    refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
            if sender.clone().ready().await.is_err() {
                break;
            }
        }
        connections.push((sender, running));
    }
    for _ in 0..5 {
        scene.others_are_served().await;
    }
    let refused = refused.load(std::sync::atomic::Ordering::Relaxed);
    // 8 x 1,024 were open at once; 2,048 and 8 of each are let in.
    assert!(refused > 1_000, "only {refused} were refused");
    // 2,112 requests of 16 KiB, and 6,000 refusals that nobody takes off.
    scene.memory_is_below(96 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_half_of_large_messages_holds_a_bounded_part_and_gives_way() {
    let mut scene = Scene::open().await;
    let address = scene.address().to_owned();
    let attack = async {
        let mut open = Vec::new();
        // 24 x 7 MiB, of messages that never end, is twice the room there is for requests.
        for _ in 0..24 {
            let (mut sender, running) = attacker(&address).await;
            let (answer, mut body) = sender
                .send_request(request("/inkstone.v1.Logs/Append"), false)
                .unwrap();
            let mut bytes = framed(&vec![0x0a; 8_000_000]);
            bytes.truncate(7 << 20);
            drop(body.send_data(bytes.into(), false));
            open.push((sender, running, answer, body));
        }
        let mut refused = 0;
        for (_, _, answer, _) in &mut open {
            let status = match timeout(SOON, answer).await.expect("it is answered") {
                Ok(answer) => answer.headers()["grpc-status"].to_str().unwrap().to_owned(),
                Err(error) => panic!("{error}"),
            };
            // Too slow, or no room: refused, and not carried out.
            assert!(["4", "8", "3"].contains(&status.as_str()), "{status}");
            refused += 1;
        }
        assert_eq!(refused, 24);
    };
    while_others_are_served(&scene, attack).await;
    // The room for appends twice (before and while it is decoded), and the connections' windows.
    scene.memory_is_below(2 * 72 * MIB + 8 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_its_answers_holds_a_bounded_part_and_is_cut_off() {
    let mut scene = Scene::open().await;
    let address = scene.address().to_owned();
    let mut attackers = Vec::new();
    // 32 x 64 reads of 32 MB each: if each were answered without being read, 64 GB.
    for _ in 0..32 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        // Windows as large as there are, so that nothing but the socket holds the node back.
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
        let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xfe, 0, 0];
        socket
            .write_all(&[&settings[..], &update].concat())
            .await
            .unwrap();
        for stream in 0..64_u32 {
            let ask = raw_request(
                2 * stream + 1,
                "/inkstone.v1.Logs/Read",
                &framed(&about_the_log()),
            );
            if socket.write_all(&ask).await.is_err() {
                break;
            }
        }
        attackers.push(socket);
    }
    for _ in 0..3 {
        scene.others_are_served().await;
    }
    // The room for reads' answers, three times; 32 connections; 2,048 requests. Windows are not used.
    scene.memory_is_below(72 * MIB + 32 * MIB + 32 * MIB);
    drop(attackers);
}

/// An append of one record that has nothing but so many empty attributes.
fn record_of_empty_attributes(count: usize) -> Vec<u8> {
    let attributes = [0x12, 0].repeat(count);
    let mut message = vec![0x12];
    let mut length = attributes.len();
    while length > 127 {
        message.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    message.push(length.to_le_bytes()[0]);
    message.extend(attributes);
    message
}

/// A request as HTTP/2 frames: headers without compression, and a body that ends.
fn raw_request(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "node"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).expect("short"));
            headers.extend(text.bytes());
        }
    }
    [
        raw_frame(1, 4, stream, &headers),
        raw_frame(0, 1, stream, body),
    ]
    .concat()
}

fn raw_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = big_endian(payload.len());
    let stream = big_endian(usize::try_from(stream).expect("a small number"));
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_headers_over_the_limits_are_refused_definitely() {
    let scene = Scene::open().await;
    let (sender, _running) = attacker(scene.address()).await;
    let ask = async |path: &str, bytes: Vec<u8>| {
        let (answer, mut body) = sender
            .clone()
            .ready()
            .await
            .unwrap()
            .send_request(request(path), false)
            .unwrap();
        drop(body.send_data(bytes.into(), true));
        let answer = timeout(SOON, answer)
            .await
            .expect("it is answered")
            .expect("not cut off");
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        (
            header("grpc-status").unwrap(),
            header("grpc-message").unwrap_or_default(),
            header("grpc-status-details-bin"),
        )
    };
    // One byte more than an append may have, an absurd length, a list request larger than any.
    for (path, bytes) in [
        ("/inkstone.v1.Logs/Append", vec![0, 0, 0x80, 0, 1]),
        ("/inkstone.v1.Logs/Append", vec![0, 0xff, 0xff, 0xff, 0xff]),
        ("/inkstone.v1.Admin/ListLogs", vec![0, 0, 1, 0, 1]),
    ] {
        let (code, message, details) = ask(path, bytes).await;
        assert_eq!(code, "3", "{path}: {message}");
        assert!(
            message.contains("the%20most") || message.contains("the most"),
            "{message}"
        );
        assert!(
            details.is_some(),
            "{path}: nothing says that it had no effect"
        );
    }
    // A message of 2 MB that would take 48 MB: nothing but empty attributes of one record.
    let message = record_of_empty_attributes(700_000);
    let (code, text, details) = ask("/inkstone.v1.Logs/Append", framed(&message)).await;
    assert_eq!(code, "3", "{text}");
    assert!(text.contains("attributes") && details.is_some(), "{text}");

    // Headers of 64 KiB: HTTP/2's own refusal, of this request alone.
    let mut large = request("/inkstone.v1.Admin/ListLogs");
    for number in 0..64 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        large
            .headers_mut()
            .insert(name, "y".repeat(1_000).parse().unwrap());
    }
    let (answer, _body) = sender
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(large, true)
        .unwrap();
    match timeout(SOON, answer).await.expect("it is answered") {
        Ok(answer) => assert_eq!(answer.status(), 431),
        // So much more than may be is an end to the connection, too.
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    scene.others_are_served().await;
}
