//! What goes wrong, and when: chosen by the seed, one fault at a time or several.
//!
//! Promises: every choice follows from the seed and from what the nodes do; at the end everything is whole again. Must
//! not know: what must hold meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use turmoil::Sim;

use crate::invariants::leader;
use crate::machine::{Crash, Disk, Machine, Sent, name};
use crate::simulation::CLIENTS;

const HOUR_MS: i64 = 3_600_000;

/// Something that is done to the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A machine goes down.
    Down(usize, Crash),
    /// It comes back.
    Up(usize),
    /// Its process stands still...
    Pause(usize),
    /// ...and goes on.
    Resume(usize),
    /// Its clock is set so many milliseconds ahead of what it is, or back.
    Clock(usize, i64),
    /// Of so many milliseconds one passes for its process.
    Pace(usize, u64),
    /// Nothing gets from one host to the other.
    Cut(String, String),
    /// What is sent from one host to the other is lost.
    CutOneWay(String, String),
    /// What two hosts send each other is held back.
    Hold(String, String),
    /// Whatever was wrong between two hosts is over; what was held back arrives.
    Join(String, String),
    /// A disk changes its speed.
    Disk(usize, Disk),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Cut,
    CutOneWay,
    Held,
}

/// The faults of one run.
pub(crate) struct Faults {
    rng: StdRng,
    nodes: usize,
    /// What was decided already: by millisecond.
    planned: BTreeMap<u64, Vec<Step>>,
    /// When the next fault is chosen: millisecond.
    next: u64,
    /// Of links, by their two ends in order; one way: from the first to the second.
    wrong: BTreeMap<(String, String), Wrong>,
    down: BTreeSet<usize>,
    /// Whether the logs are trimmed: then a node that was away for long needs a snapshot.
    trims: bool,
    /// Of each node, the last snapshot at which it could have been interrupted.
    snapshots: BTreeMap<usize, u64>,
    /// Steps that were carried out, before everything was healed and then.
    pub(crate) carried_out: usize,
    pub(crate) interrupted: Interrupted,
}

/// Crashes between a snapshot and the purge that it is for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Interrupted {
    /// The node had made the snapshot itself.
    purges: usize,
    /// A leader had sent it.
    installs: usize,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { purges, installs } = self;
        write!(out, "interrupted {purges}+{installs}")
    }
}

impl Faults {
    pub(crate) fn new(seed: u64, nodes: usize, trims: bool) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            nodes,
            planned: BTreeMap::new(),
            next: 0,
            wrong: BTreeMap::new(),
            down: BTreeSet::new(),
            trims,
            snapshots: BTreeMap::new(),
            carried_out: 0,
            interrupted: Interrupted::default(),
        }
    }

    /// The steps of this millisecond.
    pub(crate) fn steps(&mut self, ms: u64, machines: &[Rc<Machine>]) -> Vec<Step> {
        if self.next == 0 {
            self.next = ms + self.rng.random_range(100..1_000);
        }
        if ms >= self.next {
            self.choose(ms, machines);
            self.next = ms + self.rng.random_range(50..1_200);
        }
        for machine in machines {
            self.interrupt(ms, machine);
        }
        let due = self.planned.split_off(&(ms + 1));
        let due = std::mem::replace(&mut self.planned, due);
        due.into_values().flatten().collect()
    }

    /// What makes everything whole again.
    pub(crate) fn heal(&mut self) -> Vec<Step> {
        self.planned.clear();
        let links = self.wrong.keys().cloned();
        let links = links.map(|(from, to)| Step::Join(from, to));
        let up = self.down.iter().copied().map(Step::Up);
        let fast = (0..self.nodes)
            .flat_map(|number| [Step::Disk(number, Disk::Fast), Step::Pace(number, 1)]);
        let awake = (0..self.nodes).map(Step::Resume);
        links.chain(up).chain(awake).chain(fast).collect()
    }

    /// Does it: `false` when there was nothing to do.
    pub(crate) fn carry_out(
        &mut self,
        step: &Step,
        sim: &mut Sim<'_>,
        machines: &[Rc<Machine>],
    ) -> bool {
        match step {
            Step::Down(number, how) => {
                if !self.down.insert(*number) {
                    return false;
                }
                machines[*number].crash(*how);
                sim.crash(name(*number));
            }
            Step::Up(number) => {
                if !self.down.remove(number) {
                    return false;
                }
                sim.bounce(name(*number));
            }
            Step::Pause(number) | Step::Resume(number) => {
                let pauses = *step == Step::Pause(*number);
                let machine = &machines[*number];
                if self.down.contains(number) || machine.is_paused() == pauses {
                    return false;
                }
                machine.set_paused(pauses);
            }
            Step::Pace(number, pace) => machines[*number].set_pace(*pace),
            Step::Clock(number, ahead) => machines[*number].set_clock(*ahead),
            Step::Cut(a, b) => {
                if !self.spoil(a, b, Wrong::Cut) {
                    return false;
                }
                sim.partition(a.as_str(), b.as_str());
            }
            Step::CutOneWay(from, to) => {
                if !self.spoil(from, to, Wrong::CutOneWay) {
                    return false;
                }
                sim.partition_oneway(from.as_str(), to.as_str());
            }
            Step::Hold(a, b) => {
                if !self.spoil(a, b, Wrong::Held) {
                    return false;
                }
                sim.hold(a.as_str(), b.as_str());
            }
            Step::Join(a, b) => match self.wrong.remove(&(a.clone(), b.clone())) {
                None => return false,
                Some(Wrong::Cut) => sim.repair(a.as_str(), b.as_str()),
                Some(Wrong::CutOneWay) => sim.repair_oneway(a.as_str(), b.as_str()),
                Some(Wrong::Held) => sim.release(a.as_str(), b.as_str()),
            },
            Step::Disk(number, speed) => machines[*number].set_disk(*speed),
        }
        self.carried_out += 1;
        true
    }

    /// A link has one thing wrong with it at a time.
    fn spoil(&mut self, from: &str, to: &str, wrong: Wrong) -> bool {
        let (there, back) = (
            (from.to_owned(), to.to_owned()),
            (to.to_owned(), from.to_owned()),
        );
        if self.wrong.contains_key(&there) || self.wrong.contains_key(&back) {
            return false;
        }
        self.wrong.insert(there, wrong);
        true
    }

    fn plan(&mut self, ms: u64, step: Step) {
        self.planned.entry(ms).or_default().push(step);
    }

    /// A node: the one that leads, more often than by chance.
    fn node(&mut self, machines: &[Rc<Machine>]) -> usize {
        let any = self.rng.random_range(0..self.nodes);
        match leader(machines) {
            Some(leader) if self.rng.random() => leader,
            _ => any,
        }
    }

    fn how(&mut self) -> Crash {
        if self.rng.random_ratio(1, 4) {
            Crash::Kill
        } else {
            Crash::PowerLoss
        }
    }

    /// Crashes a node now and then at the moment when its disk has a snapshot and still what the snapshot stands for.
    fn interrupt(&mut self, ms: u64, machine: &Machine) {
        let number = machine.number;
        let Some((index, sent)) = machine.snapshot_just_kept() else {
            return;
        };
        if self.snapshots.insert(number, index) == Some(index) {
            return;
        }
        let (one_in, count) = match sent {
            Sent::Not => (24, &mut self.interrupted.purges),
            Sent::ByLeader => (2, &mut self.interrupted.installs),
        };
        if !self.rng.random_ratio(1, one_in) {
            return;
        }
        *count += 1;
        let how = self.how();
        let until = ms + 1 + self.rng.random_range(20..3_000);
        self.plan(ms, Step::Down(number, how));
        self.plan(until, Step::Up(number));
    }

    fn choose(&mut self, ms: u64, machines: &[Rc<Machine>]) {
        let node = self.node(machines);
        match self.rng.random_range(0..if self.trims { 24 } else { 20 }) {
            0..=2 => self.crash(ms, &[node]),
            3 => {
                let mut all: Vec<usize> = (0..self.nodes).collect();
                if self.rng.random() {
                    let some = self.rng.random_range(2..=self.nodes);
                    all = all.choose_multiple(&mut self.rng, some).copied().collect();
                }
                self.crash(ms, &all);
            }
            4 | 5 => self.isolate(ms, node, Step::Cut),
            6 => self.halve(ms),
            7 => self.isolate(ms, node, Step::Hold),
            8 => {
                let other = (node + self.rng.random_range(1..self.nodes)) % self.nodes;
                let step = if self.rng.random() {
                    Step::CutOneWay
                } else {
                    Step::Hold
                };
                self.link(ms, step, (name(node), name(other)));
            }
            9 => {
                // What it hears, or what it says.
                let says: bool = self.rng.random();
                let one_way = move |node, other| {
                    let (from, to) = if says { (node, other) } else { (other, node) };
                    Step::CutOneWay(from, to)
                };
                self.isolate(ms, node, one_way);
            }
            10 => {
                let step = if self.rng.random() {
                    Step::Cut
                } else {
                    Step::Hold
                };
                self.link(ms, step, (name(node), CLIENTS.to_owned()));
            }
            12..=14 => {
                // Who stands still as the leader wakes up with what it believed.
                let leads = leader(machines).filter(|_| self.rng.random());
                self.pause(ms, leads.unwrap_or(node));
            }
            15 | 16 => {
                let ahead = self.ahead();
                self.plan(ms, Step::Clock(node, ahead));
            }
            17..=19 => self.deceive(ms, leader(machines).unwrap_or(node)),
            20..=23 => self.absent(ms, node),
            _ => {
                let slow = Disk::Slow(self.rng.random_range(20..1_200));
                let until = ms + self.rng.random_range(200..4_000);
                self.plan(ms, Step::Disk(node, slow));
                self.plan(until, Step::Disk(node, Disk::Fast));
            }
        }
    }

    fn crash(&mut self, ms: u64, nodes: &[usize]) {
        for number in nodes {
            let (at, how) = (ms + self.rng.random_range(0..50), self.how());
            let until = at + 1 + self.rng.random_range(20..3_000);
            self.plan(at, Step::Down(*number, how));
            self.plan(until, Step::Up(*number));
        }
    }

    /// How far a clock is off: by what a clock may be set by, by an hour or more, or by more than a producer is remembered.
    fn ahead(&mut self) -> i64 {
        let ahead = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(1..60_000),
            1 => self.rng.random_range(60_000..12 * HOUR_MS),
            _ => self.rng.random_range(24 * HOUR_MS..48 * HOUR_MS),
        };
        if self.rng.random() { ahead } else { -ahead }
    }

    /// A leader whose time is slow, and that hears nobody, believes for longer than others wait that it is followed.
    fn deceive(&mut self, ms: u64, node: usize) {
        let until = ms + self.rng.random_range(2_000..5_000);
        let pace = self.rng.random_range(3..16);
        self.plan(ms, Step::Pace(node, pace));
        self.plan(until, Step::Pace(node, 1));
        self.isolate(ms, node, Step::Cut);
    }

    /// Long enough for what it lacks to be purged.
    fn absent(&mut self, ms: u64, node: usize) {
        let how = self.how();
        let until = ms + self.rng.random_range(2_000..6_000);
        self.plan(ms, Step::Down(node, how));
        self.plan(until, Step::Up(node));
    }

    /// An election takes 500 ms and more.
    fn pause(&mut self, ms: u64, node: usize) {
        let until = ms + self.rng.random_range(300..4_000);
        self.plan(ms, Step::Pause(node));
        self.plan(until, Step::Resume(node));
    }

    /// Something is wrong between a node and all others.
    fn isolate(&mut self, ms: u64, node: usize, step: impl Fn(String, String) -> Step) {
        let until = ms + self.rng.random_range(200..5_000);
        for other in (0..self.nodes).filter(|other| *other != node) {
            let step = step(name(node), name(other));
            let (Step::Cut(a, b) | Step::CutOneWay(a, b) | Step::Hold(a, b)) = step.clone() else {
                continue;
            };
            self.plan(ms, step);
            self.plan(until, Step::Join(a, b));
        }
    }

    /// Two halves that do not reach each other.
    fn halve(&mut self, ms: u64) {
        let until = ms + self.rng.random_range(200..5_000);
        let side: Vec<bool> = (0..self.nodes).map(|_| self.rng.random()).collect();
        for a in 0..self.nodes {
            for b in (a + 1..self.nodes).filter(|b| side[*b] != side[a]) {
                self.plan(ms, Step::Cut(name(a), name(b)));
                self.plan(until, Step::Join(name(a), name(b)));
            }
        }
    }

    fn link(&mut self, ms: u64, step: fn(String, String) -> Step, (a, b): (String, String)) {
        let until = ms + self.rng.random_range(100..5_000);
        self.plan(ms, step(a.clone(), b.clone()));
        self.plan(until, Step::Join(a, b));
    }
}
