//! A socket that is not read from while it can't be written to.
//!
//! Promises: a client that does not read its answers can't ask for more: what is unsent of them stays what was asked for
//! before. A client that reads is never held back by this. Must not know: HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket of that kind.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    /// Who would read, while a write waits.
    reader: Option<Waker>,
    is_blocked: bool,
    received: Arc<AtomicU64>,
}

impl<S> Guarded<S> {
    /// Around a socket.
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            reader: None,
            is_blocked: false,
            received: Arc::default(),
        }
    }

    /// Bytes that were received, now and later.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        self.is_blocked = written.is_pending();
        if !self.is_blocked
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_blocked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let received = buffer.filled().len() - before;
        self.received.fetch_add(received as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn it_is_not_read_from_until_what_was_written_can_go() {
        let (near, mut far) = duplex(4);
        let mut near = Guarded::new(near);
        far.write_all(b"ask").await.unwrap();
        near.write_all(b"full").await.unwrap();
        assert!(futures::poll!(Box::pin(near.write(b"x"))).is_pending());
        let mut byte = [0];
        assert!(futures::poll!(Box::pin(near.read(&mut byte))).is_pending());
        far.read_exact(&mut byte).await.unwrap();
        near.write_all(b"x").await.unwrap();
        near.read_exact(&mut byte).await.unwrap();
        assert_eq!((byte, near.received().load(Ordering::Relaxed)), ([b'a'], 1));
    }
}
