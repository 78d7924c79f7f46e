//! openraft's own suite on the real store, and what it leaves out: reopening.

use inkstone_storage::log::{LogOptions, Spare};
use inkstone_storage::types::Identity;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::*;
use crate::raft::state_machine::StateMachine;

fn open(dir: &TempDir) -> (LogStore, StateMachine) {
    let log = Log::open(LogOptions {
        dir: dir.path().join("group-1"),
        identity: Identity {
            cluster_id: [7; 16],
            node_id: 1,
        },
        group: 1,
        segment_size: 64 << 10,
        tail_size: 1 << 20,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Background,
    })
    .expect("an empty directory opens");
    let reads = Blocking::new(4, 64);
    let machine = StateMachine::open(log.clone(), reads.clone()).expect("no checkpoint");
    (LogStore::new(log, reads), machine)
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().expect("a directory for a test");
        let (store, machine) = open(&dir);
        Ok((dir, store, machine))
    }
}

#[test]
fn openrafts_storage_suite_passes() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { Suite::<TypeConfig, _, _, _, _>::test_all(Builder).await })
        .expect("every case passes");
}
