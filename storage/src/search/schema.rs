//! What the index holds of a record: its log, place and time, its attributes as keywords, its body's tokens. Nothing
//! is stored: the text of a hit comes from the log.
//!
//! Promises: a record becomes exactly one document, whatever its body. Must not know: shards, queries.

use std::sync::LazyLock;

use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::{Index, TantivyDocument};

use super::tokenizer::{BodyTokenizer, keyword};
use crate::types::{LogId, Record};

/// Raised when the fields change: an index of another format is rebuilt.
pub(super) const FORMAT_VERSION: u32 = 1;

/// The name under which the body's tokenizer is registered.
const BODY_TOKENIZER: &str = "inkstone-body";
/// Names of the columns.
pub(super) const OFFSET: &str = "offset";
pub(super) const ORDINAL: &str = "ordinal";
pub(super) const TIMESTAMP: &str = "timestamp";

/// The fields of every shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The log's number, a term.
    pub(super) log: Field,
    /// A column.
    pub(super) offset: Field,
    /// The document's number in its shard, dense from 0: what proves that no document is missing or twice, and gives
    /// segments their order.
    pub(super) ordinal: Field,
    /// A column of nanoseconds: tantivy's own date type cuts to whole seconds unless told otherwise.
    pub(super) timestamp: Field,
    /// One keyword for each attribute.
    pub(super) attributes: Field,
    /// Tokens with positions.
    pub(super) body: Field,
}

static SCHEMA: LazyLock<(Schema, Fields)> = LazyLock::new(build);

/// The schema of every shard.
pub(super) fn schema() -> Schema {
    SCHEMA.0.clone()
}

/// Its fields.
pub(super) fn fields() -> Fields {
    SCHEMA.1
}

fn build() -> (Schema, Fields) {
    let text = |tokenizer: &str, option| {
        TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_index_option(option)
                .set_fieldnorms(false),
        )
    };
    let mut builder = Schema::builder();
    let fields = Fields {
        log: builder.add_u64_field("log", INDEXED),
        offset: builder.add_u64_field(OFFSET, FAST),
        ordinal: builder.add_u64_field(ORDINAL, FAST),
        timestamp: builder.add_i64_field(TIMESTAMP, FAST),
        attributes: builder.add_text_field("attributes", text("raw", IndexRecordOption::Basic)),
        body: builder.add_text_field(
            "body",
            text(BODY_TOKENIZER, IndexRecordOption::WithFreqsAndPositions),
        ),
    };
    (builder.build(), fields)
}

/// Gives an index the tokenizer that its schema names.
pub(super) fn register_tokenizer(index: &Index) {
    index.tokenizers().register(BODY_TOKENIZER, BodyTokenizer);
}

/// The document of a record.
pub(super) fn document(
    fields: Fields,
    log: LogId,
    ordinal: u64,
    record: &Record,
) -> TantivyDocument {
    let mut document = TantivyDocument::new();
    document.add_u64(fields.log, log.0);
    document.add_u64(fields.offset, record.offset);
    document.add_u64(fields.ordinal, ordinal);
    document.add_i64(fields.timestamp, record.timestamp);
    for (key, value) in &record.attributes {
        document.add_text(fields.attributes, keyword(key, value));
    }
    if let Ok(body) = std::str::from_utf8(&record.body) {
        document.add_text(fields.body, body);
    }
    document
}
