//! The C functions of nvml.h that nvml-wrapper loads. They keep NVML's names and struct layouts; what they answer is
//! decided by the scenario. Every function fails with "invalid argument" on a null pointer, as NVML does.
#![expect(
    unsafe_code,
    reason = "these are the C functions that callers of libnvidia-ml.so.1 expect"
)]

mod card;
mod events;
mod mode;
mod near;
mod process;
mod repair;
mod system;

use std::ffi::{CStr, c_char, c_uint, c_void};

use crate::code::Code;
use crate::scenario::Card;
use crate::source;

/// An opaque card handle: the card's index plus one, so that null stays invalid.
pub(crate) type Handle = *mut c_void;

fn handle(index: usize) -> Handle {
    std::ptr::without_provenance_mut(index + 1)
}

fn index(handle: Handle) -> Result<usize, Code> {
    handle.addr().checked_sub(1).ok_or(Code::InvalidArgument)
}

/// Answers one value about a card.
fn put<T>(
    function: &str,
    device: Handle,
    place: *mut T,
    value: impl FnOnce(&Card, usize) -> Result<T, Code>,
) -> Result<(), Code> {
    let index = index(device)?;
    write(
        place,
        source::with_card(function, index, |card| value(card, index))?,
    )
}

/// Stores through a caller's pointer.
fn write<T>(place: *mut T, value: T) -> Result<(), Code> {
    if place.is_null() {
        return Err(Code::InvalidArgument);
    }
    // SAFETY: NVML's contract is that a pointer which is not null points to writable memory for its type.
    unsafe { place.write(value) };
    Ok(())
}

/// Stores `text` and a zero byte into a caller's buffer of `length` bytes.
fn write_text(text: &str, buffer: *mut c_char, length: c_uint) -> Result<(), Code> {
    if buffer.is_null() {
        return Err(Code::InvalidArgument);
    }
    if text.len() >= length as usize {
        return Err(Code::InsufficientSize);
    }
    // SAFETY: the buffer holds `length` bytes by NVML's contract, and text and zero byte are no longer than that.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), buffer, text.len());
        buffer.add(text.len()).write(0);
    }
    Ok(())
}

/// A caller's zero-terminated text.
fn read_text(text: *const c_char) -> Result<String, Code> {
    if text.is_null() {
        return Err(Code::InvalidArgument);
    }
    // SAFETY: not null, and zero-terminated by NVML's contract.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map(str::to_owned)
        .map_err(|_| Code::InvalidArgument)
}
