//! Our ends of a program's streams: a terminal, or three pipes.
#![expect(
    unsafe_code,
    reason = "watching a descriptor has no safe form that is not deprecated"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use capstan_proto::wire::WindowSize;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::unix::AsyncFd;

use super::pty::{self, Pty};

/// Longest piece of output, as the protocol says.
const PIECE_BYTES_MAX: usize = 8 << 10;

/// One end, which never blocks.
#[derive(Debug)]
pub(super) struct End(AsyncFd<File>);

impl End {
    fn new(file: File) -> io::Result<Self> {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // SAFETY: the file is never closed, nor another put in its place, while it is watched: it is dropped behind the
        // registration, and nobody gets it to change.
        let watched = unsafe { AsyncFd::register(file) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// What is there, when something is; none at the end. May be dropped at any time.
    pub(super) async fn read(&self) -> Option<Vec<u8>> {
        loop {
            let mut ready = self.0.readable().await.ok()?;
            let mut bytes = vec![0; PIECE_BYTES_MAX];
            match ready.try_io(|file| file.get_ref().read(&mut bytes)) {
                Ok(Ok(count @ 1..)) => {
                    bytes.truncate(count);
                    return Some(bytes);
                }
                // A terminal without a program says so by an error.
                Ok(Ok(_) | Err(_)) => return None,
                Err(_would_block) => {}
            }
        }
    }

    /// What is there now, by the kernel's word: the runtime may not have heard of it yet.
    pub(super) fn rest(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; PIECE_BYTES_MAX];
        let count = self.0.get_ref().read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        (count > 0).then_some(bytes)
    }

    /// Writes what is taken now, when something is. May be dropped at any time.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return written;
            }
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) stdin: Option<Arc<End>>,
    pub(super) stdout: Option<Arc<End>>,
    pub(super) stderr: Option<Arc<End>>,
    pub(super) has_terminal: bool,
}

/// The program's ends: stdin, stdout, stderr.
pub(super) type Theirs = [OwnedFd; 3];

impl Streams {
    /// A terminal of this size for the user of this id; pipes without a size.
    pub(super) fn open(uid: u32, window: Option<WindowSize>) -> io::Result<(Self, Theirs)> {
        match window {
            Some(window) => Self::terminal(uid, window),
            None => Self::pipes(),
        }
    }

    fn terminal(uid: u32, window: WindowSize) -> io::Result<(Self, Theirs)> {
        let Pty { master, slave } = Pty::open(uid, window)?;
        let theirs = [
            slave.try_clone()?.into(),
            slave.try_clone()?.into(),
            slave.into(),
        ];
        let end = Arc::new(End::new(master)?);
        let streams = Self {
            stdin: Some(end.clone()),
            stdout: Some(end),
            stderr: None,
            has_terminal: true,
        };
        Ok((streams, theirs))
    }

    fn pipes() -> io::Result<(Self, Theirs)> {
        let pipe = || pipe2(OFlag::O_CLOEXEC);
        let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
        let end = |fd: OwnedFd| End::new(File::from(fd)).map(|end| Some(Arc::new(end)));
        let streams = Self {
            stdin: end(stdin.1)?,
            stdout: end(stdout.0)?,
            stderr: end(stderr.0)?,
            has_terminal: false,
        };
        Ok((streams, [stdin.0, stdout.1, stderr.1]))
    }

    pub(super) fn resize(&self, window: WindowSize) {
        if let Some(end) = self.stdin.as_ref().filter(|_| self.has_terminal) {
            // A terminal of the wrong size is better than none.
            let _refused = pty::resize(end.0.get_ref(), window);
        }
    }
}

/// The next piece of a stream; never of one that is closed.
pub(super) async fn next(end: Option<&Arc<End>>) -> Option<Vec<u8>> {
    match end {
        Some(end) => end.read().await,
        None => std::future::pending().await,
    }
}
