//! Reads and tails: a stream of verified records in offset order, and where a log ends.
//!
//! Promises: only what is applied is sent; what is skipped is named in a gap; a slow client holds back its own read
//! and nothing else. Records that are damaged on every member are a gap; as long as one may have them they end the
//! stream with an error, never with silence.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use inkstone_proto::v1::read_request::From;
use inkstone_proto::v1::read_response::Event;
use inkstone_proto::v1::{
    CaughtUp, Consistency, Gap, GapReason, Heartbeat, ReadRequest, ReadResponse, RecordBatch,
    TailRequest, TailResponse, View,
};
use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Log, ReadChunk};
use inkstone_storage::types::LogId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::grpc::answers::{Carried, Held};
use crate::grpc::connection::Connection;
use crate::grpc::consistency::{self, visible_log};
use crate::grpc::deadline::Deadline;
use crate::grpc::limits::{
    BUSY_TICK, BUSY_WAIT, HEARTBEAT, READ_MESSAGE_SIZE_MAX, READ_MESSAGES_MAX, READ_TIMEOUT,
    READ_TIMEOUT_MAX,
};
use crate::grpc::{Services, convert, error};
use crate::raft::LogInfo;

use self::cursor::{Cursor, messages};
use self::damaged::Instead;

pub(crate) use self::elsewhere::{Copies, Wanted, look_for, read_elsewhere, read_here};

mod cursor;
mod damaged;
mod elsewhere;

/// Where a log begins and ends.
pub(crate) async fn tail(
    services: &Services,
    metadata: &MetadataMap,
    request: TailRequest,
) -> Result<TailResponse, Status> {
    convert::check_log_name(&request.log)?;
    let consistency = convert::consistency(request.consistency)?;
    consistency::check(consistency, request.at_least_offset)?;
    let deadline = Deadline::of_request(services.clock, metadata, READ_TIMEOUT, READ_TIMEOUT_MAX);
    let wanted = (consistency, request.at_least_offset);
    let as_of_time = as_of_time(services, consistency);
    let info = visible_log(services, &request.log, wanted, deadline).await?;
    Ok(TailResponse {
        as_of_time,
        first_offset: info.first_offset,
        next_offset: info.next_offset,
        last_append_time: info.last_append_time,
    })
}

/// Opens a read: what is asked is checked and its consistency waited for before the stream begins.
pub(crate) async fn read(
    services: &Services,
    metadata: &MetadataMap,
    request: ReadRequest,
    connection: Option<&Connection>,
) -> Result<(Events, Carried), Status> {
    convert::check_log_name(&request.log)?;
    let consistency = convert::consistency(request.consistency)?;
    consistency::check(consistency, request.at_least_offset)?;
    let deadline = Deadline::of_request(services.clock, metadata, READ_TIMEOUT, READ_TIMEOUT_MAX);
    let wanted = (consistency, request.at_least_offset);
    let as_of_time = as_of_time(services, consistency);
    let info = visible_log(services, &request.log, wanted, deadline).await?;
    let cursor = open_cursor(services, &request, &info).await?;
    let (events, receiver) = mpsc::channel(READ_MESSAGES_MAX);
    if consistency == Consistency::Stale {
        let view = View {
            next_offset: info.next_offset,
            as_of_time,
        };
        let first = ReadResponse {
            event: Some(Event::View(view)),
        };
        events
            .try_send(Ok((first, None)))
            .expect("the channel is new");
    }
    let pump = Pump {
        services: services.clone(),
        log: info.id,
        name: info.name,
        follow: request.follow,
        cursor,
        applied: services.group.applied().subscribe(),
        connection: connection.cloned(),
        events,
        quiet_until: Deadline::after(services.clock, HEARTBEAT).instant(),
        marked: false,
    };
    tokio::spawn(pump.run());
    let carried = Carried::default();
    let events = Events {
        receiver,
        carried: carried.clone(),
    };
    Ok((events, carried))
}

/// What a read says, and beside each batch of records what it takes.
type Sent = Result<(ReadResponse, Option<Arc<Held>>), Status>;

/// The stream of a read's answers. What each takes is handed on to the one who sends it.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Sent>,
    carried: Carried,
}

impl Stream for Events {
    type Item = Result<ReadResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.receiver.poll_recv(context));
        Poll::Ready(next.map(|sent| {
            let (response, held) = sent?;
            if let Some(held) = held {
                self.carried.put(held);
            }
            Ok(response)
        }))
    }
}

/// Everything that was acknowledged before is visible here; 0: not known, or nobody asks. Looked at before the state is:
/// that can only be newer.
fn as_of_time(services: &Services, consistency: Consistency) -> i64 {
    if consistency == Consistency::Stale {
        services.group.as_of().unwrap_or(0)
    } else {
        0
    }
}

async fn open_cursor(
    services: &Services,
    request: &ReadRequest,
    info: &LogInfo,
) -> Result<Cursor, Status> {
    let mut skip_before = None;
    let start = match request.from {
        None => info.first_offset,
        Some(From::Offset(offset)) if offset > info.next_offset => {
            return Err(error::offset_out_of_range(offset, info.next_offset));
        }
        Some(From::Offset(offset)) => offset,
        Some(From::Last(count)) => info
            .next_offset
            .saturating_sub(count)
            .max(info.first_offset),
        Some(From::Timestamp(timestamp)) => match at_time(services, info, timestamp).await? {
            AtTime::Record(offset) => offset,
            // None has that time yet: who follows waits for the first that does.
            AtTime::Nowhere => {
                skip_before = Some(timestamp);
                info.next_offset
            }
            // What is read from there on is looked at: it comes from another member, or is a gap.
            AtTime::Perhaps(offset) => {
                skip_before = Some(timestamp);
                offset
            }
        },
    };
    Ok(Cursor::new(request, start, info.next_offset, skip_before))
}

/// Where the first record of a time or later is.
enum AtTime {
    Record(u64),
    /// Not before this one, which is damaged here.
    Perhaps(u64),
    Nowhere,
}

async fn at_time(services: &Services, info: &LogInfo, timestamp: i64) -> Result<AtTime, Status> {
    let (id, first_offset) = (info.id, info.first_offset);
    let look = async || {
        let log = services.group.log().clone();
        let reads = &services.reads;
        let found = reads.run(move || look_at_times(&log, id, first_offset, timestamp));
        found.await.map_err(error::pool_busy)
    };
    let found = match look().await? {
        // Not records: what says where they are is damaged. It is repaired first.
        Err(failed @ ReadError::Damaged(_)) => {
            let repair = services.group.repairer().repair_for_reader(&failed);
            drop(timeout(READ_TIMEOUT, repair).await);
            look().await?
        }
        found => found,
    };
    found.map_err(|failed| error::read(&failed, &services.data_dir))
}

/// Looks from the first record on that is there: more may have been purged since the look at the log, and after a snapshot
/// the log's first offset is an older one.
fn look_at_times(
    log: &Log,
    id: LogId,
    first_offset: u64,
    timestamp: i64,
) -> Result<AtTime, ReadError> {
    let mut from = first_offset;
    loop {
        let found = match log.offset_at_time(id, from, timestamp) {
            Err(ReadError::Damaged(_)) => log
                .offset_perhaps_at_time(id, from, timestamp)
                .map(|found| found.map(AtTime::Perhaps)),
            found => found.map(|found| found.map(AtTime::Record)),
        };
        match found {
            Err(ReadError::Purged { first, .. }) if first > from => from = first,
            found => return found.map(|found| found.unwrap_or(AtTime::Nowhere)),
        }
    }
}

/// Why a stream ends early.
enum Stop {
    /// The client has gone.
    Gone,
    /// It is told why.
    Failed(Status),
}

impl std::convert::From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// One open read.
struct Pump {
    services: Services,
    log: LogId,
    name: String,
    follow: bool,
    cursor: Cursor,
    applied: watch::Receiver<u64>,
    /// Where the answers go; unknown to a test that asks without one.
    connection: Option<Connection>,
    events: mpsc::Sender<Sent>,
    /// When the next heartbeat is due.
    quiet_until: Instant,
    /// Whether the client was told that it has reached the end since it last fell behind.
    marked: bool,
}

impl Pump {
    async fn run(mut self) {
        if let Err(Stop::Failed(status)) = self.pump().await {
            tracing::debug!(log = %self.name, %status, "a read ended early");
            if self.events.send(Err(status)).await.is_err() {
                tracing::debug!(log = %self.name, "and its client has gone");
            }
        }
    }

    async fn pump(&mut self) -> Result<(), Stop> {
        loop {
            // Before the look at the log: what is applied after it wakes the wait below.
            self.applied.borrow_and_update();
            let info = self.info()?;
            if let Some((from, to)) = self.cursor.skip_to(info.first_offset) {
                self.send_gap(from, to, GapReason::Trimmed).await?;
            }
            if self.cursor.is_done() {
                return Ok(());
            }
            if self.cursor.at() < info.next_offset {
                if self.send_chunk(info.next_offset).await? {
                    self.marked &= self.cursor.at() >= info.next_offset;
                    continue;
                }
            } else if self.follow && !self.marked {
                self.marked = true;
                let next_offset = info.next_offset;
                self.send(Event::CaughtUp(CaughtUp { next_offset })).await?;
            }
            self.wait().await?;
        }
    }

    fn info(&self) -> Result<LogInfo, Stop> {
        let info = self.services.group.log_info_by_id(self.log);
        info.ok_or_else(|| Stop::Failed(error::log_not_found(&self.name)))
    }

    /// Sends the next records below `visible`; false when there were none.
    async fn send_chunk(&mut self, visible: u64) -> Result<bool, Stop> {
        let at = self.cursor.at();
        // Before anything is read: a client that reads slowly holds a bounded part of the memory.
        let mut held = self.room().await?;
        let chunk = match self.read_chunk(visible).await? {
            Ok(chunk) => chunk,
            // Trimmed since the look at the log.
            Err(ReadError::Purged { first, .. }) if first > at && first <= visible => {
                if let Some((from, to)) = self.cursor.skip_to(first) {
                    self.send_gap(from, to, GapReason::Trimmed).await?;
                }
                return Ok(true);
            }
            Err(failed) => match self.instead_of(visible, &failed).await? {
                Instead::Records(chunk) => chunk,
                Instead::Lost(lost) => {
                    if let Some((from, to)) = self.cursor.skip_to(lost.to) {
                        self.send_gap(from, to, GapReason::Damaged).await?;
                    }
                    return Ok(true);
                }
            },
        };
        if chunk.next_offset <= at && self.services.group.is_purged(self.log, at) {
            if let Some((from, to)) = self.cursor.skip_to(visible) {
                self.send_gap(from, to, GapReason::Trimmed).await?;
            }
            return Ok(true);
        }
        let advanced = chunk.next_offset > at;
        let records = self.cursor.take(chunk);
        held.shrink(records.iter().map(convert::record_size).sum());
        let held = Arc::new(held);
        for records in messages(records) {
            let records = records.into_iter().map(convert::record).collect();
            self.send_holding(Event::Batch(RecordBatch { records }), Some(&held))
                .await?;
        }
        Ok(advanced)
    }

    async fn room(&self) -> Result<Held, Stop> {
        let room = &self.services.read_answers;
        tokio::select! {
            held = room.take(READ_MESSAGE_SIZE_MAX, self.connection.as_ref()) => Ok(held),
            () = self.events.closed() => Err(Stop::Gone),
            () = self.services.stopped() => Err(error::shutting_down().into()),
        }
    }

    /// What is damaged here, from a member that has it, or the gap that it leaves.
    async fn instead_of(&self, visible: u64, failed: &ReadError) -> Result<Instead, Stop> {
        let (from, until, size_max) = self.cursor.next_read(visible);
        let wanted = Wanted {
            log: self.log,
            from,
            until,
            size_max,
        };
        let instead = damaged::instead_of(&self.services, wanted, failed).await;
        instead.map_err(Stop::from)
    }

    /// A read that has begun waits for the busy pool: it holds no memory meanwhile.
    async fn read_chunk(&self, visible: u64) -> Result<Result<ReadChunk, ReadError>, Stop> {
        let patience = Deadline::after(self.services.clock, BUSY_WAIT);
        let (from, until, size) = self.cursor.next_read(visible);
        loop {
            let log = self.services.group.log().clone();
            let id = self.log;
            match self
                .services
                .reads
                .run(move || log.read(id, from, until, size))
                .await
            {
                Ok(result) => return Ok(result),
                Err(busy) if patience.expired(self.services.clock) => {
                    return Err(error::pool_busy(busy).into());
                }
                Err(_) => sleep(BUSY_TICK).await,
            }
        }
    }

    async fn send_gap(&mut self, from: u64, to: u64, reason: GapReason) -> Result<(), Stop> {
        let reason = reason.into();
        self.send(Event::Gap(Gap { from, to, reason })).await
    }

    async fn send(&mut self, event: Event) -> Result<(), Stop> {
        self.send_holding(event, None).await
    }

    async fn send_holding(&mut self, event: Event, held: Option<&Arc<Held>>) -> Result<(), Stop> {
        let response = ReadResponse { event: Some(event) };
        let sent = tokio::select! {
            sent = self.events.send(Ok((response, held.cloned()))) => sent,
            () = self.services.stopped() => return Err(error::shutting_down().into()),
        };
        self.stay_quiet();
        sent.map_err(|_| Stop::Gone)
    }

    fn stay_quiet(&mut self) {
        self.quiet_until = Deadline::after(self.services.clock, HEARTBEAT).instant();
    }

    /// Returns when something was applied; sends heartbeats meanwhile.
    async fn wait(&mut self) -> Result<(), Stop> {
        loop {
            tokio::select! {
                changed = self.applied.changed() => {
                    return changed.map_err(|_| error::shutting_down().into());
                }
                () = self.events.closed() => return Err(Stop::Gone),
                () = self.services.stopped() => return Err(error::shutting_down().into()),
                () = sleep_until(self.quiet_until) => {
                    self.stay_quiet();
                    if self.follow {
                        let next_offset = self.info()?.next_offset;
                        self.send(Event::Heartbeat(Heartbeat { next_offset })).await?;
                    }
                }
            }
        }
    }
}
