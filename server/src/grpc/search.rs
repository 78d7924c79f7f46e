//! Searches: answered by a node that has an index, this one or one hop away, at the consistency that was asked for.
//!
//! Promises: every answer says what it covers, and whether that is less than was asked for; the hits' records come
//! from the log, verified, never from the index, and those that are lost on all members are named. A search changes
//! nothing, so it may be asked of another member whenever one does not answer.

use std::time::Duration;

use inkstone_proto::peer_v1::ForwardSearchRequest;
use inkstone_proto::v1::{Consistency, NodeInfo, Reason, SearchRequest, SearchResponse};
use inkstone_storage::limits::SEARCH_HITS_MAX;
use inkstone_storage::search::{self as index, Query, Searcher};
use tokio::time::timeout_at;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::grpc::answers::Held;
use crate::grpc::connection::Connection;
use crate::grpc::consistency;
use crate::grpc::deadline::Deadline;
use crate::grpc::limits::{
    INDEX_TICK, INDEX_WAIT, LARGE_ANSWERS_MAX, SEARCH_HITS_DEFAULT, SEARCH_TIMEOUT,
    SEARCH_TIMEOUT_MAX,
};
use crate::grpc::{Services, convert, error};

use self::coverage::{Coverage, covered};
use self::hits::Fetch;

mod coverage;
mod hits;
mod lost;
mod page;

/// A search whose fields were checked.
#[derive(Debug, Clone)]
struct Checked {
    query: Query,
    consistency: Consistency,
    limit: usize,
    timeout: Duration,
}

impl Checked {
    fn check(request: &SearchRequest) -> Result<Self, Status> {
        convert::check_log_name(&request.log)?;
        let consistency = convert::consistency(request.consistency)?;
        consistency::check(consistency, request.at_least_offset)?;
        if let (Some(since), Some(until)) = (request.since, request.until)
            && since >= until
        {
            return Err(error::invalid(format!(
                "since ({since}) is not before until ({until}); nothing lies between them"
            )));
        }
        Ok(Self {
            query: Query::parse(&request.query).map_err(|wrong| error::query(&wrong))?,
            consistency,
            limit: limit(request.limit)?,
            timeout: timeout(request.timeout_ms)?,
        })
    }
}

fn limit(limit: u32) -> Result<usize, Status> {
    match usize::try_from(limit).unwrap_or(usize::MAX) {
        0 => Ok(SEARCH_HITS_DEFAULT),
        limit if limit <= SEARCH_HITS_MAX => Ok(limit),
        limit => Err(error::too_large(
            "search_hits_max",
            SEARCH_HITS_MAX,
            format!(
                "limit is {limit}, and {SEARCH_HITS_MAX} is the most; ask for the next page with before_offset"
            ),
        )),
    }
}

fn timeout(timeout_ms: u32) -> Result<Duration, Status> {
    match Duration::from_millis(timeout_ms.into()) {
        Duration::ZERO => Ok(SEARCH_TIMEOUT),
        timeout if timeout <= SEARCH_TIMEOUT_MAX => Ok(timeout),
        _ => Err(error::invalid(format!(
            "timeout_ms is {timeout_ms}; 60,000 is the most"
        ))),
    }
}

/// Searches here, or on a member that has an index.
pub(crate) async fn search(
    services: &Services,
    metadata: &MetadataMap,
    request: SearchRequest,
    connection: Option<&Connection>,
) -> Result<(SearchResponse, Held), Status> {
    let checked = Checked::check(&request)?;
    let timeout = checked.timeout;
    let deadline = Deadline::of_request(services.clock, metadata, timeout, timeout);
    let patience = Deadline::after(services.clock, INDEX_WAIT).min(deadline);
    loop {
        let mut progress = services.indexer.subscribe();
        let answer = search_once(services, &request, &checked, (deadline, connection)).await;
        let without_index = is_without_index(&answer);
        if !without_index || patience.expired(services.clock) {
            return answer;
        }
        // An index is opened when a node starts and when the leader changes: it is worth a moment.
        let tick = Deadline::after(services.clock, INDEX_TICK).min(patience);
        drop(timeout_at(tick.instant(), progress.changed()).await);
    }
}

/// Here if this node indexes, otherwise where another does.
async fn search_once(
    services: &Services,
    request: &SearchRequest,
    checked: &Checked,
    (deadline, connection): (Deadline, Option<&Connection>),
) -> Result<(SearchResponse, Held), Status> {
    if services.indexer.searcher().is_some() {
        let answer = carry_out(services, request, checked.clone(), (deadline, connection)).await;
        if is_damaged(&answer) {
            // A hit's record is damaged here: a member that indexes, too, may have it whole.
            let elsewhere = search_elsewhere(services, request, (deadline, connection)).await;
            return elsewhere.or(answer);
        }
        // The index may have been closed since: then a member may answer.
        if !is_without_index(&answer) {
            return answer;
        }
    }
    search_elsewhere(services, request, (deadline, connection)).await
}

/// On a member that has an index.
async fn search_elsewhere(
    services: &Services,
    request: &SearchRequest,
    (deadline, connection): (Deadline, Option<&Connection>),
) -> Result<(SearchResponse, Held), Status> {
    let place = services.forward_place()?;
    let answer = forward(services, request, deadline).await?;
    let held = room(services, deadline, connection).await?;
    drop(place);
    Ok((answer, held))
}

/// Room for an answer, once it is this one's turn.
async fn room(
    services: &Services,
    deadline: Deadline,
    connection: Option<&Connection>,
) -> Result<Held, Status> {
    timeout_at(
        deadline.instant(),
        services.large_answers.take(1, connection),
    )
    .await
    .map_err(|_| error::busy("large_answers_max", LARGE_ANSWERS_MAX))
}

fn is_without_index<T>(answer: &Result<T, Status>) -> bool {
    answer.as_ref().err().and_then(error::reason_of) == Some(Reason::NoIndex)
}

fn is_damaged<T>(answer: &Result<T, Status>) -> bool {
    answer.as_ref().err().and_then(error::reason_of) == Some(Reason::Damaged)
}

/// Searches this node's own index. For the peer service: the last hop.
pub(crate) async fn search_here(
    services: &Services,
    request: SearchRequest,
    connection: Option<&Connection>,
) -> Result<(SearchResponse, Held), Status> {
    let checked = Checked::check(&request)?;
    let deadline = Deadline::after(services.clock, checked.timeout);
    carry_out(services, &request, checked, (deadline, connection)).await
}

async fn carry_out(
    services: &Services,
    request: &SearchRequest,
    checked: Checked,
    (deadline, connection): (Deadline, Option<&Connection>),
) -> Result<(SearchResponse, Held), Status> {
    let clock = services.clock;
    // What waits and then answers behind keeps time to answer; what searches keeps time to send what it has.
    let patience = if request.allow_behind {
        deadline.earlier_by(clock, 4)
    } else {
        deadline
    };
    let Coverage {
        info,
        searcher,
        behind,
    } = covered(services, request, checked.consistency, patience).await?;
    let fetch = Fetch {
        searcher,
        log: services.group.log().clone(),
        group: services.group.clone(),
        clock,
        deadline: deadline.earlier_by(clock, 8),
        request: index::SearchRequest {
            log: info.id,
            query: checked.query,
            limit: checked.limit,
            since: request.since,
            until: request.until,
            before_offset: request.before_offset,
        },
        first_offset: info.first_offset,
        data_dir: services.data_dir.clone(),
    };
    let held = room(services, deadline, connection).await?;
    let searched = services
        .searches
        .run(move || fetch.run().map(|page| (page, fetch.request.query)));
    let (mut page, query) = timeout_at(deadline.instant(), searched)
        .await
        .map_err(|_| error::timeout("the search took longer than timeout_ms; narrow it"))?
        .map_err(error::searches_busy)??;
    let gaps = lost::make_good(services, (info.id, &query), &mut page);
    let gaps = timeout_at(deadline.instant(), gaps)
        .await
        .map_err(|_| error::timeout("no member said in time whether it has a damaged record"))??;
    // Read after the search: what is indexed was applied before.
    let now = services.group.log_info_by_id(info.id).unwrap_or(info);
    let answer = SearchResponse {
        indexed_next_offset: page.indexed_next_offset,
        committed_next_offset: now.next_offset.max(page.indexed_next_offset),
        complete: page.complete && gaps.is_empty(),
        node: services.group.node_id(),
        next_before_offset: page.next_before_offset,
        behind,
        gaps,
        hits: page.into_hits(),
    };
    Ok((answer, held))
}

fn searcher(services: &Services) -> Result<Searcher, Status> {
    services.indexer.searcher().ok_or_else(error::no_index)
}

/// Asks the other members in turn: each gets its share of the time that is left. The last answer stands when no one
/// has an index.
async fn forward(
    services: &Services,
    request: &SearchRequest,
    deadline: Deadline,
) -> Result<SearchResponse, Status> {
    let members = services.other_members_in_turn();
    let mut last = error::no_index();
    for (asked, member) in members.iter().enumerate() {
        let left = u32::try_from(members.len() - asked).unwrap_or(u32::MAX);
        let share = deadline.remaining(services.clock) / left;
        if share.is_zero() {
            return Err(error::timeout(
                "no member answered the search in time; retry",
            ));
        }
        match ask(services, member, request, share).await {
            Ok(answer) => return Ok(answer),
            Err(status) => match error::reason_of(&status) {
                // The connection failed: not an answer.
                None => tracing::debug!(node = member.id, %status, "a search was not answered"),
                Some(reason) if may_differ_elsewhere(reason) => last = status,
                Some(_) => return Err(status),
            },
        }
    }
    Err(last)
}

/// Whether another member may well answer what this one could not.
fn may_differ_elsewhere(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoIndex
            | Reason::Busy
            | Reason::ShuttingDown
            | Reason::Timeout
            | Reason::NoLeader
            | Reason::Damaged
            | Reason::Internal
    )
}

async fn ask(
    services: &Services,
    member: &NodeInfo,
    request: &SearchRequest,
    share: Duration,
) -> Result<SearchResponse, Status> {
    let mut request = request.clone();
    // It answers within most of the share, so that its answer arrives in all of it.
    let own_share = share.saturating_sub(share / 10);
    request.timeout_ms = u32::try_from(own_share.as_millis())
        .unwrap_or(u32::MAX)
        .max(1);
    let header = services.group.header(member.id);
    let mut message = Request::new(ForwardSearchRequest {
        header: Some(header),
        request: Some(request),
    });
    message.set_timeout(share);
    services
        .group
        .peer(member)
        .forward_search(message)
        .await
        .map(tonic::Response::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::append;
    use crate::grpc::lone_node::{LOG, LoneNode, one_record};

    #[test]
    fn limit_and_timeout_have_defaults_and_bounds() {
        assert_eq!(limit(0).expect("default"), 20);
        assert_eq!(limit(1_000).expect("the most"), 1_000);
        let over = limit(1_001).expect_err("over");
        let detail = error::detail_of(&over).expect("detail");
        assert_eq!(
            (detail.bound.as_str(), detail.bound_value),
            ("search_hits_max", 1_000)
        );
        assert_eq!(timeout(0).expect("default"), Duration::from_secs(5));
        assert_eq!(timeout(60_000).expect("the most"), Duration::from_secs(60));
        let over = timeout(60_001).expect_err("over");
        assert_eq!(error::reason_of(&over), Some(Reason::Invalid));
    }

    #[tokio::test]
    async fn an_answer_is_behind_exactly_when_its_consistency_was_not_met() {
        let node = LoneNode::leading().await;
        let services = &node.services;
        let append = append::append(services, &MetadataMap::new(), one_record("x")).await;
        assert_eq!(append.expect("appended").next_offset, 1);
        let ask = async |consistency: Consistency, at_least_offset, allow_behind| {
            let request = SearchRequest {
                log: LOG.to_owned(),
                consistency: consistency.into(),
                at_least_offset,
                allow_behind,
                // What can be met is met at once; what can't be is waited for this long.
                timeout_ms: 2_000,
                ..SearchRequest::default()
            };
            let answered = search_here(services, request, None).await;
            answered.map(|(answer, _)| answer)
        };
        let covers = |answer: Result<SearchResponse, Status>| {
            let answer = answer.expect("an answer");
            let (indexed, committed) = (answer.indexed_next_offset, answer.committed_next_offset);
            (answer.behind, indexed, committed)
        };

        // The index has not seen the record.
        let linearizable = ask(Consistency::Linearizable, 0, true).await;
        assert_eq!(covers(linearizable), (true, 0, 1));
        assert_eq!(
            covers(ask(Consistency::AtLeast, 1, true).await),
            (true, 0, 1)
        );
        assert_eq!(
            covers(ask(Consistency::Stale, 0, true).await),
            (false, 0, 1)
        );
        let refused = ask(Consistency::Linearizable, 0, false).await;
        let refused = refused.expect_err("an answer behind was not asked for");
        assert_eq!(error::reason_of(&refused), Some(Reason::Timeout));

        node.index_all().await;
        let linearizable = ask(Consistency::Linearizable, 0, true).await;
        assert_eq!(covers(linearizable), (false, 1, 1));
        assert_eq!(
            covers(ask(Consistency::AtLeast, 1, true).await),
            (false, 1, 1)
        );
        // Elsewhere it has more records than this node has heard of: only `behind` tells.
        assert_eq!(
            covers(ask(Consistency::AtLeast, 2, true).await),
            (true, 1, 1)
        );
    }

    #[test]
    fn a_wrong_request_is_wrong_on_every_member() {
        for reason in [
            Reason::LogNotFound,
            Reason::BadQuery,
            Reason::QueryLimit,
            Reason::Invalid,
        ] {
            assert!(!may_differ_elsewhere(reason), "{reason:?}");
        }
        assert!(may_differ_elsewhere(Reason::NoIndex));
    }
}
