//! `ink search`: the newest hits of a query, and what they cover.

use std::time::Duration;

use clap::Args;
use inkstone_client::{Client, Consistency, Gap, SearchAnswer, SearchOptions, WhenBehind};
use serde_json::json;

use crate::arguments;
use crate::output::{Format, Output, offsets};
use crate::report::LogError;

/// No server searches for longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What to search for.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The log's name
    log: String,
    /// The query: `error OR "disk full"`, `-debug`, `level:error`, `timestamp:[2026-01-01 TO *]`
    #[arg(allow_hyphen_values = true)]
    query: String,
    /// At most N hits
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// How current: `stale` (what is indexed), `linearizable` (everything acknowledged), `lease` (the same, trusting clocks),
    /// or an OFFSET below which everything must be covered
    #[arg(long, value_name = "stale|lease|linearizable|OFFSET", default_value = "linearizable", value_parser = arguments::consistency)]
    consistency: Consistency,
    /// When that level can't be reached in time, print what there is, marked BEHIND, instead of failing
    #[arg(long)]
    allow_behind: bool,
    /// Only records of this time or later (2026-01-31, 2026-01-31T12:00:00Z, 15m, 2h, 1d)
    #[arg(long, value_name = "TIME", value_parser = arguments::time)]
    since: Option<i64>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = arguments::time)]
    until: Option<i64>,
    /// Only records below this offset: the next page
    #[arg(long, value_name = "OFFSET")]
    before: Option<u64>,
}

impl Search {
    pub(crate) async fn run(
        self,
        client: &Client,
        timeout: Duration,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let options = SearchOptions {
            limit: Some(self.limit),
            consistency: self.consistency,
            since: self.since,
            until: self.until,
            before_offset: self.before,
            timeout: Some(timeout.min(TIMEOUT_MAX)),
            when_behind: if self.allow_behind {
                WhenBehind::Answer
            } else {
                WhenBehind::Fail
            },
            ..SearchOptions::new(&self.log, self.query)
        };
        let answer = client
            .search(options)
            .await
            .map_err(LogError::asking(&self.log))?;
        let format = output.format(Format::Text);
        for hit in &answer.hits {
            output.hit(hit, format)?;
        }
        if format == Format::Json {
            output.json(&json!({ "summary": {
                "hits": answer.hits.len(),
                "indexed_next_offset": answer.indexed_next_offset,
                "committed_next_offset": answer.committed_next_offset,
                "complete": answer.complete,
                "node": answer.node,
                "next_before_offset": answer.next_before_offset,
                "behind": answer.behind,
                "gaps": answer.gaps.iter().map(gap_json).collect::<Vec<_>>(),
            } }))?;
        }
        output.flush()?;
        for gap in &answer.gaps {
            output.note(&format!(
                "gap: {} could not be searched or shown: damaged on every node",
                offsets(gap)
            ));
        }
        output.note(&summary(&answer));
        Ok(())
    }
}

fn gap_json(gap: &Gap) -> serde_json::Value {
    json!({ "from": gap.from, "to": gap.to, "reason": "damaged" })
}

/// One line: whether acknowledged records may be missing, how many hits, what they cover, whether there may be more.
fn summary(answer: &SearchAnswer) -> String {
    let (hits, covered, tail) = (
        answer.hits.len(),
        answer.indexed_next_offset,
        answer.committed_next_offset,
    );
    let noun = if hits == 1 { "hit" } else { "hits" };
    let complete = if answer.complete {
        "complete"
    } else if answer.gaps.is_empty() {
        "NOT complete: a limit cut it, narrow the query"
    } else {
        "NOT complete: records are damaged on every node"
    };
    let more = answer
        .next_before_offset
        .map_or_else(String::new, |offset| {
            format!("; next page: --before {offset}")
        });
    if answer.behind {
        // No "of": the tail is only what this node has heard of.
        return format!(
            "BEHIND: acknowledged records may be missing; {hits} {noun}; covers offsets < {covered}; {complete}{more}"
        );
    }
    format!("{hits} {noun}; covers offsets < {covered} of {tail}; {complete}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_is_covered_and_whether_there_is_more() {
        let mut answer = SearchAnswer {
            hits: vec![],
            indexed_next_offset: 90,
            committed_next_offset: 100,
            complete: true,
            node: 1,
            next_before_offset: None,
            behind: false,
            gaps: vec![],
        };
        assert_eq!(
            summary(&answer),
            "0 hits; covers offsets < 90 of 100; complete"
        );
        answer.next_before_offset = Some(17);
        assert!(summary(&answer).ends_with("complete; next page: --before 17"));
        answer.complete = false;
        assert!(summary(&answer).contains("NOT complete: a limit"));
        answer.gaps.push(Gap {
            from: 3,
            to: 5,
            reason: inkstone_client::GapReason::Damaged,
        });
        assert!(summary(&answer).contains("NOT complete: records are damaged"));
    }

    #[test]
    fn an_answer_that_is_behind_does_not_look_current() {
        let answer = SearchAnswer {
            hits: vec![],
            indexed_next_offset: 90,
            committed_next_offset: 90,
            complete: true,
            node: 1,
            next_before_offset: None,
            behind: true,
            gaps: vec![],
        };
        assert_eq!(
            summary(&answer),
            "BEHIND: acknowledged records may be missing; 0 hits; covers offsets < 90; complete"
        );
    }
}
