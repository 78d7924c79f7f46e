//! When to try again, how long to wait before it, and what the caller is told when it is over: one policy for every
//! call.
//!
//! It promises that no try is made that could take effect a second time, and that a caller is told *refused* only if
//! no try can have taken effect. Pure: randomness and time are arguments, so that a test can say what they are.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Detail, Error, Reason};
use crate::wire::{self, Effect};

/// How long to wait between tries, and how many to make.
///
/// ```
/// use std::time::Duration;
/// use inkstone_client::RetryPolicy;
///
/// let patient = RetryPolicy { wait_max: Duration::from_secs(5), ..RetryPolicy::default() };
/// assert_eq!(patient.wait_first, Duration::from_millis(20));
/// assert_eq!(RetryPolicy::never().tries_max, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the second try; it doubles from there.
    pub wait_first: Duration,
    /// No wait is longer, unless the server asks for it.
    pub wait_max: Duration,
    /// One try is given up after so long without an answer, and another server is asked.
    pub try_timeout: Duration,
    /// No more tries than this, however much time is left.
    pub tries_max: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(20),
            wait_max: Duration::from_secs(1),
            try_timeout: Duration::from_secs(3),
            tries_max: u32::MAX,
        }
    }
}

impl RetryPolicy {
    /// One try: what the asked server says, or does not say, is the answer.
    pub fn never() -> Self {
        Self {
            tries_max: 1,
            ..Self::default()
        }
    }

    /// The wait after `tries` tries: doubling, at least what the server advised, and spread over its upper half by
    /// `jitter` (0 to 1), so that clients that failed together do not come back together.
    fn wait(&self, tries: u32, advice: Option<Duration>, jitter: f64) -> Duration {
        let doubled = self
            .wait_first
            .saturating_mul(1 << tries.saturating_sub(1).min(16));
        let full = doubled.min(self.wait_max);
        let spread = full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        spread.max(advice.unwrap_or(Duration::ZERO))
    }
}

/// What a second try of a request could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Nothing: the request changes nothing.
    Read,
    /// Nothing: however often it is sent, it takes effect once.
    Idempotent,
    /// It could take effect again.
    Once,
}

/// How one try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request never left: the server could not be reached.
    NotSent { message: String },
    /// The server says that this try had no effect and never will.
    Refused {
        message: String,
        detail: Box<Detail>,
    },
    /// Anything else: the try may have taken effect.
    Lost {
        message: String,
        detail: Option<Box<Detail>>,
    },
}

impl Failure {
    /// Sorts what `address` answered, or what became of the connection to it.
    pub(crate) fn classify(status: &tonic::Status, address: &str) -> Self {
        if let Some((effect, detail)) = wire::detail(status) {
            let message = status.message().to_owned();
            let detail = Box::new(detail);
            return match effect {
                Effect::None => Self::Refused { message, detail },
                Effect::Unknown => Self::Lost {
                    message,
                    detail: Some(detail),
                },
            };
        }
        let causes = causes(status);
        let message = causes
            .last()
            .map_or_else(|| status.message().to_owned(), ToString::to_string);
        if causes.iter().any(|cause| cause.is::<tonic::ConnectError>()) {
            return Self::NotSent {
                message: format!("cannot reach {address}: {message}"),
            };
        }
        let message = if message.is_empty() {
            status.code().to_string()
        } else {
            message
        };
        Self::Lost {
            message: format!("{address}: {message}"),
            detail: None,
        }
    }

    /// What the server said beside the message.
    pub(crate) fn detail(&self) -> Option<&Detail> {
        match self {
            Self::NotSent { .. } => None,
            Self::Refused { detail, .. } => Some(detail),
            Self::Lost { detail, .. } => detail.as_deref(),
        }
    }

    /// Whether another server, or the same one later, may answer better.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NotSent { .. } => true,
            Self::Refused { detail, .. } => detail.retryable,
            // With a producer an append may always be retried; only a forgotten receipt stays forgotten.
            Self::Lost { detail, .. } => detail
                .as_ref()
                .is_none_or(|d| d.reason != Reason::ReceiptForgotten),
        }
    }
}

/// The errors behind a status, outermost first.
fn causes(status: &tonic::Status) -> Vec<&(dyn std::error::Error + 'static)> {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |cause| cause.source()).collect()
}

/// What to do after a failed try.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Wait so long, then try again.
    Again(Duration),
    /// It is over; this is the caller's answer.
    Answer(Error),
}

/// The tries of one request.
///
/// # Invariants
///
/// Once a try of a request that changes something was lost, no later refusal becomes [`Error::Refused`]: that try may
/// still take effect, and only a receipt settles it.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    safety: Safety,
    deadline: Instant,
    tries: u32,
    doubtful: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy, safety: Safety, deadline: Instant) -> Self {
        Self {
            policy,
            safety,
            deadline,
            tries: 0,
            doubtful: false,
        }
    }

    /// These attempts, for a request of which an earlier try was already lost.
    pub(crate) fn doubtful(mut self) -> Self {
        self.doubtful = true;
        self
    }

    /// When it is over whatever happens.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Judges one more failed try; `jitter` is random, 0 to 1.
    pub(crate) fn judge(&mut self, failure: Failure, now: Instant, jitter: f64) -> Verdict {
        self.tries = self.tries.saturating_add(1);
        let lost = matches!(failure, Failure::Lost { .. });
        if lost && self.safety != Safety::Read {
            self.doubtful = true;
        }
        let safe = !(lost && self.safety == Safety::Once);
        let passes = failure.may_pass() && !self.decided(&failure);
        if safe && passes && self.tries < self.policy.tries_max {
            let advice = failure.detail().and_then(|detail| detail.retry_after);
            let wait = self.policy.wait(self.tries, advice, jitter);
            if now + wait < self.deadline {
                return Verdict::Again(wait);
            }
        }
        Verdict::Answer(self.answer(failure))
    }

    /// A request that changes nothing has no unknown effect: what a server says about it is its answer.
    fn decided(&self, failure: &Failure) -> bool {
        self.safety == Safety::Read && failure.detail().is_some_and(|detail| !detail.retryable)
    }

    fn answer(&self, failure: Failure) -> Error {
        if self.doubtful {
            let (message, detail) = match failure {
                Failure::NotSent { message } => (message, None),
                Failure::Refused { message, detail } => (message, Some(detail)),
                Failure::Lost { message, detail } => (message, detail),
            };
            return Error::Unknown { message, detail };
        }
        match failure {
            Failure::Refused { message, detail }
            | Failure::Lost {
                message,
                detail: Some(detail),
            } => Error::Refused {
                reason: detail.reason,
                message,
                detail,
            },
            Failure::NotSent { message }
            | Failure::Lost {
                message,
                detail: None,
            } => Error::Unavailable {
                message,
                detail: None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
