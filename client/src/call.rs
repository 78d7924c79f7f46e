//! Makes a request, again where that is safe, of the servers that the route says, until it is answered or time is up.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inkstone_proto::v1::ClusterStatusRequest;
use inkstone_proto::v1::admin_client::AdminClient;
use inkstone_proto::v1::logs_client::LogsClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::transport::Channel;

use crate::append::Lanes;
use crate::error::Result;
use crate::retry::{Attempts, Failure, RetryPolicy, Safety, Verdict};
use crate::route::{Aim, Route, Target};

/// Bytes of one answer. The largest is a page of search hits; without a bound a broken server could fill the memory.
const ANSWER_SIZE_MAX: usize = 64 << 20;
/// How long the first append may wait to learn who leads.
const LEADER_TIMEOUT: Duration = Duration::from_millis(500);

/// What the clones of one client share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) route: Route,
    pub(crate) timeout: Duration,
    pub(crate) policy: RetryPolicy,
    pub(crate) lanes: Lanes,
    /// Whether somebody has asked who leads.
    pub(crate) asked_for_leader: AtomicBool,
}

/// How a request is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) aim: Aim,
    pub(crate) safety: Safety,
    pub(crate) timeout: Duration,
    pub(crate) policy: RetryPolicy,
}

impl Core {
    /// A request that changes nothing, with the client's own bounds.
    pub(crate) fn reading(&self) -> Call {
        Call {
            aim: Aim::Any,
            safety: Safety::Read,
            timeout: self.timeout,
            policy: self.policy,
        }
    }

    /// Asks once who leads, so that appends need not be passed on by a follower. Nothing depends on the answer: without
    /// it any server takes an append.
    pub(crate) async fn find_leader(&self) {
        if !self.route.has_choice() || self.asked_for_leader.swap(true, Ordering::Relaxed) {
            return;
        }
        let Ok(target) = self.route.pick(Aim::Any) else {
            return;
        };
        let mut service = admin(target.channel);
        let status = service.cluster_status(ClusterStatusRequest {});
        let Ok(Ok(answer)) = timeout_at(Instant::now() + LEADER_TIMEOUT, status).await else {
            return;
        };
        let status = answer.into_inner();
        let nodes = status.nodes.into_iter().filter_map(|status| status.node);
        if let Some(leader) = nodes.into_iter().find(|node| node.id == status.leader) {
            self.route.leads(&leader.client_address);
        }
    }

    /// Makes the request until it is answered, refused for good, or time is up.
    pub(crate) async fn call<T, F, Fut>(&self, call: Call, request: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = std::result::Result<T, Status>>,
    {
        let deadline = Instant::now() + call.timeout;
        let attempts = Attempts::new(call.policy, call.safety, deadline);
        self.call_attempts(call, attempts, request).await
    }

    /// [`Core::call`] with attempts that the caller has begun to count.
    pub(crate) async fn call_attempts<T, F, Fut>(
        &self,
        call: Call,
        mut attempts: Attempts,
        request: F,
    ) -> Result<T>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = std::result::Result<T, Status>>,
    {
        loop {
            let target = self.route.pick(call.aim)?;
            let patience = (Instant::now() + call.policy.try_timeout).min(attempts.deadline());
            let failure = match timeout_at(patience, request(target.channel.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => Failure::classify(&status, &target.address),
                Err(_) => silence(&target),
            };
            self.route.failed(&target.address, &failure);
            match attempts.judge(failure, Instant::now(), rand::random()) {
                Verdict::Again(wait) => sleep(wait).await,
                Verdict::Answer(error) => return Err(error),
            }
        }
    }
}

/// A try that was given up because nothing came.
pub(crate) fn silence(target: &Target) -> Failure {
    Failure::Lost {
        message: format!("{} did not answer in time", target.address),
        detail: None,
    }
}

/// The service of logs on that connection.
pub(crate) fn logs(channel: Channel) -> LogsClient<Channel> {
    LogsClient::new(channel).max_decoding_message_size(ANSWER_SIZE_MAX)
}

/// The service of the cluster on that connection.
pub(crate) fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(ANSWER_SIZE_MAX)
}
