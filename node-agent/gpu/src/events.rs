//! What cards say unasked: errors of the driver's list and memory errors, heard on a thread of its own, because waiting for
//! an event blocks in the driver. When the driver fails or other cards appear, it listens anew.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_supervisor::ports::{GpuEvent, GpuListener};
use capstan_types::CardId;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};

use crate::part::{self, Told};
use crate::{CARDS_MAX, card};

/// How long one wait in the driver takes at most; a listener that went away is noticed then.
const WAIT_MS: u32 = 5_000;
/// How long a driver that does not work is left alone, and how long it was listened to at least before that starts over.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Starts the thread. Without one nothing is heard, which is said in the log.
pub(crate) fn listen(library: PathBuf, listener: GpuListener) {
    let thread = std::thread::Builder::new().name("nvml-events".to_owned());
    let started = thread.spawn(move || {
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            if hear(&library, &listener) == Heard::Enough {
                return;
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to hear of card errors");
    }
}

/// Why listening ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// The listener wants no more.
    Enough,
    /// The driver is not there, failed, or has other cards now.
    Interrupted,
}

fn hear(library: &Path, listener: &GpuListener) -> Heard {
    let opened = Nvml::builder().lib_path(library.as_os_str()).init();
    let Ok(nvml) = opened else {
        return Heard::Interrupted;
    };
    let cards = uuids(&nvml);
    let Some(set) = register(&nvml, cards.len()) else {
        return Heard::Interrupted;
    };
    loop {
        match part::wait(&nvml, &set, WAIT_MS) {
            Ok(told) => {
                let event = |card| match told.xid {
                    Some(xid) => GpuEvent::Xid { card, xid },
                    None => GpuEvent::Uncorrected { card },
                };
                let cards = concerned(&nvml, &told);
                let unnamed = cards.is_empty().then_some(None);
                let mut events = cards.into_iter().map(Some).chain(unnamed).map(event);
                if !events.all(listener.as_ref()) {
                    return Heard::Enough;
                }
            }
            Err(NvmlError::Timeout) => {
                if uuids(&nvml) != cards {
                    return Heard::Interrupted;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the driver tells no events");
                return Heard::Interrupted;
            }
        }
    }
}

/// Whom an event is about: the card, or of a divided card the parts that the driver names, else all of them.
fn concerned(nvml: &Nvml, told: &Told<'_>) -> Vec<CardId> {
    let id = |device: &Device<'_>| device.uuid().ok().and_then(card::card_id);
    if !card::is_divided(&told.device).unwrap_or(false) {
        return id(&told.device).into_iter().collect();
    }
    let (gpu, compute) = told.part;
    let is_meant = |instance: &Device<'_>| match part::numbers(nvml, instance) {
        Some(own) => {
            gpu.is_none_or(|gpu| gpu == own.0) && compute.is_none_or(|compute| compute == own.1)
        }
        None => true,
    };
    let instances = card::instances(&told.device).map(|(_, instance)| instance);
    let meant = instances.filter(is_meant);
    meant.filter_map(|instance| id(&instance)).collect()
}

/// The cards in index order; one that does not answer is still counted.
fn uuids(nvml: &Nvml) -> Vec<Option<CardId>> {
    let count = nvml.device_count().unwrap_or_default().min(CARDS_MAX);
    let uuid = |index| {
        let card = nvml.device_by_index(index).ok()?;
        card::card_id(card.uuid().ok()?)
    };
    (0..count).map(uuid).collect()
}

/// One set for all cards; `None` when not one of them tells anything.
fn register(nvml: &Nvml, count: usize) -> Option<EventSet<'_>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR;
    let mut set = nvml.create_event_set().ok()?;
    let mut is_any = false;
    for index in 0..count as u32 {
        let Ok(card) = nvml.device_by_index(index) else {
            continue;
        };
        let types = supported(&card) & wanted;
        if types.is_empty() {
            continue;
        }
        // A failed registration consumes the set.
        set = card.register_events(types, set).ok()?;
        is_any = true;
    }
    is_any.then_some(set)
}

fn supported(card: &Device<'_>) -> EventTypes {
    card.supported_event_types()
        .unwrap_or_else(|_| EventTypes::empty())
}
