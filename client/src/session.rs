//! Append sessions.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::{NewRecord, Receipt, Result};

/// A pipelined session on one log. Every batch takes effect exactly once, in the order of the calls.
#[derive(Debug)]
pub struct AppendSession {}

impl AppendSession {
    /// Hands one batch over; waits while 16 are in flight. Await the ticket for its receipt (or don't).
    pub async fn submit(&mut self, records: Vec<NewRecord>) -> Result<Ticket> {
        todo!()
    }
    /// Waits until every batch is answered, and ends the session.
    pub async fn close(self) -> Result<()> {
        todo!()
    }
}

/// The outcome of one submitted batch, to be awaited.
#[derive(Debug)]
pub struct Ticket {}

impl Future for Ticket {
    type Output = Result<Receipt>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}
