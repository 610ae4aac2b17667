//! Modes and neighbours: instances (MIG) are what the scenario says, compute mode is the default one until it is set (for this process), and no
//! two cards share a link.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Handle, handle, put};
use crate::code::{Code, status};
use crate::scenario::Card;
use crate::source::{self, INSTANCE_STEP};

/// NVML_COMPUTEMODE_EXCLUSIVE_PROCESS.
const COMPUTE_MODE_MAX: c_uint = 3;

/// What was set, by the index of the card.
static COMPUTE_MODES: Mutex<BTreeMap<usize, c_uint>> = Mutex::new(BTreeMap::new());

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_int {
    let function = "nvmlDeviceGetMigMode";
    let mode = |card: &Card, _| Ok(c_uint::from(!card.mig.is_empty()));
    let told = put(function, device, current, mode);
    status(told.and_then(|()| put(function, device, pending, mode)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetMigMode(device: Handle, mode: c_uint, activation: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceSetMigMode",
        device,
        activation,
        |_, _| match mode {
            0 => Ok(0),
            _ => Err(Code::NotSupported),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetMaxMigDeviceCount",
        device,
        count,
        |card, _| Ok(card.mig.len() as c_uint),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    instance: c_uint,
    mig: *mut Handle,
) -> c_int {
    status(put(
        "nvmlDeviceGetMigDeviceHandleByIndex",
        device,
        mig,
        |card, index| match card.mig.get(instance as usize) {
            Some(_) => Ok(handle(index + (instance as usize + 1) * INSTANCE_STEP)),
            None => Err(Code::NotFound),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Handle, is_mig: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceIsMigDeviceHandle",
        device,
        is_mig,
        |_, index| Ok(c_uint::from(index >= INSTANCE_STEP)),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    mig: Handle,
    device: *mut Handle,
) -> c_int {
    status(put(
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
        mig,
        device,
        |_, index| match index >= INSTANCE_STEP {
            true => Ok(handle(index % INSTANCE_STEP)),
            false => Err(Code::InvalidArgument),
        },
    ))
}

/// Instances are numbered from 1, as those of real cards often are; each has one compute instance, number 0.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(mig: Handle, id: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetGpuInstanceId",
        mig,
        id,
        |_, index| match index / INSTANCE_STEP {
            0 => Err(Code::InvalidArgument),
            instance => Ok(instance as c_uint),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(mig: Handle, id: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetComputeInstanceId",
        mig,
        id,
        |_, index| match index / INSTANCE_STEP {
            0 => Err(Code::InvalidArgument),
            _ => Ok(0),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceOnSameBoard(one: Handle, other: Handle, same: *mut c_int) -> c_int {
    status(put("nvmlDeviceOnSameBoard", one, same, |_, _| {
        Ok(c_int::from(one == other))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkState(
    device: Handle,
    _link: c_uint,
    active: *mut c_uint,
) -> c_int {
    status(put("nvmlDeviceGetNvLinkState", device, active, |_, _| {
        Ok(0)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkVersion(
    device: Handle,
    _link: c_uint,
    version: *mut c_uint,
) -> c_int {
    status(put(
        "nvmlDeviceGetNvLinkVersion",
        device,
        version,
        |_, _| Err(Code::NotSupported),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    _device: Handle,
    _link: c_uint,
    _pci: *mut c_void,
) -> c_int {
    status(Err(Code::NotSupported))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeMode(device: Handle, mode: *mut c_uint) -> c_int {
    status(put("nvmlDeviceGetComputeMode", device, mode, |_, index| {
        Ok(lock(&COMPUTE_MODES).get(&index).copied().unwrap_or(0))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetComputeMode(device: Handle, mode: c_uint) -> c_int {
    let function = "nvmlDeviceSetComputeMode";
    status(super::index(device).and_then(|index| {
        source::with_card(function, index, |_| Ok(()))?;
        if mode > COMPUTE_MODE_MAX {
            return Err(Code::InvalidArgument);
        }
        lock(&COMPUTE_MODES).insert(index, mode);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetPersistenceMode(_device: Handle, _mode: c_uint) -> c_int {
    status(source::scenario("nvmlDeviceSetPersistenceMode").map(|_| ()))
}
