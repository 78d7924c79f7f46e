//! Searches: one query, one page of hits, and what they cover.

use std::time::Duration;

use crate::call::{Call, logs};
use crate::client::Client;
use crate::error::Result;
use crate::retry::RetryPolicy;
use crate::types::{SearchAnswer, SearchOptions};
use crate::wire;

/// How long a search may take at the server when the caller does not say.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// What the way to the server and back may take on top.
const SEARCH_MARGIN: Duration = Duration::from_secs(1);

impl Client {
    /// Searches a log, newest records first. Every answer says which offsets it covers.
    ///
    /// # Errors
    ///
    /// [`Reason::BadQuery`](crate::Reason::BadQuery), whose detail says where;
    /// [`Reason::QueryLimit`](crate::Reason::QueryLimit) for a query that wants too much.
    ///
    /// ```no_run
    /// # async fn example(client: inkstone_client::Client) -> inkstone_client::Result<()> {
    /// use inkstone_client::{Consistency, SearchOptions};
    ///
    /// let receipt = client.append("audit", vec!["disk full on web-3".into()]).await?;
    /// let options = SearchOptions {
    ///     consistency: Consistency::AtLeast(receipt.next_offset),
    ///     ..SearchOptions::new("audit", "\"disk full\"")
    /// };
    /// let answer = client.search(options).await?;
    /// println!("{} hits below offset {}", answer.hits.len(), answer.indexed_next_offset);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn search(&self, options: SearchOptions) -> Result<SearchAnswer> {
        let wait = options.timeout.unwrap_or(SEARCH_TIMEOUT);
        let reading = self.core.reading();
        let policy = RetryPolicy {
            try_timeout: reading.policy.try_timeout.max(wait + SEARCH_MARGIN),
            ..reading.policy
        };
        let call = Call {
            timeout: reading.timeout.max(wait + SEARCH_MARGIN),
            policy,
            ..reading
        };
        let request = wire::search_request(&options, wait);
        let search = |channel| {
            let request = request.clone();
            async move { Ok(logs(channel).search(request).await?.into_inner().into()) }
        };
        self.core.call(call, search).await
    }
}
