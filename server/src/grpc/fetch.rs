//! Entries for a peer whose log is damaged.
//!
//! Promises: the log is read off the runtime's threads, a bounded number of requests at a time. Must not know: what the
//! peer does with them.

use inkstone_proto::peer_v1 as peer;
use tonic::Status;

use crate::grpc::{Services, error};
use crate::raft::Quarantine;
use crate::raft::fetch::{Running, give};
use crate::raft::wire::Malformed;

/// From the log of a group that runs.
pub(crate) async fn from_group(
    services: &Services,
    request: peer::FetchEntriesRequest,
) -> Result<peer::FetchEntriesResponse, Status> {
    let running = Running {
        log: services.group.log().clone(),
        committed_index: services.group.committed_index(),
    };
    let given = services.reads.run(move || give(&running, &request)).await;
    answer(given.map_err(error::pool_busy)?)
}

/// From a damaged log: what is whole of it.
pub(crate) async fn from_quarantine(
    quarantine: &Quarantine,
    request: peer::FetchEntriesRequest,
) -> Result<peer::FetchEntriesResponse, Status> {
    let log = quarantine.log();
    let reads = quarantine.reads();
    let given = reads.run(move || give(log.as_ref(), &request)).await;
    answer(given.map_err(error::pool_busy)?)
}

fn answer(
    given: Result<peer::FetchEntriesResponse, Malformed>,
) -> Result<peer::FetchEntriesResponse, Status> {
    given.map_err(|malformed| Status::invalid_argument(malformed.0))
}
