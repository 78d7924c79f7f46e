//! Logs and the cluster: what an operator asks.

use inkstone_proto::v1;
use tonic::Status;

use crate::call::admin;
use crate::client::Client;
use crate::error::Result;
use crate::retention::Retention;
use crate::status::ClusterStatus;
use crate::types::{Created, IfExists, LogInfo};

impl Client {
    /// Creates a log. Names: 1 to 255 bytes of `a-z 0-9 . _ - /`, not starting or ending with `/`.
    ///
    /// # Errors
    ///
    /// [`Reason::LogExists`](crate::Reason::LogExists) if the name is taken, unless [`IfExists::Keep`] says that this
    /// is fine. If a try was lost and the next one finds the log, nobody can tell who made it:
    /// [`Error::Unknown`](crate::Error::Unknown).
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::IfExists;
    ///
    /// let created = client.create_log("audit", IfExists::Keep).await?;
    /// println!("{} has the number {}", created.log().name, created.log().id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_log(&self, name: &str, if_exists: IfExists) -> Result<Created> {
        self.create_log_with(name, if_exists, Retention::default())
            .await
    }

    /// Returns all logs whose name starts with `prefix`, ordered by name.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// for log in client.list_logs("prod/").await? {
    ///     println!("{}: {} records", log.name, log.next_offset - log.first_offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_logs(&self, prefix: &str) -> Result<Vec<LogInfo>> {
        let request = v1::ListLogsRequest {
            prefix: prefix.to_owned(),
        };
        let list = |channel| {
            let request = request.clone();
            async move {
                let answer = admin(channel).list_logs(request).await?.into_inner();
                Ok(answer.logs.into_iter().map(LogInfo::from).collect())
            }
        };
        self.core.call(self.core.reading(), list).await
    }

    /// Returns one log, or [`Reason::LogNotFound`](crate::Reason::LogNotFound) if there is none of that name.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// println!("next offset: {}", client.log_info("audit").await?.next_offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log_info(&self, name: &str) -> Result<LogInfo> {
        let request = v1::GetLogRequest {
            name: name.to_owned(),
        };
        let get = |channel| {
            let request = request.clone();
            async move {
                let answer = admin(channel).get_log(request).await?.into_inner();
                answer.log.map(LogInfo::from).ok_or_else(|| lacks("log"))
            }
        };
        self.core.call(self.core.reading(), get).await
    }

    /// Who is in the cluster, who leads, and how far each node is, as the asked node sees it.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// let status = client.cluster_status().await?;
    /// println!("term {}, {} nodes", status.term, status.nodes.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let status = |channel| async move {
            let answer = admin(channel)
                .cluster_status(v1::ClusterStatusRequest {})
                .await?;
            Ok(answer.into_inner().into())
        };
        self.core.call(self.core.reading(), status).await
    }
}

/// An answer that breaks the protocol.
fn lacks(field: &str) -> Status {
    Status::internal(format!("the server's answer lacks `{field}`"))
}
