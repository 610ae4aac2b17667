//! Our ends of a program's streams: a terminal, three pipes, or a connection to the engine in whose container it runs. None
//! of them ever blocks.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use capstan_proto::wire::WindowSize;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe2;

use super::engine::Frames;
use super::record::{Record, Source};
use crate::attempts::shim::terminal::Keys;
use crate::attempts::terminal::pty::{self, Pty};

pub(super) const READ_BYTES: usize = 8 << 10;
/// How often a stream is read before others have their turn.
const READS_MAX: usize = 16;

/// The program's ends: stdin, stdout, stderr.
pub(super) type Theirs = (File, File, File);

#[derive(Debug)]
pub(super) struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    has_terminal: bool,
    /// Of the engine's connection, on which both streams come; none for our own.
    frames: Option<Frames>,
}

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
        let theirs = (slave.try_clone()?, slave.try_clone()?, slave);
        let streams = Self {
            stdin: Some(master.try_clone()?),
            stdout: Some(master),
            stderr: None,
            has_terminal: true,
            frames: None,
        };
        Ok((streams, theirs))
    }

    fn pipes() -> io::Result<(Self, Theirs)> {
        let pipe = || pipe2(OFlag::O_CLOEXEC);
        let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
        let streams = Self {
            stdin: Some(unblocked(stdin.1)?),
            stdout: Some(unblocked(stdout.0)?),
            stderr: Some(unblocked(stderr.0)?),
            has_terminal: false,
            frames: None,
        };
        Ok((streams, (stdin.0.into(), stdout.1.into(), stderr.1.into())))
    }

    /// The engine's connection to a program in a container, on which `first` was read already.
    pub(super) fn of_engine(
        socket: OwnedFd,
        has_terminal: bool,
        first: &[u8],
        record: &mut Record,
    ) -> io::Result<Self> {
        let mut frames = Frames::new(has_terminal);
        frames.read(first, record);
        Ok(Self {
            stdin: Some(unblocked(socket.try_clone()?)?),
            stdout: Some(unblocked(socket)?),
            stderr: None,
            has_terminal,
            frames: Some(frames),
        })
    }

    pub(super) const fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Whether nothing can be read any more.
    pub(super) const fn are_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// A terminal of the engine's is given its size by way of the engine.
    pub(super) fn resize(&self, window: WindowSize) {
        let is_ours = self.has_terminal && self.frames.is_none();
        if let Some(master) = self.stdin.as_ref().filter(|_| is_ours) {
            // A terminal of the wrong size is better than none.
            let _refused = pty::resize(master, window);
        }
    }

    /// No more input.
    pub(super) fn close_input(&mut self) {
        if let Some(stdin) = self.stdin.take()
            && self.frames.is_some()
        {
            // Its other direction stays open. The engine may have closed it by now.
            let _closed = shutdown(stdin.as_raw_fd(), Shutdown::Write);
        }
    }

    /// Hangs up: what is left on a terminal hears of it. Pipes are read on.
    pub(super) fn hang_up(&mut self) {
        self.stdin = None;
        if self.has_terminal {
            self.stdout = None;
        }
    }

    /// Writes what is taken now; how many pieces are done with.
    pub(super) fn write(&mut self, keys: &mut Keys) -> u32 {
        let Some(stdin) = &mut self.stdin else {
            // It reads no more; the rest of its input is for nobody.
            return keys.clear();
        };
        let (done, is_read) = keys.write_to(stdin);
        if is_read {
            return done;
        }
        self.stdin = None;
        done + keys.clear()
    }

    /// Reads what is there, as far as it may be held; true when nothing more is there now. Returns how much, too.
    pub(super) fn read(&mut self, record: &mut Record) -> (bool, usize) {
        let Self {
            stdout,
            stderr,
            frames,
            ..
        } = self;
        let (is_out_dry, out) = read(stdout, record, |bytes, record| match frames {
            Some(frames) => frames.read(bytes, record),
            None => record.push(Source::Stdout, bytes),
        });
        let (is_err_dry, err) = read(stderr, record, |bytes, record| {
            record.push(Source::Stderr, bytes);
        });
        (is_out_dry && is_err_dry, out + err)
    }

    /// Reads what is there for nobody: the program would wait for a reader else.
    pub(super) fn drop_output(&mut self) {
        let mut nobody = Record::default();
        read(&mut self.stdout, &mut nobody, |_, _| {});
        read(&mut self.stderr, &mut nobody, |_, _| {});
    }

    pub(super) fn watched(&self, may_read: bool, may_write: bool) -> Vec<PollFd<'_>> {
        let mut watched = Vec::new();
        if may_read {
            let both = self.stdout.iter().chain(&self.stderr);
            watched.extend(both.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)));
        }
        if may_write {
            let stdin = self.stdin.iter();
            watched.extend(stdin.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLOUT)));
        }
        watched
    }
}

fn unblocked(fd: OwnedFd) -> io::Result<File> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(File::from(fd))
}

fn read(
    stream: &mut Option<File>,
    record: &mut Record,
    mut push: impl FnMut(&[u8], &mut Record),
) -> (bool, usize) {
    let mut bytes = [0; READ_BYTES];
    let mut total = 0;
    for _ in 0..READS_MAX {
        let Some(file) = stream else {
            return (true, total);
        };
        if !record.has_room(READ_BYTES) {
            return (false, total);
        }
        match file.read(&mut bytes) {
            Ok(count @ 1..) => {
                push(&bytes[..count], record);
                total += count;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (true, total),
            // A terminal without a program says so by an error.
            Ok(_) | Err(_) => *stream = None,
        }
    }
    (false, total)
}
