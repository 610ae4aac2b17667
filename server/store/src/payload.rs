//! Reading payloads while the writer writes: young ones from the tail, the others from where the index says they
//! are, and when there is no index to trust, by searching journal and snapshot, slowly.

use std::sync::Arc;

use capstan_core::Payload;
use capstan_types::JobId;

use crate::codec::{self, OnPayload, Place, PlaceFile, kind};
use crate::journal::{self, EndRule, Groups};
use crate::places::Places;
use crate::snapshot::{self, Kind, Part};
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
        let place = index.map(|index| index.payload_place(id));
        match place {
            Some(Ok(None)) => return Ok(None),
            Some(Ok(Some(place))) => {
                return read_place(&self.places, place)
                    .and_then(|value| codec::decode_payload(&value))
                    .map(Some);
            }
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
            for (change, range) in codec::decode_ranged(group.body)?.into_iter().flatten() {
                match codec::on_payload(&change) {
                    OnPayload::Put(of, _) if of == id => {
                        let payload = range.map(|range| codec::decode_payload(&group.body[range]));
                        known = Some(payload.transpose()?);
                    }
                    OnPayload::Remove(of) if of == id => known = Some(None),
                    OnPayload::Put(..) | OnPayload::Remove(_) | OnPayload::Nothing => {}
                }
            }
        }
        Ok(known)
    }

    fn without_index(&self, id: JobId, committed: u64) -> Result<Known, StoreError> {
        let key = codec::job_key(kind::PAYLOAD, id);
        let mut found = None;
        let mut base = 0;
        for last in snapshot::list(&*self.places.snapshots, Kind::Snapshot)? {
            let visited = snapshot::visit(
                &*self.places.snapshots,
                (Kind::Snapshot, last),
                Part::Payloads,
                |entry, value, _| {
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

/// Reads the bytes of a payload.
pub(crate) fn read_place(places: &Places, place: Place) -> Result<Vec<u8>, StoreError> {
    let (folder, name) = match place.file {
        PlaceFile::Segment(number) => (&places.journal, journal::name(number)),
        PlaceFile::Snapshot(last) => (&places.snapshots, Kind::Snapshot.name(last)),
    };
    let path = folder.path().join(&name);
    let medium = folder.open(&name).map_err(StoreError::io("open", &path))?;
    let mut value = vec![0; place.bytes as usize];
    let mut have = 0;
    while have < value.len() {
        let read = medium.read_at(place.at + have as u64, &mut value[have..]);
        match read.map_err(StoreError::io("read", &path))? {
            0 => break,
            count => have += count,
        }
    }
    match crc32c::crc32c(&value) == place.crc {
        true => Ok(value),
        false => Err(StoreError::Damaged {
            path,
            offset: place.at,
            problem: "a payload has a wrong checksum",
            remedy: "delete the job, or restore this file from a backup",
        }),
    }
}
