//! Pins what was checked until the engine has mounted it.
//!
//! The engine takes a source as a path and resolves it again as root, so a user who swaps a folder for a symbolic
//! link between our check and its mount would win. Handing it `/proc/PID/fd/N` does not work (the mount happens in a
//! namespace of its own, where our file is a stranger), and comparing afterwards would be too late for a program that
//! starts at once. So each checked file is bind-mounted, from its open descriptor, to a name below a folder that only
//! root can enter, and the engine gets that name. Once the container has started the name is taken away again; the
//! container's own mount stays.
#![expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

use super::mounts::Mount;
use super::reach::{Kind, link_of};

/// The folder for one agent's pinned mounts.
#[derive(Debug)]
pub(super) struct Stage {
    /// None without the rights to mount: then only one user's jobs run here, who gains nothing by a swap.
    root: Option<PathBuf>,
    next: AtomicU64,
}

/// The pinned mounts of one container; dropping it unpins them.
#[derive(Debug)]
pub(super) struct Pinned {
    folder: Option<PathBuf>,
    /// In the order of the mounts.
    pub(super) sources: Vec<PathBuf>,
}

impl Stage {
    /// Opens the stage below `base` and takes away what agents that are gone have left there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(base: &Path) -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self {
                root: None,
                next: AtomicU64::new(0),
            });
        }
        private_folder(base)?;
        sweep(base);
        let root = base.join(name_of_this_process()?);
        private_folder(&root)?;
        Ok(Self {
            root: Some(root),
            next: AtomicU64::new(0),
        })
    }

    /// Whether mounts are pinned here, and not handed on by name.
    pub(super) fn is_pinning(&self) -> bool {
        self.root.is_some()
    }

    /// Pins `mounts`.
    ///
    /// # Errors
    /// The kernel's word on a mount; nothing stays pinned then.
    pub(super) fn pin(&self, mounts: &[Mount]) -> io::Result<Pinned> {
        let Some(root) = &self.root else {
            let sources = mounts.iter().map(|mount| mount.source.facts.path.clone());
            return Ok(Pinned {
                folder: None,
                sources: sources.collect(),
            });
        };
        let folder = root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let mut pinned = Pinned {
            folder: Some(folder.clone()),
            sources: Vec::new(),
        };
        for (at, mount) in mounts.iter().enumerate() {
            let place = folder.join(at.to_string());
            match mount.source.facts.kind {
                Kind::Folder => fs::create_dir(&place)?,
                Kind::File | Kind::Special => drop(fs::File::create_new(&place)?),
            }
            pinned.sources.push(place.clone());
            pin(mount, &place)?;
        }
        Ok(pinned)
    }
}

fn pin(what: &Mount, place: &Path) -> io::Result<()> {
    const NONE: Option<&str> = None;
    let source = link_of(&what.source.file);
    mount(
        Some(&source),
        place,
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )?;
    // Not a peer of where it came from: taking it away must not unmount anything there.
    mount(
        NONE,
        place,
        NONE,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        NONE,
    )?;
    if what.read_only {
        make_read_only(place)?;
    }
    Ok(())
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;

/// Makes a mount and all mounts in it read-only: the engine itself does so for the top one only.
fn make_read_only(place: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let place = std::ffi::CString::new(place.as_os_str().as_bytes())?;
    let change = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    // SAFETY: the path is a C string and the size is that of the structure; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            place.as_ptr(),
            AT_RECURSIVE,
            &raw const change,
            size_of::<MountAttr>(),
        )
    };
    match Errno::result(done) {
        // Kernels before 5.12: the engine's read-only flag on the top mount has to do.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            clear(folder);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            remove(root);
        }
    }
}

/// Unpins all in `folder`. Never recursive: a mount that cannot be taken away must not be emptied.
fn clear(folder: &Path) {
    // The names go first, all at once: an engine that is just about to mount one must find nothing, and not the empty
    // place where something was.
    let gone = folder.with_extension("gone");
    let folder = match fs::rename(folder, &gone) {
        Ok(()) => gone.as_path(),
        Err(_) => folder,
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for place in entries.flatten().map(|entry| entry.path()) {
        match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => {
                tracing::warn!(place = %place.display(), %error, "pinned mount stays");
                continue;
            }
        }
        // Of an unmounted name only an empty folder or file is left.
        drop(
            fs::remove_dir(&place).or_else(|_| match fs::metadata(&place) {
                Ok(about) if about.is_file() && about.len() == 0 => fs::remove_file(&place),
                _ => Ok(()),
            }),
        );
    }
    drop(fs::remove_dir(folder));
}

fn remove(root: &Path) {
    for folder in fs::read_dir(root).into_iter().flatten().flatten() {
        clear(&folder.path());
    }
    drop(fs::remove_dir(root));
}

/// Takes away the stages of processes that are gone.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((pid, started)) = name.to_str().and_then(|name| name.split_once('-')) else {
            continue;
        };
        let started = started
            .split_once('.')
            .map_or(started, |(started, _)| started);
        if start_time(pid).is_none_or(|now| now != started) {
            remove(&entry.path());
        }
    }
}

/// Process id and start time: together never used twice within one boot.
fn name_of_this_process() -> io::Result<String> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id().to_string();
    let started = start_time(&pid).ok_or(io::ErrorKind::NotFound)?;
    match COUNT.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(format!("{pid}-{started}")),
        // A second stage of one process, in tests: below the first one's name it would be swept with it.
        nth => Ok(format!("{pid}-{started}.{nth}")),
    }
}

fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold blanks and brackets; the start time is field 22.
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(19).map(str::to_owned)
}

fn private_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            use std::os::unix::fs::{MetadataExt, PermissionsExt};
            let about = fs::symlink_metadata(path)?;
            if !about.is_dir() || about.uid() != 0 {
                return Err(io::Error::other(format!(
                    "{} is not root's folder",
                    path.display()
                )));
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        }
        other => other,
    }
}
