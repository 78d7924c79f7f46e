//! The bytes of requests on their way in: a bounded number of them for all callers together, taken before a message is
//! decoded.
//!
//! Promises: a message that is too large, too slow or weighs too much is refused before it is decoded, with its reason
//! (nothing of it was carried out); who stands still in the middle of a message while others wait is refused in their favour;
//! what a message takes is given back once it was decoded and carried on. Must not know: what a request asks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::grpc::error;
use crate::grpc::limits::{INTAKE_WAIT, MESSAGE_TIMEOUT, STALL_SIZE_MIN, STALL_TICK};
use crate::grpc::weight::{Scanner, Unfit};

/// Bytes that one permit stands for.
const PERMIT_SIZE: usize = 1 << 10;
/// Before every message of a gRPC stream: a flag, and the message's length in four bytes.
const HEADER_SIZE: usize = 5;

/// The room for requests of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct IntakeRoom {
    size: usize,
    message_size_max: usize,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl IntakeRoom {
    /// So many bytes for all, and for one message.
    pub(crate) fn new(size: usize, message_size_max: usize) -> Self {
        Self {
            size,
            message_size_max,
            permits: Arc::new(Semaphore::new(size / PERMIT_SIZE)),
            waiting: Arc::default(),
        }
    }

    fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// How a kind of request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One message, at once.
    Message,
    /// One message, which is an append.
    Append,
    /// Messages one by one, with any time between them.
    Stream,
    /// Messages one by one, each an append, with any time between them.
    Session,
}

impl Shape {
    fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::Session)
    }

    fn scanner(self) -> Option<Scanner> {
        matches!(self, Self::Append | Self::Session).then(Scanner::new)
    }
}

/// Where one message ends and the next one begins, and what the one that is not complete weighs.
#[derive(Debug)]
struct Messages {
    shape: Shape,
    size_max: usize,
    header: [u8; HEADER_SIZE],
    /// Bytes of the next message's header that have come.
    header_size: usize,
    /// Bytes that the message lacks.
    left: usize,
    weight: usize,
    scanner: Option<Scanner>,
    /// Messages that have come whole.
    complete: u64,
}

impl Messages {
    fn new(shape: Shape, size_max: usize) -> Self {
        Self {
            shape,
            size_max,
            header: [0; HEADER_SIZE],
            header_size: 0,
            left: 0,
            weight: 0,
            scanner: None,
            complete: 0,
        }
    }

    /// Whether nothing has to come: between two messages of a stream, behind the one of another request.
    fn may_rest(&self) -> bool {
        self.weight == 0 && (self.shape.is_stream() || self.complete > 0)
    }

    /// The next bytes: what they weigh.
    fn take(&mut self, mut bytes: &[u8]) -> Result<usize, Status> {
        let mut weight = 0;
        while !bytes.is_empty() {
            if self.left == 0 && self.header_size < HEADER_SIZE {
                let here = bytes.len().min(HEADER_SIZE - self.header_size);
                let (now, later) = bytes.split_at(here);
                self.header[self.header_size..][..here].copy_from_slice(now);
                self.header_size += here;
                (bytes, weight) = (later, weight + here);
                self.weight += here;
                if self.header_size == HEADER_SIZE {
                    weight += self.begin()?;
                }
                continue;
            }
            let here = bytes.len().min(self.left);
            let (now, later) = bytes.split_at(here);
            let beside = match &mut self.scanner {
                Some(scanner) => scanner.scan(now).map_err(unfit)?,
                None => 0,
            };
            (bytes, weight) = (later, weight + beside);
            self.weight += beside;
            self.left -= here;
            if self.left == 0 {
                self.end();
            }
        }
        Ok(weight)
    }

    /// The whole message is counted at its beginning: who has room for it never waits for more with that in hand, which
    /// is how all would come to wait for all.
    fn begin(&mut self) -> Result<usize, Status> {
        let [_, length @ ..] = self.header;
        self.left = usize::try_from(be_u32(length)).unwrap_or(usize::MAX);
        if self.left > self.size_max {
            let (size, most) = (self.left, self.size_max);
            let message = format!(
                "the request is {size} bytes long, and {most} is the most; send less at once"
            );
            return Err(error::too_large("message_size_max", most, message));
        }
        self.scanner = self.shape.scanner();
        let size = self.left;
        self.weight += size;
        if self.left == 0 {
            self.end();
        }
        Ok(size)
    }

    fn end(&mut self) {
        self.header_size = 0;
        self.weight = 0;
        self.scanner = None;
        self.complete += 1;
    }
}

/// gRPC's lengths are big-endian.
fn be_u32(bytes: [u8; 4]) -> u32 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn unfit(unfit: Unfit) -> Status {
    use inkstone_storage::limits::{ATTRIBUTES_MAX, BATCH_RECORDS_MAX};
    match unfit {
        Unfit::TooManyRecords => error::too_large(
            "batch_records_max",
            BATCH_RECORDS_MAX,
            format!("the batch has more than {BATCH_RECORDS_MAX} records; split it"),
        ),
        Unfit::TooManyAttributes => error::too_large(
            "attributes_max",
            ATTRIBUTES_MAX,
            format!(
                "the batch has records of more than {ATTRIBUTES_MAX} attributes; leave some out"
            ),
        ),
        Unfit::Malformed => error::invalid(
            "the message is not an AppendRequest; send what inkstone/v1/logs.proto describes",
        ),
    }
}

/// The body of one request.
pub(crate) struct Intake<B> {
    inner: B,
    room: IntakeRoom,
    messages: Messages,
    held: Option<OwnedSemaphorePermit>,
    /// What has come and has no room yet.
    kept: Option<(Bytes, Wait)>,
    /// Looks at a message that is not complete, from time to time.
    watch: Option<Watch>,
}

struct Wait {
    turn: BoxFuture<'static, OwnedSemaphorePermit>,
    /// One more who waits.
    _counted: Waiting,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Watch {
    tick: Pin<Box<Sleep>>,
    ticks: u32,
    /// Bytes that have come since the last tick.
    progress: usize,
}

impl<B> Intake<B> {
    /// Counts `inner` against `room`.
    pub(crate) fn new(inner: B, room: &IntakeRoom, shape: Shape) -> Self {
        Self {
            inner,
            room: room.clone(),
            messages: Messages::new(shape, room.message_size_max),
            held: None,
            kept: None,
            watch: None,
        }
    }

    /// Who asks for more has decoded what it got, but for the message that is not complete.
    fn release(&mut self) {
        let needed = self.messages.weight.div_ceil(PERMIT_SIZE);
        if let Some(held) = &mut self.held {
            drop(held.split(held.num_permits().saturating_sub(needed)));
        }
    }

    /// Takes room for what has come, now or when it is its turn.
    fn admit(&mut self, weight: usize) -> Option<Wait> {
        let wanted = weight.div_ceil(PERMIT_SIZE);
        let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(&self.room.permits).try_acquire_many_owned(permits) {
            self.hold(permit);
            return None;
        }
        self.room.waiting.fetch_add(1, Ordering::Relaxed);
        let counted = Waiting(Arc::clone(&self.room.waiting));
        let room = Arc::clone(&self.room.permits);
        Some(Wait {
            turn: Box::pin(async move {
                let permit = room.acquire_many_owned(permits).await;
                permit.expect("the semaphore is never closed")
            }),
            _counted: counted,
        })
    }

    fn hold(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }

    /// Nothing can be done now: looks whether that has lasted too long.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if self.kept.is_none() && self.messages.may_rest() {
            self.watch = None;
            return Poll::Pending;
        }
        let watch = self.watch.get_or_insert_with(|| Watch {
            tick: Box::pin(sleep(STALL_TICK)),
            ticks: 0,
            progress: 0,
        });
        loop {
            ready!(watch.tick.as_mut().poll(context));
            watch.ticks += 1;
            let lasted = STALL_TICK * watch.ticks;
            if let Some(refusal) = refusal(&self.room, self.kept.is_some(), lasted, watch.progress)
            {
                tracing::debug!(%refusal, ?lasted, "a request is refused while it comes in");
                return Poll::Ready(refusal);
            }
            watch.progress = 0;
            watch.tick = Box::pin(sleep(STALL_TICK));
        }
    }
}

/// Why a message that was begun so long ago, of which so much came since the last look, is not waited for any longer.
fn refusal(room: &IntakeRoom, has_come: bool, lasted: Duration, progress: usize) -> Option<Status> {
    if has_come {
        return (lasted >= INTAKE_WAIT).then(|| error::busy("intake_size_max", room.size));
    }
    if lasted >= MESSAGE_TIMEOUT {
        return Some(error::timeout(&format!(
            "the request was not complete {MESSAGE_TIMEOUT:?} after it began; send it at once"
        )));
    }
    let stands_still = lasted >= 2 * STALL_TICK && progress < STALL_SIZE_MIN;
    (stands_still && room.is_wanted()).then(|| error::busy("intake_size_max", room.size))
}

impl<B> Body for Intake<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((_, wait)) = &mut this.kept {
            let Poll::Ready(permit) = wait.turn.as_mut().poll(context) else {
                return this.poll_patience(context).map(|status| Some(Err(status)));
            };
            this.hold(permit);
            this.watch = None;
            let kept = this.kept.take().map(|(data, _)| Ok(Frame::data(data)));
            return Poll::Ready(kept);
        }
        this.release();
        let Poll::Ready(next) = Pin::new(&mut this.inner).poll_frame(context) else {
            return this.poll_patience(context).map(|status| Some(Err(status)));
        };
        let frame = match next {
            None => return Poll::Ready(None),
            Some(Err(lost)) => return Poll::Ready(Some(Err(Status::from_error(lost.into())))),
            Some(Ok(frame)) => frame,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        if let Some(watch) = &mut this.watch {
            watch.progress += data.len();
        }
        let complete = this.messages.complete;
        let weight = match this.messages.take(&data) {
            Ok(weight) => weight,
            Err(status) => return Poll::Ready(Some(Err(status))),
        };
        if this.messages.complete > complete {
            // The time of the next message begins with it.
            this.watch = None;
        }
        match this.admit(weight) {
            None => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(wait) => {
                this.watch = None;
                this.kept = Some((data, wait));
                self.poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.kept.is_none() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
