//! Who takes part in the cluster, and who leads: what an operator changes.
//!
//! A node is named by its id, or by its `HOST:PORT` for clients or for other nodes.

use std::time::Duration;

use inkstone_proto::v1;
use tonic::Status;
use tonic::transport::Channel;

use crate::call::{Call, admin};
use crate::client::Client;
use crate::error::Result;
use crate::retry::{RetryPolicy, Safety};
use crate::route::Aim;
use crate::types::NodeInfo;

/// A change is agreed on by the members, twice when it changes who votes: it takes longer than other calls, and a try that
/// is given up early leaves the caller without an answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which of the voters that remain count as able to commit, when a vote is taken away.
///
/// ```
/// assert_eq!(inkstone_client::Able::default(), inkstone_client::Able::CaughtUp);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Able {
    /// Those that are reachable and caught up.
    #[default]
    CaughtUp,
    /// Also those that are behind: appends then wait until they have caught up.
    Reachable,
}

/// Who leads after a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The leader now.
    pub leader: NodeInfo,
    /// False when it led already.
    pub transferred: bool,
}

impl Client {
    /// Adds a node that waits to be added, as a learner: it gets everything, and has no vote.
    ///
    /// # Errors
    ///
    /// [`Reason::NodeNotFound`](crate::Reason::NodeNotFound) when no such node waits or answers,
    /// [`Reason::AlreadyMember`](crate::Reason::AlreadyMember) when it is a member.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// let node = client.add_member("10.0.0.4:7421").await?;
    /// println!("node {} is a learner now", node.id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn add_member(&self, node: &str) -> Result<NodeInfo> {
        let request = v1::AddMemberRequest {
            node: node.to_owned(),
        };
        let add = |channel: Channel| {
            let request = request.clone();
            async move { node_of(admin(channel).add_member(request).await?.into_inner().node) }
        };
        self.core.call(self.changing(), add).await
    }

    /// Gives a learner that has caught up a vote.
    ///
    /// # Errors
    ///
    /// [`Reason::NotCaughtUp`](crate::Reason::NotCaughtUp): it is too far behind, by
    /// [`Detail::behind`](crate::Detail::behind) entries.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// client.promote_member("10.0.0.4:7421").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn promote_member(&self, node: &str) -> Result<NodeInfo> {
        let request = v1::PromoteMemberRequest {
            node: node.to_owned(),
        };
        let promote = |channel: Channel| {
            let request = request.clone();
            async move {
                node_of(
                    admin(channel)
                        .promote_member(request)
                        .await?
                        .into_inner()
                        .node,
                )
            }
        };
        self.core.call(self.changing(), promote).await
    }

    /// Takes a voter's vote; it stays as a learner.
    ///
    /// # Errors
    ///
    /// [`Reason::WouldLoseQuorum`](crate::Reason::WouldLoseQuorum) when too few of the others could commit.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// client.demote_member("10.0.0.4:7421", inkstone_client::Able::CaughtUp).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn demote_member(&self, node: &str, able: Able) -> Result<NodeInfo> {
        let request = v1::DemoteMemberRequest {
            node: node.to_owned(),
            force: able == Able::Reachable,
        };
        let demote = |channel: Channel| {
            let request = request.clone();
            async move {
                node_of(
                    admin(channel)
                        .demote_member(request)
                        .await?
                        .into_inner()
                        .node,
                )
            }
        };
        self.core.call(self.changing(), demote).await
    }

    /// Removes a member for good: its id never comes back.
    ///
    /// # Errors
    ///
    /// As for [`Client::demote_member`].
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// client.remove_member("10.0.0.3:7421", inkstone_client::Able::CaughtUp).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_member(&self, node: &str, able: Able) -> Result<NodeInfo> {
        let request = v1::RemoveMemberRequest {
            node: node.to_owned(),
            force: able == Able::Reachable,
        };
        let remove = |channel: Channel| {
            let request = request.clone();
            async move {
                node_of(
                    admin(channel)
                        .remove_member(request)
                        .await?
                        .into_inner()
                        .node,
                )
            }
        };
        self.core.call(self.changing(), remove).await
    }

    /// Makes that voter the leader, or, with `None`, the reachable one that is least behind.
    ///
    /// # Errors
    ///
    /// [`Reason::NotVoter`](crate::Reason::NotVoter), and [`Reason::NotCaughtUp`](crate::Reason::NotCaughtUp) when it
    /// can't be reached or is behind.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// println!("node {} leads", client.transfer_leader(None).await?.leader.id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transfer_leader(&self, node: Option<&str>) -> Result<Transfer> {
        let request = v1::TransferLeaderRequest {
            node: node.unwrap_or_default().to_owned(),
        };
        let transfer = |channel: Channel| {
            let request = request.clone();
            async move {
                let answer = admin(channel).transfer_leader(request).await?.into_inner();
                Ok(Transfer {
                    leader: node_of(answer.leader)?,
                    transferred: answer.transferred,
                })
            }
        };
        // Without a name a second transfer would move it on.
        let safety = if node.is_some() {
            Safety::Idempotent
        } else {
            Safety::Once
        };
        let call = Call {
            safety,
            ..self.changing()
        };
        self.core.call(call, transfer).await
    }

    fn changing(&self) -> Call {
        let reading = self.core.reading();
        Call {
            aim: Aim::Leader,
            safety: Safety::Idempotent,
            policy: RetryPolicy {
                try_timeout: TRY_TIMEOUT.max(reading.policy.try_timeout),
                ..reading.policy
            },
            ..reading
        }
    }
}

fn node_of(node: Option<v1::NodeInfo>) -> std::result::Result<NodeInfo, Status> {
    let node = node.ok_or_else(|| Status::internal("the server's answer lacks the node"))?;
    Ok(node.into())
}
