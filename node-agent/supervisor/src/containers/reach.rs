//! Looks at paths with the rights of a user, so that root's eyes never see for somebody who may not look.
//!
//! The looking is done by a thread of its own whose file-system ids are the user's: the kernel keeps them per thread,
//! drops root's overriding capabilities with them, and no user process can reach the thread. A path is opened with
//! `O_PATH` and without following the magic links of `/proc`; what was opened is what is judged and later mounted,
//! so a path that is swapped in between changes nothing.
#![expect(
    unsafe_code,
    reason = "setgroups for one thread only has no safe wrapper"
)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};

/// Whose rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The user.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

impl Rights {
    /// Runs `look` on a thread that has these rights on files.
    ///
    /// # Errors
    /// When the thread cannot take the rights on: then `look` was not run.
    pub(crate) async fn look<T: Send + 'static>(
        self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("look-as-user".into())
            .spawn(move || {
                let seen = self.take_on().map(|()| look());
                // Nobody waits any more: the client went away.
                drop(answer.send(seen));
            })?;
        answered
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the look ended early")))
    }

    /// For the calling thread only, until it ends: there is no way back, which keeps a panic from leaking rights.
    fn take_on(&self) -> io::Result<()> {
        if !geteuid().is_root() {
            // An agent without root runs jobs of its own user only.
            return match geteuid().as_raw() == self.uid {
                true => Ok(()),
                false => Err(io::ErrorKind::PermissionDenied.into()),
            };
        }
        let groups = &self.groups;
        // The raw call: the wrapper of the C library would change every thread of the agent.
        // SAFETY: the pointer and the length describe `groups`, which outlives the call; gid_t is u32 on Linux.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        Errno::result(done)?;
        setfsgid(Gid::from_raw(self.gid));
        setfsuid(Uid::from_raw(self.uid));
        // These calls report the old value and never an error: ask again.
        let uid = setfsuid(Uid::from_raw(u32::MAX));
        let gid = setfsgid(Gid::from_raw(u32::MAX));
        match (uid.as_raw(), gid.as_raw()) == (self.uid, self.gid) {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// What a path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder.
    Folder,
    /// A plain file.
    File,
    /// A socket, a device, a pipe.
    Special,
}

/// What the kernel says about an opened path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// After all symbolic links.
    pub(super) path: PathBuf,
    /// Folder, file or neither.
    pub(super) kind: Kind,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
    /// Permission bits.
    pub(super) mode: u32,
    /// Device and inode: the same for the same file.
    pub(super) identity: (u64, u64),
}

/// An opened path: it stays what it is, whatever happens to its name.
#[derive(Debug)]
pub(super) struct Reached {
    /// `O_PATH`.
    pub(super) file: OwnedFd,
    /// At the time of opening.
    pub(super) facts: Facts,
}

/// Opens `path` (absolute) with the rights of the calling thread.
///
/// # Errors
/// The kernel's: missing, not permitted, a magic link on the way (`ELOOP`), renamed while we looked.
pub(super) fn reach(path: &Path) -> io::Result<Reached> {
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // With `/.` behind it an automount point is mounted, without it would be opened as it is.
    let file = match openat2(AT_FDCWD, &path.join("."), how) {
        Err(Errno::ENOTDIR) => openat2(AT_FDCWD, path, how)?,
        other => other?,
    };
    let resolved = std::fs::read_link(link_of(&file))?;
    let about = File::from(file.try_clone()?).metadata()?;
    // A removed folder reads as `… (deleted)`, a moved one as its new name: both must be what we opened.
    let again = std::fs::symlink_metadata(&resolved)?;
    let identity = (about.dev(), about.ino());
    if !resolved.is_absolute() || (again.dev(), again.ino()) != identity {
        return Err(io::Error::other("it changed while it was looked at"));
    }
    let kind = match about.file_type() {
        kind if kind.is_dir() => Kind::Folder,
        kind if kind.is_file() => Kind::File,
        _ => Kind::Special,
    };
    let facts = Facts {
        path: resolved,
        kind,
        uid: about.uid(),
        gid: about.gid(),
        mode: about.mode() & 0o7777,
        identity,
    };
    Ok(Reached { file, facts })
}

impl Reached {
    /// Reads the beginning of a plain file with the rights of the calling thread.
    ///
    /// # Errors
    /// No right to read it.
    pub(super) fn read(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(link_of(&self.file))?
            .take(bytes_max)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The kernel's own name for an open file: following it leads to the file itself, not to its path.
pub(super) fn link_of(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
