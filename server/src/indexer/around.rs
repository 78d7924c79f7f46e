//! Going on behind an entry that is damaged: what it lacks is left out of the index, and comes in when it is mended.
//!
//! Promises: an entry is left out only when nobody has it, or when nobody could say so for a while; what is left out is
//! named by every answer over it; once it can be read the index is built again from there. Must not know: Raft, other nodes.

use futures::future::BoxFuture;
use inkstone_storage::error::ReadError;
use inkstone_storage::log::{Log, Lost};
use inkstone_storage::search::{self, Feeder, IndexError, IndexGap, Searcher};
use inkstone_storage::types::LogId;
use tokio::time::sleep;

use super::{FEED_SIZE, Feed, FeedError, RETRY_AFTER};

/// So often is asked for an entry of which nobody says that it is lost, before the index goes on without it.
const TRIES_MAX: u32 = 5;
/// Entries that are fed one by one in a turn, to find the damaged one among them.
const ONE_BY_ONE_MAX: usize = 1_000;
/// Gaps that are looked at in one turn, whether they can be read now.
const LOOKS_MAX: usize = 16;

/// An entry that the index has met and that can't be read.
#[derive(Debug)]
pub struct Met {
    /// Its index.
    pub index: u64,
    /// What a reader of it is told.
    pub why: ReadError,
    /// What it lacks.
    pub harm: Harm,
}

/// What an entry lacks that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It put no records into any log.
    Nothing,
    /// Records, of which these are the first.
    Records(Lost),
    /// What would say so is damaged as well: nothing can be left out before that is mended.
    Unknown,
}

/// What is known of a damaged entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No member has it.
    Lost,
    /// It is being mended, or not everybody has answered.
    Unsure,
}

/// Whoever mends the log.
pub type Mender = Box<dyn Fn(Met) -> BoxFuture<'static, Verdict> + Send + Sync>;

/// How often an entry was asked for.
#[derive(Debug, Default)]
pub(super) struct Tries {
    index: u64,
    count: u32,
}

impl Tries {
    /// Whether the index goes on without the entry.
    fn are_enough(&mut self, index: u64, verdict: Verdict) -> bool {
        if self.index != index {
            *self = Self { index, count: 0 };
        }
        self.count += 1;
        verdict == Verdict::Lost || self.count >= TRIES_MAX
    }
}

impl Feed {
    /// Feeds the next entries, as many as fit one turn; or up to a damaged one, which is told.
    pub(super) async fn feed(
        &self,
        mut feeder: Feeder,
        next: u64,
        last: u64,
    ) -> Result<(Feeder, Option<Met>), FeedError> {
        let log = self.log.clone();
        let turn = move || {
            let from = next.max(log.state().first_index);
            match log.read_entries(from, last + 1, FEED_SIZE) {
                Ok(entries) => {
                    for entry in entries {
                        feeder.feed(entry.index, &entry.batches)?;
                    }
                    Ok((feeder, None))
                }
                Err(ReadError::Damaged(_)) => feed_one_by_one(&log, feeder, from, last),
                Err(error) => Err(error.into()),
            }
        };
        self.blocking.run(turn).await?
    }

    /// Goes on behind a damaged entry, when it is known to be lost or was asked for often enough, and the index does not lack
    /// too much already; else waits a while.
    pub(super) async fn go_around(
        &mut self,
        mut feeder: Feeder,
        met: Met,
        searcher: &Searcher,
    ) -> Result<Feeder, FeedError> {
        let Met { index, harm, .. } = met;
        let verdict = tokio::select! {
            verdict = (self.mender)(met) => verdict,
            // The caller looks at it.
            _ = self.wanted.changed() => return Ok(feeder),
        };
        if !self.tries.are_enough(index, verdict) || harm == Harm::Unknown {
            self.wait_to_retry().await;
            return Ok(feeder);
        }
        let log = self.log.clone();
        let turn = move || {
            let remains = log.remains(index)?;
            let gap = |(log, from, to): (LogId, u64, u64)| IndexGap {
                index,
                log,
                from,
                to,
            };
            let gaps: Vec<IndexGap> = remains.lost.into_iter().map(gap).collect();
            match feeder.feed_around(index, &remains.batches, &gaps) {
                Err(IndexError::Gaps(_)) => return Ok((feeder, false)),
                fed => fed?,
            }
            tracing::error!(
                index,
                ?gaps,
                "records are damaged and left out of the search index; answers over them say so"
            );
            Ok::<_, FeedError>((feeder, true))
        };
        let (feeder, is_behind) = self.blocking.run(turn).await??;
        if !is_behind {
            // The others stand there, too: nobody answers better.
            if self.shared.searcher.load().is_none() {
                self.offer(searcher);
            }
            if self.stands_at != Some(index) {
                tracing::error!(
                    index,
                    "more records are damaged than a search index may lack: it stands in front of this entry"
                );
                self.stands_at = Some(index);
            }
            self.wait_to_retry().await;
        }
        Ok(feeder)
    }

    async fn wait_to_retry(&mut self) {
        tokio::select! {
            // The caller looks at it.
            _ = self.wanted.changed() => {}
            () = sleep(RETRY_AFTER) => {}
        }
    }

    /// The entry of one of these gaps whose records can be read now, if there is one among the next that are looked at.
    pub(super) async fn mended(&mut self, gaps: Vec<IndexGap>) -> Result<Option<u64>, FeedError> {
        if gaps.is_empty() {
            return Ok(None);
        }
        let next = self.looked % gaps.len();
        self.looked = next + LOOKS_MAX;
        let log = self.log.clone();
        let is_whole = move |gap: &IndexGap| {
            let read = log.read(gap.log, gap.from, gap.from + 1, 0);
            read.is_ok_and(|chunk| chunk.next_offset > gap.from)
        };
        let look = move || {
            let from_there = gaps.iter().cycle().skip(next);
            let mut looked = from_there.take(LOOKS_MAX.min(gaps.len()));
            looked.find(|gap| is_whole(gap)).map(|gap| gap.index)
        };
        Ok(self.blocking.run(look).await?)
    }

    /// Gives up the shard that lacks this entry, and those behind it: the next open feeds them again.
    pub(super) async fn give_up_from(&self, feeder: Feeder, index: u64) -> Result<(), FeedError> {
        tracing::info!(
            index,
            "what the search index left out is repaired: the index is built again from there"
        );
        self.withdraw();
        let dir = self.options.dir.clone();
        let turn = move || {
            drop(feeder);
            search::delete_from(&dir, index)
        };
        Ok(self.blocking.run(turn).await??)
    }
}

fn feed_one_by_one(
    log: &Log,
    mut feeder: Feeder,
    from: u64,
    last: u64,
) -> Result<(Feeder, Option<Met>), FeedError> {
    for index in (from..=last).take(ONE_BY_ONE_MAX) {
        match log.read_entries(index, index + 1, 0) {
            Ok(entries) => {
                for entry in entries {
                    feeder.feed(entry.index, &entry.batches)?;
                }
            }
            Err(why @ ReadError::Damaged(_)) => {
                let harm = harm(log, index)?;
                return Ok((feeder, Some(Met { index, why, harm })));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((feeder, None))
}

/// What a damaged entry lacks.
fn harm(log: &Log, index: u64) -> Result<Harm, ReadError> {
    let first = match log.remains(index) {
        Ok(remains) => remains.lost.first().copied(),
        Err(ReadError::Damaged(_)) => return Ok(Harm::Unknown),
        Err(error) => return Err(error),
    };
    let Some((id, from, _)) = first else {
        return Ok(Harm::Nothing);
    };
    match log.lost_at(id, from) {
        Ok(Some(lost)) => Ok(Harm::Records(lost)),
        Ok(None) | Err(ReadError::Damaged(_)) => Ok(Harm::Unknown),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_lost_is_passed_at_once_and_another_one_after_some_tries() {
        let mut tries = Tries::default();
        assert!(tries.are_enough(4, Verdict::Lost));
        for _ in 1..TRIES_MAX {
            assert!(!tries.are_enough(7, Verdict::Unsure));
        }
        assert!(tries.are_enough(7, Verdict::Unsure));
        assert!(!tries.are_enough(8, Verdict::Unsure));
    }
}
