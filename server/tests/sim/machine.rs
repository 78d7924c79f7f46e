//! A machine: a disk that outlives crashes, and, while it runs, the server's own code on it.
//!
//! Promises: a crash leaves on the disk what a crash may leave, as the seed has it, and nothing that was not durable when
//! it was answered; whatever the code does, it does on the turmoil host of that machine. Must not know: when machines
//! crash, what they promise.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Result;
use inkstone_net::Dial;
use inkstone_server::blocking::Offload;
use inkstone_server::clock::Clock;
use inkstone_server::discovery::Discovery;
use inkstone_server::grpc::peer::PeerService;
use inkstone_server::grpc::{Beside, Services};
use inkstone_server::indexer::Indexer;
use inkstone_server::node::{finish_changes, serve_clients, serve_peers, watch_for_removal};
use inkstone_server::raft::{
    GROUP, Group, GroupOptions, Member, Repairs, Surroundings, Timings, keep_within_retention,
};
use inkstone_server::scrub::Scrub;
use inkstone_storage::io::sim::{Image, Names, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::log::{Driver, Log, LogOptions, Spare, Turn};
use inkstone_storage::types::Identity;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::network::{CLIENT_PORT, PEER_PORT};
use crate::process::Process;
use crate::sockets::{Sockets, sockets};

const CLUSTER: [u8; 16] = [7; 16];
/// Small, so that segments are sealed while a run lasts.
const SEGMENT_SIZE: u64 = 64 << 10;
const TIMINGS: Timings = Timings {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(700),
};
const CONNECTIONS_MAX: usize = 256;
/// Often, so that segments go while a run lasts.
const RETENTION_EVERY: Duration = Duration::from_millis(250);

/// When a simulation begins: milliseconds since the Unix epoch.
const EPOCH_MS: i64 = 1_800_000_000_000;
/// What a machine does at a time.
const TICK: Duration = Duration::from_millis(1);

/// How long a disk takes before it is done with what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// About a millisecond.
    Fast,
    /// So many milliseconds, each time.
    Slow(u64),
}

/// What the power's failing leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Everything: only the process was killed.
    Kill,
    /// Nothing, or any part of it.
    PowerLoss,
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The node made it.
    Not,
    /// A leader made it, because the node was too far behind.
    ByLeader,
}

/// How many machines there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// Those that found the cluster.
    pub(crate) founders: usize,
    /// Those and the others, which wait to be added.
    pub(crate) all: usize,
}

/// One of the machines.
pub(crate) struct Machine {
    pub(crate) number: usize,
    nodes: Nodes,
    disk: RefCell<Image>,
    speed: Cell<Disk>,
    rng: RefCell<StdRng>,
    running: RefCell<Option<Running>>,
    starts: Cell<u64>,
    just_kept: Cell<Option<(u64, Sent)>>,
    removed: Cell<bool>,
    /// Of the process that is about to start.
    sockets: RefCell<Option<Sockets>>,
    process: RefCell<Option<Process>>,
    paused: Cell<bool>,
    /// Of so many milliseconds one passes for its process.
    pace: Cell<u64>,
    /// What its clock shows.
    wall: &'static AtomicI64,
    /// How far it is ahead: milliseconds.
    clock_ahead: Cell<i64>,
}

/// What runs on it.
struct Running {
    disk: SimDisk,
    driver: Driver,
    /// Once it was recovered.
    group: Option<Group>,
}

/// A node's name in the simulated network.
pub(crate) fn name(number: usize) -> String {
    format!("node{number}")
}

/// Its id in the cluster.
pub(crate) fn id(number: usize) -> u64 {
    101 + number as u64
}

/// The number of the node with that id.
pub(crate) fn number(id: u64) -> usize {
    usize::try_from(id - 101).expect("small")
}

fn member(number: usize) -> Member {
    let name = name(number);
    Member {
        client_address: format!("{name}:{CLIENT_PORT}"),
        peer_address: format!("{name}:{PEER_PORT}"),
    }
}

impl Machine {
    /// With an empty disk, one of so many.
    pub(crate) fn new(seed: u64, number: usize, nodes: Nodes) -> Self {
        Self {
            number,
            nodes,
            disk: RefCell::default(),
            speed: Cell::new(Disk::Fast),
            rng: RefCell::new(StdRng::seed_from_u64(seed ^ (id(number) << 32))),
            running: RefCell::default(),
            starts: Cell::new(0),
            just_kept: Cell::new(None),
            removed: Cell::new(false),
            sockets: RefCell::default(),
            process: RefCell::default(),
            paused: Cell::new(false),
            pace: Cell::new(1),
            wall: Box::leak(Box::default()),
            clock_ahead: Cell::new(0),
        }
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.get()
    }

    /// Whether it has found out that it is no member any more: its process ends then.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// From here on its disk is that fast.
    pub(crate) fn set_disk(&self, speed: Disk) {
        self.speed.set(speed);
    }

    /// The group, if it runs and was recovered.
    pub(crate) fn group(&self) -> Option<Group> {
        self.running.borrow().as_ref()?.group.clone()
    }

    /// Its power fails, or its process is killed. The caller ends what runs on its turmoil host: nothing of what this does
    /// to the disk in its last moment was ever answered.
    pub(crate) fn crash(&self, how: Crash) {
        self.paused.set(false);
        self.sockets.take();
        let process = self.process.take();
        let Some(mut running) = self.running.take() else {
            return;
        };
        let answered = running.disk.journal().operations().len();
        running.driver.turn();
        let journal = running.disk.journal();
        let rng = &mut *self.rng.borrow_mut();
        let reached = rng.random_range(answered..=journal.operations().len());
        let policy = match how {
            Crash::Kill => Policy {
                data: Unsynced::All,
                unit: Unit::Page,
                names: Names::Kept,
            },
            Crash::PowerLoss => power_loss(rng),
        };
        self.disk.replace(journal.crash(reached).image(&policy));
        drop(process);
    }

    /// The snapshot that its disk has just got; what it stands for is still there, and about to go.
    pub(crate) fn snapshot_just_kept(&self) -> Option<(u64, Sent)> {
        self.just_kept.get()
    }

    fn snapshot(&self) -> Option<u64> {
        Some(self.group()?.log().snapshot()?.applied.index)
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            dir: PathBuf::from("data/group-1"),
            identity: Identity {
                cluster_id: CLUSTER,
                node_id: id(self.number),
            },
            group: GROUP,
            segment_size: SEGMENT_SIZE,
            tail_size: 256 << 10,
            // Nothing may wait for room, because nobody would give the writer a turn meanwhile.
            queue_size: 1 << 40,
            free_size_min: 0,
            spare: Spare::InTurn,
        }
    }

    /// Whether the writer goes on.
    fn turn(&self) -> bool {
        let before = self.snapshot();
        let turn = {
            let mut running = self.running.borrow_mut();
            running.as_mut().map(|running| running.driver.turn())
        };
        let kept = self.snapshot().filter(|index| before < Some(*index));
        let applied = self.group().map(|group| group.applied().index());
        let sent = if applied < kept {
            Sent::ByLeader
        } else {
            Sent::Not
        };
        self.just_kept.set(kept.map(|index| (index, sent)));
        matches!(turn, Some(Turn::Idle | Turn::Worked))
    }

    /// Until the disk is done next.
    fn pause(&self) -> Duration {
        let just_kept = self.just_kept.get().is_some();
        let rng = &mut *self.rng.borrow_mut();
        Duration::from_micros(match self.speed.get() {
            // A moment at which a crash is worth more than at most others.
            Disk::Fast if just_kept => rng.random_range(3_000..30_000),
            Disk::Fast if rng.random_ratio(1, 50) => rng.random_range(1_000..20_000),
            Disk::Fast => rng.random_range(200..2_000),
            Disk::Slow(ms) => ms * 1_000,
        })
    }

    /// Starts the machine: what runs on its turmoil host.
    pub(crate) async fn boot(self: Rc<Self>) -> turmoil::Result {
        let (kernel, sockets) = sockets();
        self.sockets.replace(Some(sockets));
        kernel.run().await
    }

    /// A millisecond in the life of its process, at that time since the simulation began.
    pub(crate) fn step(self: &Rc<Self>, now: Duration) -> Result<()> {
        let passes = u64::try_from(now.as_millis())?.is_multiple_of(self.pace.get());
        let now = EPOCH_MS + i64::try_from(now.as_millis())? + self.clock_ahead.get();
        self.wall.store(now * 1_000_000, Ordering::Relaxed);
        if let Some(sockets) = self.sockets.take() {
            let main = Process::start(Rc::clone(self).run(sockets))?;
            self.process.replace(Some(main));
        }
        match self.process.borrow_mut().as_mut() {
            Some(process) if self.paused.get() => process.stand_still(TICK),
            Some(process) if passes => process.run_for(TICK)?,
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Sets its clock so many milliseconds ahead of what it is, or back.
    pub(crate) fn set_clock(&self, ahead: i64) {
        self.clock_ahead.set(ahead);
    }

    /// How far its clock is ahead: milliseconds.
    pub(crate) fn clock_ahead(&self) -> i64 {
        self.clock_ahead.get()
    }

    /// From here on one in so many milliseconds passes for its process: its timers, and whatever it measures time by, are that
    /// slow.
    pub(crate) fn set_pace(&self, pace: u64) {
        self.pace.set(pace);
    }

    /// Has its process stand still, or go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.set(paused);
    }

    /// Whether its process stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Runs the server's code until it fails or the machine crashes.
    async fn run(self: Rc<Self>, sockets: Sockets) -> turmoil::Result {
        self.starts.set(self.starts.get() + 1);
        self.just_kept.set(None);
        self.removed.set(false);
        let disk = SimDisk::from_image(&self.disk.borrow());
        let (log, driver) = Log::open_driven(Arc::new(disk.clone()), self.options())?;
        self.running.replace(Some(Running {
            disk,
            driver,
            group: None,
        }));
        let writing = Rc::clone(&self);
        tokio::task::spawn_local(async move {
            while writing.turn() {
                sleep(writing.pause()).await;
            }
        });
        let clock = Clock::showing(self.wall);
        let Sockets {
            clients: client_port,
            peers: peer_port,
            dial,
        } = sockets;
        let group = Group::open(GroupOptions {
            log,
            node_id: id(self.number),
            cluster_id: CLUSTER,
            member: member(self.number),
            timings: TIMINGS,
            clock,
            repairs: Repairs::default(),
            surroundings: Surroundings {
                offload: Offload::InPlace,
                dial: dial.clone(),
            },
        })
        .await?;
        if let Some(running) = self.running.borrow_mut().as_mut() {
            running.group = Some(group.clone());
        }
        let (_stopping, stop) = watch::channel(false);
        let discovery = self.discovery(clock, dial);
        let services = services((&group, clock), discovery.clone(), stop.clone());
        let retaining = keep_within_retention(group.clone(), RETENTION_EVERY, stop.clone());
        let peers = PeerService::new(discovery.clone());
        peers.serve(services.clone());
        let peers = serve_peers(peers, peer_port, clock, stop.clone());
        let (clients, _health) =
            serve_clients(&services, client_port, CONNECTIONS_MAX, stop.clone()).await;
        let founders = self.nodes.founders;
        if self.number < founders && !group.is_initialized().await? {
            let members: BTreeMap<_, _> = (0..founders).map(|n| (id(n), member(n))).collect();
            group.initialize(members).await?;
        }
        finish_changes(group.clone(), stop.clone());
        let mut removed = watch_for_removal(group.clone(), discovery, stop.clone());
        tokio::select! {
            fatal = group.failed() => {
                for task in [peers, clients, retaining] {
                    task.abort();
                }
                Err(format!("{} has failed: {fatal}", name(self.number)).into())
            }
            _ = removed.wait_for(Option::is_some) => {
                // Whoever steps the simulation ends it.
                self.removed.set(true);
                std::future::pending().await
            }
        }
    }

    fn discovery(&self, clock: Clock, dial: Dial) -> Discovery {
        let Member {
            client_address,
            peer_address,
        } = member(self.number);
        let me = inkstone_proto::v1::NodeInfo {
            id: id(self.number),
            client_address,
            peer_address,
        };
        let seeds = (0..self.nodes.all).map(|other| member(other).peer_address);
        Discovery::new(me, CLUSTER, self.nodes.founders, seeds.collect(), clock).dialing(dial)
    }
}

fn services(
    (group, clock): (&Group, Clock),
    discovery: Discovery,
    stop: watch::Receiver<bool>,
) -> Services {
    let beside = Beside {
        indexer: Indexer::off(),
        scrub: Scrub::off(),
        discovery,
        repairs: Repairs::default(),
    };
    let pool = || Offload::InPlace.pool(8, 1_024);
    let dir = PathBuf::from("data");
    Services::new(group.clone(), beside, clock, pool(), pool(), dir, stop)
}

fn power_loss(rng: &mut StdRng) -> Policy {
    let data = match rng.random_range(0..4) {
        0 => Unsynced::None,
        1 => Unsynced::All,
        _ => Unsynced::Random(rng.random()),
    };
    let names = match rng.random_range(0..4) {
        0 => Names::Lost,
        1 => Names::Kept,
        _ => Names::Random(rng.random()),
    };
    let unit = if rng.random() {
        Unit::Sector
    } else {
        Unit::Page
    };
    Policy { data, unit, names }
}
