//! What ends: what retention may remove of a log, trimming it, deleting it.

use std::time::Duration;

use inkstone_proto::v1;
use tonic::Status;

use crate::call::{Call, admin};
use crate::client::Client;
use crate::error::Result;
use crate::retry::Safety;
use crate::route::Aim;
use crate::types::{Created, IfExists, LogInfo};

/// What retention may remove of a log. `None` keeps for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records that were appended longer ago. Whole milliseconds count.
    pub max_age: Option<Duration>,
    /// The oldest records while the log holds more bytes, before compression.
    pub max_bytes: Option<u64>,
}

/// How one bound of a log's retention changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bound<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It goes: nothing is removed for its sake from here on.
    Remove,
    /// It becomes this.
    Set(T),
}

impl<T> Bound<T> {
    /// As a message has it, where 0 is no bound.
    fn into_wire(self, number: impl Fn(T) -> u64) -> Option<u64> {
        match self {
            Self::Keep => None,
            Self::Remove => Some(0),
            // 0 would mean the opposite of what was said.
            Self::Set(value) => Some(number(value).max(1)),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<v1::Retention> for Retention {
    fn from(wire: v1::Retention) -> Self {
        let bound = |value: Option<u64>| value.filter(|value| *value > 0);
        Self {
            max_age: bound(wire.max_age_ms).map(Duration::from_millis),
            max_bytes: bound(wire.max_bytes),
        }
    }
}

impl From<Retention> for v1::Retention {
    fn from(retention: Retention) -> Self {
        Self {
            max_age_ms: retention.max_age.map(|age| millis(age).max(1)),
            max_bytes: retention.max_bytes.map(|bytes| bytes.max(1)),
        }
    }
}

impl Client {
    /// Creates a log with a retention, as [`Client::create_log`] does without one. A log that exists keeps its own.
    ///
    /// # Errors
    ///
    /// [`Reason::LogExists`](crate::Reason::LogExists) if the name is taken, unless [`IfExists::Keep`] says that this
    /// is fine.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use std::time::Duration;
    /// use inkstone_client::{IfExists, Retention};
    ///
    /// let week = Retention { max_age: Some(Duration::from_secs(7 * 86_400)), max_bytes: None };
    /// client.create_log_with("web", IfExists::Keep, week).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_log_with(
        &self,
        name: &str,
        if_exists: IfExists,
        retention: Retention,
    ) -> Result<Created> {
        let request = v1::CreateLogRequest {
            name: name.to_owned(),
            if_not_exists: if_exists == IfExists::Keep,
            retention: Some(retention.into()),
        };
        let create = |channel| {
            let request = request.clone();
            async move {
                let answer = admin(channel).create_log(request).await?.into_inner();
                let log = log(answer.log)?;
                Ok(if answer.created {
                    Created::New(log)
                } else {
                    Created::Existing(log)
                })
            }
        };
        let call = self.changing_log(Safety::Idempotent);
        self.core.call(call, create).await
    }

    /// Changes what retention may remove of a log. Returns the log as it is then.
    ///
    /// # Errors
    ///
    /// [`Reason::LogNotFound`](crate::Reason::LogNotFound) if there is none of that name.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::Bound;
    ///
    /// client.alter_log("web", Bound::Keep, Bound::Set(10 << 30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_log(
        &self,
        name: &str,
        max_age: Bound<Duration>,
        max_bytes: Bound<u64>,
    ) -> Result<LogInfo> {
        let request = v1::AlterLogRequest {
            name: name.to_owned(),
            max_age_ms: max_age.into_wire(millis),
            max_bytes: max_bytes.into_wire(|bytes| bytes),
        };
        let alter = |channel| {
            let request = request.clone();
            async move { log(admin(channel).alter_log(request).await?.into_inner().log) }
        };
        let call = self.changing_log(Safety::Idempotent);
        self.core.call(call, alter).await
    }

    /// Deletes a log and all its records. Returns the log as it was. Not tried again when the outcome is unknown,
    /// because somebody may have created another log of that name meanwhile.
    ///
    /// # Errors
    ///
    /// [`Reason::LogNotFound`](crate::Reason::LogNotFound) if there is none of that name.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// let log = client.delete_log("web").await?;
    /// println!("{} had {} records", log.name, log.next_offset - log.first_offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_log(&self, name: &str) -> Result<LogInfo> {
        let request = v1::DeleteLogRequest {
            name: name.to_owned(),
        };
        let delete = |channel| {
            let request = request.clone();
            async move { log(admin(channel).delete_log(request).await?.into_inner().log) }
        };
        let call = self.changing_log(Safety::Once);
        self.core.call(call, delete).await
    }

    /// Removes a log's records below `before_offset`. Returns the log as it is then. When its first offset is
    /// `before_offset` or more already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`Reason::LogNotFound`](crate::Reason::LogNotFound) if there is none of that name, and
    /// [`Reason::OffsetOutOfRange`](crate::Reason::OffsetOutOfRange) above its next offset.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// client.trim_log("web", 1_000).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn trim_log(&self, name: &str, before_offset: u64) -> Result<LogInfo> {
        let request = v1::TrimLogRequest {
            name: name.to_owned(),
            before_offset,
        };
        let trim = |channel| {
            let request = request.clone();
            async move { log(admin(channel).trim_log(request).await?.into_inner().log) }
        };
        let call = self.changing_log(Safety::Idempotent);
        self.core.call(call, trim).await
    }

    /// A request that the leader carries out.
    fn changing_log(&self, safety: Safety) -> Call {
        Call {
            aim: Aim::Leader,
            safety,
            ..self.core.reading()
        }
    }
}

/// The log that every answer has.
fn log(log: Option<v1::LogInfo>) -> std::result::Result<LogInfo, Status> {
    log.map(LogInfo::from)
        .ok_or_else(|| Status::internal("the server's answer lacks `log`"))
}
