//! How a card mends its memory: rows that were remapped, pages that were retired.

use std::ffi::{c_int, c_longlong, c_uint};

use super::{Handle, index, put};
use crate::code::{Code, status};
use crate::scenario::Card;
use crate::source;

/// `NVML_FI_DEV_REMAPPED_PENDING` and `NVML_FI_DEV_REMAPPED_FAILURE`.
const REMAPPED_PENDING: c_uint = 144;
const REMAPPED_FAILURE: c_uint = 145;
/// `NVML_VALUE_TYPE_UNSIGNED_INT`.
const UNSIGNED_INT: c_uint = 1;
/// Fields of one call.
const FIELDS_MAX: c_int = 64;

/// `nvmlFieldValue_t`; of the union only numbers.
#[repr(C)]
struct FieldValue {
    field_id: c_uint,
    scope_id: c_uint,
    timestamp: c_longlong,
    latency_us: c_longlong,
    value_type: c_uint,
    status: c_int,
    value: u64,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPagesPendingStatus(
    device: Handle,
    is_pending: *mut c_uint,
) -> c_int {
    status(put(
        "nvmlDeviceGetRetiredPagesPendingStatus",
        device,
        is_pending,
        |card, _| Ok(card.retirement_pending.into()),
    ))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: *mut FieldValue,
) -> c_int {
    status(index(device).and_then(|index| {
        source::with_card("nvmlDeviceGetFieldValues", index, |card| {
            if values.is_null() || !(0..=FIELDS_MAX).contains(&count) {
                return Err(Code::InvalidArgument);
            }
            for at in 0..count as usize {
                // SAFETY: the caller has set `count` fields, and `at` is smaller.
                let field = unsafe { &mut *values.add(at) };
                fill(card, field);
            }
            Ok(())
        })
    }))
}

fn fill(card: &Card, field: &mut FieldValue) {
    let value = match field.field_id {
        REMAPPED_PENDING => Some(card.remap_pending),
        REMAPPED_FAILURE => Some(card.remap_failed),
        _ => None,
    };
    field.timestamp = 0;
    field.latency_us = 0;
    field.value_type = UNSIGNED_INT;
    field.value = value.unwrap_or_default().into();
    field.status = match value {
        Some(_) => 0,
        None => Code::NotSupported as c_int,
    };
}
