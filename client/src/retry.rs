//! When to try again, and how long to wait before it: one policy for every call.
//!
//! Pure: the randomness and the time are arguments, so that a test can say what they are.

use std::time::Duration;

/// How long to wait between tries.
///
/// ```
/// use std::time::Duration;
/// use inkstone_client::RetryPolicy;
///
/// let patient = RetryPolicy { wait_max: Duration::from_secs(5), ..RetryPolicy::default() };
/// assert_eq!(patient.wait_first, Duration::from_millis(20));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait before the second try; it doubles from there.
    pub wait_first: Duration,
    /// No wait is longer, unless the server asks for it.
    pub wait_max: Duration,
    /// One try is given up after so long without an answer, and another server is asked.
    pub try_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(20),
            wait_max: Duration::from_secs(1),
            try_timeout: Duration::from_secs(3),
        }
    }
}
