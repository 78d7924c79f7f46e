//! One page of hits, newest first, within a bound of bytes.
//!
//! Promises: a page that is cut says where the next one begins, and holds and names nothing from behind there.

use inkstone_proto::v1::{Highlight, Hit};
use inkstone_storage::search::{IndexGap, Query};
use inkstone_storage::types::Record;

use crate::grpc::convert::{self, record_size};
use crate::grpc::limits::{HIGHLIGHTS_MAX, SEARCH_ANSWER_SIZE_MAX};
use crate::grpc::search::lost::LostHits;

/// Bytes that a highlight takes in an answer, at most.
const HIGHLIGHT_SIZE: usize = 12;
/// Gaps of the index that one answer names.
const UNINDEXED_MAX: usize = 16;

/// The hits of one answer, and what they cover.
#[derive(Debug)]
pub(crate) struct Page {
    /// Newest first, with the bytes that each takes in an answer.
    hits: Vec<(Hit, usize)>,
    /// The bytes of all of them.
    size: usize,
    pub(crate) indexed_next_offset: u64,
    pub(crate) complete: bool,
    pub(crate) next_before_offset: Option<u64>,
    /// Hits whose records are damaged here.
    pub(crate) lost: Vec<LostHits>,
    /// What the index lacks of what the page is over, newest first.
    pub(crate) unindexed: Vec<IndexGap>,
}

impl Page {
    /// A page without hits, over everything that a search has looked at.
    pub(super) fn new(indexed_next_offset: u64, complete: bool) -> Self {
        Self {
            hits: Vec::new(),
            size: 0,
            indexed_next_offset,
            complete,
            next_before_offset: None,
            lost: Vec::new(),
            unindexed: Vec::new(),
        }
    }

    /// Its hits, newest first.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        self.hits.into_iter().map(|(hit, _)| hit).collect()
    }

    /// Names what the index lacks among the offsets that the page is over. With more of it than one answer names, the page
    /// ends in front of the rest.
    pub(super) fn leave_out(&mut self, gaps: Vec<IndexGap>, first_offset: u64) {
        let from = self.end().max(first_offset);
        let unindexed = gaps.into_iter().rev().filter(|gap| gap.to > from);
        self.unindexed = unindexed.collect();
        if self.unindexed.len() > UNINDEXED_MAX {
            self.unindexed.truncate(UNINDEXED_MAX);
            let end = self.unindexed.last().map_or(0, |gap| gap.from);
            self.end_at(end);
        }
    }

    /// Takes in more hits, and ends the page in front of what does not fit.
    pub(super) fn take_in(&mut self, found: impl IntoIterator<Item = (Hit, usize)>) {
        let end = self.end();
        for (hit, size) in found.into_iter().filter(|(hit, _)| offset(hit) >= end) {
            let is_newer = |(known, _): &(Hit, usize)| offset(known) > offset(&hit);
            let place = self.hits.partition_point(is_newer);
            self.hits.insert(place, (hit, size));
            self.size += size;
        }
        let before = self.hits.len();
        while self.size > SEARCH_ANSWER_SIZE_MAX && self.hits.len() > 1 {
            self.size -= self.hits.pop().map_or(0, |(_, size)| size);
        }
        if self.hits.len() < before {
            self.end_here();
        }
    }

    /// Ends the page behind what it holds; not while that is nothing.
    pub(super) fn end_here(&mut self) -> bool {
        let last = self.hits.last().map(|(hit, _)| offset(hit));
        if let Some(last) = last {
            self.end_at(last);
        }
        last.is_some()
    }

    /// The offset of the last record that the page is over.
    pub(super) fn end(&self) -> u64 {
        self.next_before_offset.unwrap_or(0)
    }

    /// The next page goes on in front of this offset: never in front of an older one than was said before, for what lies between
    /// is gone from this page.
    fn end_at(&mut self, end: u64) {
        let end = end.max(self.end());
        self.hits.retain(|(hit, _)| offset(hit) >= end);
        self.size = self.hits.iter().map(|(_, size)| size).sum();
        for lost in &mut self.lost {
            lost.offsets.retain(|offset| *offset >= end);
        }
        self.lost.retain(|lost| !lost.offsets.is_empty());
        self.unindexed.retain(|gap| gap.to > end);
        self.next_before_offset = Some(end);
    }
}

fn offset(hit: &Hit) -> u64 {
    hit.record.as_ref().map_or(0, |record| record.offset)
}

/// A hit and the bytes that it takes in an answer.
pub(super) fn hit(record: Record, query: &Query) -> (Hit, usize) {
    let ranges = std::str::from_utf8(&record.body).map(|body| query.highlights(body));
    let highlights: Vec<Highlight> = ranges
        .unwrap_or_default()
        .into_iter()
        .take(HIGHLIGHTS_MAX)
        .filter_map(|range| {
            let from = u32::try_from(range.start).ok()?;
            Some(Highlight {
                from,
                to: u32::try_from(range.end).ok()?,
            })
        })
        .collect();
    let size = record_size(&record) + highlights.len() * HIGHLIGHT_SIZE;
    (
        Hit {
            record: Some(convert::record(record)),
            highlights,
        },
        size,
    )
}

#[cfg(test)]
mod tests {
    use inkstone_storage::types::LogId;

    use super::*;

    /// A hit that takes so many bytes.
    fn a_hit(offset: u64, size: usize) -> (Hit, usize) {
        let record = inkstone_proto::v1::Record {
            offset,
            ..inkstone_proto::v1::Record::default()
        };
        let hit = Hit {
            record: Some(record),
            highlights: Vec::new(),
        };
        (hit, size)
    }

    fn page(next_before_offset: Option<u64>) -> Page {
        let mut page = Page::new(2_000, true);
        page.take_in([1_950, 1_450, 350].map(|offset| a_hit(offset, 100)));
        page.next_before_offset = next_before_offset;
        page
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.hits.iter().map(|(hit, _)| offset(hit)).collect()
    }

    fn gap(from: u64) -> IndexGap {
        IndexGap {
            index: from,
            log: LogId(1),
            from,
            to: from + 5,
        }
    }

    #[test]
    fn a_page_names_the_gaps_that_it_is_over_and_ends_in_front_of_too_many() {
        let gaps: Vec<IndexGap> = (0..20).map(|number| gap(100 * number)).collect();
        let mut few = page(None);
        few.leave_out(gaps[..3].to_vec(), 103);
        assert_eq!(few.unindexed, [gap(200), gap(100)]);
        assert_eq!((few.hits.len(), few.next_before_offset), (3, None));
        let mut cut = page(Some(350));
        cut.leave_out(gaps[..5].to_vec(), 0);
        assert_eq!(cut.unindexed, [gap(400)]);
        assert_eq!(cut.next_before_offset, Some(350));
        let mut many = page(None);
        many.leave_out(gaps.clone(), 0);
        assert_eq!(many.unindexed.len(), UNINDEXED_MAX);
        assert_eq!(many.unindexed.last(), Some(&gap(400)));
        assert_eq!((many.hits.len(), many.next_before_offset), (2, Some(400)));
    }

    #[test]
    fn hits_that_come_later_stand_in_their_places_and_what_does_not_fit_is_the_next_pages() {
        let mut fits = page(None);
        fits.take_in([a_hit(1_500, 100), a_hit(20, 100)]);
        assert_eq!(offsets(&fits), [1_950, 1_500, 1_450, 350, 20]);
        assert_eq!(fits.next_before_offset, None);
        let mut cut = page(Some(300));
        cut.unindexed = vec![gap(1_600), gap(400)];
        cut.take_in([a_hit(1_500, SEARCH_ANSWER_SIZE_MAX - 150)]);
        assert_eq!(offsets(&cut), [1_950, 1_500]);
        assert_eq!(cut.next_before_offset, Some(1_500));
        assert_eq!(cut.unindexed, [gap(1_600)]);
        // What comes later still, and lies behind the cut, is the next page's; the cut does not move back.
        cut.take_in([a_hit(900, 100), a_hit(850, SEARCH_ANSWER_SIZE_MAX)]);
        assert_eq!(offsets(&cut), [1_950, 1_500]);
        assert_eq!(cut.next_before_offset, Some(1_500));
        let mut large = page(None);
        large.take_in([a_hit(1_999, SEARCH_ANSWER_SIZE_MAX + 1)]);
        assert_eq!(offsets(&large), [1_999], "one is always given");
    }

    #[test]
    fn a_page_ends_behind_what_it_holds() {
        let mut ended = page(None);
        assert!(ended.end_here());
        assert_eq!(ended.next_before_offset, Some(350));
        let mut empty = Page::new(2_000, true);
        assert!(!empty.end_here());
        assert_eq!(empty.next_before_offset, None);
    }
}
