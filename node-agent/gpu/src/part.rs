//! Parts of divided cards by the driver's numbers: which part an instance is, since its device nodes bear the numbers, and
//! of which part an event tells. The library says both, and its wrapper neither.
#![expect(unsafe_code, reason = "questions that the wrapper does not know")]

use std::mem::MaybeUninit;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::{Device, EventSet, Nvml};

/// What the driver writes in place of a number when an event is about the whole card.
const WHOLE: u32 = u32::MAX;

/// What a card said.
pub(crate) struct Told<'nvml> {
    pub(crate) device: Device<'nvml>,
    /// The error's number, when it has one; none for an error of memory.
    pub(crate) xid: Option<u64>,
    /// Which part of the card it is about: GPU instance and compute instance, as far as the driver knows.
    pub(crate) part: (Option<u32>, Option<u32>),
}

/// The numbers of GPU instance and compute instance; `None` when the driver does not say.
pub(crate) fn numbers(nvml: &Nvml, instance: &Device<'_>) -> Option<(u32, u32)> {
    let library = nvml.lib();
    let of_gpu = library.nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    let of_compute = library.nvmlDeviceGetComputeInstanceId.as_ref().ok()?;
    let (mut gpu, mut compute) = (0, 0);
    // SAFETY: the handle is the library's own and lives as long as it; both write one number, as nvml.h declares them.
    let answers = unsafe {
        let handle = instance.handle();
        [
            of_gpu(handle, &raw mut gpu),
            of_compute(handle, &raw mut compute),
        ]
    };
    (answers == [0, 0]).then_some((gpu, compute))
}

/// Waits for what a card says.
///
/// # Errors
/// The driver's; a timeout is one.
pub(crate) fn wait<'nvml>(
    nvml: &'nvml Nvml,
    set: &EventSet<'nvml>,
    timeout_ms: u32,
) -> Result<Told<'nvml>, NvmlError> {
    let wait = nvml.lib().nvmlEventSetWait_v2.as_ref();
    let wait = wait.map_err(|_| NvmlError::FunctionNotFound)?;
    let mut data = MaybeUninit::zeroed();
    // SAFETY: the set is the library's own and outlives the call, which writes one event, all of whose fields are numbers
    // and a handle that may be anything.
    let data = unsafe {
        nvml_try(wait(set.handle(), data.as_mut_ptr(), timeout_ms))?;
        data.assume_init()
    };
    // SAFETY: the handle was given by the library just now.
    let device = unsafe { Device::new(data.device, nvml) };
    let kind = EventTypes::from_bits_truncate(data.eventType);
    let known = |number: u32| (number != WHOLE).then_some(number);
    Ok(Told {
        device,
        xid: kind
            .contains(EventTypes::CRITICAL_XID_ERROR)
            .then_some(data.eventData),
        part: (known(data.gpuInstanceId), known(data.computeInstanceId)),
    })
}
