//! The bounds of the gRPC front: how much one node holds for its callers at once, and how long it lets them wait.
//!
//! The bounds of what is stored and of what nodes send each other are in `inkstone_storage::limits`. At a bound the
//! caller is refused, made to wait, or cut off; memory does not grow.
//!
//! # What clients can make a node hold, at the worst, over what it holds when idle
//!
//! | what | how much | MiB |
//! |---|---|---|
//! | connections | `client_connections_max`, 2,048: each a window of 128 KiB, 64 KiB for HTTP/2's own buffers, tables and a task, and 16 KiB that gather to be sent | 416 |
//! | connections beyond those, and open requests on them | 32 that operators may use, 32 that end; the same | 17 |
//! | open requests | 2,048 x 2 + 2,048, each 16 KiB for a task, a stream and headers | 96 |
//! | of each, a piece that waits for room | 6,144 x 16 KiB (a frame) | 96 |
//! | requests on their way in | two rooms, by what they take when decoded | 80 |
//! | appends on their way to the group | `APPENDS_SIZE_MAX`, the same | 72 |
//! | appends in flight in the group | `APPENDS_IN_FLIGHT_SIZE_MAX` | 64 |
//! | reads' answers | 24 MiB as read; as messages and encoded, too: three times | 72 |
//! | searches and lists | 12, each at most 2 MiB twice (as a message, and encoded) | 48 |
//! | | | **961** |
//!
//! Not one client can reach it alone: of open requests it has `PLACES` and its own `CONNECTION_PLACES`. The rows can't
//! all be full at once either: what is appended leaves one when it enters the next. Searches that a leader passes on to
//! a follower are bounded by `FORWARDS_MAX`, 2 MiB each.

use std::time::Duration;

use inkstone_storage::limits::BATCH_SIZE_MAX;

use crate::grpc::weight::weight_max;

/// Connections of other nodes: four of each are usual. They have places of their own, so that clients can't lock peers out.
pub const PEER_CONNECTIONS_MAX: usize = 128;
/// Connections beyond those, on which operators' calls are answered and all else is refused. When there are so many, one
/// on which nothing is open makes room for a new one; if there is none, the new one is closed without a word.
pub const REFUSED_CONNECTIONS_MAX: usize = 32;
/// How long a connection may take until it has said that it speaks HTTP/2.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection beyond the bound lives; a call of an operator that is open then is finished.
pub const REFUSED_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that a client may send before they are taken, on one stream.
pub const CLIENT_STREAM_WINDOW: u32 = 64 << 10;
/// Bytes that a client may send before they are taken, on all streams of one connection together.
pub const CLIENT_CONNECTION_WINDOW: u32 = 128 << 10;
/// Bytes that another node may send before they are taken, on one stream. Their messages are larger: a stream never
/// waits for less than a whole one.
pub const PEER_STREAM_WINDOW: u32 = 4 << 20;
/// Bytes that another node may send before they are taken, on all streams of one connection together.
pub const PEER_CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of a request's headers.
pub const HEADERS_SIZE_MAX: u32 = 8 << 10;
/// Bytes of answers that HTTP/2 takes from a stream before it has sent them.
pub const SEND_BUFFER_SIZE: usize = 64 << 10;
/// Requests and streams that one connection may have open.
pub const CONNECTION_STREAMS_MAX: u32 = 1_024;
/// Requests that one connection may have open whatever others have.
pub(crate) const CONNECTION_PLACES: usize = 2;
/// Requests that all clients' connections may have open beyond those.
pub(crate) const PLACES: usize = 2_048;
/// Requests that all other nodes' connections may have open beyond [`CONNECTION_PLACES`]: they pass on what their
/// clients ask.
pub(crate) const PEER_PLACES: usize = 16_384;

/// Bytes of one append request of a client: a full batch and its framing.
pub(crate) const MESSAGE_SIZE_MAX: usize = 8 << 20;
/// Bytes of any other request.
pub(crate) const REQUEST_SIZE_MAX: usize = 64 << 10;
/// Bytes of other requests that are on their way in.
pub(crate) const REQUESTS_SIZE_MAX: usize = 8 << 20;
/// Bytes of other nodes' messages that are on their way in.
pub(crate) const PEER_INTAKE_SIZE_MAX: usize = 128 << 20;
/// Bytes of append requests that one node holds, decoded: first of those that are on their way in; then, in a room of the
/// same size, of those that look for a leader or that another node carries out. What the group took counts there until
/// it is answered, whether or not the client reads its answers.
pub(crate) const APPENDS_SIZE_MAX: usize = 72 << 20;
/// How long a message may take from its first byte to its last.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what has come waits for room.
pub(crate) const INTAKE_WAIT: Duration = Duration::from_secs(5);
/// How often a message that is not complete is looked at.
pub(crate) const STALL_TICK: Duration = Duration::from_secs(1);
/// Bytes that must come in that time while others wait for room.
pub(crate) const STALL_SIZE_MIN: usize = 64 << 10;

/// Bytes of reads' answers that clients have not read.
pub(crate) const READ_ANSWERS_SIZE_MAX: usize = 24 << 20;
/// Searches and lists that are carried out, or whose answers clients have not read.
pub(crate) const LARGE_ANSWERS_MAX: usize = 12;
/// Searches that a node without an index has passed on.
pub(crate) const FORWARDS_MAX: usize = 64;
/// A connection that has held an answer for so long is cut off while others wait for room.
pub(crate) const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often those who wait look for one.
pub(crate) const SLOW_READER_TICK: Duration = Duration::from_millis(500);

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
/// How long one member may take to read what is damaged elsewhere.
pub(crate) const FORWARD_READ_TIMEOUT: Duration = Duration::from_secs(3);
/// A node answers so much before the client's deadline, so that the answer and not the cut connection arrives.
pub(crate) const DEADLINE_MARGIN: Duration = Duration::from_millis(20);
/// A write that was not begun is refused so much before its deadline, at which it would count as unknown.
pub(crate) const REFUSAL_MARGIN: Duration = Duration::from_millis(40);

const _: () = assert!(BATCH_SIZE_MAX < MESSAGE_SIZE_MAX && MESSAGE_SIZE_MAX <= SESSION_SIZE_MAX);
const _: () = assert!(SESSION_SIZE_MAX <= APPENDS_SIZE_MAX);
// What would never find room would wait in vain.
const _: () = assert!(weight_max(MESSAGE_SIZE_MAX) <= APPENDS_SIZE_MAX);
const _: () = assert!(READ_MESSAGE_SIZE_MAX < READ_ANSWERS_SIZE_MAX);
