//! The bounds of what is stored, indexed and sent between nodes, with their units. At a bound the caller is refused, or
//! waits; memory does not grow. What a node holds for its clients at once is bounded in `server/src/grpc/limits.rs`.

/// Bytes of a record's body and attributes together.
pub const RECORD_SIZE_MAX: usize = 1 << 20;
/// Attributes of one record.
pub const ATTRIBUTES_MAX: usize = 64;
/// Bytes of an attribute's key.
pub const ATTRIBUTE_KEY_SIZE_MAX: usize = 255;
/// Bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_SIZE_MAX: usize = 65_535;
/// Records of one batch.
pub const BATCH_RECORDS_MAX: usize = 10_000;
/// Bytes of a batch's records, before compression.
pub const BATCH_SIZE_MAX: usize = 4 << 20;
/// Bytes of a log's name.
pub const LOG_NAME_SIZE_MAX: usize = 255;
/// Bytes of batches that are merged into one entry. A single batch may be larger.
pub const ENTRY_MERGE_SIZE_MAX: usize = 1 << 20;
/// Batches in one entry.
pub const ENTRY_BATCHES_MAX: usize = 4_096;
/// Bytes of one entry's payload: the largest batch, its worst encoding, and headers.
pub const PAYLOAD_SIZE_MAX: usize = 8 << 20;
/// Receipts kept of one producer, which is also how many appends it may have in flight.
pub const PRODUCER_RECEIPTS_MAX: usize = 16;
/// A producer is forgotten after this long of the group's append time, in nanoseconds: 24 hours.
pub const PRODUCER_FORGOTTEN_AFTER: i64 = 24 * 3_600 * 1_000_000_000;
/// Producers that one log remembers; a further one is refused until an older one is forgotten.
pub const PRODUCERS_MAX: usize = 100_000;
/// Producers that all logs together remember.
pub const PRODUCERS_TOTAL_MAX: usize = 250_000;
/// Logs of a group.
pub const LOGS_MAX: usize = 100_000;
/// Bytes of a snapshot: of the small state at its largest, which the three bounds above and the receipts' bound make.
pub const SNAPSHOT_SIZE_MAX: usize = 256 << 20;
/// Bytes of a snapshot in one message.
pub const SNAPSHOT_PART_SIZE_MAX: usize = 1 << 20;
/// Bytes of batches that a leader has taken and not yet answered.
pub const APPENDS_IN_FLIGHT_SIZE_MAX: usize = 64 << 20;
/// Batches that wait to be proposed.
pub const APPENDS_WAITING_MAX: usize = 16_384;
/// Bytes of payload in one message to a peer: more entries go into the next one.
pub const REPLICATION_SIZE_MAX: usize = 2 << 20;
/// Bytes of a message between nodes. (A client's has its own bound, in `server/src/grpc/limits.rs`.)
pub const PEER_MESSAGE_SIZE_MAX: usize = 16 << 20;
/// Findings that opening a log reports; further ones are only logged.
pub const FINDINGS_MAX: usize = 1_024;
/// Damaged entries and ranges of them that a survey of a log lists.
pub const FAULTS_MAX: usize = 4_096;
/// Ranges of damaged entries that a message names.
pub const FAULT_RANGES_SHOWN_MAX: usize = 20;
/// Bytes of a search query.
pub const QUERY_SIZE_MAX: usize = 4 << 10;
/// Nesting of a search query.
pub const QUERY_DEPTH_MAX: usize = 32;
/// Terms, phrases and ranges of a search query.
pub const QUERY_CLAUSES_MAX: usize = 256;
/// Hits of one page.
pub const SEARCH_HITS_MAX: usize = 1_000;
/// Bytes of a token; a longer one is kept as a prefix and a hash.
pub const TOKEN_SIZE_MAX: usize = 255;
/// Records that the search index keeps in memory before it commits: a search scans them, in about 10 ms.
pub const SEARCH_TAIL_RECORDS_MAX: usize = 20_000;
/// Damaged batches that a search index leaves out; with one more it stops in front of it.
pub const SEARCH_GAPS_MAX: usize = 1_000;
/// Bytes of bodies and attributes that the search index keeps in memory before it commits.
pub const SEARCH_TAIL_SIZE_MAX: usize = 32 << 20;

const _: () = assert!(PAYLOAD_SIZE_MAX + REPLICATION_SIZE_MAX < PEER_MESSAGE_SIZE_MAX);
const _: () = assert!(SNAPSHOT_PART_SIZE_MAX < PEER_MESSAGE_SIZE_MAX);
const _: () = assert!(PRODUCERS_MAX <= PRODUCERS_TOTAL_MAX);
const _: () = assert!(RECORD_SIZE_MAX <= BATCH_SIZE_MAX);
const _: () = assert!(BATCH_SIZE_MAX < PAYLOAD_SIZE_MAX && ENTRY_MERGE_SIZE_MAX < PAYLOAD_SIZE_MAX);
