//! Commands: what is proposed besides batches.
//!
//! Promises: the leader's clock goes into the entry, apply reads none; a caller that goes away cancels nothing. Must not
//! know: gRPC, who asks.

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::command::Command;
use inkstone_storage::types::LogId;
use openraft::errors::RaftError;
use prost::Message;

use crate::raft::error::propose_error;
use crate::raft::types::{Applied, Proposal, ProposalKind};
use crate::raft::{Group, LogInfo, LogRefusal, ProposeError, Retention};

impl Group {
    /// Creates a log. Returns its info, and whether it is new. Only where this node leads.
    pub async fn create_log(
        &self,
        name: &str,
        retention: Retention,
    ) -> Result<Result<(LogInfo, bool), LogRefusal>, ProposeError> {
        let create = peer::CreateLog {
            name: name.to_owned(),
            time: self.inner.time.now(),
            retention: Some(peer::Retention {
                max_age_ms: retention.max_age_ms,
                max_bytes: retention.max_bytes,
            }),
        };
        match self.propose(Command::CreateLog(create)).await? {
            Applied::Log(info, created) => Ok(Ok((info, created))),
            Applied::Changed(Err(refusal)) => Ok(Err(refusal)),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes what retention may remove of a log: absent is as it was, 0 keeps for ever. Only where this node leads.
    pub async fn alter_log(
        &self,
        log: LogId,
        max_age_ms: Option<u64>,
        max_bytes: Option<u64>,
    ) -> Result<Result<LogInfo, LogRefusal>, ProposeError> {
        let alter = peer::AlterLog {
            log_id: log.0,
            max_age_ms,
            max_bytes,
        };
        self.change_log(Command::AlterLog(alter)).await
    }

    /// Deletes a log. Returns what it was. Frees room, so it is not refused for want of it. Only where this node leads.
    pub async fn delete_log(
        &self,
        log: LogId,
    ) -> Result<Result<LogInfo, LogRefusal>, ProposeError> {
        let delete = peer::DeleteLog { log_id: log.0 };
        self.change_log(Command::DeleteLog(delete)).await
    }

    /// Removes a log's records below an offset. Only where this node leads.
    pub async fn trim_log(
        &self,
        log: LogId,
        before_offset: u64,
    ) -> Result<Result<LogInfo, LogRefusal>, ProposeError> {
        self.change_log(Command::Trim(trim([(log, before_offset)])))
            .await
    }

    /// Removes the records of many logs below an offset each, in one entry. One that is refused by now (the log was deleted)
    /// leaves the others as they are.
    pub(super) async fn trim_logs(
        &self,
        logs: impl IntoIterator<Item = (LogId, u64)>,
    ) -> Result<(), ProposeError> {
        self.propose_always(Command::Trim(trim(logs)))
            .await
            .map(drop)
    }

    async fn change_log(
        &self,
        command: Command,
    ) -> Result<Result<LogInfo, LogRefusal>, ProposeError> {
        let is_alter = matches!(command, Command::AlterLog(_));
        let applied = if is_alter {
            self.propose(command).await?
        } else {
            self.propose_always(command).await?
        };
        match applied {
            Applied::Changed(changed) => Ok(changed),
            other => Err(unexpected(&other)),
        }
    }

    /// Proposes a command and returns what apply answers.
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        self.inner.space.check(0).await?;
        self.propose_always(command).await
    }

    /// Proposes a command also on a nearly full disk, as one that makes room must be, and returns what apply answers.
    async fn propose_always(&self, command: Command) -> Result<Applied, ProposeError> {
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

fn trim(logs: impl IntoIterator<Item = (LogId, u64)>) -> peer::Trim {
    let logs = logs.into_iter().map(|(log, offset)| peer::TrimTo {
        log_id: log.0,
        offset,
    });
    peer::Trim {
        logs: logs.collect(),
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
