//! What the benchmarks append: lines as services write them, made up the same way every time.

use anyhow::{Context as _, Result};
use inkstone_client::{Client, IfExists, NewRecord, SessionOptions};
use inkstone_jepsen::lines::{Source, lines};

/// Records of a batch.
const BATCH: usize = 1_000;
/// Distinct lines; the corpus goes around them, each time with a number of its own in front.
const DISTINCT: usize = 50_000;

/// The bodies of the corpus, in order, without an end. `size`: bytes that a body is padded to, at least.
pub fn corpus(size: usize) -> impl Iterator<Item = Vec<u8>> {
    let lines = lines(Source::Service, DISTINCT);
    (0_u64..).map(move |number| {
        let place = usize::try_from(number).unwrap_or(usize::MAX) % DISTINCT;
        let mut body = format!("n{number} ").into_bytes();
        body.extend(&lines[place]);
        let mut more = place;
        while body.len() < size {
            more = (more + 1) % DISTINCT;
            body.push(b' ');
            body.extend(&lines[more]);
        }
        body
    })
}

/// Creates the log and appends so many records to it through one pipelined session; returns the bytes of the bodies.
pub async fn append_corpus(client: &Client, log: &str, records: usize, size: usize) -> Result<u64> {
    client.create_log(log, IfExists::Fail).await?;
    let mut session = client.append_session(log, SessionOptions::default());
    let mut bodies = corpus(size).take(records).peekable();
    let mut bytes = 0;
    let mut last = None;
    while bodies.peek().is_some() {
        let batch: Vec<NewRecord> = bodies.by_ref().take(BATCH).map(NewRecord::new).collect();
        bytes += batch.iter().map(|record| record.body.len()).sum::<usize>();
        last = Some(session.submit(batch).await?);
    }
    let receipt = last.context("nothing to append")?.await?;
    anyhow::ensure!(
        receipt.next_offset == u64::try_from(records)?,
        "{receipt:?}"
    );
    session.close().await?;
    Ok(u64::try_from(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_distinct_and_large_enough() {
        let bodies: Vec<Vec<u8>> = corpus(200).take(500).collect();
        assert!(bodies.iter().all(|body| body.len() >= 200));
        assert_ne!(bodies[0], bodies[1]);
    }
}
