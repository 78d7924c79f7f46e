//! Opening the log, and what comes before that when it is damaged: quarantine, until the other nodes' entries have mended
//! it.
//!
//! Promises: while an entry is damaged, Raft does not run: the node neither votes, nor acknowledges, nor campaigns. It
//! says what it is on both ports, gives others what is whole here, and asks as long as it takes. What no other node can
//! mend ends the start, with what the operator does. Must not know: how entries are proven.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inkstone_storage::error::{Damage, Faults, Known, OpenError};
use inkstone_storage::io::RealDisk;
use inkstone_storage::log::{Log, LogOptions, Repair};
use inkstone_storage::types::Identity;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use super::StartError;
use super::serving::{Serving, serve_quarantined};
use crate::clock::Clock;
use crate::discovery::{Discovery, Standing};
use crate::grpc::peer::PeerService;
use crate::grpc::quarantined::Quarantined;
use crate::raft::{Fatal, Mended, Quarantine, Repairs};

/// Before peers are asked again: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why a damaged log stays damaged, and what the operator does.
#[derive(Debug, thiserror::Error)]
pub enum Unmendable {
    /// Files that no other node has the like of.
    #[error(
        "{damage}; no other node can repair that, and a node that forgot what it promised must not take part: remove \
         this voter (`ink cluster remove {node}`, asked of another node), delete {data_dir}, and start it anew: it \
         joins as a new node"
    )]
    Damage {
        /// What is wrong.
        damage: Damage,
        /// This node.
        node: u64,
        /// Its directory.
        data_dir: String,
    },
    /// Entries that nothing tells from others.
    #[error(
        "{faults}; what is left does not say which entries stood at {first}, so that no other node's can be taken for \
         them: remove this voter (`ink cluster remove {node}`, asked of another node), delete {data_dir}, and start it \
         anew: it joins as a new node"
    )]
    Unverifiable {
        /// What is wrong.
        faults: Faults,
        /// The entries that cannot be told.
        first: String,
        /// This node.
        node: u64,
        /// Its directory.
        data_dir: String,
    },
    /// There is nobody to ask.
    #[error(
        "{faults}; no other node is known that could have them (`seeds` names none): put back a copy of {data_dir} that was \
         made while the node was stopped; what was appended since is lost"
    )]
    Alone {
        /// What is wrong.
        faults: Faults,
        /// The directory.
        data_dir: String,
    },
}

/// What opening a damaged log needs to know of the node.
pub(super) struct Around<'a> {
    pub(super) identity: Identity,
    pub(super) discovery: &'a Discovery,
    pub(super) peers: &'a PeerService,
    pub(super) client_port: &'a TcpListener,
    pub(super) repairs: &'a Repairs,
    pub(super) data_dir: PathBuf,
    pub(super) clock: Clock,
}

/// Opens the log; mends it first when it is damaged, however long that takes.
pub(super) async fn open_log(options: LogOptions, around: &Around<'_>) -> Result<Log, StartError> {
    loop {
        let asked = options.clone();
        match off_runtime(move || Log::open(asked)).await? {
            Ok(log) => return Ok(log),
            Err(OpenError::Faulty(faults)) => {
                tracing::error!(%faults, "the log is damaged: the node is in quarantine");
                around.mend(&options).await?;
            }
            Err(error) => return Err(around.refusal(error)),
        }
    }
}

/// What the operator is told of a group that does not open.
pub(super) fn refusal(error: OpenError, node: u64, data_dir: &Path) -> StartError {
    match error {
        OpenError::Damaged(damage) => Unmendable::Damage {
            damage,
            node,
            data_dir: data_dir.display().to_string(),
        }
        .into(),
        error => error.into(),
    }
}

async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fatal(error.to_string()).into())
}

impl Around<'_> {
    fn data_dir_text(&self) -> String {
        self.data_dir.display().to_string()
    }

    fn refusal(&self, error: OpenError) -> StartError {
        refusal(error, self.identity.node_id, &self.data_dir)
    }

    async fn look(&self, options: &LogOptions) -> Result<Arc<Repair>, StartError> {
        let options = options.clone();
        let looked = off_runtime(move || Repair::open(Arc::new(RealDisk), options)).await?;
        let log = looked.map_err(|error| self.refusal(error))?;
        self.check_mendable(log.faulty())?;
        Ok(Arc::new(log))
    }

    /// Refuses what no other node's entry can be proven for: there is nothing to wait for.
    fn check_mendable(&self, faults: &Faults) -> Result<(), StartError> {
        let Some(lost) = faults.list.iter().find(|fault| !fault.is_verifiable()) else {
            return Ok(());
        };
        Err(Unmendable::Unverifiable {
            first: lost.to_string(),
            faults: faults.clone(),
            node: self.identity.node_id,
            data_dir: self.data_dir_text(),
        }
        .into())
    }

    /// Quarantine: returns when nothing is damaged any more.
    async fn mend(&self, options: &LogOptions) -> Result<(), StartError> {
        let log = self.look(options).await?;
        let info = self.discovery.me().clone();
        let quarantine = Quarantine::new(self.identity, info, log, self.repairs.clone());
        if quarantine.nodes().is_empty() && !self.discovery.has_seeds() {
            return Err(Unmendable::Alone {
                faults: quarantine.log().faulty().clone(),
                data_dir: self.data_dir_text(),
            }
            .into());
        }
        let quarantined = Quarantined {
            quarantine,
            data_dir: Arc::new(self.data_dir.clone()),
        };
        let (leaving, left) = watch::channel(false);
        let served = self.serve(&quarantined, left).await;
        self.peers.set_quarantine(Some(quarantined.clone()));
        let mended = self.mend_in(&quarantined.quarantine, options).await;
        // The log is about to be opened, and to change: nobody reads it beside that.
        self.peers.set_quarantine(None);
        leaving.send_replace(true);
        if let Some(served) = served {
            served.abort();
        }
        mended
    }

    /// Says on the client port what the node is. The port itself stays for when the node serves.
    async fn serve(
        &self,
        quarantined: &Quarantined,
        left: watch::Receiver<bool>,
    ) -> Option<Serving> {
        match super::serving::another(self.client_port) {
            Ok(port) => Some(serve_quarantined(quarantined, port, self.clock, left).await),
            Err(error) => {
                tracing::warn!(%error, "clients are not told of the quarantine");
                None
            }
        }
    }

    /// Looks at the log again: how many entries are damaged.
    async fn look_again(
        &self,
        quarantine: &Quarantine,
        options: &LogOptions,
    ) -> Result<u64, StartError> {
        let log = self.look(options).await?;
        let left = log.faulty().entries();
        quarantine.set_log(log);
        Ok(left)
    }

    /// Tries to mend everything once: what is waited for then, for people.
    async fn mend_once(&self, quarantine: &Quarantine) -> String {
        let outcomes = mend_once(quarantine).await;
        let said = outcomes.iter().map(describe).find(|said| !said.is_empty());
        let said = said.unwrap_or_default();
        let why = if outcomes.iter().any(|outcome| outcome.diverged) {
            "the other nodes have committed these, and what is left here does not say from which of them on this log differs, \
             so that nothing can be cut"
        } else if outcomes.iter().any(|outcome| outcome.is_purged) {
            "no node will ever have it again, for retention has removed it"
        } else {
            return said;
        };
        let (node, data_dir) = (self.identity.node_id, self.data_dir.display());
        format!(
            "{said}; {why}: remove this voter (`ink cluster remove {node}`, asked of another node), delete {data_dir}, and \
             start it anew: it joins as a new node"
        )
    }

    async fn mend_in(
        &self,
        quarantine: &Quarantine,
        options: &LogOptions,
    ) -> Result<(), StartError> {
        let mut pause = PAUSE_FIRST;
        let mut said = String::new();
        loop {
            // Whether this node still belongs to the cluster, and who else does.
            let standing = match quarantine.member_since() {
                Some(since) => Standing::Member { since },
                None => Standing::HasLog,
            };
            self.discovery.round(standing).await?;
            quarantine.learn(self.discovery.cluster());
            let before = quarantine.log().faulty().entries();
            let mut waits_for = self.mend_once(quarantine).await;
            let mut left = self.look_again(quarantine, options).await?;
            let mended = before.saturating_sub(left);
            self.repairs.note(mended, self.clock.unix_nanos());
            if mended > 0 {
                tracing::info!(mended, left, "entries were written back from other nodes");
                pause = PAUSE_FIRST;
            }
            if left > 0 {
                match quarantine.cut_superseded().await {
                    Ok(None) => {}
                    Ok(Some(cut)) => {
                        tracing::warn!("{cut}");
                        left = self.look_again(quarantine, options).await?;
                        pause = PAUSE_FIRST;
                    }
                    Err(why) => waits_for = why,
                }
            }
            if left == 0 {
                self.repairs.wait_for("");
                tracing::info!("the log is whole again: the node leaves quarantine");
                return Ok(());
            }
            self.repairs.wait_for(waits_for.clone());
            if said != waits_for {
                tracing::warn!(
                    left,
                    waits_for,
                    "entries are still damaged; the other nodes are asked again and again"
                );
                said = waits_for;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Tries to mend everything once: what it came to.
async fn mend_once(quarantine: &Quarantine) -> Vec<Mended> {
    let log = quarantine.log();
    let all = quarantine.mend(&log.faulty().list).await;
    if all.refused.is_none() || log.faulty().list.len() == 1 {
        return vec![all];
    }
    // One range that nobody has as a whole must not hold back what stands behind it: what is known entry by entry first,
    // then each range. What was written meanwhile is refused as not damaged, which changes nothing.
    let (known, ranges): (Vec<_>, Vec<_>) = log
        .faulty()
        .list
        .iter()
        .cloned()
        .partition(|fault| matches!(fault.known, Known::Identity(_)));
    let mut outcomes = vec![quarantine.mend(&known).await];
    for range in ranges {
        outcomes.push(quarantine.mend(&[range]).await);
    }
    outcomes
}

fn describe(mended: &Mended) -> String {
    let parts = [&mended.lacking, &mended.refused];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    parts.join("; ")
}
