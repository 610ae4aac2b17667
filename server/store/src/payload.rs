//! Reading payloads while the writer writes: young ones from the tail, the others from the index, and when there is
//! no index to trust, from the journal and the snapshot themselves, slowly.

use std::sync::Arc;

use capstan_core::{Change, Payload};
use capstan_types::JobId;

use crate::codec::{self, kind};
use crate::follower::Places;
use crate::journal::{EndRule, Groups};
use crate::snapshot::{self, Part};
use crate::tail::{Phase, Sight, Tail};
use crate::{PayloadReader, StoreError};

/// Reads payloads of a [`crate::DiskStore`].
#[derive(Debug)]
pub(crate) struct DiskReader {
    tail: Arc<Tail>,
    places: Places,
}

/// A payload, or `None` where it is known to be removed.
type Known = Option<Arc<Payload>>;

impl DiskReader {
    pub(crate) const fn new(tail: Arc<Tail>, places: Places) -> Self {
        Self { tail, places }
    }

    fn look(&self, id: JobId) -> Result<Known, StoreError> {
        let (phase, index, committed) = match self.tail.sight(id) {
            Sight::Young(known) => return Ok(known),
            Sight::Older {
                phase,
                index,
                committed,
            } => (phase, index, committed),
        };
        if let Phase::CatchingUp(applied, until) = phase
            && let Some(known) = self.in_journal(id, applied, until)?
        {
            return Ok(known);
        }
        let found = index.map(|index| index.payload(id));
        match found {
            Some(Ok(known)) => return Ok(known),
            Some(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "payload is read from the journal"
                );
            }
            None => {}
        }
        self.without_index(id, committed)
    }

    /// What the records after `after`, up to `until`, say of the payload; `None` when nothing.
    fn in_journal(&self, id: JobId, after: u64, until: u64) -> Result<Option<Known>, StoreError> {
        let mut known = None;
        let journal = self.places.journal.clone();
        let mut groups = Groups::new(journal, after + 1, until, EndRule::Trust)?;
        while let Some(group) = groups.next()? {
            let records = codec::decode_changes(group.body)?;
            for change in records.into_iter().flat_map(|record| record.changes) {
                match change {
                    Change::PutPayload(of, payload) if of == id => known = Some(Some(payload)),
                    Change::RemoveJob(of) if of == id => known = Some(None),
                    Change::PutPayload(..)
                    | Change::RemoveJob(_)
                    | Change::PutJob(_)
                    | Change::PutNode(_)
                    | Change::RemoveNode(_)
                    | Change::PutSettings(_)
                    | Change::SetNextSeq(_)
                    | Change::SetNextAttempt(_) => {}
                }
            }
        }
        Ok(known)
    }

    fn without_index(&self, id: JobId, committed: u64) -> Result<Known, StoreError> {
        let key = codec::job_key(kind::PAYLOAD, id);
        let mut found = None;
        let mut base = 0;
        for last in snapshot::list(&*self.places.snapshots)? {
            let visited = snapshot::visit(
                &*self.places.snapshots,
                last,
                Part::Payloads,
                |entry, value| {
                    if entry == key {
                        found = Some(codec::decode_payload(value)?);
                    }
                    Ok(())
                },
            );
            // The journal reaches back to an older snapshot, when this one is damaged.
            if visited.is_ok() {
                base = last;
                break;
            }
            found = None;
        }
        let newer = self.in_journal(id, base, committed)?;
        Ok(newer.unwrap_or(found))
    }
}

impl PayloadReader for DiskReader {
    fn payload(&self, id: JobId) -> Result<Option<Arc<Payload>>, StoreError> {
        match self.look(id) {
            // The follower has just replaced what was being read.
            Err(StoreError::Missing { .. } | StoreError::Io { .. }) => self.look(id),
            other => other,
        }
    }
}
