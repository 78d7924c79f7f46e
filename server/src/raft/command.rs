//! Commands: what is proposed besides batches.
//!
//! Promises: the leader's clock goes into the entry, apply reads none; a caller that goes away cancels nothing. Must not
//! know: gRPC, who asks.

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use inkstone_storage::limits::LOGS_MAX;
use openraft::errors::RaftError;
use prost::Message;

use crate::raft::error::propose_error;
use crate::raft::types::{Applied, Proposal, ProposalKind};
use crate::raft::{Group, LogInfo, ProposeError};

impl Group {
    /// Creates a log: its info, and whether it is new. Only where this node leads.
    pub async fn create_log(&self, name: &str) -> Result<(LogInfo, bool), ProposeError> {
        {
            // The state keeps every log. Those that are being created at this moment may go a little beyond.
            let state = self.inner.state.read();
            if state.log_named(name).is_none() && state.logs_count() >= LOGS_MAX {
                return Err(ProposeError::TooManyLogs);
            }
        }
        let create = peer::CreateLog {
            name: name.to_owned(),
            time: self.inner.time.now(),
        };
        match self.propose(Command::CreateLog(create)).await? {
            Applied::Log(info, created) => Ok((info, created)),
            other => Err(unexpected(&other)),
        }
    }

    /// Proposes a command and returns what apply answers.
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        self.inner.log.check_space()?;
        let members = self.members().into_iter().map(|member| member.id);
        self.versions()
            .allow(&command, self.inner.node_id, members)?;
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
