//! A power cut for tests: a library for `LD_PRELOAD` that keeps, beside a folder, what a power cut would leave of it.
//!
//! `POWER_CUT_WATCH=DIR` names the folder of the program under test, `POWER_CUT_PLATTER=DIR2` what has reached the
//! disk. The platter follows the strict reading of POSIX, not the kinder habits of one file system:
//! - the content of a file is durable when the file itself was synced (fsync, fdatasync), as it was at that moment;
//! - the name of a file or folder (creation, rename, removal) is durable when the folder that holds it was synced;
//! - a durable name whose content never was is an empty file; durable content without a durable name is lost;
//! - sync and syncfs make everything durable; sync_file_range and msync nothing.
//!
//! When the program starts and there is no platter yet, all of DIR counts as durable. So a test cuts the power by:
//! kill -9, remove DIR and `DIR2.inodes`, rename DIR2 to DIR, start again. What it does not see: direct system calls
//! (io_uring, programs without libc) and files opened with O_SYNC, whose writes it takes for unsynced.
#![expect(
    unsafe_code,
    reason = "these functions take the place of libc's in the program under test"
)]

mod inode;
mod platter;

use std::ffi::{c_int, c_long};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::platter::Platter;

/// What the deleted-file mark of the kernel looks like behind a descriptor's path.
const DELETED: &[u8] = b" (deleted)";

static PLATTER: OnceLock<Option<Mutex<Platter>>> = OnceLock::new();

/// Runs when the program is loaded, so that "durable at the start" means before its first instruction.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        platter();
    }
    at_load
};

/// Mirrors, then syncs: whoever is killed in between was not yet told that anything is durable.
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    mirror(fd);
    system_call(libc::SYS_fsync, fd)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    mirror(fd);
    system_call(libc::SYS_fdatasync, fd)
}

#[unsafe(no_mangle)]
extern "C" fn syncfs(fd: c_int) -> c_int {
    with_platter(Platter::sync_everything);
    system_call(libc::SYS_syncfs, fd)
}

#[unsafe(no_mangle)]
extern "C" fn sync() {
    with_platter(Platter::sync_everything);
    system_call(libc::SYS_sync, 0);
}

fn system_call(number: c_long, fd: c_int) -> c_int {
    // SAFETY: each of these calls takes at most a descriptor, and checks it.
    (unsafe { libc::syscall(number, fd) }) as c_int
}

fn mirror(fd: c_int) {
    with_platter(|platter| {
        let open = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let Ok(path) = fs::read_link(&open) else {
            return Ok(()); // The real call will say that this is no open file.
        };
        if !path.starts_with(platter.watched()) || path.as_os_str().as_bytes().ends_with(DELETED) {
            return Ok(());
        }
        let kind = fs::metadata(&open)?.file_type();
        if kind.is_dir() {
            platter.sync_folder(&path)
        } else if kind.is_file() {
            platter.sync_file(&open, is_append_only(fd))
        } else {
            Ok(())
        }
    });
}

/// Whatever is written through such a descriptor goes to the end of the file.
fn is_append_only(fd: c_int) -> bool {
    // SAFETY: F_GETFL takes no argument, and a descriptor that is none is answered by -1.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_APPEND != 0
}

/// A simulation that cannot follow must not let a test pass: it ends the program.
fn with_platter(change: impl FnOnce(&mut Platter) -> io::Result<()>) {
    let Some(platter) = platter() else { return };
    let mut platter = platter.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = change(&mut platter) {
        give_up(&error);
    }
}

fn platter() -> Option<&'static Mutex<Platter>> {
    let open = || {
        let watched = PathBuf::from(std::env::var_os("POWER_CUT_WATCH")?);
        let platter = PathBuf::from(std::env::var_os("POWER_CUT_PLATTER")?);
        match resolved(&watched).and_then(|watched| Platter::open(watched, platter)) {
            Ok(platter) => Some(Mutex::new(platter)),
            Err(error) => give_up(&error),
        }
    };
    PLATTER.get_or_init(open).as_ref()
}

/// The path by which the kernel will name it, even when the folder itself does not exist yet.
fn resolved(folder: &Path) -> io::Result<PathBuf> {
    if folder.exists() {
        return folder.canonicalize();
    }
    match (folder.parent(), folder.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Err(io::Error::other("POWER_CUT_WATCH names no folder")),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a preloaded library has nobody else to tell"
)]
fn give_up(error: &io::Error) -> ! {
    eprintln!("power-cut: the simulated disk cannot follow: {error}");
    std::process::abort();
}
