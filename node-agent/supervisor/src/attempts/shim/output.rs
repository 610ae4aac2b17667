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
use capstan_types::Env;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use super::delivery::{Outgoing, is_outgoing, retained};
use super::destination::{Destination, destination};
use super::launch::Unstartable;
use super::staging::message;
use super::user::AsUser;
use crate::attempts::environment::default_output_name;
use crate::attempts::record::{Entry, Identity};

/// Most folders made for one path.
const FOLDERS_MAX: usize = 32;

/// The two streams; one file twice when they are joined.
pub(super) struct Streams {
    pub(super) stdout: File,
    pub(super) stderr: File,
    /// Where output is kept that could not be opened where it was asked for, and why, in the words of Torque's mail.
    pub(super) messages: Vec<String>,
    /// Streams that are written here for other hosts.
    pub(super) outgoing: Vec<Outgoing>,
}

/// Opens both, with `mask` taken off the modes of new files.
pub(super) fn open(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
    mask: Mode,
) -> Result<Streams, Unstartable> {
    let output = entry.spec.output.clone().unwrap_or_default();
    let mut opened = Opened::default();
    let (stdout, stderr) = match output.join() {
        Join::IntoStdout => twice(opened.open(entry, identity, (env, mask), 'o')?)?,
        Join::IntoStderr => twice(opened.open(entry, identity, (env, mask), 'e')?)?,
        Join::Separate => {
            let stdout = opened.open(entry, identity, (env, mask), 'o')?;
            let stderr = opened.open(entry, identity, (env, mask), 'e')?;
            match opened.are_one() || is_same_file(&stdout, &stderr) {
                true => twice(stdout)?,
                false => (stdout, stderr),
            }
        }
    };
    let Opened { messages, outgoing } = opened;
    Ok(Streams {
        stdout,
        stderr,
        messages,
        outgoing,
    })
}

/// What there is to know of the streams beside their files.
#[derive(Default)]
struct Opened {
    messages: Vec<String>,
    outgoing: Vec<Outgoing>,
}

impl Opened {
    /// Opens stdout or stderr.
    fn open(
        &mut self,
        entry: &Entry,
        identity: &Identity,
        (env, mask): (&Env, Mode),
        letter: char,
    ) -> Result<File, Unstartable> {
        let (destination, opened) = as_user(identity, mask, || {
            let destination = destination(entry, identity, env, letter);
            let opened = match &destination {
                Destination::Here(path) => Some(open_at(path, identity)),
                Destination::There(_) => None,
            };
            (destination, opened)
        })?;
        // Left by an earlier attempt: now it would be taken for the output of this one.
        let kept = entry.undelivered_file(letter);
        let _absent = fs::remove_file(&kept);
        let owner = (identity, letter, mask);
        match (destination, opened) {
            (Destination::Here(_), Some(Ok(file))) => Ok(file),
            (Destination::Here(path), problem) => {
                let problem = problem.and_then(Result::err);
                let problem = problem.unwrap_or_else(|| io::ErrorKind::NotFound.into());
                let file = keep(Path::new(&kept), owner)?;
                self.messages.push(undelivered(&kept, &path, &problem));
                Ok(file)
            }
            (Destination::There(there), _) => {
                let stream = Outgoing { letter, there };
                let file = stream.file(entry);
                let made = stream.make_folder(entry);
                made.map_err(|source| Unstartable::Output {
                    stream: stream_name(letter),
                    path: file.clone(),
                    source,
                })?;
                self.outgoing.push(stream);
                keep(&file, owner)
            }
        }
    }

    /// Both go to one path of one host: they are one file, which is copied once.
    fn are_one(&mut self) -> bool {
        let are_one = match &self.outgoing[..] {
            [one, other] => {
                let is_folder = one.there.path.ends_with('/');
                !is_folder
                    && (&one.there.host, &one.there.path) == (&other.there.host, &other.there.path)
            }
            _ => false,
        };
        if are_one {
            self.outgoing.truncate(1);
        }
        are_one
    }
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
fn keep(
    path: &Path,
    (identity, letter, mask): (&Identity, char, Mode),
) -> Result<File, Unstartable> {
    let write = || -> io::Result<File> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        if geteuid().is_root() {
            fchown(&file, Some(identity.uid), Some(identity.gid))?;
        }
        let mode = 0o666 & !mask.bits();
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file)
    };
    write().map_err(|source| Unstartable::Output {
        stream: stream_name(letter),
        path: path.to_owned(),
        source,
    })
}

const fn stream_name(letter: char) -> &'static str {
    match letter {
        'o' => "stdout",
        _ => "stderr",
    }
}

fn undelivered(kept: &str, wanted: &Path, problem: &io::Error) -> String {
    let wanted = wanted.display();
    let wanted = wanted.to_string();
    let failed = message(kept, &wanted, &format!("{wanted}: {problem}\n"));
    format!("{failed}{}", retained(kept))
}

/// Where stdout and stderr of a running attempt are; one path twice when they are joined. To be called with the user's
/// rights, because what is a folder counts.
pub(in crate::attempts) fn paths(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
) -> (PathBuf, PathBuf) {
    let output = entry.spec.output.clone().unwrap_or_default();
    let path = |letter: char| {
        let kept = PathBuf::from(entry.undelivered_file(letter));
        if kept.exists() {
            return kept;
        }
        if is_outgoing(entry, letter) {
            let name = default_output_name(&entry.spec, letter);
            return Path::new(&entry.outgoing_folder(letter)).join(name);
        }
        match destination(entry, identity, env, letter) {
            Destination::Here(path) => path,
            // Neither kept nor under way: there is nothing of it.
            Destination::There(there) => Path::new(&entry.outgoing_folder(letter)).join(there.name),
        }
    };
    let (stdout, stderr) = (|| path('o'), || path('e'));
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

fn is_same_file(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|file| (file.dev(), file.ino())).ok();
    let is_regular = one.metadata().is_ok_and(|file| file.is_file());
    is_regular && id(one) == id(other)
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
