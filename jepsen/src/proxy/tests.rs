//! Relays between ends that this process holds itself: it plays both nodes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(20);
/// Long enough for loopback to have delivered what is not held.
const A_MOMENT: Duration = Duration::from_millis(200);

/// Two nodes, of which the first is this process; a connection from it to the second, and the second's end of it.
async fn connected() -> (Proxies, TcpListener, TcpStream, TcpStream) {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap().to_string();
    let proxies = Proxies::start(&["127.0.0.1:1".to_owned(), address]).unwrap();
    proxies.links().set_process(0, Some(std::process::id()));
    let dialed = TcpStream::connect(proxies.address(1)).await.unwrap();
    let (accepted, _) = timeout(SOON, target.accept()).await.unwrap().unwrap();
    (proxies, target, dialed, accepted)
}

async fn receives(stream: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut found))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found, expected);
}

async fn receives_nothing(stream: &mut TcpStream) {
    let mut byte = [0];
    assert!(timeout(A_MOMENT, stream.read(&mut byte)).await.is_err());
}

#[tokio::test]
async fn a_held_direction_delivers_late_and_the_other_one_at_once() {
    let (proxies, _target, mut dialed, mut accepted) = connected().await;
    dialed.write_all(b"before").await.unwrap();
    receives(&mut accepted, b"before").await;

    proxies.links().hold(0, 1);
    dialed.write_all(b"held").await.unwrap();
    accepted.write_all(b"back").await.unwrap();
    receives(&mut dialed, b"back").await;
    receives_nothing(&mut accepted).await;

    proxies.links().heal();
    receives(&mut accepted, b"held").await;
}

#[tokio::test]
async fn the_way_back_can_be_held_alone() {
    let (proxies, _target, mut dialed, mut accepted) = connected().await;
    proxies.links().hold(1, 0);
    dialed.write_all(b"there").await.unwrap();
    receives(&mut accepted, b"there").await;
    accepted.write_all(b"back").await.unwrap();
    receives_nothing(&mut dialed).await;
    proxies.links().heal();
    receives(&mut dialed, b"back").await;
}

#[tokio::test]
async fn no_connection_is_made_while_one_direction_is_held() {
    for (from, to) in [(0, 1), (1, 0)] {
        let (proxies, target, ..) = connected().await;
        proxies.links().hold(from, to);
        let mut second = TcpStream::connect(proxies.address(1)).await.unwrap();
        second.write_all(b"hello").await.unwrap();
        assert!(timeout(A_MOMENT, target.accept()).await.is_err());
        proxies.links().split(&[0]);
        proxies.links().heal();
        let (mut accepted, _) = timeout(SOON, target.accept()).await.unwrap().unwrap();
        receives(&mut accepted, b"hello").await;
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_carried_too() {
    let (_proxies, _target, dialed, mut accepted) = connected().await;
    drop(dialed);
    let mut rest = Vec::new();
    let size = timeout(SOON, accepted.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(size.unwrap(), 0);
}

#[tokio::test]
async fn who_is_no_node_is_not_let_through() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap().to_string();
    let proxies = Proxies::start(&[address]).unwrap();
    let mut stranger = TcpStream::connect(proxies.address(0)).await.unwrap();
    let mut byte = [0];
    let answer = timeout(SOON, stream_end(&mut stranger, &mut byte)).await;
    assert_eq!(answer.unwrap(), 0);
}

/// Bytes that came before the end; a reset is an end, too.
async fn stream_end(stream: &mut TcpStream, byte: &mut [u8]) -> usize {
    stream.read(byte).await.unwrap_or(0)
}
