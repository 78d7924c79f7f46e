//! Reads: a stream of events in offset order that survives lost connections.
//!
//! It promises that no record comes twice, that none is missing without a gap event or an error, and that a
//! connection which is lost is replaced by one that starts at the next offset.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use inkstone_proto::v1;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::call::{logs, silence};
use crate::client::Client;
use crate::error::{Detail, Error, Reason, Result};
use crate::retry::{Attempts, Failure, Safety, Verdict};
use crate::route::{Aim, Target};
use crate::types::{Consistency, Follow, ReadEvent, ReadOptions, Record, Start, Tail};
use crate::wire;

/// A server that is silent for so long is taken for lost: three heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(15);

impl Client {
    /// Reads a log from where the options say. Nothing is asked before the stream is first polled.
    ///
    /// A read that does not follow ends at the end of the log as it was when the last connection was made.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use futures::TryStreamExt;
    /// use inkstone_client::{ReadEvent, ReadOptions, Start};
    ///
    /// let options = ReadOptions { from: Start::Last(10), ..ReadOptions::new("audit") };
    /// let mut events = client.read(options);
    /// while let Some(event) = events.try_next().await? {
    ///     match event {
    ///         ReadEvent::Records(records) => println!("{} records", records.len()),
    ///         ReadEvent::Gap(gap) => println!("{} to {} can't be read", gap.from, gap.to),
    ///         ReadEvent::View { .. } | ReadEvent::CaughtUp { .. } | ReadEvent::Heartbeat { .. } => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(&self, options: ReadOptions) -> ReadStream {
        let reader = Reader::new(self.clone(), options);
        let events = stream::unfold(reader, |mut reader| async move {
            let event = reader.next().await?;
            Some((event, reader))
        });
        ReadStream {
            events: events.boxed(),
        }
    }

    /// The first offset of a log that can be read, and the one that its next record will get.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::Consistency;
    ///
    /// let tail = client.tail("audit", Consistency::Linearizable).await?;
    /// println!("{} records", tail.next_offset - tail.first_offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tail(&self, log: &str, consistency: Consistency) -> Result<Tail> {
        let (consistency, at_least_offset) = wire::consistency(consistency);
        let request = v1::TailRequest {
            log: log.to_owned(),
            consistency: consistency.into(),
            at_least_offset,
        };
        let tail = |channel| {
            let request = request.clone();
            async move { Ok(logs(channel).tail(request).await?.into_inner().into()) }
        };
        self.core.call(self.core.reading(), tail).await
    }
}

/// The events of a read, see [`Client::read`]. After an error it ends.
pub struct ReadStream {
    events: BoxStream<'static, Result<ReadEvent>>,
}

impl fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadStream").finish_non_exhaustive()
    }
}

impl Stream for ReadStream {
    type Item = Result<ReadEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(cx)
    }
}

/// Where a read is.
struct Reader {
    client: Client,
    options: ReadOptions,
    /// The offset that comes next, once an answer has told it.
    next: Option<u64>,
    connection: Option<(Target, Streaming<v1::ReadResponse>)>,
    /// The tries since something arrived last; none while all is well.
    attempts: Option<Attempts>,
    over: bool,
}

impl Reader {
    fn new(client: Client, options: ReadOptions) -> Self {
        let next = match options.from {
            Start::Offset(offset) => Some(offset),
            Start::First | Start::Last(_) | Start::Timestamp(_) => None,
        };
        Self {
            client,
            options,
            next,
            connection: None,
            attempts: None,
            over: false,
        }
    }

    async fn next(&mut self) -> Option<Result<ReadEvent>> {
        while !self.over {
            let failure = match self.step().await {
                Ok(Some(event)) => {
                    self.attempts = None;
                    match self.accept(event) {
                        Ok(Some(event)) => return Some(Ok(event)),
                        Ok(None) => continue,
                        Err(error) => return Some(self.end_with(error)),
                    }
                }
                Ok(None) => {
                    self.over = true;
                    return None;
                }
                Err(failure) => failure,
            };
            if let Some((target, _)) = self.connection.take() {
                self.client.core.route.failed(&target.address, &failure);
            }
            let core = &self.client.core;
            let attempts = self.attempts.get_or_insert_with(|| {
                Attempts::new(core.policy, Safety::Read, Instant::now() + core.timeout)
            });
            match attempts.judge(failure, Instant::now(), rand::random()) {
                Verdict::Again(wait) => sleep(wait).await,
                Verdict::Answer(error) => return Some(self.end_with(error)),
            }
        }
        None
    }

    fn end_with(&mut self, error: Error) -> Result<ReadEvent> {
        self.over = true;
        Err(error)
    }

    /// The next message, over a new connection if need be. `None`: the read is complete.
    async fn step(&mut self) -> std::result::Result<Option<ReadEvent>, Failure> {
        if self.is_complete() {
            return Ok(None);
        }
        let (target, stream) = if let Some(connection) = &mut self.connection {
            connection
        } else {
            let connection = self.open().await?;
            self.connection.insert(connection)
        };
        loop {
            let message = match timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(message)) => message,
                Ok(Err(status)) => return Err(Failure::classify(&status, &target.address)),
                Err(_) => return Err(silence(target)),
            };
            match message {
                None if self.options.follow == Follow::No => return Ok(None),
                None => {
                    let message = format!("{} ended the read", target.address);
                    return Err(Failure::Lost {
                        message,
                        detail: None,
                    });
                }
                Some(message) => {
                    if let Some(event) = wire::read_event(message) {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    async fn open(&self) -> std::result::Result<(Target, Streaming<v1::ReadResponse>), Failure> {
        let core = &self.client.core;
        let target = core
            .route
            .pick(Aim::Any)
            .map_err(|error| Failure::NotSent {
                message: error.to_string(),
            })?;
        let request = wire::read_request(&self.rest());
        let mut service = logs(target.channel.clone());
        let failure = match timeout(core.policy.try_timeout, service.read(request)).await {
            Ok(Ok(answer)) => return Ok((target, answer.into_inner())),
            Ok(Err(status)) => Failure::classify(&status, &target.address),
            Err(_) => silence(&target),
        };
        core.route.failed(&target.address, &failure);
        Err(failure)
    }

    /// The options of what is still to be read.
    fn rest(&self) -> ReadOptions {
        let mut rest = self.options.clone();
        let Some(next) = self.next else { return rest };
        if rest.from != Start::Offset(next) {
            rest.from = Start::Offset(next);
            // Another server may lag behind the one that gave the records so far; it must catch up first.
            rest.consistency = match rest.consistency {
                Consistency::Stale => Consistency::AtLeast(next),
                Consistency::AtLeast(offset) => Consistency::AtLeast(offset.max(next)),
                Consistency::Lease => Consistency::Lease,
                Consistency::Linearizable => Consistency::Linearizable,
            };
        }
        rest
    }

    fn is_complete(&self) -> bool {
        let ended = match (self.next, self.options.until) {
            (Some(next), Some(until)) => next >= until,
            _ => false,
        };
        ended || self.options.limit == Some(0) || self.options.limit_bytes == Some(0)
    }

    /// Notes how far an event brings the read; `None`: there is nothing new in it.
    fn accept(&mut self, event: ReadEvent) -> Result<Option<ReadEvent>> {
        let event = match event {
            ReadEvent::Records(mut records) => {
                if let Some(next) = self.next {
                    records.retain(|record| record.offset >= next);
                }
                let (Some(first), Some(last)) = (records.first(), records.last()) else {
                    return Ok(None);
                };
                self.must_be_next(first.offset)?;
                self.next = Some(last.offset + 1);
                self.count(&records);
                ReadEvent::Records(records)
            }
            ReadEvent::Gap(gap) => {
                self.must_be_next(gap.from)?;
                self.next = Some(gap.to.max(self.next.unwrap_or(0)));
                ReadEvent::Gap(gap)
            }
            ReadEvent::View { .. } => event,
            ReadEvent::CaughtUp { next_offset } | ReadEvent::Heartbeat { next_offset } => {
                // Before the first record this is where the read stands; later the records say it.
                self.next.get_or_insert(next_offset);
                event
            }
        };
        Ok(Some(event))
    }

    fn must_be_next(&self, offset: u64) -> Result<()> {
        let Some(next) = self.next.filter(|next| offset > *next) else {
            return Ok(());
        };
        let message = format!(
            "the server skipped the offsets from {next} to {offset} without saying why: \
             report this, and read them from another server"
        );
        let detail = Box::new(Detail {
            reason: Reason::Internal,
            ..Detail::default()
        });
        Err(Error::Refused {
            reason: Reason::Internal,
            message,
            detail,
        })
    }

    fn count(&mut self, records: &[Record]) {
        if let Some(limit) = &mut self.options.limit {
            *limit = limit.saturating_sub(records.len() as u64);
        }
        if let Some(limit) = &mut self.options.limit_bytes {
            let bytes: usize = records.iter().map(|record| record.body.len()).sum();
            *limit = limit.saturating_sub(bytes as u64);
        }
    }
}
