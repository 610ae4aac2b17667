//! One card: what must be known of it before it may be lent, and what may stay unknown.

use capstan_supervisor::ports::{CardDevice, CardProcess, GpuCard, GpuDetail, GpuHealth, GpuUse};
use capstan_types::CardId;
use nvml_wrapper::enum_wrappers::device::{
    ComputeMode, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::{CudaComputeCapability, FieldId};
use nvml_wrapper::{Device, Nvml};

use crate::problem::Problem;

/// NVML's own limit of a UUID's text.
const UUID_BYTES_MAX: usize = 96;

/// Instances of a divided card are numbered behind all whole cards: 100 and up for card 0, 200 and up for card 1.
const INSTANCES_PER_CARD: u32 = 100;

/// The cards behind index `index`: the card itself, or the instances that it is divided into (MIG).
pub(crate) fn behind(nvml: &Nvml, index: u32) -> Result<Vec<GpuCard>, Problem> {
    let lost = |error| Problem::Card { index, error };
    let device = nvml.device_by_index(index).map_err(lost)?;
    if !is_divided(&device).map_err(lost)? {
        return describe(nvml, index).map(|card| vec![card]);
    }
    let instances: Vec<GpuCard> = instances(&device)
        .filter_map(|(at, instance)| {
            let uuid = card_id(instance.uuid().ok()?)?;
            Some(GpuCard {
                uuid,
                index: (index + 1) * INSTANCES_PER_CARD + at,
                model: instance
                    .name()
                    .map_or_else(|_| "MIG instance".to_owned(), |name| printable(&name)),
                memory_bytes: instance.memory_info().map_or(0, |memory| memory.total),
                pci_address: device
                    .pci_info()
                    .map_or_else(|_| String::new(), |pci| printable(&pci.bus_id)),
                compute: compute(&device),
                numa_node: crate::near::numa_node(&device),
                island: 0,
                device: crate::part::numbers(nvml, &instance).and_then(|part| {
                    let minor = device.minor_number().ok()?;
                    let part = Some(part);
                    Some(CardDevice { minor, part })
                }),
            })
        })
        .collect();
    match instances.is_empty() {
        true => Err(Problem::Mig { index }),
        false => Ok(instances),
    }
}

pub(crate) fn is_divided(device: &Device<'_>) -> Result<bool, NvmlError> {
    let mode = optional(device.mig_mode().map(Some))?;
    Ok(mode.is_some_and(|mode| mode.current != 0))
}

/// The instances that are there; places between them may be empty.
pub(crate) fn instances<'nvml>(
    device: &Device<'nvml>,
) -> impl Iterator<Item = (u32, Device<'nvml>)> {
    let places = device.mig_device_count().unwrap_or_default();
    let places = 0..places.min(INSTANCES_PER_CARD);
    places.filter_map(|at| Some((at, device.mig_device_by_index(at).ok()?)))
}

/// What a card is. UUID, place and MIG mode have to be known; a card that keeps its name, address or memory to
/// itself (unified memory has no size of its own) is still a card.
pub(crate) fn describe(nvml: &Nvml, index: u32) -> Result<GpuCard, Problem> {
    let lost = |error| Problem::Card { index, error };
    let device = nvml.device_by_index(index).map_err(lost)?;
    let uuid = device.uuid().map_err(lost)?;
    let model = optional(device.name().map(Some)).map_err(lost)?;
    let pci = optional(device.pci_info().map(Some)).map_err(lost)?;
    let memory = optional(device.memory_info().map(Some)).map_err(lost)?;
    Ok(GpuCard {
        uuid: card_id(uuid).ok_or(Problem::NoUuid { index })?,
        index,
        model: model.map_or_else(|| "unknown".to_owned(), |name| printable(&name)),
        memory_bytes: memory.map_or(0, |memory| memory.total),
        pci_address: pci.map_or_else(String::new, |pci| printable(&pci.bus_id)),
        compute: compute(&device),
        numa_node: crate::near::numa_node(&device),
        island: 0,
        device: device
            .minor_number()
            .ok()
            .map(|minor| CardDevice { minor, part: None }),
    })
}

/// Compute capability, as far as the driver says.
fn compute(device: &Device<'_>) -> Option<(u32, u32)> {
    let CudaComputeCapability { major, minor } = device.cuda_compute_capability().ok()?;
    Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
}

/// How much is asked of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Load, memory, power, processes.
    Load,
    /// All that is told.
    Whole,
}

/// What a card does. Load, temperature and power may stay unknown; its memory and processes tell whether it is
/// clean, so a card that fails to say these is left out.
pub(crate) fn usage(nvml: &Nvml, index: u32, depth: Depth) -> Result<Vec<GpuUse>, Problem> {
    let lost = |error| Problem::Card { index, error };
    let device = nvml.device_by_index(index).map_err(lost)?;
    if !is_divided(&device).map_err(lost)? {
        return whole_usage(&device, index, depth).map(|usage| vec![usage]);
    }
    // Load is measured of whole cards only; heat, power and health are the card's.
    let parent = (
        optional(device.temperature(TemperatureSensor::Gpu)).map_err(lost)?,
        match depth {
            Depth::Load => GpuHealth::default(),
            Depth::Whole => health(&device),
        },
    );
    let usage = |instance: Device<'_>| {
        Some(GpuUse {
            uuid: card_id(instance.uuid().ok()?)?,
            utilization_percent: 0,
            memory_used_bytes: instance.memory_info().ok()?.used,
            temperature_celsius: parent.0,
            power_milliwatts: 0,
            processes: processes(&instance).ok()?,
            detail: GpuDetail::default(),
            health: parent.1,
        })
    };
    let uses = instances(&device).filter_map(|(_, instance)| usage(instance));
    Ok(uses.collect())
}

fn whole_usage(device: &Device<'_>, index: u32, depth: Depth) -> Result<GpuUse, Problem> {
    let lost = |error| Problem::Card { index, error };
    let uuid = device.uuid().map_err(lost)?;
    Ok(GpuUse {
        uuid: card_id(uuid).ok_or(Problem::NoUuid { index })?,
        utilization_percent: optional(device.utilization_rates().map(|load| load.gpu.min(100)))
            .map_err(lost)?,
        memory_used_bytes: optional(device.memory_info().map(|memory| memory.used))
            .map_err(lost)?,
        temperature_celsius: optional(device.temperature(TemperatureSensor::Gpu)).map_err(lost)?,
        power_milliwatts: optional(device.power_usage()).map_err(lost)?,
        processes: optional(processes(device)).map_err(lost)?,
        detail: match depth {
            Depth::Load => GpuDetail::default(),
            Depth::Whole => detail(device),
        },
        health: match depth {
            Depth::Load => GpuHealth::default(),
            Depth::Whole => health(device),
        },
    })
}

/// `NVML_FI_DEV_REMAPPED_PENDING` and `NVML_FI_DEV_REMAPPED_FAILURE` of nvml.h.
const REMAPPED_PENDING: u32 = 144;
const REMAPPED_FAILURE: u32 = 145;

/// Cards of before Ampere retire pages, later ones remap rows; what a card does not have it does not answer.
fn health(device: &Device<'_>) -> GpuHealth {
    let fields = device.field_values_for(&[REMAPPED_PENDING, REMAPPED_FAILURE].map(FieldId));
    let mut fields = fields.unwrap_or_default().into_iter();
    let mut is_set = || {
        let sample = fields.next().and_then(Result::ok);
        sample
            .and_then(|sample| sample.value.ok())
            .is_some_and(|value| is_not_zero(&value))
    };
    let (remap_pending, remap_failed) = (is_set(), is_set());
    GpuHealth {
        is_repair_pending: remap_pending || device.are_pages_pending_retired().unwrap_or(false),
        has_repair_failed: remap_failed,
        shutdown_celsius: device
            .temperature_threshold(TemperatureThreshold::Shutdown)
            .ok()
            .filter(|celsius| *celsius > 0),
    }
}

fn is_not_zero(value: &SampleValue) -> bool {
    match value {
        SampleValue::F64(value) => *value != 0.0,
        SampleValue::U32(value) => *value != 0,
        SampleValue::U64(value) => *value != 0,
        SampleValue::I64(value) => *value != 0,
    }
}

/// Nothing of this decides anything, so a question that fails, for whatever reason, is an unknown value.
fn detail(device: &Device<'_>) -> GpuDetail {
    let errors = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    GpuDetail {
        memory_utilization_percent: device
            .utilization_rates()
            .ok()
            .map(|load| load.memory.min(100)),
        fan_percent: device.fan_speed(0).ok(),
        compute_mode: device.compute_mode().ok().map(|mode| match mode {
            ComputeMode::Default => 0,
            ComputeMode::ExclusiveThread => 1,
            ComputeMode::Prohibited => 2,
            ComputeMode::ExclusiveProcess => 3,
        }),
        display: device.is_display_active().ok(),
        ecc: device
            .is_ecc_enabled()
            .ok()
            .map(|mode| mode.currently_enabled),
        single_bit_errors: errors(MemoryError::Corrected),
        double_bit_errors: errors(MemoryError::Uncorrected),
        pci_device_id: device.pci_info().ok().map(|pci| pci.pci_device_id),
    }
}

/// A process may start between NVML's two calls (count, list): then the list is too short, and asked for again.
fn processes(device: &Device<'_>) -> Result<Vec<CardProcess>, NvmlError> {
    let ask = || device.running_compute_processes();
    let list = match ask() {
        Err(NvmlError::InsufficientSize(_)) => ask()?,
        answer => answer?,
    };
    let process = |process: nvml_wrapper::struct_wrappers::device::ProcessInfo| CardProcess {
        pid: process.pid,
        memory_bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => bytes,
            UsedGpuMemory::Unavailable => 0,
        },
    };
    Ok(list.into_iter().map(process).collect())
}

/// The answer, or nothing (zero, empty) from a card or driver that does not have this question.
fn optional<T: Default>(answer: Result<T, NvmlError>) -> Result<T, NvmlError> {
    match answer {
        Err(error) if is_unsupported(&error) => Ok(T::default()),
        answer => answer,
    }
}

fn is_unsupported(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::NoData
    )
}

/// UUIDs travel into environments and the container engine's orders, so nothing but a UUID may look like one.
pub(crate) fn card_id(uuid: String) -> Option<CardId> {
    let is_uuid = uuid.len() <= UUID_BYTES_MAX
        && uuid
            .strip_prefix("GPU-")
            .or_else(|| uuid.strip_prefix("MIG-"))
            .is_some_and(|rest| !rest.is_empty())
        && uuid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_uuid.then(|| CardId::from(uuid))
}

/// A driver's text, without what would break a line of `pbsnodes`.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uuids_become_card_ids() {
        check_id("GPU-5f0c1a2b-0000-4000-8000-000000000001", true);
        check_id("MIG-5f0c1a2b-0000-4000-8000-000000000001", true);
        check_id("GPU-", false);
        check_id("MIG-", false);
        check_id("", false);
        check_id("0", false);
        check_id("GPU-1,GPU-2", false);
        check_id("GPU-1\nLD_PRELOAD=x", false);
        check_id(&format!("GPU-{}", "a".repeat(UUID_BYTES_MAX)), false);
    }

    fn check_id(uuid: &str, expected: bool) {
        assert_eq!(card_id(uuid.to_owned()).is_some(), expected, "{uuid:?}");
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(printable(" Tesla\tV100\n"), "TeslaV100");
    }
}
