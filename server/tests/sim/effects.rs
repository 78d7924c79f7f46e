//! What became of the faults: a run in which nothing happened proves nothing.
//!
//! Promises: counts what was seen on the nodes, not what was meant to be done to them.

use std::collections::BTreeSet;
use std::fmt;

use crate::invariants::Glance;

/// How often something took effect.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Every node as it was when it ran last.
    nodes: Vec<Option<Glance>>,
    purges: usize,
    installs: usize,
    pauses: usize,
    /// Leaders whose clock was set.
    clocks: usize,
    /// Of those that ran: the node, and the term in which it led on when another one led in a later term.
    deceived: BTreeSet<(usize, u64)>,
    /// Nodes that led when they were paused, and led on when another one did already.
    overtaken: usize,
    /// Nodes that have ended because they were removed.
    pub(crate) ended: usize,
}

impl Effects {
    pub(crate) fn of(nodes: usize) -> Self {
        Self {
            nodes: vec![None; nodes],
            ..Self::default()
        }
    }

    /// What the nodes look like now.
    pub(crate) fn note(&mut self, seen: &[Option<Glance>]) {
        for (number, (before, now)) in self.nodes.iter_mut().zip(seen).enumerate() {
            let Some(now) = *now else { continue };
            let is_overtaken = |one: Glance| {
                let mut others = seen.iter().flatten();
                one.leads && others.any(|other| other.leads && other.term > one.term)
            };
            if is_overtaken(now) && !now.paused {
                self.deceived.insert((number, now.term));
            }
            let Some(before) = before.replace(now) else {
                continue;
            };
            if now.purged > before.purged {
                self.purges += 1;
                // It never had what it purged: a snapshot stands for it.
                self.installs += usize::from(now.purged > before.last);
            }
            self.clocks += usize::from(now.leads && now.clock_ahead != before.clock_ahead);
            self.pauses += usize::from(now.paused && !before.paused);
            let wakes = before.paused && !now.paused;
            self.overtaken += usize::from(wakes && is_overtaken(before));
        }
    }
}

impl fmt::Display for Effects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            purges,
            installs,
            pauses,
            overtaken,
            deceived,
            clocks,
            ended,
            ..
        } = self;
        write!(
            out,
            "purges {purges} installs {installs} pauses {pauses} overtaken {overtaken} deceived {} clocks {clocks} ended {ended}",
            deceived.len()
        )
    }
}
