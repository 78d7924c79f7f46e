//! What a log must hold: a plain model of each state that it goes through, and which of them a crash may leave.
//!
//! Changes take effect in the order in which they were asked for, so a crash leaves the log as it was after some number
//! of them, at least as many as were answered, at most as many as were asked for; or in the middle of the next one: with
//! the first entries of an append, or with a part of a truncation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use inkstone_storage::error::ReadError;
use inkstone_storage::io::sim::SimDisk;
use inkstone_storage::log::{Checkpoint, Log, LogState};
use inkstone_storage::types::{Entry, EntryId, Vote};

/// A change of the log.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append(Vec<Entry>),
    /// Every entry behind this one goes.
    Truncate(Option<u64>),
    Purge(EntryId),
    Vote(Vote),
    Snapshot(Checkpoint),
    /// The boundary, and the state before it.
    Seal(u64, Checkpoint),
}

impl Step {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Append(entries) => {
                let ids = entries.iter().map(|entry| show(entry.id));
                format!("append {}", ids.collect::<Vec<_>>().join(" "))
            }
            Self::Truncate(after) => format!("truncate after {after:?}"),
            Self::Purge(id) => format!("purge {}", show(*id)),
            Self::Vote(vote) => format!("vote {} for {}", vote.term, vote.node),
            Self::Snapshot(snapshot) => format!("snapshot as of {}", show(snapshot.applied)),
            Self::Seal(boundary, _) => format!("seal before {boundary}"),
        }
    }
}

pub(crate) fn show(id: EntryId) -> String {
    format!("{}.{}", id.term, id.index)
}

/// What the log holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The lowest index that it can hold.
    pub(crate) first: u64,
    pub(crate) purged: Option<EntryId>,
    /// From `first` on.
    pub(crate) entries: Vec<Entry>,
    pub(crate) vote: Option<Vote>,
    pub(crate) snapshot: Option<Checkpoint>,
    /// By boundary.
    pub(crate) checkpoints: BTreeMap<u64, Checkpoint>,
}

impl State {
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }

    pub(crate) fn entry(&self, index: u64) -> Option<&Entry> {
        let number = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(number)
    }

    /// The state after a step.
    pub(crate) fn after(&self, step: &Step) -> Self {
        let mut state = self.clone();
        match step {
            Step::Append(entries) => {
                if state.entries.is_empty()
                    && state.purged.is_none()
                    && let Some(first) = entries.first()
                {
                    state.first = first.id.index;
                }
                state.entries.extend_from_slice(entries);
            }
            Step::Truncate(after) => {
                let cut = after.map_or(0, |after| after + 1).max(state.first);
                let kept = usize::try_from(cut - state.first).expect("a few");
                state.entries.truncate(kept);
            }
            Step::Purge(id) => state.purge(*id),
            Step::Vote(vote) => state.vote = Some(*vote),
            Step::Snapshot(snapshot) => state.snapshot = Some(snapshot.clone()),
            Step::Seal(boundary, checkpoint) => {
                let checkpoint = checkpoint.clone();
                state.checkpoints.entry(*boundary).or_insert(checkpoint);
            }
        }
        state
    }

    fn purge(&mut self, id: EntryId) {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return;
        }
        let first = self.first.max(id.index + 1);
        let gone = usize::try_from(first - self.first).expect("a few");
        self.entries.drain(..gone.min(self.entries.len()));
        self.first = first;
        self.purged = Some(id);
        self.checkpoints = self.checkpoints.split_off(&first);
    }

    /// The newest checkpoint that a log which ends with `last` can use.
    fn checkpoint(&self, last: Option<EntryId>) -> Option<&Checkpoint> {
        let usable = |checkpoint: &&Checkpoint| {
            last.is_some_and(|last| checkpoint.applied.index <= last.index)
        };
        let of_boundary = self.checkpoints.values().rev().find(usable);
        of_boundary
            .into_iter()
            .chain(&self.snapshot)
            .max_by_key(|checkpoint| checkpoint.applied.index)
    }
}

/// What an open log shows.
#[derive(Debug)]
pub(crate) struct Found {
    state: LogState,
    terms: Vec<EntryId>,
    entries: Vec<Entry>,
    vote: Option<Vote>,
    snapshot: Option<Checkpoint>,
    checkpoint: Option<Checkpoint>,
}

impl Found {
    pub(crate) fn of(log: &Log) -> Result<Self, ReadError> {
        let state = log.state();
        let mut entries = Vec::new();
        let mut next = state.first_index;
        while state.last.is_some_and(|last| next <= last.index) {
            let more = log.entries(next, u64::MAX, usize::MAX)?;
            if more.is_empty() {
                break;
            }
            next += more.len() as u64;
            entries.extend(more);
        }
        Ok(Self {
            state,
            terms: log.terms(),
            entries,
            vote: log.vote(),
            snapshot: log.snapshot(),
            checkpoint: log.checkpoint(),
        })
    }

    fn is(&self, state: &State) -> bool {
        self.is_but_for_entries(state) && self.entries == state.entries
    }

    fn is_but_for_entries(&self, state: &State) -> bool {
        self.state.first_index == state.first
            && self.state.purged == state.purged
            && self.vote == state.vote
            && self.snapshot == state.snapshot
            && self.checkpoint.as_ref() == state.checkpoint(self.state.last)
    }

    /// Whether its entries are the first ones of `longer`, and no fewer than `shorter` has.
    fn lies_between(&self, shorter: &State, longer: &State) -> bool {
        self.entries.len() >= shorter.entries.len() && longer.entries.starts_with(&self.entries)
    }

    /// What must be true of every log that was opened.
    fn check_itself(&self) -> Result<(), String> {
        let ids: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        let last = ids.last().copied().or(self.state.purged);
        let mut terms = ids;
        terms.dedup_by_key(|id| (id.term, id.node));
        if (self.state.last, self.state.durable) != (last, last) {
            return Err(format!("its entries end with {last:?}: {:?}", self.state));
        }
        if self.terms != terms {
            return Err(format!("terms {terms:?}, not {:?}", self.terms));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let ids = self.entries.iter().map(|entry| show(entry.id));
        format!(
            "first {}, purged {:?}, vote {:?}, snapshot {:?}, checkpoint {:?}, entries {}",
            self.state.first_index,
            self.state.purged.map(show),
            self.vote.map(|vote| vote.term),
            self.snapshot.as_ref().map(|found| show(found.applied)),
            self.checkpoint.as_ref().map(|found| show(found.applied)),
            ids.collect::<Vec<_>>().join(" ")
        )
    }
}

/// What happened, at a place of the disk's journal.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// So many steps were asked for.
    Asked(usize),
    /// So many were answered with success.
    Answered(usize),
}

/// The states that a log went through.
#[derive(Debug, Clone)]
pub(crate) struct History {
    disk: SimDisk,
    /// One more than there are steps.
    pub(crate) states: Vec<State>,
    pub(crate) steps: Vec<Step>,
    events: Arc<Mutex<Vec<(usize, Event)>>>,
}

impl History {
    /// One that begins with this state, durable.
    pub(crate) fn new(disk: &SimDisk, state: State) -> Self {
        Self {
            disk: disk.clone(),
            states: vec![state],
            steps: Vec::new(),
            events: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> &State {
        self.states.last().expect("the first one at least")
    }

    /// A step is about to be asked for: its number.
    pub(crate) fn ask(&mut self, step: Step) -> usize {
        let state = self.now().after(&step);
        let number = self.states.len();
        let text = format!("{number}: {}", step.describe());
        self.states.push(state);
        self.steps.push(step);
        self.push(&text, Event::Asked(number));
        number
    }

    /// What to call when a step was answered with success.
    pub(crate) fn answer(&self, number: usize) -> impl FnOnce() + Send + 'static {
        let history = Self {
            events: Arc::clone(&self.events),
            ..Self::new(&self.disk, State::default())
        };
        move || history.push(&format!("{number} is answered"), Event::Answered(number))
    }

    fn push(&self, text: &str, event: Event) {
        let mut events = self.events.lock().expect("no panic");
        let place = self.disk.note(text);
        events.push((place, event));
    }

    /// What may be found when the journal's first `count` operations were done.
    pub(crate) fn allowed(&self, count: usize) -> Allowed<'_> {
        let events = self.events.lock().expect("no panic");
        let mut allowed = Allowed {
            history: self,
            from: 0,
            to: 0,
        };
        for (place, event) in events.iter() {
            if *place < count {
                match event {
                    Event::Asked(number) => allowed.to = *number,
                    Event::Answered(number) => allowed.from = allowed.from.max(*number),
                }
            }
        }
        allowed
    }

    /// What may be found when all that was answered is there, and all that was asked for may be.
    pub(crate) fn allowed_at_end(&self) -> Allowed<'_> {
        self.allowed(usize::MAX)
    }
}

/// The states that a crash may leave: from one, the last that was answered, to another, the last that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed<'a> {
    history: &'a History,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Allowed<'_> {
    /// The steps that were asked for and not answered.
    pub(crate) fn unanswered(&self) -> &[Step] {
        &self.history.steps[self.from..self.to]
    }

    /// The state that was found, if it is one of these.
    pub(crate) fn check(&self, found: &Found) -> Result<State, String> {
        found.check_itself()?;
        let states = &self.history.states;
        for number in self.from..=self.to {
            let state = &states[number];
            let is_here = found.is(state)
                || (number < self.to && {
                    let next = &states[number + 1];
                    match self.history.steps[number] {
                        Step::Append(_) => {
                            found.is_but_for_entries(next) && found.lies_between(state, next)
                        }
                        Step::Truncate(_) => {
                            found.is_but_for_entries(state) && found.lies_between(next, state)
                        }
                        _ => false,
                    }
                });
            if is_here {
                return Ok(State {
                    first: found.state.first_index,
                    entries: found.entries.clone(),
                    ..state.clone()
                });
            }
        }
        let last = &states[self.from];
        Err(format!(
            "found {}; answered were {} steps of {}, behind which the log is first {}, purged {:?}, vote {:?}, \
             snapshot {:?}, entries up to {:?}; then were asked {:?}",
            found.describe(),
            self.from,
            self.to,
            last.first,
            last.purged.map(show),
            last.vote.map(|vote| vote.term),
            last.snapshot.as_ref().map(|found| show(found.applied)),
            last.last().map(show),
            self.unanswered()
                .iter()
                .map(Step::describe)
                .collect::<Vec<_>>(),
        ))
    }
}
