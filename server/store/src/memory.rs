//! A store without a disk, for tests and simulations. Follows the same contract as [`crate::DiskStore`]: what is
//! committed is found again by whoever opens the same [`MemoryDisk`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capstan_core::{Payload, State};
use capstan_types::JobId;

use crate::codec::{self, OnPayload};
use crate::{PayloadReader, Record, Statistics, Store, StoreError};

/// What outlives a [`MemoryStore`]. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    records: Vec<Record>,
    payloads: BTreeMap<JobId, Arc<Payload>>,
    is_full: bool,
}

impl MemoryDisk {
    /// While `true`, every commit is refused as on a full disk.
    pub fn set_full(&self, is_full: bool) {
        self.contents().is_full = is_full;
    }

    /// Everything committed so far, in order.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.contents().records.clone()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing in here is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store without a disk.
#[derive(Debug)]
pub struct MemoryStore {
    disk: MemoryDisk,
    statistics: Statistics,
}

impl MemoryStore {
    /// Opens `disk`, with the state that its records make.
    #[must_use]
    pub fn open(disk: &MemoryDisk) -> (Self, State) {
        let mut state = State::default();
        for record in &disk.contents().records {
            record
                .changes
                .iter()
                .for_each(|change| state.absorb(change));
        }
        let store = Self {
            disk: disk.clone(),
            statistics: Statistics::default(),
        };
        (store, state)
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut contents = self.disk.contents();
        if contents.is_full {
            self.statistics.refused_groups += 1;
            return Err(StoreError::Full {
                path: PathBuf::from("memory"),
                source: io::Error::from(io::ErrorKind::StorageFull),
            });
        }
        for record in records {
            for change in &record.changes {
                match codec::on_payload(change) {
                    OnPayload::Put(id, payload) => {
                        drop(contents.payloads.insert(id, payload.clone()))
                    }
                    OnPayload::Remove(id) => drop(contents.payloads.remove(&id)),
                    OnPayload::Nothing => {}
                }
            }
        }
        contents.records.extend_from_slice(records);
        self.statistics.groups += 1;
        self.statistics.fsyncs += 1;
        self.statistics.records += records.len() as u64;
        Ok(())
    }

    fn payload_reader(&self) -> Arc<dyn PayloadReader> {
        Arc::new(self.disk.clone())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}

impl PayloadReader for MemoryDisk {
    fn payload(&self, id: JobId) -> Result<Option<Arc<Payload>>, StoreError> {
        Ok(self.contents().payloads.get(&id).cloned())
    }
}
