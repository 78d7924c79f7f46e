//! What a socket that gathers sends, and when.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

/// A socket that takes everything, and remembers the size of each write.
#[derive(Debug, Clone, Default)]
struct Taken(Arc<Mutex<Vec<usize>>>);

impl Taken {
    fn sizes(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().push(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A task that flushes whenever it was given something, as an HTTP/2 connection does.
async fn connection(taken: Taken, mut given: tokio::sync::mpsc::Receiver<usize>) {
    let mut socket = Gathered::new(taken);
    let mut is_flushed = true;
    loop {
        tokio::select! {
            biased;
            size = given.recv() => match size {
                Some(size) => {
                    socket.write_all(&vec![0; size]).await.unwrap();
                    is_flushed = false;
                }
                None => break,
            },
            flushed = socket.flush(), if !is_flushed => {
                flushed.unwrap();
                is_flushed = true;
            }
        }
    }
    socket.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_several_tasks_give_in_one_turn_is_sent_at_once() {
    let taken = Taken::default();
    let (give, given) = tokio::sync::mpsc::channel(3);
    let connection = tokio::spawn(connection(taken.clone(), given));
    for size in [9, 1_000, 9] {
        let give = give.clone();
        tokio::spawn(async move { give.send(size).await.unwrap() });
    }
    while taken.sizes().is_empty() {
        tokio::task::yield_now().await;
    }
    give.send(5).await.unwrap();
    drop(give);
    connection.await.unwrap();
    assert_eq!(taken.sizes(), [1_018, 5]);
}

#[tokio::test]
async fn what_is_large_is_neither_copied_nor_overtaken() {
    let taken = Taken::default();
    let mut socket = Gathered::new(taken.clone());
    socket.write_all(b"before").await.unwrap();
    socket.write_all(&vec![0; GATHERED_MAX]).await.unwrap();
    assert_eq!(taken.sizes(), [6, GATHERED_MAX]);
    socket.write_all(b"after").await.unwrap();
    socket.flush().await.unwrap();
    assert_eq!(taken.sizes(), [6, GATHERED_MAX, 5]);
}

#[tokio::test]
async fn a_flush_waits_for_a_socket_that_takes_little_and_no_byte_is_lost() {
    let (near, mut far) = duplex(3);
    let mut socket = Gathered::new(near);
    let sent = tokio::spawn(async move {
        socket.write_all(b"gathered").await.unwrap();
        socket.flush().await.unwrap();
        socket.write_all(b", and more").await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    sent.await.unwrap();
    assert_eq!(all, "gathered, and more");
}

/// A socket that is closed on the other side.
#[tokio::test]
async fn an_error_of_the_socket_is_the_flushs() {
    let (near, far) = duplex(3);
    drop(far);
    let mut socket = Gathered::new(near);
    socket.write_all(b"x").await.unwrap();
    assert!(socket.flush().await.is_err());
}
