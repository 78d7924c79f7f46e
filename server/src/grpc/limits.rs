//! The bounds of the gRPC front: how much one node holds for its callers at once, and how long it lets them wait.
//!
//! The bounds of what is stored stand in `storage::limits`. At a bound the caller is refused; memory does not grow.

use std::time::Duration;

use inkstone_storage::limits::BATCH_SIZE_MAX;

/// Bytes of one request, decoded: a full batch and its framing.
pub(crate) const MESSAGE_SIZE_MAX: usize = 8 << 20;
/// Requests and streams that one connection may have open.
pub(crate) const CONNECTION_STREAMS_MAX: u32 = 1_024;
/// Reads and sessions that one node serves at once.
pub(crate) const STREAMS_MAX: usize = 4_096;
/// Bytes of append requests that one node holds: those that look for a leader, and those that another node carries out.
/// What the group took counts there until it is answered, whether or not the client reads its answers.
pub(crate) const APPENDS_SIZE_MAX: usize = 64 << 20;
/// Appends of one session that are not answered yet.
pub(crate) const SESSION_APPENDS_MAX: usize = 16;
/// Bytes of the appends of one session that are not answered yet.
pub(crate) const SESSION_SIZE_MAX: usize = 8 << 20;
/// Bytes of the records in one message of a read or an answer's page.
pub(crate) const READ_MESSAGE_SIZE_MAX: usize = 1 << 20;
/// Messages of a read that wait for a slow client.
pub(crate) const READ_MESSAGES_MAX: usize = 2;
/// Bytes of the records in one search answer; the next page goes on from there.
pub(crate) const SEARCH_ANSWER_SIZE_MAX: usize = 2 << 20;
/// Offsets that one read for a search's hits spans.
pub(crate) const SEARCH_READ_SPAN_MAX: u64 = 32;
/// Highlights of one hit: enough for a screen, and less than a body of one-letter words would give.
pub(crate) const HIGHLIGHTS_MAX: usize = 256;
/// Hits of a page when the request names no number.
pub(crate) const SEARCH_HITS_DEFAULT: usize = 20;

/// How long a request looks for a leader before it is refused.
pub(crate) const LEADER_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
pub(crate) const LEADER_TICK: Duration = Duration::from_millis(20);
/// How long an append or a new log waits for its outcome when the client gave no deadline.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an append of a session waits for the answers of those before it to be read, when it must run alone.
pub(crate) const ALONE_WAIT: Duration = WRITE_TIMEOUT;
/// How long one may wait, whatever the client says.
pub(crate) const WRITE_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// How long a read waits for its consistency when the client gave no deadline.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may wait, whatever the client says.
pub(crate) const READ_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// How long a search takes when the request says nothing.
pub(crate) const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a search may take.
pub(crate) const SEARCH_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// How long a search waits for an index to be opened, here or on a member, when nobody has one.
pub(crate) const INDEX_WAIT: Duration = Duration::from_secs(2);
/// How often it asks the members.
pub(crate) const INDEX_TICK: Duration = Duration::from_millis(100);
/// How long a following read is silent before it sends a heartbeat.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a read that has begun waits for a thread of the busy pool.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How often it asks.
pub(crate) const BUSY_TICK: Duration = Duration::from_millis(20);
/// How long another member may take to say how it is.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// A node answers so much before the client's deadline, so that the answer and not the cut connection arrives.
pub(crate) const DEADLINE_MARGIN: Duration = Duration::from_millis(20);
/// A write that was not begun is refused so much before its deadline, at which it would count as unknown.
pub(crate) const REFUSAL_MARGIN: Duration = Duration::from_millis(40);

const _: () = assert!(BATCH_SIZE_MAX < MESSAGE_SIZE_MAX && MESSAGE_SIZE_MAX <= SESSION_SIZE_MAX);
const _: () = assert!(SESSION_SIZE_MAX <= APPENDS_SIZE_MAX);
