//! The warden of this node's cards: which of them may be lent, by what was seen on them, what they say of themselves and
//! what errors the driver reports. It knows cards by UUID only, since indices change, and remembers over restarts of the
//! agent; a reboot resets cards, and what was known of them before it is forgotten.

mod record;
mod words;
mod xid;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use capstan_types::CardId;
use serde::{Deserialize, Serialize};

use record::{CardRecord, Surroundings};
pub use record::{Trouble, TroubleKind};
pub use words::strangers;
pub use xid::{XidClass, classify};

use crate::ports::{CardProcess, GpuUse};

/// The file in the state folder.
const FILE: &str = "cards.json";
/// Cards that are remembered; more than a node has had between two reboots.
const CARDS_MAX: usize = 512;
/// Longest file read back, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What was found on a card by one look at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardLook {
    /// Which.
    pub card: CardId,
    /// What is on it that should not be there, in words; empty when it is clean.
    pub dirt: String,
    /// Why it is out of use.
    pub trouble: Option<Trouble>,
}

/// What is asked about the surroundings of cards.
pub trait Tenants {
    /// Whether an attempt has the card.
    fn is_lent(&self, card: &CardId) -> bool;
    /// Whether the process belongs to an attempt that has the card.
    fn is_tenant(&self, card: &CardId, pid: u32) -> bool;
}

/// All cards of this node. Shared by the heartbeat, the keepers and whoever hears errors.
#[derive(Debug)]
pub struct Warden {
    file: PathBuf,
    boot: String,
    cards: Mutex<Cards>,
}

#[derive(Debug, Default)]
struct Cards {
    known: BTreeMap<CardId, CardRecord>,
    /// Cards whose attempt has ended and is being cleared up.
    settling: BTreeSet<CardId>,
}

/// As it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    boot: String,
    cards: BTreeMap<String, CardRecord>,
}

impl Warden {
    /// Reads what was known in `state_folder` since the boot of this id. A file that cannot be read is as none.
    #[must_use]
    pub fn open(state_folder: &Path, boot: &str) -> Self {
        let file = state_folder.join(FILE);
        let kept = read(&file)
            .filter(|kept| kept.boot == boot)
            .unwrap_or_default();
        let known = kept.cards.into_iter().take(CARDS_MAX);
        let known = known.map(|(card, record)| (CardId::from(card), record));
        Self {
            file,
            boot: boot.to_owned(),
            cards: Mutex::new(Cards {
                known: known.collect(),
                settling: BTreeSet::new(),
            }),
        }
    }

    /// Takes in a look at all cards, and says of each that is known what is to be told. Blocks for a moment.
    pub fn look(&self, uses: &[GpuUse], tenants: &impl Tenants, now_ms: u64) -> Vec<CardLook> {
        let mut cards = self.lock();
        let before = kept(&self.boot, &cards);
        let mut looks = Vec::new();
        for seen in uses {
            let is_stranger = |process: &&CardProcess| !tenants.is_tenant(&seen.uuid, process.pid);
            let foreign: Vec<CardProcess> =
                seen.processes.iter().filter(is_stranger).copied().collect();
            let is_settling = cards.settling.contains(&seen.uuid);
            let around = Surroundings {
                // What is left of an attempt that is being cleared up is its keeper's.
                strangers: if is_settling {
                    String::new()
                } else {
                    strangers(&foreign)
                },
                is_lent: is_settling || tenants.is_lent(&seen.uuid),
                now_ms,
            };
            let Some(record) = cards.record(&seen.uuid) else {
                continue;
            };
            let dirt = record.look(seen, &around);
            looks.push(CardLook {
                card: seen.uuid.clone(),
                dirt,
                trouble: record.trouble.clone(),
            });
        }
        miss(&mut cards, uses, now_ms, &mut looks);
        self.keep_if_changed(&before, &cards);
        looks
    }

    /// Whether an attempt's card is as it was before: nobody but tenants on it, its memory at the base line.
    #[must_use]
    pub fn is_clean(&self, seen: &GpuUse, tenants: &impl Tenants) -> bool {
        let is_tenant = |process: &CardProcess| tenants.is_tenant(&seen.uuid, process.pid);
        if !seen.processes.iter().all(is_tenant) {
            return false;
        }
        let cards = self.lock();
        let default = CardRecord::default();
        let record = cards.known.get(&seen.uuid).unwrap_or(&default);
        tenants.is_lent(&seen.uuid) || record.is_at_base_line(seen.memory_used_bytes)
    }

    /// The attempt that had these cards has ended: until [`Self::settled`] what is on them is its keeper's to judge.
    pub fn settling(&self, all: &BTreeSet<CardId>) {
        self.lock().settling.extend(all.iter().cloned());
    }

    /// The keeper is done with these cards.
    pub fn settled(&self, all: &BTreeSet<CardId>) {
        self.lock().settling.retain(|card| !all.contains(card));
    }

    /// What an attempt left on the card could not be removed.
    pub fn quarantine(&self, card: &CardId, evidence: &str, now_ms: u64) {
        tracing::error!(%card, evidence, "card quarantined");
        self.change(card, |record| record.quarantine(one_line(evidence), now_ms));
    }

    /// Takes in an error that the driver reported; true when it took the card out of use.
    pub fn hear_xid(&self, card: &CardId, xid: u64, now_ms: u64) -> bool {
        match classify(xid) {
            (XidClass::Failure, meaning) => {
                tracing::error!(%card, xid, meaning, "card failed");
                let reason = format!("XID {xid}: {meaning}");
                self.change(card, |record| record.drain(reason, false, now_ms));
                true
            }
            (XidClass::Application | XidClass::Notice, meaning) => {
                tracing::warn!(%card, xid, meaning, "error on a card");
                false
            }
        }
    }

    /// Takes in that the card's memory had an error that could not be corrected.
    pub fn hear_uncorrected(&self, card: &CardId, now_ms: u64) {
        tracing::error!(%card, "uncorrectable memory error");
        let reason = "uncorrectable memory error".to_owned();
        self.change(card, |record| record.drain(reason, false, now_ms));
    }

    /// All cards are in use again, as far as the next look finds nothing. Returns how many were not.
    pub fn release(&self) -> usize {
        let mut cards = self.lock();
        let before = kept(&self.boot, &cards);
        let mut released = 0;
        cards.known.retain(|card, record| {
            let was_out = record.trouble.is_some();
            if was_out {
                tracing::info!(%card, "released");
                released += 1;
                record.release();
            }
            // One that was taken out of the machine comes back as a new one, if it does.
            !(was_out && record.idle_bytes.is_none())
        });
        self.keep_if_changed(&before, &cards);
        released
    }

    fn change(&self, card: &CardId, change: impl FnOnce(&mut CardRecord)) {
        let mut cards = self.lock();
        let before = kept(&self.boot, &cards);
        if let Some(record) = cards.record(card) {
            change(record);
        }
        self.keep_if_changed(&before, &cards);
    }

    fn lock(&self) -> MutexGuard<'_, Cards> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written under the lock, so that the file never goes back in time.
    fn keep_if_changed(&self, before: &str, cards: &Cards) {
        let now = kept(&self.boot, cards);
        if now == before {
            return;
        }
        if let Err(error) = write(&self.file, &now) {
            tracing::warn!(%error, file = %self.file.display(), "what is known of cards cannot be kept");
        }
    }
}

impl Cards {
    /// The record of a card, made when there is room.
    fn record(&mut self, card: &CardId) -> Option<&mut CardRecord> {
        if !self.known.contains_key(card) && self.known.len() >= CARDS_MAX {
            return None;
        }
        Some(self.known.entry(card.clone()).or_default())
    }
}

/// Cards that are known and did not answer. Instances of a divided card come and go by order.
fn miss(cards: &mut Cards, uses: &[GpuUse], now_ms: u64, looks: &mut Vec<CardLook>) {
    let is_seen = |card: &CardId| uses.iter().any(|seen| seen.uuid == *card);
    cards
        .known
        .retain(|card, _| is_seen(card) || !card.as_str().starts_with("MIG-"));
    for (card, record) in &mut cards.known {
        if is_seen(card) {
            continue;
        }
        if record.miss(uses.is_empty(), now_ms) {
            tracing::error!(%card, "card lost");
        }
        looks.push(CardLook {
            card: card.clone(),
            dirt: String::new(),
            trouble: record.trouble.clone(),
        });
    }
    // One that does not answer yet is not said to be clean.
    looks.retain(|look| {
        look.trouble.is_some()
            || !cards
                .known
                .get(&look.card)
                .is_some_and(CardRecord::is_missing)
    });
}

fn kept(boot: &str, cards: &Cards) -> String {
    let records = cards.known.iter();
    let kept = Kept {
        boot: boot.to_owned(),
        cards: records
            .map(|(card, record)| (card.to_string(), record.clone()))
            .collect(),
    };
    serde_json::to_string(&kept).unwrap_or_default()
}

fn read(file: &Path) -> Option<Kept> {
    let size = fs::metadata(file).ok()?.len();
    if size > FILE_BYTES_MAX {
        return None;
    }
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(new, path)
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests;
