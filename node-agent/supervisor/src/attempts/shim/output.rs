//! A job's stdout and stderr, opened live at their final path, with the user's rights and never blocking.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use capstan_proto::wire::{LaunchSpec, output_files::Join};
use capstan_types::{Env, expand_path};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::launch::Unstartable;
use crate::attempts::environment::{JobVariables, default_output_name};
use crate::attempts::record::Identity;

/// Most folders made for one path.
const FOLDERS_MAX: usize = 32;

/// The two streams; one file twice when they are joined.
pub(super) struct Streams {
    pub(super) stdout: File,
    pub(super) stderr: File,
}

/// Opens both. To be called with the user's rights and the job's umask.
pub(super) fn open(
    spec: &LaunchSpec,
    identity: &Identity,
    env: &Env,
) -> Result<Streams, Unstartable> {
    let output = spec.output.clone().unwrap_or_default();
    let place = |typed: &str, letter: char| {
        let name = default_output_name(spec, letter);
        if output.keep.contains(letter) || typed.is_empty() {
            return Place::In(PathBuf::from(&identity.home), name);
        }
        let path = expand_path(without_host(typed), &JobVariables(env));
        Place::At(PathBuf::from(path), name)
    };
    let open = |place: Place, stream: &'static str| place.open(stream, identity);
    let twice = |file: File| {
        let other = file.try_clone().map_err(Unstartable::Streams)?;
        Ok(Streams {
            stdout: other,
            stderr: file,
        })
    };
    match output.join() {
        Join::IntoStdout => twice(open(place(&output.stdout, 'o'), "stdout")?),
        Join::IntoStderr => twice(open(place(&output.stderr, 'e'), "stderr")?),
        Join::Separate => {
            let stdout = open(place(&output.stdout, 'o'), "stdout")?;
            let stderr = open(place(&output.stderr, 'e'), "stderr")?;
            if is_same_file(&stdout, &stderr) {
                // Two descriptions of one file would write over each other.
                return twice(stdout);
            }
            Ok(Streams { stdout, stderr })
        }
    }
}

/// Writes a line for the user, unless that would block (a pipe nobody reads).
pub(super) fn append(file: &mut File, line: &str) {
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
    fn open(self, stream: &'static str, identity: &Identity) -> Result<File, Unstartable> {
        let path = match self {
            Self::In(folder, name) => folder.join(name),
            Self::At(path, name) if path.is_dir() => path.join(name),
            Self::At(path, name) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                path.join(name)
            }
            Self::At(path, _) => path,
        };
        if !path.is_absolute() {
            return Err(Unstartable::RelativeOutput { stream, path });
        }
        if let Some(folder) = path.parent() {
            make_folder(folder, identity)?;
        }
        open_file(&path).map_err(|source| Unstartable::Output {
            stream,
            path,
            source,
        })
    }
}

/// Makes a missing folder when the deepest one that exists belongs to the user.
fn make_folder(folder: &Path, identity: &Identity) -> Result<(), Unstartable> {
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
    if missing.is_empty() {
        return Ok(());
    }
    if owner != identity.uid {
        return Err(Unstartable::OutputFolder {
            folder: folder.to_owned(),
            parent: existing.to_owned(),
            user: identity.user.clone(),
        });
    }
    // The umask takes away what the user does not want to give.
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o777).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Unstartable::Output {
                    stream: "output",
                    path: path.to_owned(),
                    source: error,
                });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o666)
        .custom_flags(flags.bits())
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_block_device() || kind.is_socket() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Only the opening must not block; the job's own writes behave as usual.
    let now = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(now - OFlag::O_NONBLOCK))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
