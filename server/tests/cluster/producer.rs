//! One producer that numbers its appends itself, is killed again and again like the servers, and goes on from its record.
//!
//! The client is a process, so that SIGKILL takes whatever it had under way. It is this very program: asked for the one
//! test [`the_client_process`], with the variables below, it becomes the producer.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use inkstone_client::{
    AppendOptions, Client, NewRecord, Producer, ProducerChoice, SessionOptions, Ticket,
};
use inkstone_jepsen::cluster::{ClusterOptions, PATIENCE};
use inkstone_jepsen::history::{Call, OperationId, Outcome};
use inkstone_jepsen::nemesis::{kill_all_and_restart, kill_leader_and_restart};
use inkstone_jepsen::payload::{PayloadId, encode};
use inkstone_jepsen::process::Process;
use inkstone_jepsen::workload::{AppendersOptions, Run};

use crate::scene::{FaultRun, LOG, binary};

/// Servers; without it there is nothing to produce.
const SERVERS: &str = "INKSTONE_TEST_PRODUCER_SERVERS";
/// The file in which the producer notes what was acknowledged.
const RECORD: &str = "INKSTONE_TEST_PRODUCER_RECORD";
/// Its number in the history.
const NUMBER: &str = "INKSTONE_TEST_PRODUCER_NUMBER";
/// The sequence before which it stops.
const UNTIL: &str = "INKSTONE_TEST_PRODUCER_UNTIL";

/// Appends that a process is told to make; it is killed before it is through.
const WINDOW: u32 = 400;
/// Appends under way at a time. A cluster keeps a producer's last 16 receipts, so of those before the ones that were under
/// way when a process was killed as many are kept for certain.
const UNDER_WAY: usize = 8;

/// The records of an append: the same ones whenever it is sent.
fn ids(number: u32, sequence: u32) -> Vec<PayloadId> {
    let first = 2 * sequence;
    [first, first + 1]
        .map(|record| PayloadId::new(number, record))
        .to_vec()
}

fn records(number: u32, sequence: u32) -> Vec<NewRecord> {
    let bodies = ids(number, sequence).into_iter().map(|id| encode(id, 100));
    bodies.map(NewRecord::new).collect()
}

/// Offsets by sequence, from lines of `WORD SEQUENCE OFFSET`; a last line that was cut off is none.
fn lines_of(text: &str, word: &str) -> Vec<(u32, u64)> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| {
        let mut parts = line.split(' ');
        (parts.next()? == word).then_some(())?;
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    whole.lines().filter_map(parse).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_process() {
    let Ok(servers) = std::env::var(SERVERS) else {
        return;
    };
    let variable = |name| std::env::var(name).unwrap();
    let number = variable(NUMBER).parse().unwrap();
    let until = variable(UNTIL).parse().unwrap();
    let client = Client::builder().servers(servers).timeout(PATIENCE).build();
    let producing = Producing {
        client: client.unwrap(),
        record: variable(RECORD).into(),
        number,
    };
    producing.run(until).await.unwrap();
}

/// Tells the process that started this one.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// The client process.
struct Producing {
    client: Client,
    record: PathBuf,
    number: u32,
}

impl Producing {
    async fn run(&self, until: u32) -> Result<()> {
        // The test harness has begun a line.
        say("")?;
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let acked = lines_of(&text, "acked");
        for (place, (sequence, offset)) in acked.iter().enumerate() {
            ensure!(place == *sequence as usize, "the record has a gap: {text}");
            say(&format!("acked {sequence} {offset}"))?;
        }
        for (sequence, _) in acked.iter().rev().take(UNDER_WAY).rev() {
            let (sequence, offset) = (*sequence, self.again(*sequence).await?);
            say(&format!("again {sequence} {offset}"))?;
        }
        self.go_on(u32::try_from(acked.len())?, until).await
    }

    fn producer(&self, sequence: u32) -> Producer {
        Producer {
            id: u64::from(self.number) + 1,
            epoch: 0,
            sequence: u64::from(sequence),
        }
    }

    async fn again(&self, sequence: u32) -> Result<u64> {
        let options = AppendOptions {
            producer: ProducerChoice::Given(self.producer(sequence)),
            ..AppendOptions::default()
        };
        let records = records(self.number, sequence);
        let receipt = self.client.append_with(LOG, records, options).await?;
        ensure!(
            receipt.duplicate,
            "{sequence} took effect again: {receipt:?}"
        );
        Ok(receipt.first_offset)
    }

    async fn go_on(&self, from: u32, until: u32) -> Result<()> {
        let options = SessionOptions {
            producer: Some(self.producer(from)),
            ..SessionOptions::default()
        };
        let mut session = self.client.append_session(LOG, options);
        let mut under_way = VecDeque::new();
        for sequence in from..until {
            if under_way.len() == UNDER_WAY {
                self.settle(&mut under_way).await?;
            }
            let ticket = session.submit(records(self.number, sequence)).await?;
            under_way.push_back((sequence, ticket));
        }
        while !under_way.is_empty() {
            self.settle(&mut under_way).await?;
        }
        Ok(session.close().await?)
    }

    /// Waits for the oldest answer, and notes it before anybody is told.
    async fn settle(&self, under_way: &mut VecDeque<(u32, Ticket)>) -> Result<()> {
        let (sequence, ticket) = under_way.pop_front().context("nothing is under way")?;
        let line = format!("acked {sequence} {}", ticket.await?.first_offset);
        #[expect(
            clippy::disallowed_methods,
            reason = "a producer's record is no file of the store"
        )]
        let mut record = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.record)?;
        // In one piece, or a kill could leave half of it in the middle.
        record.write_all(format!("{line}\n").as_bytes())?;
        Ok(say(&line)?)
    }
}

/// The producer as this process sees it.
struct Subject {
    number: u32,
    dir: PathBuf,
    /// Appends that a process may have sent, and those that are known to be acknowledged.
    invoked: Vec<OperationId>,
    acked: BTreeMap<u32, u64>,
    again: usize,
}

impl Subject {
    fn new(run: &Run, dir: &Path) -> Result<Self> {
        let dir = dir.join("producer");
        fs::create_dir_all(&dir)?;
        Ok(Self {
            number: run.new_client(),
            dir,
            invoked: Vec::new(),
            acked: BTreeMap::new(),
            again: 0,
        })
    }

    /// Starts a process that goes on where the last one was, for so many appends more than are known to be acknowledged.
    fn spawn(&mut self, run: &Run, servers: &str, appends: u32) -> Result<Process> {
        let until = u32::try_from(self.acked.len())? + appends;
        for sequence in u32::try_from(self.invoked.len())?..until {
            let call = Call::Append {
                ids: ids(self.number, sequence),
                expected_offset: None,
            };
            self.invoked
                .push(run.history.invoke(self.number, None, LOG, call));
        }
        let until = self.invoked.len();
        let record = self.dir.join("record");
        let program = std::env::current_exe()?;
        let arguments = [
            format!("{SERVERS}={servers}"),
            format!("{RECORD}={}", record.display()),
            format!("{NUMBER}={}", self.number),
            format!("{UNTIL}={until}"),
            program.display().to_string(),
            "--exact".to_owned(),
            "producer::the_client_process".to_owned(),
            "--nocapture".to_owned(),
            "--test-threads=1".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::spawn(Path::new("/usr/bin/env"), &arguments, &self.dir)
    }

    /// Notes what the processes have said so far.
    fn learn(&mut self, run: &Run) -> Result<()> {
        let text = fs::read_to_string(self.dir.join("stdout.log"))?;
        for (sequence, first_offset) in lines_of(&text, "acked") {
            if let Some(known) = self.acked.insert(sequence, first_offset) {
                ensure!(known == first_offset, "{sequence}: {known}, {first_offset}");
                continue;
            }
            let operation = self.invoked[sequence as usize];
            run.history
                .complete(operation, Outcome::Appended { first_offset });
        }
        let again = lines_of(&text, "again");
        for (sequence, offset) in &again {
            let known = self.acked.get(sequence);
            ensure!(
                known == Some(offset),
                "{sequence}: {known:?}, then {offset}"
            );
        }
        self.again = again.len();
        Ok(())
    }
}

/// What the checkers find here: an append that took effect twice, or not although it was acknowledged, or out of its
/// order; and a receipt that is not the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_killed_and_goes_on_has_every_append_exactly_once() {
    let others = AppendersOptions {
        retrying: 1,
        ..AppendersOptions::NONE
    };
    let mut faults = FaultRun::start_with(ClusterOptions::new(binary()), others)
        .await
        .unwrap();
    let FaultRun { stage, run, .. } = &mut faults;
    let servers = stage.cluster.addresses().join(",");
    let mut subject = Subject::new(run, stage.cluster.dir()).unwrap();
    for round in 0..6 {
        let mut process = subject.spawn(run, &servers, WINDOW).unwrap();
        let known = subject.acked.len();
        process
            .wrote(known + 40 + 7 * round, PATIENCE)
            .await
            .unwrap();
        match round {
            1 => drop(kill_leader_and_restart(&mut stage.cluster).await.unwrap()),
            3 => kill_all_and_restart(&mut stage.cluster).await.unwrap(),
            // The client dies while nobody leads, or while it is not known who does.
            4 => stage
                .cluster
                .kill(stage.cluster.leader().await.unwrap())
                .unwrap(),
            _ => {}
        }
        process.kill().unwrap();
        stage.cluster.start_all().await.unwrap();
        subject.learn(run).unwrap();
    }
    let mut process = subject.spawn(run, &servers, WINDOW).unwrap();
    let status = process.exited(PATIENCE * 2).await.unwrap();
    assert!(status.success(), "{}", process.stderr());
    subject.learn(run).unwrap();
    assert_eq!(subject.acked.len(), subject.invoked.len());
    assert!(
        subject.again >= UNDER_WAY,
        "only {} were sent again",
        subject.again
    );
    println!("{}", faults.judge(subject.acked.len()).await.unwrap());
}
