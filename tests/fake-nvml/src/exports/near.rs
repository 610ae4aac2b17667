//! What a card can, and what it is near to.

use std::ffi::{c_int, c_uint, c_ulong};

use super::{Handle, index, put, write};
use crate::code::{Code, status};
use crate::scenario::Card;
use crate::source;

/// NVML_P2P_CAPS_INDEX_NVLINK.
const NVLINK: c_uint = 2;
/// NVML_P2P_STATUS_OK and NVML_P2P_STATUS_NOT_SUPPORTED.
const P2P_OK: c_uint = 0;
const P2P_NOT_SUPPORTED: c_uint = 5;
/// NVML_TOPOLOGY_INTERNAL, _NODE and _SYSTEM.
const INTERNAL: c_uint = 0;
const NODE: c_uint = 40;
const SYSTEM: c_uint = 50;
/// Bits of a word of a set.
const WORD_BITS: usize = c_ulong::BITS as usize;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Handle,
    major: *mut c_int,
    minor: *mut c_int,
) -> c_int {
    let function = "nvmlDeviceGetCudaComputeCapability";
    status(
        put(function, device, major, |card, _| {
            Ok(card.compute_capability[0])
        })
        .and_then(|()| {
            put(function, device, minor, |card, _| {
                Ok(card.compute_capability[1])
            })
        }),
    )
}

/// No card prefers a core: the whole set is the ideal one.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCpuAffinity(device: Handle, words: c_uint, set: *mut c_ulong) -> c_int {
    status(fill(
        "nvmlDeviceGetCpuAffinity",
        device,
        (words, set),
        |_| c_ulong::MAX,
    ))
}

/// The one memory node that the scenario names.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryAffinity(
    device: Handle,
    words: c_uint,
    set: *mut c_ulong,
    _scope: c_uint,
) -> c_int {
    let function = "nvmlDeviceGetMemoryAffinity";
    status(index(device).and_then(|index| {
        let node = source::with_card(function, index, |card| Ok(card.numa_node as usize))?;
        fill(function, device, (words, set), |word| {
            if word == node / WORD_BITS {
                1 << (node % WORD_BITS)
            } else {
                0
            }
        })
    }))
}

fn fill(
    function: &str,
    device: Handle,
    (words, set): (c_uint, *mut c_ulong),
    word: impl Fn(usize) -> c_ulong,
) -> Result<(), Code> {
    let index = index(device)?;
    source::with_card(function, index, |_| {
        if set.is_null() || words == 0 {
            return Err(Code::InvalidArgument);
        }
        // SAFETY: the caller's set has `words` words by NVML's contract.
        let set = unsafe { std::slice::from_raw_parts_mut(set, words as usize) };
        for (at, place) in set.iter_mut().enumerate() {
            *place = word(at);
        }
        Ok(())
    })
}

/// NVLink between cards of one number; of the other ways, none.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetP2PStatus(
    one: Handle,
    other: Handle,
    way: c_uint,
    place: *mut c_uint,
) -> c_int {
    status(
        both("nvmlDeviceGetP2PStatus", one, other, |one, other| {
            let is_linked = one.nvlink.is_some() && one.nvlink == other.nvlink;
            match (way, is_linked) {
                (NVLINK, true) => P2P_OK,
                (_, _) => P2P_NOT_SUPPORTED,
            }
        })
        .and_then(|answer| write(place, answer)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    one: Handle,
    other: Handle,
    place: *mut c_uint,
) -> c_int {
    let function = "nvmlDeviceGetTopologyCommonAncestor";
    status(
        both(function, one, other, |one, other| {
            if one.uuid == other.uuid {
                return INTERNAL;
            }
            match one.numa_node == other.numa_node {
                true => NODE,
                false => SYSTEM,
            }
        })
        .and_then(|answer| write(place, answer)),
    )
}

/// What the scenario says of two cards.
fn both(
    function: &str,
    one: Handle,
    other: Handle,
    answer: impl FnOnce(&Card, &Card) -> c_uint,
) -> Result<c_uint, Code> {
    let (one, other) = (index(one)?, index(other)?);
    let other = source::with_card(function, other, |card| Ok(card.clone()))?;
    source::with_card(function, one, |card| Ok(answer(card, &other)))
}
