//! Where the scenario comes from, and when it is read anew.
//!
//! `FAKE_NVML_CONFIG` names the file; without it, it is `fake-nvml.toml` in the folder that the library was loaded
//! from, so that simulated nodes on one host can each have their own. Whenever the file differs from what was read
//! last (inode, size or time of change) it is read again; one that cannot be parsed leaves the last good state.
#![expect(
    unsafe_code,
    reason = "only dladdr knows the folder that a library was loaded from"
)]

use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::code::Code;
use crate::scenario::{Card, Scenario};

/// A scenario file larger than this is none.
const FILE_BYTES_MAX: u64 = 1 << 20;

static DRIVER: Mutex<Driver> = Mutex::new(Driver {
    initialised: 0,
    read: None,
    scenario: None,
});

struct Driver {
    /// Calls of nvmlInit that nvmlShutdown has not yet undone, as NVML counts.
    initialised: u32,
    /// The file as it was when last read, well or badly.
    read: Option<Stamp>,
    scenario: Option<Arc<Scenario>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Counts one more user of the library; fails as the scenario says, or when there is none.
pub(crate) fn initialise(function: &str) -> Result<(), Code> {
    let scenario = current()?;
    scenario.faults.check(function)?;
    lock().initialised += 1;
    Ok(())
}

/// Counts one user less.
pub(crate) fn shut_down() -> Result<(), Code> {
    let mut driver = lock();
    driver.initialised = driver
        .initialised
        .checked_sub(1)
        .ok_or(Code::Uninitialized)?;
    Ok(())
}

/// The scenario as it is now, for a call of `function`; every call comes through here.
pub(crate) fn scenario(function: &str) -> Result<Arc<Scenario>, Code> {
    if lock().initialised == 0 {
        return Err(Code::Uninitialized);
    }
    let scenario = current()?;
    if scenario.delay_ms > 0 {
        std::thread::sleep(Duration::from_millis(scenario.delay_ms));
    }
    scenario.faults.check(function)?;
    Ok(scenario)
}

/// Instance `n` of card `i` has the index `i + (n + 1) * INSTANCE_STEP`.
pub(crate) const INSTANCE_STEP: usize = 1 << 16;

/// Card `index` as it is now, for a call of `function`. A card that left the file has fallen off the bus.
pub(crate) fn with_card<T>(
    function: &str,
    index: usize,
    answer: impl FnOnce(&Card) -> Result<T, Code>,
) -> Result<T, Code> {
    let scenario = scenario(function)?;
    let (at, instance) = (index % INSTANCE_STEP, index / INSTANCE_STEP);
    let card = scenario.cards.get(at).ok_or(Code::GpuIsLost)?;
    card.faults.check(function)?;
    match instance.checked_sub(1) {
        None => answer(card),
        Some(instance) => {
            let instance = card.mig.get(instance).ok_or(Code::NotFound)?;
            answer(&card.instance(instance))
        }
    }
}

fn current() -> Result<Arc<Scenario>, Code> {
    let mut driver = lock();
    let file = file().ok_or(Code::DriverNotLoaded)?;
    let Some(stamp) = stamp(&file) else {
        // The file is gone, and with it the driver: a test's way to unload it.
        driver.scenario = None;
        driver.read = None;
        return Err(Code::DriverNotLoaded);
    };
    if driver.read != Some(stamp) {
        driver.read = Some(stamp);
        if let Some(scenario) = read(&file, stamp.size) {
            driver.scenario = Some(Arc::new(scenario));
        }
    }
    driver.scenario.clone().ok_or(Code::Unknown)
}

fn lock() -> std::sync::MutexGuard<'static, Driver> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(file: &Path, size: u64) -> Option<Scenario> {
    if size > FILE_BYTES_MAX {
        return None;
    }
    Scenario::parse(&fs::read_to_string(file).ok()?).ok()
}

fn stamp(file: &Path) -> Option<Stamp> {
    let meta = fs::metadata(file).ok()?;
    Some(Stamp {
        inode: meta.ino(),
        size: meta.size(),
        changed: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn file() -> Option<PathBuf> {
    std::env::var_os("FAKE_NVML_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(own_path()?.parent()?.join("fake-nvml.toml")))
}

/// The path that this library was loaded by, symbolic links as they are.
fn own_path() -> Option<PathBuf> {
    let mut found = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: the address is one of our own functions, and dladdr fills the struct that it is given. The name that it
    // leaves there lives as long as the library, and is copied before we return.
    unsafe {
        if libc::dladdr(own_path as *const libc::c_void, &raw mut found) == 0
            || found.dli_fname.is_null()
        {
            return None;
        }
        let name = CStr::from_ptr(found.dli_fname);
        Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
    }
}
