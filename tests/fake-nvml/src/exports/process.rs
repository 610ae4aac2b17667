//! The processes that compute on a card.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

use super::{Handle, index, put, write};
use crate::code::{Code, status};
use crate::scenario::Card;
use crate::source;

/// `nvmlProcessInfo_v2_t`, which the `_v3` functions use.
#[repr(C)]
struct ProcessInfo {
    pid: c_uint,
    used_memory: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    processes: *mut ProcessInfo,
) -> c_int {
    status(index(device).and_then(|index| {
        source::with_card("nvmlDeviceGetComputeRunningProcesses_v3", index, |card| {
            list(card, count, processes)
        })
    }))
}

/// No simulated process is MPS's.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    _processes: *mut ProcessInfo,
) -> c_int {
    status(put(
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        device,
        count,
        |_, _| Ok(0),
    ))
}

/// Load by process is not simulated.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    _device: Handle,
    _samples: *mut c_void,
    count: *mut c_uint,
    _last_seen: c_ulonglong,
) -> c_int {
    status(
        source::scenario("nvmlDeviceGetProcessUtilization")
            .and_then(|_| write(count, 0))
            .and(Err(Code::NotFound)),
    )
}

/// NVML's protocol: the caller says how much room it has, and learns how much it needs.
fn list(card: &Card, count: *mut c_uint, processes: *mut ProcessInfo) -> Result<(), Code> {
    if count.is_null() {
        return Err(Code::InvalidArgument);
    }
    // SAFETY: not null, and the caller has set it.
    let room = unsafe { count.read() } as usize;
    write(count, card.processes.len() as c_uint)?;
    if room < card.processes.len() || (processes.is_null() && !card.processes.is_empty()) {
        return Err(Code::InsufficientSize);
    }
    for (at, process) in card.processes.iter().enumerate() {
        let info = ProcessInfo {
            pid: process.pid,
            used_memory: process.memory_mib << 20,
            gpu_instance: c_uint::MAX, // "Not a MIG instance."
            compute_instance: c_uint::MAX,
        };
        // SAFETY: the caller has room for `room` entries, and `at` is smaller.
        unsafe { processes.add(at).write(info) };
    }
    Ok(())
}
