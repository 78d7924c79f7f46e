//! Where an earlier run of `ink append --file` stopped, found out from the cluster alone: nothing is kept beside the
//! file.
//!
//! # The scheme
//!
//! The producer's **id** is a hash of the file's canonical path, its first line, the log and the syntax. Batches are
//! cut by fixed bounds, so that a sequence always stands for the same lines, but for one difficulty: the last batch of
//! a run ends where the file ended, and when the file has grown, the same cut gives a longer batch. So each time lines
//! follow a batch that was cut short, a new **epoch** begins, whose number is *how many records stand before it*, with
//! sequences from 0 again. It is larger than every epoch before it, as the servers demand, and it tells a later run
//! where the cutting began.
//!
//! A run then asks, each time with an append that can't take effect because its sequence is far ahead:
//!
//! 1. Which epoch holds? Epoch 0 is answered with `PRODUCER_FENCED` and the epoch, or with `SEQUENCE_GAP`.
//! 2. Which sequence is next there? `SEQUENCE_GAP` tells. If it is 0 in epoch 0, nothing was appended (or the servers
//!    have forgotten it, after 24 hours).
//! 3. How many records had the last batch? It is sent again, and answered with its original receipt. All batches
//!    before it were full.
//!
//! These records are read back from the log and compared with the file: a file that was replaced or edited is refused
//! rather than silently taken for one that was appended. If the last batch was as long as it is cut now, the run goes
//! on with the next sequence, otherwise with a new epoch.
//!
//! What an interrupted run still had on its way either carries the same records under the same sequence, or it was cut
//! short by the end of the file; the caller sends the first 16 batches one at a time to notice that, and plans anew.
//! Two runs at a time are kept apart by a lock on the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use futures::TryStreamExt;
use inkstone_client::{
    AppendOptions, Client, Consistency, Detail, Error, NewRecord, Producer, ProducerChoice,
    ReadEvent, ReadOptions, Reason, Receipt, Record, Start,
};
use tokio::fs::File;
use tokio::io::BufReader;

use crate::append::source::{Bounds, Cutter, Lines, Syntax};
use crate::report::LogError;

/// The fixed cut. Changing it would append files twice that are half appended: it needs a new [`CONTEXT`].
const BOUNDS: Bounds = Bounds {
    records: 1_000,
    bytes: 1 << 20,
    linger: None,
};
/// Names the hash from which ids come, so that they never meet those of another scheme.
const CONTEXT: &str = "inkstone 2026-11 ink append --file";
/// A sequence that no producer reaches: an append with it is always refused, and the refusal tells the next one.
const PROBE_SEQUENCE: u64 = 1 << 48;

/// A file that is to be appended. While this lives, no other `ink` on this machine appends it.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    canonical: PathBuf,
    pub(super) size: u64,
    _lock: std::fs::File,
}

/// What is left to do.
#[derive(Debug)]
pub(super) struct Plan {
    /// Gives the batches that are left.
    pub(super) cutter: Cutter,
    /// With the sequence of the first of them.
    pub(super) producer: Producer,
    /// Records of the file that were appended before.
    pub(super) appended: u64,
    /// The offset behind the last of them.
    pub(super) next_offset: Option<u64>,
}

/// Opens and locks a file.
pub(super) async fn open(path: &Path) -> anyhow::Result<Input> {
    let named = || format!("can't open {}", path.display());
    let canonical = tokio::fs::canonicalize(path).await.with_context(named)?;
    let file = File::open(path).await.with_context(named)?;
    let meta = file.metadata().await.with_context(named)?;
    if !meta.is_file() {
        bail!(
            "{} is not a regular file: pipe it into `ink append LOG` instead",
            path.display()
        );
    }
    let lock = file.into_std().await;
    if lock.try_lock().is_err() {
        bail!(
            "{} is being appended by another `ink` (it is locked): wait for it",
            path.display()
        );
    }
    Ok(Input {
        path: path.to_owned(),
        canonical,
        size: meta.len(),
        _lock: lock,
    })
}

/// Finds out what is left to append; `None`: the file has no lines.
pub(super) async fn plan(
    client: &Client,
    log: &str,
    input: &Input,
    syntax: Syntax,
) -> anyhow::Result<Option<Plan>> {
    let Some(first_line) = lines(input, syntax).await?.next_line().await? else {
        return Ok(None);
    };
    let id = producer_id(&input.canonical, log, syntax, &first_line);
    let (epoch, sequence) = find_place(client, log, id)
        .await
        .map_err(LogError::appending(log))?;
    let mut cutter = Cutter::new(lines(input, syntax).await?, BOUNDS);
    let producer = Producer {
        id,
        epoch,
        sequence,
    };
    if sequence == 0 && epoch == 0 {
        return Ok(Some(Plan {
            cutter,
            producer,
            appended: 0,
            next_offset: None,
        }));
    }
    let shorter = || shorter(input, log);
    let mut appended = u64::from(epoch);
    if !cutter.skip(appended).await? {
        return Err(shorter());
    }
    let Some(last) = sequence.checked_sub(1) else {
        return Ok(Some(Plan {
            cutter,
            producer,
            appended,
            next_offset: None,
        }));
    };
    for _ in 0..last {
        appended += cutter.next_batch().await?.ok_or_else(shorter)?.len() as u64;
    }
    let mut batch = cutter.next_batch().await?.ok_or_else(shorter)?;
    let before = Producer {
        sequence: last,
        ..producer
    };
    let receipt = receipt(client, log, before, batch.clone())
        .await
        .map_err(LogError::appending(log))?;
    let records = usize::try_from(receipt.records()).unwrap_or(usize::MAX);
    if records > batch.len() {
        return Err(shorter());
    }
    let rest = batch.split_off(records);
    compare(client, log, &receipt, &batch, appended, input).await?;
    appended += receipt.records();
    let producer = if rest.is_empty() {
        producer
    } else {
        next_epoch(id, appended)?
    };
    cutter.put_back(rest);
    Ok(Some(Plan {
        cutter,
        producer,
        appended,
        next_offset: Some(receipt.next_offset),
    }))
}

/// The file lacks lines that were appended from it.
fn shorter(input: &Input, log: &str) -> anyhow::Error {
    anyhow!(
        "{} has fewer lines than were appended from it: it is another file now. \
         Rename it, or pipe it into `ink append {log}`, to append all of it",
        input.path.display()
    )
}

fn next_epoch(id: u64, appended: u64) -> anyhow::Result<Producer> {
    let epoch = u32::try_from(appended).map_err(|_| {
        anyhow!("the file has grown beyond 4,294,967,295 records: pipe the rest into `ink append`")
    })?;
    Ok(Producer {
        id,
        epoch,
        sequence: 0,
    })
}

async fn lines(input: &Input, syntax: Syntax) -> anyhow::Result<Lines> {
    let named = || format!("can't open {}", input.path.display());
    let file = File::open(&input.path).await.with_context(named)?;
    Ok(Lines::new(
        Box::new(BufReader::with_capacity(1 << 18, file)),
        syntax,
    ))
}

/// The first line takes part, so that a rotated file is a new one; the rest does not, because a file may grow.
fn producer_id(canonical: &Path, log: &str, syntax: Syntax, first_line: &[u8]) -> u64 {
    let syntax: &[u8] = match syntax {
        Syntax::Text => b"text",
        Syntax::Json => b"json",
    };
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in [
        canonical.as_os_str().as_encoded_bytes(),
        log.as_bytes(),
        syntax,
        first_line,
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut id = [0; 8];
    hasher.finalize_xof().fill(&mut id);
    u64::from_le_bytes(id).max(1)
}

/// The epoch that holds, and the next sequence in it.
async fn find_place(client: &Client, log: &str, id: u64) -> Result<(u32, u64), Error> {
    let mut epoch = 0;
    loop {
        let producer = Producer {
            id,
            epoch,
            sequence: PROBE_SEQUENCE,
        };
        let Err(error) = receipt(client, log, producer, vec![NewRecord::new("")]).await else {
            return Err(took_effect());
        };
        // The probe has no effect in any case, so the last try's answer counts even if an earlier one was lost.
        match error.detail() {
            Some(Detail {
                reason: Reason::SequenceGap,
                expected: Some(next),
                ..
            }) => {
                return Ok((epoch, *next));
            }
            Some(Detail {
                reason: Reason::ProducerFenced,
                expected: Some(holds),
                ..
            }) if *holds > u64::from(epoch) => {
                let Ok(holds) = u32::try_from(*holds) else {
                    return Err(error);
                };
                epoch = holds;
            }
            _ => return Err(error),
        }
    }
}

fn took_effect() -> Error {
    let message = "the server took an append whose sequence leaves a gap: report this".to_owned();
    Error::Unknown {
        message,
        detail: None,
    }
}

async fn receipt(
    client: &Client,
    log: &str,
    producer: Producer,
    records: Vec<NewRecord>,
) -> Result<Receipt, Error> {
    let producer = ProducerChoice::Given(producer);
    client
        .append_with(
            log,
            records,
            AppendOptions {
                producer,
                ..AppendOptions::default()
            },
        )
        .await
}

/// Refuses a file whose lines are not what was appended from it.
async fn compare(
    client: &Client,
    log: &str,
    receipt: &Receipt,
    batch: &[NewRecord],
    line: u64,
    input: &Input,
) -> anyhow::Result<()> {
    let options = ReadOptions {
        from: Start::Offset(receipt.first_offset),
        until: Some(receipt.next_offset),
        consistency: Consistency::AtLeast(receipt.next_offset),
        ..ReadOptions::new(log)
    };
    let mut events = client.read(options);
    let mut place = 0;
    while let Some(event) = events.try_next().await.map_err(LogError::asking(log))? {
        match event {
            ReadEvent::Records(records) => {
                for (record, new) in records.iter().zip(batch.get(place..).unwrap_or_default()) {
                    if !is_same(record, new) {
                        bail!(
                            "record {} of {} is not what was appended from there at offset {} of `{log}`: the file \
                             was changed. Pipe what is to be appended into `ink append {log}`",
                            line + place as u64 + 1,
                            input.path.display(),
                            record.offset
                        );
                    }
                    place += 1;
                }
            }
            // What the log no longer has can't be compared.
            ReadEvent::Gap(_) => return Ok(()),
            ReadEvent::View { .. } | ReadEvent::CaughtUp { .. } | ReadEvent::Heartbeat { .. } => {}
        }
    }
    Ok(())
}

fn is_same(record: &Record, new: &NewRecord) -> bool {
    record.body == new.body
        && record.attributes == new.attributes
        && new
            .timestamp
            .is_none_or(|timestamp| timestamp == record.timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_identity_counts() {
        let id = |path: &str, log, syntax, line: &str| {
            producer_id(Path::new(path), log, syntax, line.as_bytes())
        };
        let ids = [
            id("/a/b", "log", Syntax::Text, "first"),
            id("/a/c", "log", Syntax::Text, "first"),
            id("/a/b", "gol", Syntax::Text, "first"),
            id("/a/b", "log", Syntax::Json, "first"),
            id("/a/b", "log", Syntax::Text, "second"),
            id("/a/bl", "og", Syntax::Text, "first"),
        ];
        let distinct: std::collections::HashSet<u64> = ids.into_iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn the_identity_of_a_file_is_the_same_in_every_release() {
        let id = producer_id(
            Path::new("/var/log/app.log"),
            "audit",
            Syntax::Text,
            b"started",
        );
        assert_eq!(
            id,
            producer_id(
                Path::new("/var/log/app.log"),
                "audit",
                Syntax::Text,
                b"started"
            )
        );
        assert_ne!(id, 0);
    }

    #[test]
    fn an_epoch_is_the_number_of_records_before_it() {
        let next = next_epoch(7, 1_500).unwrap();
        assert_eq!(
            next,
            Producer {
                id: 7,
                epoch: 1_500,
                sequence: 0
            }
        );
        assert!(next_epoch(7, 1 << 32).is_err());
    }

    #[tokio::test]
    async fn a_file_is_appended_by_one_run_at_a_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = open(file.path()).await.unwrap();
        assert!(
            open(file.path())
                .await
                .unwrap_err()
                .to_string()
                .contains("another `ink`")
        );
        drop(held);
        assert!(open(file.path()).await.is_ok());
    }
}
