//! Event sets: XID errors that a scenario gains while somebody listens.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Handle, handle, index, put, write};
use crate::code::{Code, status};
use crate::source;

/// nvmlEventTypeXidCriticalError, the one kind that is simulated.
const XID_CRITICAL_ERROR: c_ulonglong = 8;

/// How often a waiting caller looks at the scenario.
const POLL: Duration = Duration::from_millis(200);

/// Sets that exist at once; more is a leak in the caller.
const SETS_MAX: usize = 1024;

/// `nvmlEventData_t`.
#[repr(C)]
struct EventData {
    device: Handle,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// Sets by number, each with the cards it listens to and how many XIDs of each were already delivered.
type Sets = BTreeMap<usize, BTreeMap<usize, usize>>;

static SETS: Mutex<Sets> = Mutex::new(BTreeMap::new());

fn sets() -> MutexGuard<'static, Sets> {
    SETS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: *mut *mut c_void) -> c_int {
    status(source::scenario("nvmlEventSetCreate").and_then(|_| {
        let mut sets = sets();
        if sets.len() >= SETS_MAX {
            return Err(Code::Memory);
        }
        let number = sets.last_key_value().map_or(1, |(last, _)| last + 1);
        write(set, std::ptr::without_provenance_mut(number))?;
        sets.insert(number, BTreeMap::new());
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: *mut c_void) -> c_int {
    status(
        sets()
            .remove(&set.addr())
            .map(|_| ())
            .ok_or(Code::InvalidArgument),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: *mut c_ulonglong) -> c_int {
    status(put(
        "nvmlDeviceGetSupportedEventTypes",
        device,
        types,
        |_, _| Ok(XID_CRITICAL_ERROR),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(
    device: Handle,
    types: c_ulonglong,
    set: *mut c_void,
) -> c_int {
    status(register(device, types, set))
}

fn register(device: Handle, types: c_ulonglong, set: *mut c_void) -> Result<(), Code> {
    if types & !XID_CRITICAL_ERROR != 0 {
        return Err(Code::NotSupported);
    }
    let card = index(device)?;
    let past = source::with_card("nvmlDeviceRegisterEvents", card, |card| {
        Ok(card.xid_events.len())
    })?;
    sets()
        .get_mut(&set.addr())
        .ok_or(Code::InvalidArgument)?
        .insert(card, past);
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: *mut c_void,
    data: *mut EventData,
    timeout_ms: c_uint,
) -> c_int {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
    loop {
        match next_event(set.addr()) {
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) => return status(Err(Code::Timeout)),
            Ok(Some(event)) => return status(write(data, event)),
            Err(code) => return status(Err(code)),
        }
    }
}

fn next_event(set: usize) -> Result<Option<EventData>, Code> {
    let scenario = source::scenario("nvmlEventSetWait_v2")?;
    let mut sets = sets();
    let listening = sets.get_mut(&set).ok_or(Code::InvalidArgument)?;
    for (card, delivered) in listening {
        let of_card = scenario.cards.get(*card);
        let Some((of_card, xid)) =
            of_card.and_then(|it| Some((it, it.xid_events.get(*delivered)?)))
        else {
            continue;
        };
        *delivered += 1;
        // As their ids are: counted from 1, with one compute instance each.
        let part = of_card.xid_instance.map(|place| (place + 1, 0));
        let (gpu_instance, compute_instance) = part.unwrap_or((c_uint::MAX, c_uint::MAX));
        return Ok(Some(EventData {
            device: handle(*card),
            event_type: XID_CRITICAL_ERROR,
            event_data: *xid,
            gpu_instance,
            compute_instance,
        }));
    }
    Ok(None)
}
