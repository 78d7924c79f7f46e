//! A query behind a `NOT`, made safe to be asked about any document.
//!
//! tantivy 0.27 asks an excluded phrase about documents that lie before the phrase's present one, which the phrase
//! forbids (a debug assertion fails, and what it answers in a release build is nowhere promised).
//!
//! Promises: the same documents as the query within. Must not know: what that is.

use std::sync::Arc;

use tantivy::query::{EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{DocId, DocSet, Score, SeekDangerResult, SegmentReader};

/// Stands before what is excluded.
#[derive(Debug, Clone)]
pub(super) struct Exclusion {
    within: Arc<dyn Query>,
}

impl Exclusion {
    pub(super) fn new(within: Box<dyn Query>) -> Self {
        Self {
            within: Arc::from(within),
        }
    }
}

impl Query for Exclusion {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(ExclusionWeight(self.within.weight(scoring)?)))
    }
}

struct ExclusionWeight(Box<dyn Weight>);

impl Weight for ExclusionWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(Box::new(ExclusionScorer(self.0.scorer(reader, boost)?)))
    }

    fn explain(&self, reader: &SegmentReader, document: DocId) -> tantivy::Result<Explanation> {
        self.0.explain(reader, document)
    }
}

struct ExclusionScorer(Box<dyn Scorer>);

impl DocSet for ExclusionScorer {
    fn advance(&mut self) -> DocId {
        self.0.advance()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.0.seek(target)
    }

    /// Uses nothing of what is within but its rising documents.
    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        let mut document = self.0.doc();
        if document < target {
            document = self.0.seek(target);
        }
        if document == target {
            SeekDangerResult::Found
        } else {
            SeekDangerResult::SeekLowerBound(document.max(target))
        }
    }

    fn doc(&self) -> DocId {
        self.0.doc()
    }

    fn size_hint(&self) -> u32 {
        self.0.size_hint()
    }

    fn cost(&self) -> u64 {
        self.0.cost()
    }
}

impl Scorer for ExclusionScorer {
    fn score(&mut self) -> Score {
        1.0
    }
}
