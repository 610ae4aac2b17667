//! What a card is and how it does: names, addresses, memory, load, temperature, power, errors.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::sync::Mutex;

use super::mode::lock;
use super::{Handle, index, put, write_text};
use crate::code::{Code, status};
use crate::scenario::Card;
use crate::source;

/// `nvmlPciInfo_t`.
#[repr(C)]
struct PciInfo {
    bus_id_legacy: [u8; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [u8; 32],
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// The version word that a caller must put into `Memory`: NVML_STRUCT_VERSION(Memory, 2).
const MEMORY_VERSION: c_uint = (size_of::<Memory>() | (2 << 24)) as c_uint;

/// `nvmlUtilization_t`.
#[repr(C)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: Handle, place: *mut c_uint) -> c_int {
    status(put("nvmlDeviceGetIndex", device, place, |_, index| {
        Ok(index as c_uint)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, place: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetMinorNumber",
        device,
        place,
        |card, index| Ok(card.minor.unwrap_or(index as c_uint)),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(device: Handle, name: *mut c_char, length: c_uint) -> c_int {
    status(index(device).and_then(|index| {
        source::with_card("nvmlDeviceGetName", index, |card| {
            write_text(&card.name, name, length)
        })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: *mut c_char, length: c_uint) -> c_int {
    status(index(device).and_then(|index| {
        source::with_card("nvmlDeviceGetUUID", index, |card| {
            write_text(&card.uuid, uuid, length)
        })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, place: *mut PciInfo) -> c_int {
    status(put(
        "nvmlDeviceGetPciInfo_v3",
        device,
        place,
        |card, index| {
            let address = pci_address(card, index);
            let (domain, bus, number) = pci_numbers(&address).ok_or(Code::Unknown)?;
            Ok(PciInfo {
                bus_id_legacy: padded(address.get(4..).unwrap_or_default()),
                domain,
                bus,
                device: number,
                pci_device_id: 0x20B0_10DE, // An A100's, so that vendor look-ups find NVIDIA.
                pci_subsystem_id: 0,
                bus_id: padded(&address),
            })
        },
    ))
}

/// A card's address, by its index when the scenario names none.
pub(super) fn pci_address(card: &Card, index: usize) -> String {
    card.pci_address
        .clone()
        .unwrap_or_else(|| format!("00000000:{:02X}:00.0", index + 1))
}

fn pci_numbers(address: &str) -> Option<(u32, u32, u32)> {
    let mut words = address
        .split([':', '.'])
        .map(|word| u32::from_str_radix(word, 16).ok());
    Some((words.next()??, words.next()??, words.next()??))
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let kept = text.len().min(N - 1);
    bytes[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    bytes
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, place: *mut Memory) -> c_int {
    // SAFETY: a pointer that is not null points to the caller's struct, whose version the caller has set.
    if !place.is_null() && unsafe { (*place).version } != MEMORY_VERSION {
        return status(Err(Code::ArgumentVersionMismatch));
    }
    status(put(
        "nvmlDeviceGetMemoryInfo_v2",
        device,
        place,
        |card, _| {
            let (total, used) = (card.memory_total(), card.memory_used());
            Ok(Memory {
                version: MEMORY_VERSION,
                total,
                reserved: 0,
                free: total - used,
                used,
            })
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, place: *mut Utilization) -> c_int {
    status(put(
        "nvmlDeviceGetUtilizationRates",
        device,
        place,
        |card, _| {
            Ok(Utilization {
                gpu: card.utilization_at(now_ms()),
                memory: card.memory_utilization_percent,
            })
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    sensor: c_uint,
    place: *mut c_uint,
) -> c_int {
    status(put(
        "nvmlDeviceGetTemperature",
        device,
        place,
        |card, _| match sensor {
            0 => Ok(card.temperature_celsius),
            _ => Err(Code::InvalidArgument),
        },
    ))
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Handle,
    threshold: c_uint,
    place: *mut c_uint,
) -> c_int {
    status(put(
        "nvmlDeviceGetTemperatureThreshold",
        device,
        place,
        |card, _| match threshold {
            0 => Ok(card.shutdown_celsius),
            1..=8 => Err(Code::NotSupported),
            _ => Err(Code::InvalidArgument),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, place: *mut c_uint) -> c_int {
    status(put("nvmlDeviceGetPowerUsage", device, place, |card, _| {
        Ok(card.power_milliwatts)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, place: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetEnforcedPowerLimit",
        device,
        place,
        |card, _| Ok(card.power_limit_milliwatts),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFanSpeed_v2(device: Handle, fan: c_uint, place: *mut c_uint) -> c_int {
    status(put(
        "nvmlDeviceGetFanSpeed_v2",
        device,
        place,
        |card, _| match fan {
            0 => Ok(card.fan_percent),
            _ => Err(Code::InvalidArgument),
        },
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    kind: c_uint,
    since: c_uint,
    place: *mut c_ulonglong,
) -> c_int {
    status(put(
        "nvmlDeviceGetTotalEccErrors",
        device,
        place,
        |card, index| match kind {
            _ if lock(&CLEARED).contains(&(index, since)) => Ok(0),
            0 => Ok(card.ecc_corrected),
            1 => Ok(card.ecc_uncorrected),
            _ => Err(Code::InvalidArgument),
        },
    ))
}

/// Card and kind of counts (since boot, or ever) that were set to zero, for this process.
static CLEARED: Mutex<BTreeSet<(usize, c_uint)>> = Mutex::new(BTreeSet::new());

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceClearEccErrorCounts(device: Handle, since: c_uint) -> c_int {
    let function = "nvmlDeviceClearEccErrorCounts";
    status(index(device).and_then(|index| {
        source::with_card(function, index, |_| Ok(()))?;
        lock(&CLEARED).insert((index, since));
        Ok(())
    }))
}
