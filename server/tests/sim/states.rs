//! What the nodes' states say of the logs, seen from above.
//!
//! - *One state*: at one index every node's state is the same: which logs there are, where each begins and ends.
//! - *Applied rises*: while a node runs, what it has applied does not become less.
//! - *Time never falls*: of what a log got later no append time is earlier, whoever led, and whatever its clock showed.
//! - *Purged was trimmed*: a node has purged nothing that holds a record at or above the first offset of its log, by any
//!   trim that took effect on any node.
//!
//! Promises: says which one is broken, on which node, with both sides of the contradiction. Must not know: faults,
//! clients.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use inkstone_server::raft::{Group, LogInfo};

use crate::machine::name;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct States {
    /// By index: the logs, as the first node had them that was seen there.
    at: BTreeMap<u64, Vec<LogInfo>>,
    /// By log: the highest first offset in any state.
    first: BTreeMap<u64, u64>,
    /// What each node that runs has applied.
    applied: BTreeMap<usize, u64>,
}

impl States {
    /// Looks at the nodes that run; the others have no group.
    pub(crate) fn look(&mut self, groups: &[Option<Group>]) -> Result<()> {
        for (number, group) in groups.iter().enumerate() {
            match group {
                Some(group) => self.one_state(number, group)?,
                None => drop(self.applied.remove(&number)),
            }
        }
        for (number, group) in groups.iter().enumerate() {
            if let Some(group) = group {
                self.purged_was_trimmed(number, group)?;
            }
        }
        Ok(())
    }

    fn one_state(&mut self, number: usize, group: &Group) -> Result<()> {
        let applied = group.applied().index();
        let before = self.applied.insert(number, applied);
        ensure!(
            before <= Some(applied),
            "applied rises: {} had applied {before:?}, and says {applied}",
            name(number)
        );
        if before == Some(applied) {
            return Ok(());
        }
        let logs = group.logs();
        for log in &logs {
            let first = self.first.entry(log.id.0).or_default();
            *first = log.first_offset.max(*first);
        }
        self.time_never_falls(number, applied, &logs)?;
        let known = self.at.entry(applied).or_insert_with(|| logs.clone());
        ensure!(
            *known == logs,
            "one state: at {applied} {} has {logs:?}, and {known:?} was seen there",
            name(number)
        );
        Ok(())
    }

    fn time_never_falls(&self, number: usize, applied: u64, logs: &[LogInfo]) -> Result<()> {
        let Some((index, before)) = self.at.range(..applied).next_back() else {
            return Ok(());
        };
        for log in before {
            let now = logs.iter().find(|now| now.id == log.id);
            ensure!(
                now.is_none_or(|now| now.last_append_time >= log.last_append_time),
                "time never falls: at {applied} {} has {now:?}, and {log:?} was seen at {index}",
                name(number)
            );
        }
        Ok(())
    }

    /// The last state that was seen at or below what is purged tells at least how far its records go.
    fn purged_was_trimmed(&self, number: usize, group: &Group) -> Result<()> {
        let Some(purged) = group.log().state().purged else {
            return Ok(());
        };
        let Some((index, logs)) = self.at.range(..=purged.index).next_back() else {
            return Ok(());
        };
        for log in logs {
            let first = self.first.get(&log.id.0).copied().unwrap_or(0);
            ensure!(
                log.next_offset <= first,
                "purged was trimmed: {} has purged {purged:?}, at {index} {} ended at {}, and it begins at {first}",
                name(number),
                log.name,
                log.next_offset
            );
        }
        Ok(())
    }
}
