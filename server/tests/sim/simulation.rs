//! One run: a cluster in turmoil, its clients, faults for a while, and then none.
//!
//! First safety: whatever goes wrong, nothing is broken that a node or a client can see ([`Invariants`] at every step, the
//! checkers of `jepsen` at the end). Then liveness: everything is healed, and within [`SERVES_WITHIN`] the cluster
//! serves again; every node has everything.
//!
//! Promises: a seed is a run. Must not know: how a node works.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use inkstone_client::{Dial, IfExists};
use inkstone_jepsen::checker::{self, Verdict};
use inkstone_jepsen::clock::Clock;
use inkstone_jepsen::history::{History, Operation};
use inkstone_jepsen::reach::Reach;
use inkstone_jepsen::report;
use inkstone_jepsen::workload::{AppendersOptions, Load, Run, Trimmer, TrimmerOptions};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::timeout;
use turmoil::Sim;

use crate::effects::Effects;
use crate::faults::{Faults, Step};
use crate::invariants::{Glance, Invariants};
use crate::machine::{Crash, Machine, Nodes, name};
use crate::network::{self, CLIENT_PORT};
use crate::operator::{Changes, Operator, members};
use crate::trace::Trace;

/// The host that all clients run on: one clock for all of them.
pub(crate) const CLIENTS: &str = "clients";
const LOG: &str = "sim/appends";
/// Faults come for so long.
const FAULTY_FOR: Duration = Duration::from_secs(8);
/// After the last one the cluster must serve again within this time: connections that lost something are given up after
/// 4 s, a leader is elected within 2 s, and clients have tries of their own.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// Appends that show that it serves.
const APPENDS: u64 = 50;
/// No run lasts longer.
const ENDS_WITHIN: Duration = Duration::from_secs(180);
const APPENDERS: AppendersOptions = AppendersOptions {
    retrying: 1,
    trying_once: 1,
    conditional: 2,
    conditional_unnumbered: 1,
    asking_again: 1,
    batch: 2,
    ..AppendersOptions::NONE
};

/// What differs from run to run beside the faults.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// The longest that a message takes.
    latency: Duration,
    appenders: AppendersOptions,
    /// Of two runs in three.
    trims: Option<TrimmerOptions>,
    /// Of every other run: there is a spare node, and the members are changed all the time.
    operated: bool,
}

impl Shape {
    fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.rotate_left(17));
        let plain = Self::without_trims(&mut rng);
        let plain = Self {
            operated: rng.random(),
            ..plain
        };
        if rng.random_ratio(1, 3) {
            return plain;
        }
        Self {
            appenders: AppendersOptions {
                // More than two segments a second.
                size: rng.random_range(1_000..3_000),
                ..plain.appenders
            },
            trims: Some(TrimmerOptions {
                every: Duration::from_millis(rng.random_range(50..300)),
                keep: rng.random_range(0..40),
            }),
            ..plain
        }
    }

    fn without_trims(rng: &mut StdRng) -> Self {
        Self {
            latency: Duration::from_millis(rng.random_range(5..40)),
            appenders: AppendersOptions {
                // One appends more than all others together.
                sessions: usize::from(rng.random_ratio(1, 4)),
                batch: rng.random_range(1..4),
                size: rng.random_range(100..400),
                ..APPENDERS
            },
            trims: None,
            operated: false,
        }
    }
}

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Where every event is written.
    pub(crate) trace: Option<String>,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Equal for equal seeds.
    pub(crate) digest: String,
    pub(crate) faults: usize,
    pub(crate) effects: String,
    pub(crate) terms: u64,
    pub(crate) verdict: Verdict,
}

/// Where a run is, between its clients and whoever breaks things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Faulty,
    Healed,
}

/// What the clients have seen, and what the operator has changed.
type Outcome = Rc<RefCell<Option<(Vec<Operation>, Changes)>>>;

/// A run under way.
struct World<'a> {
    sim: Sim<'a>,
    machines: Vec<Rc<Machine>>,
    stage: watch::Sender<Stage>,
    faulty_until: Option<Duration>,
    faults: Faults,
    invariants: Invariants,
    glances: Vec<Option<Glance>>,
    effects: Effects,
    /// In which the machines take their turns.
    order: Vec<usize>,
    rng: StdRng,
    trace: Trace,
}

/// Runs it to its end.
pub(crate) fn run(settings: &Settings) -> Result<Ended> {
    let outcome = Outcome::default();
    let mut world = World::new(settings, Rc::clone(&outcome))?;
    loop {
        let ms = u64::try_from(world.sim.elapsed().as_millis())?;
        let ended = world.step(ms).with_context(|| format!("at {ms} ms"))?;
        if ended {
            break;
        }
    }
    let (operations, changes) = outcome.take().context("the clients said nothing")?;
    for operation in &operations {
        world
            .trace
            .note(operation.invoked, format!("{operation:?}"))?;
    }
    let verdict = checker::check(&operations);
    ensure!(verdict.is_valid(), "{}", report::text(&verdict));
    let terms = world.glances.iter().flatten().map(|glance| glance.term);
    Ok(Ended {
        digest: world.trace.digest(),
        faults: world.faults.carried_out,
        effects: format!("{} {} {changes}", world.effects, world.faults.interrupted),
        terms: terms.max().unwrap_or(0),
        verdict,
    })
}

impl World<'_> {
    fn new(settings: &Settings, outcome: Outcome) -> Result<Self> {
        let Settings { seed, nodes, .. } = *settings;
        let shape = Shape::of(seed);
        let nodes = Nodes {
            founders: nodes,
            all: nodes + usize::from(shape.operated),
        };
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(ENDS_WITHIN)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(shape.latency)
            .tcp_capacity(1 << 16)
            .enable_random_order()
            .build();
        let machines: Vec<_> = (0..nodes.all)
            .map(|number| Rc::new(Machine::new(seed, number, nodes)))
            .collect();
        for machine in &machines {
            let machine = Rc::clone(machine);
            sim.host(name(machine.number), move || Rc::clone(&machine).boot());
        }
        let stage = watch::Sender::new(Stage::Starting);
        let work = clients((seed, nodes), shape, stage.clone(), outcome);
        sim.client(CLIENTS, async move { work.await.map_err(Into::into) });
        Ok(Self {
            sim,
            machines,
            stage,
            faulty_until: None,
            faults: Faults::new(seed, nodes.all, shape.trims.is_some()),
            invariants: Invariants::default(),
            glances: vec![None; nodes.all],
            effects: Effects::of(nodes.all),
            order: (0..nodes.all).collect(),
            rng: StdRng::seed_from_u64(seed.rotate_left(47)),
            trace: Trace::new(settings.trace.as_deref())?,
        })
    }

    /// One millisecond: whether everything is over.
    fn step(&mut self, ms: u64) -> Result<bool> {
        for step in self.due(ms) {
            if self.faults.carry_out(&step, &mut self.sim, &self.machines) {
                self.trace.note(ms, &step)?;
            }
        }
        self.end_removed(ms)?;
        let now = self.sim.elapsed();
        self.order.shuffle(&mut self.rng);
        for number in self.order.clone() {
            self.machines[number].step(now)?;
        }
        let ended = self.sim.step().map_err(|error| anyhow!("{error}"))?;
        let seen = self.invariants.look(&self.machines)?;
        for (number, (before, now)) in self.glances.iter().zip(&seen).enumerate() {
            if before != now {
                self.trace.note(ms, format!("{} {now:?}", name(number)))?;
            }
        }
        self.effects.note(&seen);
        self.glances = seen;
        Ok(ended)
    }

    /// A node that was removed ends; started again, it finds out again.
    fn end_removed(&mut self, ms: u64) -> Result<()> {
        for number in 0..self.machines.len() {
            let end = Step::Down(number, Crash::Kill);
            if self.machines[number].is_removed()
                && self.faults.carry_out(&end, &mut self.sim, &self.machines)
            {
                self.effects.ended += 1;
                self.trace.note(ms, format!("removed: {end}"))?;
            }
        }
        Ok(())
    }

    /// What is done to the system now.
    fn due(&mut self, ms: u64) -> Vec<Step> {
        if *self.stage.borrow() != Stage::Faulty {
            return Vec::new();
        }
        let now = self.sim.elapsed();
        let until = *self.faulty_until.get_or_insert(now + FAULTY_FOR);
        if now < until {
            return self.faults.steps(ms, &self.machines);
        }
        self.stage.send_replace(Stage::Healed);
        self.faults.heal()
    }
}

/// What the clients do, from the first to the last.
async fn clients(
    (seed, nodes): (u64, Nodes),
    shape: Shape,
    stage: watch::Sender<Stage>,
    outcome: Outcome,
) -> Result<()> {
    let reach = Reach {
        addresses: (0..nodes.all)
            .map(|number| format!("{}:{CLIENT_PORT}", name(number)))
            .collect(),
        active: (0..nodes.all).collect(),
        dial: Dial::through(network::connect),
    };
    let run = Run::new(Arc::new(History::new(Clock::start())));
    reach.client()?.create_log(LOG, IfExists::Fail).await?;
    let load = Load::start(&reach, &run, LOG, shape.appenders).await?;
    let trims = shape.trims;
    let trimmer = trims.map(|options| Trimmer::start(&reach, &run, LOG, options));
    let trimmer = trimmer.transpose()?;
    let stop = watch::Sender::new(false);
    let operator = shape
        .operated
        .then(|| Operator::new(&reach, seed, nodes.founders));
    let operator = operator.transpose()?;
    let operator = operator.map(|it| tokio::spawn(it.operate(stop.subscribe())));
    stage.send_replace(Stage::Faulty);
    stage
        .subscribe()
        .wait_for(|stage| *stage == Stage::Healed)
        .await?;
    timeout(SERVES_WITHIN, run.progress.wait_for_more(APPENDS))
        .await
        .map_err(|_| {
            let acked = run.progress.acked();
            anyhow!("liveness: after {SERVES_WITHIN:?} without faults no {APPENDS} appends were acknowledged (of {acked} in all)")
        })??;
    if let Some(trimmer) = trimmer {
        trimmer.stop().await?;
    }
    stop.send_replace(true);
    let changes = match operator {
        Some(operator) => operator.await?,
        None => Changes::default(),
    };
    let reach = Reach {
        active: members(&reach, LOG).await?,
        ..reach
    };
    load.finish(&reach, &run).await?;
    outcome.replace(Some((run.history.operations(), changes)));
    Ok(())
}
