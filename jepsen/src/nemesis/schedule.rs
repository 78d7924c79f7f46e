//! A sequence of faults that follows from a seed: which one is next, and whom it meets.
//!
//! Promises: the same seed gives the same steps, and every kind of fault comes once before any comes again. Who leads at
//! the moment of a step does not follow from the seed: a run is repeated in what is done to it, not in its every move.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use super::{
    Deafness, kill_all_and_restart, kill_follower_and_restart, kill_leader_and_restart,
    lose_one_way, pause_follower, pause_leader_until_deposed, split_off_leader,
};
use crate::cluster::Cluster;
use crate::lines::Numbers;
use crate::workload::Run;

/// Appends that show that the cluster serves in spite of a fault.
const A_FEW: u64 = 50;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The leader is killed and started again.
    KillLeader,
    /// A follower is killed and started again.
    KillFollower,
    /// The leader stands still until it is deposed.
    PauseLeader,
    /// A follower stands still for longer than an election timeout.
    PauseFollower,
    /// All nodes are killed at once and started again.
    RestartAll,
    /// The leader is cut off from all others.
    IsolateLeader,
    /// The leader and as many others as leave a majority are cut off.
    Split,
    /// The leader is not heard any more.
    MuteLeader,
    /// The leader does not hear any more.
    DeafLeader,
}

impl Fault {
    /// All of them, with the names that they are asked for by.
    pub const ALL: [(&'static str, Self); 9] = [
        ("kill-leader", Self::KillLeader),
        ("kill-follower", Self::KillFollower),
        ("pause-leader", Self::PauseLeader),
        ("pause-follower", Self::PauseFollower),
        ("restart-all", Self::RestartAll),
        ("isolate-leader", Self::IsolateLeader),
        ("split", Self::Split),
        ("mute-leader", Self::MuteLeader),
        ("deaf-leader", Self::DeafLeader),
    ];

    /// The faults that a list of names with commas asks for; `pause` and `partition` stand for all of their kind.
    pub fn list(names: &str) -> Result<Vec<Self>> {
        let mut faults = Vec::new();
        for name in names.split(',').map(str::trim) {
            match name {
                "pause" => faults.extend([Self::PauseLeader, Self::PauseFollower]),
                "partition" => faults.extend(
                    Self::ALL
                        .map(|(_, fault)| fault)
                        .into_iter()
                        .filter(|f| f.needs_links()),
                ),
                name => faults.push(name.parse()?),
            }
        }
        Ok(faults)
    }

    /// Whether it takes a cluster whose links can be held.
    pub fn needs_links(self) -> bool {
        matches!(
            self,
            Self::IsolateLeader | Self::Split | Self::MuteLeader | Self::DeafLeader
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, fault)| fault == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        if let Some((_, fault)) = Self::ALL.iter().find(|(known, _)| *known == name) {
            return Ok(*fault);
        }
        let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        bail!(
            "`{name}` is no fault: use {}, pause, partition",
            known.join(", ")
        )
    }
}

/// One fault, and the number that chooses whom it meets when there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    fault: Fault,
    choice: u64,
}

impl Step {
    /// Carries it out and returns when the cluster has shown its effect: what was done, in words.
    pub async fn carry_out(self, cluster: &mut Cluster, run: &Run, log: &str) -> Result<String> {
        let done = self.carry_out_on(cluster, run, log).await;
        done.with_context(|| format!("{} (choice {})", self.fault, self.choice))
    }

    async fn carry_out_on(self, cluster: &mut Cluster, run: &Run, log: &str) -> Result<String> {
        let name = self.fault;
        let deposed =
            |(old, new): (usize, usize)| format!("{name}: node {old}, then node {new} led");
        Ok(match self.fault {
            Fault::KillLeader => {
                let killed = kill_leader_and_restart(cluster).await?;
                format!("{name}: node {killed}")
            }
            Fault::KillFollower => {
                let follower = self.follower(cluster).await?;
                kill_follower_and_restart(cluster, &run.progress, follower, A_FEW).await?;
                format!("{name}: node {follower}")
            }
            Fault::PauseLeader => {
                deposed(pause_leader_until_deposed(cluster, run, log, A_FEW).await?)
            }
            Fault::PauseFollower => {
                let follower = self.follower(cluster).await?;
                pause_follower(cluster, &run.progress, follower, A_FEW).await?;
                format!("{name}: node {follower}")
            }
            Fault::RestartAll => {
                kill_all_and_restart(cluster).await?;
                name.to_string()
            }
            Fault::IsolateLeader => deposed(split_off_leader(cluster, run, log, 0, A_FEW).await?),
            Fault::Split => {
                let others = (cluster.len().saturating_sub(1) / 2).saturating_sub(1);
                deposed(split_off_leader(cluster, run, log, others, A_FEW).await?)
            }
            Fault::MuteLeader => {
                deposed(lose_one_way(cluster, run, log, Deafness::Mute, A_FEW).await?)
            }
            Fault::DeafLeader => {
                deposed(lose_one_way(cluster, run, log, Deafness::Deaf, A_FEW).await?)
            }
        })
    }

    async fn follower(self, cluster: &Cluster) -> Result<usize> {
        let leader = cluster.leader().await?;
        let followers: Vec<usize> = (0..cluster.len()).filter(|node| *node != leader).collect();
        let count = u64::try_from(followers.len())?;
        let place = self
            .choice
            .checked_rem(count)
            .context("a cluster of one has no follower")?;
        Ok(followers[usize::try_from(place)?])
    }
}

/// The steps of a seed, without end.
#[derive(Debug, Clone)]
pub struct Schedule {
    faults: Vec<Fault>,
    numbers: Numbers,
    /// What is left of this round.
    round: Vec<Fault>,
}

impl Schedule {
    /// Of these kinds of faults; none: no steps.
    pub fn new(seed: u64, faults: &[Fault]) -> Self {
        Self {
            faults: faults.to_vec(),
            numbers: Numbers::new(seed),
            round: Vec::new(),
        }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.round.is_empty() {
            self.round.clone_from(&self.faults);
        }
        let count = u64::try_from(self.round.len()).ok()?;
        if count == 0 {
            return None;
        }
        let place = usize::try_from(self.numbers.below(count)).ok()?;
        Some(Step {
            fault: self.round.swap_remove(place),
            choice: self.numbers.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_steps_every_time_and_another_seed_others() {
        let faults = Fault::ALL.map(|(_, fault)| fault);
        let steps = |seed| Schedule::new(seed, &faults).take(30).collect::<Vec<Step>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn every_fault_comes_before_any_comes_again() {
        let faults = Fault::list("kill-leader,kill-follower,pause,restart-all").unwrap();
        assert_eq!(faults.len(), 5);
        let steps: Vec<Step> = Schedule::new(3, &faults).take(20).collect();
        for round in steps.chunks(5) {
            for fault in &faults {
                assert!(round.iter().any(|step| step.fault == *fault), "{fault}");
            }
        }
    }

    #[test]
    fn a_name_that_is_none_is_an_error_that_says_which_there_are() {
        let error = Fault::list("kill-leader,kill-postman")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("kill-postman") && error.contains("deaf-leader"),
            "{error}"
        );
    }

    #[test]
    fn no_faults_are_no_steps() {
        assert_eq!(Schedule::new(1, &[]).next(), None);
    }
}
