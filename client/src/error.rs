//! What can go wrong, sorted by what the caller must do about it.
//!
//! The one rule (unknown is unknown): [`Error::Refused`] and [`Error::Unavailable`] promise that the request had no
//! effect and never will. Everything else that can happen to a request that changes something is [`Error::Unknown`].

use std::time::Duration;

use crate::types::NodeInfo;

/// What every call answers with.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was not answered with success.
///
/// ```
/// use inkstone_client::{Error, Reason};
///
/// fn advice(error: &Error) -> &'static str {
///     match error {
///         Error::Refused { reason: Reason::LogNotFound, .. } => "create the log",
///         Error::Refused { .. } => "nothing happened",
///         Error::Unknown { .. } => "it may have happened: look before you try again",
///         Error::Unavailable { .. } => "nobody could be asked",
///     }
/// }
/// # advice(&Error::Unavailable { message: String::new(), detail: None });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A server (or this client, before it sent anything) said no. The request had no effect and never will.
    #[error("{message}")]
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// Why, human-readable.
        message: String,
        /// What else is known.
        detail: Box<Detail>,
    },
    /// The request may or may not have taken effect.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// What happened, human-readable.
        message: String,
        /// What the server said about it, if it said anything.
        detail: Option<Box<Detail>>,
    },
    /// No server gave a usable answer, and the request had no effect: it never left, or it was one that changes nothing.
    #[error("{message}")]
    Unavailable {
        /// What happened, human-readable.
        message: String,
        /// What the last server that was reached said, if it said anything.
        detail: Option<Box<Detail>>,
    },
}

impl Error {
    /// Why it was refused; `None` for the other kinds.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Unknown { .. } | Self::Unavailable { .. } => None,
        }
    }

    /// What the server said beside the message, if it said anything.
    pub fn detail(&self) -> Option<&Detail> {
        match self {
            Self::Refused { detail, .. } => Some(detail),
            Self::Unknown { detail, .. } | Self::Unavailable { detail, .. } => detail.as_deref(),
        }
    }

    /// Whether the request certainly had no effect.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// A refusal by this client, before anything was sent.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Refused {
            reason: Reason::Invalid,
            message: message.into(),
            detail: Box::new(Detail {
                reason: Reason::Invalid,
                ..Detail::default()
            }),
        }
    }
}

/// What an error says beside its message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// What happened.
    pub reason: Reason,
    /// Whether the very same request may succeed later.
    pub retryable: bool,
    /// How long to wait before that.
    pub retry_after: Option<Duration>,
    /// Who leads, as far as the asked node knows.
    pub leader: Option<NodeInfo>,
    /// The bound that was hit: its name, and its value in bytes or items.
    pub bound: Option<(String, u64)>,
    /// The log's actual next offset.
    pub next_offset: Option<u64>,
    /// The epoch that holds for [`Reason::ProducerFenced`]; the sequence that is next for [`Reason::SequenceGap`].
    pub expected: Option<u64>,
    /// The damaged file, relative to the node's data directory.
    pub file: Option<String>,
    /// How many entries the node is behind the leader for [`Reason::NotCaughtUp`]; `None`: it was not heard from.
    pub behind: Option<u64>,
    /// The position in that file, or in the query for [`Reason::BadQuery`], in bytes.
    pub position: Option<u64>,
}

/// What happened, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reason {
    /// The server gave none, or one that this release of the client does not know.
    #[default]
    Unspecified,
    /// A field of the request is missing, malformed or contradicts another.
    Invalid,
    /// No log has that name.
    LogNotFound,
    /// A log has that name already.
    LogExists,
    /// A name, record, batch or message is over its bound.
    TooLarge,
    /// `expected_offset` is not the log's next offset, which is in [`Detail::next_offset`].
    OffsetMismatch,
    /// A newer epoch of this producer has written.
    ProducerFenced,
    /// The sequence leaves a gap; the next one is in [`Detail::expected`].
    SequenceGap,
    /// The sequence is older than the receipts that are kept.
    ReceiptForgotten,
    /// The asked node does not lead and could not pass the request on.
    NotLeader,
    /// No node leads at the moment, or it can't reach a majority.
    NoLeader,
    /// A queue is full.
    Busy,
    /// The deadline passed first.
    Timeout,
    /// The bytes are damaged on the asked node.
    Damaged,
    /// The query does not parse; [`Detail::position`] says where.
    BadQuery,
    /// The query asks for more work than a query may.
    QueryLimit,
    /// The node has no index now and can't reach one that does.
    NoIndex,
    /// The node is stopping, or has failed.
    ShuttingDown,
    /// The offset is below the log's first or above its next.
    OffsetOutOfRange,
    /// A defect or a fault of the node that no request can cure.
    Internal,
    /// The disk is too full to take more.
    DiskFull,
    /// No member, and no node that waits to be added, has that id or address.
    NodeNotFound,
    /// The node is a member already.
    AlreadyMember,
    /// The node is not a learner.
    NotLearner,
    /// The node is not a voter.
    NotVoter,
    /// The only voter can't be removed or demoted.
    LastVoter,
    /// Too few of the voters that would remain are reachable and caught up.
    WouldLoseQuorum,
    /// The node is too far behind the leader, by [`Detail::behind`] entries, or not heard from.
    NotCaughtUp,
    /// Another change of the members is under way.
    ChangeUnderWay,
    /// A member of the cluster is of a release that does not know this yet.
    Unsupported,
    /// The asked node's log is damaged, and it waits until it is repaired from other nodes.
    Quarantined,
}
