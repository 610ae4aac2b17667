//! Start and end, versions, and finding cards.

use std::ffi::{c_char, c_int, c_uint};

use super::card::pci_address;
use super::{Handle, handle, read_text, write, write_text};
use crate::code::{Code, sentence, status};
use crate::scenario::Card;
use crate::source;

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> c_int {
    status(source::initialise("nvmlInit_v2"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_int {
    status(source::initialise("nvmlInitWithFlags"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> c_int {
    status(source::shut_down())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: c_int) -> *const c_char {
    sentence(result).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> c_int {
    status(
        source::scenario("nvmlSystemGetDriverVersion")
            .and_then(|scenario| write_text(&scenario.driver_version, version, length)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> c_int {
    status(source::scenario("nvmlSystemGetNVMLVersion").and_then(|_| {
        write_text(
            concat!("simulated ", env!("CARGO_PKG_VERSION")),
            version,
            length,
        )
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> c_int {
    status(
        source::scenario("nvmlSystemGetCudaDriverVersion_v2")
            .and_then(|scenario| write(version, scenario.cuda_version)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_int {
    status(
        source::scenario("nvmlDeviceGetCount_v2")
            .and_then(|scenario| write(count, scenario.cards.len() as c_uint)),
    )
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> c_int {
    status(find("nvmlDeviceGetHandleByIndex_v2", device, |at, _| {
        at == index as usize
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> c_int {
    status(read_text(uuid).and_then(|uuid| {
        find("nvmlDeviceGetHandleByUUID", device, |_, card| {
            card.uuid == uuid
        })
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    bus_id: *const c_char,
    device: *mut Handle,
) -> c_int {
    status(read_text(bus_id).and_then(|bus_id| {
        find("nvmlDeviceGetHandleByPciBusId_v2", device, |at, card| {
            pci_address(card, at).eq_ignore_ascii_case(&bus_id)
        })
    }))
}

/// Stores the handle of the first card that fits; a card's own faults already tell here, as with a lost GPU.
fn find(
    function: &str,
    device: *mut Handle,
    fits: impl Fn(usize, &Card) -> bool,
) -> Result<(), Code> {
    let scenario = source::scenario(function)?;
    let found = scenario
        .cards
        .iter()
        .enumerate()
        .find(|(at, card)| fits(*at, card));
    let (at, card) = found.ok_or(Code::NotFound)?;
    card.faults.check(function)?;
    write(device, handle(at))
}
