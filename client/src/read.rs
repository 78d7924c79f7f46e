//! Reads.
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::{ReadEvent, Result};

/// The events of a read. It resumes at the right offset by itself when the connection is lost.
#[derive(Debug)]
pub struct ReadStream {}

impl Stream for ReadStream {
    type Item = Result<ReadEvent>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        todo!()
    }
}
