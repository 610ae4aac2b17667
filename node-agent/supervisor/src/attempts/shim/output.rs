//! A job's stdout and stderr, opened live at their final path, with the user's rights and never blocking. What cannot be
//! opened there is kept on the node, and the job runs all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};

use capstan_proto::wire::output_files::Join;
use capstan_types::{Env, expand_path};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use super::launch::Unstartable;
use super::user::AsUser;
use crate::attempts::environment::{JobVariables, default_output_name};
use crate::attempts::record::{Entry, Identity};

/// Most folders made for one path.
const FOLDERS_MAX: usize = 32;

/// The two streams; one file twice when they are joined.
pub(super) struct Streams {
    pub(super) stdout: File,
    pub(super) stderr: File,
    /// Where output is kept that could not be opened where it was asked for, and why, in the words of Torque's mail.
    pub(super) messages: Vec<String>,
}

/// Opens both, with `mask` taken off the modes of new files.
pub(super) fn open(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
    mask: Mode,
) -> Result<Streams, Unstartable> {
    let spec = &entry.spec;
    let output = spec.output.clone().unwrap_or_default();
    let place = |typed: &str, letter: char| {
        let name = default_output_name(spec, letter);
        if output.keep.contains(letter) || typed.is_empty() {
            return Place::In(PathBuf::from(&identity.home), name);
        }
        let path = expand_path(without_host(typed), &JobVariables(env));
        Place::At(PathBuf::from(path), name)
    };
    let mut messages = Vec::new();
    let mut open = |letter: char| {
        let typed = if letter == 'o' {
            &output.stdout
        } else {
            &output.stderr
        };
        let (path, opened) = as_user(identity, mask, || {
            let path = place(typed, letter).path();
            let opened = open_at(&path, identity);
            (path, opened)
        })?;
        // Left by an earlier attempt: now it would be taken for the output of this one.
        let _absent = fs::remove_file(entry.undelivered_file(letter));
        let problem = match opened {
            Ok(file) => return Ok::<_, Unstartable>(file),
            Err(problem) => problem,
        };
        let kept = keep(entry, identity, letter, mask)?;
        messages.push(undelivered(
            &entry.undelivered_file(letter),
            &path,
            &problem,
        ));
        Ok(kept)
    };
    let (stdout, stderr) = match output.join() {
        Join::IntoStdout => twice(open('o')?)?,
        Join::IntoStderr => twice(open('e')?)?,
        Join::Separate => {
            let (stdout, stderr) = (open('o')?, open('e')?);
            match is_same_file(&stdout, &stderr) {
                true => twice(stdout)?,
                false => (stdout, stderr),
            }
        }
    };
    Ok(Streams {
        stdout,
        stderr,
        messages,
    })
}

fn twice(file: File) -> Result<(File, File), Unstartable> {
    let other = file.try_clone().map_err(Unstartable::Streams)?;
    Ok((other, file))
}

/// Does `work` with the user's rights and `mask`.
fn as_user<T>(identity: &Identity, mask: Mode, work: impl FnOnce() -> T) -> Result<T, Unstartable> {
    let rights = AsUser::become_user(identity).map_err(|source| Unstartable::Rights {
        user: identity.user.clone(),
        source,
    })?;
    let old = umask(mask);
    let done = work();
    umask(old);
    drop(rights);
    Ok(done)
}

/// The user's own file in a folder of ours, which nobody else can put anything into.
fn keep(entry: &Entry, identity: &Identity, letter: char, mask: Mode) -> Result<File, Unstartable> {
    let path = PathBuf::from(entry.undelivered_file(letter));
    let write = || -> io::Result<File> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        if geteuid().is_root() {
            fchown(&file, Some(identity.uid), Some(identity.gid))?;
        }
        let mode = 0o666 & !mask.bits();
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file)
    };
    let stream = if letter == 'o' { "stdout" } else { "stderr" };
    write().map_err(|source| Unstartable::Output {
        stream,
        path,
        source,
    })
}

fn undelivered(kept: &str, wanted: &Path, problem: &io::Error) -> String {
    let wanted = wanted.display();
    format!(
        "Unable to copy file {kept} to {wanted}, error 1\n*** error from copy\n{wanted}: {problem}\n\
         *** end error output\nOutput retained on that host in: {kept}\n"
    )
}

/// Where stdout and stderr of a running attempt are; one path twice when they are joined. To be called with the user's
/// rights, because what is a folder counts.
pub(in crate::attempts) fn paths(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
) -> (PathBuf, PathBuf) {
    let spec = &entry.spec;
    let output = spec.output.clone().unwrap_or_default();
    let path = |typed: &str, letter: char| {
        let kept = PathBuf::from(entry.undelivered_file(letter));
        let name = default_output_name(spec, letter);
        if kept.exists() {
            kept
        } else if output.keep.contains(letter) || typed.is_empty() {
            Place::In(PathBuf::from(&identity.home), name).path()
        } else {
            let path = expand_path(without_host(typed), &JobVariables(env));
            Place::At(PathBuf::from(path), name).path()
        }
    };
    let stdout = || path(&output.stdout, 'o');
    let stderr = || path(&output.stderr, 'e');
    match output.join() {
        Join::IntoStdout => (stdout(), stdout()),
        Join::IntoStderr => (stderr(), stderr()),
        Join::Separate => (stdout(), stderr()),
    }
}

/// Writes a line for the user, unless that would block (a pipe nobody reads).
pub(super) fn append(mut file: &File, line: &str) {
    let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
        // A full disk loses the line, not the verdict, which travels another way.
        let _lost = file.write_all(line.as_bytes());
    }
}

/// Torque's `host:/path`; files are written on this host, whatever its name.
fn without_host(typed: &str) -> &str {
    match typed.split_once(':') {
        Some((host, path)) if !host.contains('/') && path.starts_with('/') => path,
        Some(_) | None => typed,
    }
}

fn is_same_file(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
    let is_regular = one.metadata().is_ok_and(|file| file.is_file());
    is_regular && id(one) == id(other)
}

enum Place {
    /// The default name in this folder.
    In(PathBuf, String),
    /// This path, or the default name in it when it is a folder.
    At(PathBuf, String),
}

impl Place {
    /// To be asked with the user's rights: whether a folder is there depends on them.
    fn path(self) -> PathBuf {
        match self {
            Self::In(folder, name) => folder.join(name),
            Self::At(path, name) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                path.join(name)
            }
            Self::At(path, name) if path.is_dir() => path.join(name),
            Self::At(path, _) => path,
        }
    }
}

fn open_at(path: &Path, identity: &Identity) -> io::Result<File> {
    if !path.is_absolute() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no absolute path",
        ));
    }
    if let Some(folder) = path.parent() {
        make_folder(folder, identity)?;
    }
    open_file(path)
}

/// Makes a missing folder when the deepest one that exists belongs to the user.
fn make_folder(folder: &Path, identity: &Identity) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut existing = folder;
    let owner = loop {
        match fs::metadata(existing) {
            Ok(found) => break found.uid(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(existing),
            // Not ours to judge: opening the file tells what is wrong.
            Err(_) => return Ok(()),
        }
        existing = match existing.parent() {
            Some(parent) if missing.len() < FOLDERS_MAX => parent,
            Some(_) | None => return Ok(()),
        };
    };
    if owner != identity.uid {
        return Ok(());
    }
    // The umask takes away what the user does not want to give.
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o777).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Appending: what tasks and messages add meanwhile, by descriptors of their own, is then never written over.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o666)
        .custom_flags(flags.bits())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_block_device() || kind.is_socket() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if kind.is_file() {
        file.set_len(0)?;
    }
    // Only the opening must not block; the job's own writes behave as usual.
    let now = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(now - OFlag::O_NONBLOCK))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
