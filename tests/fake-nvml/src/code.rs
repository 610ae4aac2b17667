//! NVML's return codes: the ones that this library answers, by NVML's number and by the name that a scenario uses.

use std::ffi::{CStr, c_int};

use serde::Deserialize;

/// What a call answers when it does not succeed (`nvmlReturn_t` of nvml.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub(crate) enum Code {
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    NotFound = 6,
    InsufficientSize = 7,
    DriverNotLoaded = 9,
    Timeout = 10,
    IrqIssue = 11,
    LibraryNotFound = 12,
    FunctionNotFound = 13,
    CorruptedInforom = 14,
    GpuIsLost = 15,
    ResetRequired = 16,
    OperatingSystem = 17,
    LibRmVersionMismatch = 18,
    InUse = 19,
    Memory = 20,
    NoData = 21,
    ArgumentVersionMismatch = 25,
    Unknown = 999,
}

/// What NVML's C functions return.
pub(crate) fn status(outcome: Result<(), Code>) -> c_int {
    outcome.err().map_or(0, |code| code as c_int)
}

/// NVML's own sentence for a return code.
pub(crate) fn sentence(status: c_int) -> &'static CStr {
    match status {
        0 => c"The operation was successful",
        1 => c"Uninitialized",
        2 => c"Invalid Argument",
        3 => c"Not Supported",
        4 => c"Insufficient Permissions",
        6 => c"Not Found",
        7 => c"Insufficient Size",
        9 => c"Driver Not Loaded",
        10 => c"Timeout",
        15 => c"GPU is lost",
        18 => c"Driver/library version mismatch",
        _ => c"Unknown Error",
    }
}
