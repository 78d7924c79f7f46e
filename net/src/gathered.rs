//! A socket that sends once what is written to it in one turn of the runtime.
//!
//! HTTP/2 flushes whenever it has nothing more to send at that moment. The parts of one request (headers, message, end of
//! the stream) come from tasks that take turns, and so do the requests of many callers on one connection: sent one by
//! one, each costs a system call here, a packet, and a wake-up over there.
//!
//! Promises: a flush waits for the tasks that are ready on this thread, at most as many as the runtime lets run between two
//! looks at its sockets; what is large is not copied, and does not wait; at most [`GATHERED_MAX`] bytes are held, and few
//! while nothing waits. It is for connections that have a task of their own. Must not know: HTTP.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered; what would make them more is written through.
const GATHERED_MAX: usize = 16 << 10;
/// Bytes of memory that are kept while nothing waits.
const KEPT_MAX: usize = 4 << 10;

/// A socket of that kind.
#[derive(Debug)]
pub struct Gathered<S> {
    inner: S,
    waiting: Vec<u8>,
    /// Of what waits, so much is sent.
    sent: usize,
    turn: Arc<Turn>,
    stage: Stage,
}

/// Where a flush stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has asked for one since the last.
    Idle,
    /// The other tasks have their turn.
    Yielding,
    /// It is sent.
    Sending,
}

/// Told when the other tasks had their turn.
#[derive(Debug, Default)]
struct Turn {
    is_over: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<S> Gathered<S> {
    /// Around a socket.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            waiting: Vec::new(),
            sent: 0,
            turn: Arc::default(),
            stage: Stage::Idle,
        }
    }

    /// Whether the other tasks have had their turn; else the task is woken when they have.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.stage == Stage::Idle {
            self.stage = Stage::Yielding;
            self.turn.is_over.store(false, Ordering::Release);
            self.turn.task.register(context.waker());
            let told = Waker::from(Arc::clone(&self.turn));
            // The first poll leaves the waker with the runtime, which calls it once everybody else has run.
            let yielded = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&told));
            return yielded;
        }
        self.turn.task.register(context.waker());
        if self.stage == Stage::Yielding && !self.turn.is_over.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Sends what waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stage = Stage::Sending;
        while self.sent < self.waiting.len() {
            let rest = &self.waiting[self.sent..];
            let sent = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.stage = Stage::Idle;
        self.sent = 0;
        if self.waiting.capacity() > KEPT_MAX {
            self.waiting = Vec::new();
        } else {
            self.waiting.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes room for a write that is gathered: in two sizes, so that no more is taken than is counted.
    fn make_room(&mut self, size: usize) {
        let needed = self.waiting.len() + size;
        if needed > self.waiting.capacity() {
            let capacity = if needed > KEPT_MAX {
                GATHERED_MAX
            } else {
                KEPT_MAX
            };
            self.waiting.reserve_exact(capacity - self.waiting.len());
        }
    }

    /// Takes a write of `size` bytes if it is one to gather.
    fn gathers(&self, size: usize) -> bool {
        self.waiting.len() + size <= GATHERED_MAX
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gathers(bytes.len()) {
            self.make_room(bytes.len());
            self.waiting.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = pieces.iter().map(|piece| piece.len()).sum();
        if self.gathers(size) {
            self.make_room(size);
            for piece in pieces {
                self.waiting.extend_from_slice(piece);
            }
            return Poll::Ready(Ok(size));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            ready!(self.poll_turn(context));
            ready!(self.poll_send(context))?;
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
