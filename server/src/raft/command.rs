//! Commands: what is proposed besides batches.
//!
//! Promises: the leader's clock goes into the entry, apply reads none; a caller that goes away cancels nothing. Must not
//! know: gRPC, who asks.

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use openraft::errors::RaftError;
use prost::Message;

use crate::raft::error::propose_error;
use crate::raft::types::{Applied, Proposal, ProposalKind};
use crate::raft::{Group, LogInfo, ProposeError};

impl Group {
    /// Creates a log: its info, and whether it is new. Only where this node leads.
    pub async fn create_log(&self, name: &str) -> Result<(LogInfo, bool), ProposeError> {
        let create = peer::CreateLog {
            name: name.to_owned(),
            time: self.inner.clock.unix_nanos(),
        };
        match self.propose(Command::CreateLog(create)).await? {
            Applied::Log(info, created) => Ok((info, created)),
            other => Err(unexpected(&other)),
        }
    }

    /// Proposes a command and returns what apply answers.
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        self.inner.log.check_space()?;
        let command = peer::Command {
            command: Some(command),
        };
        let proposal = Proposal {
            kind: ProposalKind::Command,
            payload: command.encode_to_vec().into(),
        };
        // In a task of its own: a client that goes away does not cancel the command.
        let raft = self.inner.raft.clone();
        let proposed = tokio::spawn(async move { raft.client_write(proposal).await });
        match proposed.await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(error))) => Err(propose_error(error)),
            Ok(Err(RaftError::Fatal(fatal))) => Err(unknown(&fatal)),
            Err(error) => Err(unknown(&error)),
        }
    }
}

fn unexpected(answer: &Applied) -> ProposeError {
    unknown(&format!("answered with {answer:?}"))
}

fn unknown(why: &dyn ToString) -> ProposeError {
    ProposeError::Unknown {
        why: why.to_string(),
    }
}
