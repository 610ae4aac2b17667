//! Where tasks write: what the job itself writes to, by way of its first process, whatever our own streams are; with `-o`
//! what they print goes to our stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getsid;

/// The two streams of tasks.
pub(super) struct Output {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Output {
    /// Opens them; `captures` is `-o`.
    pub(super) fn open(captures: bool) -> Self {
        Self {
            stdout: of_job(1).filter(|_| !captures),
            stderr: of_job(2),
        }
    }

    /// Writes to the job's stdout, or ours.
    pub(super) fn stdout(&mut self, bytes: &[u8]) {
        match &mut self.stdout {
            Some(file) => write(file, bytes),
            None => write(&mut io::stdout().lock(), bytes),
        }
    }

    /// Writes to the job's stderr, or ours.
    pub(super) fn stderr(&mut self, bytes: &[u8]) {
        match &mut self.stderr {
            Some(file) => write(file, bytes),
            None => write(&mut io::stderr().lock(), bytes),
        }
    }
}

/// A stream of the process that leads our session, which is the job's first. Appending, as the job does itself, so that
/// nobody writes over anybody. None when that process is not ours to look at.
fn of_job(fd: u32) -> Option<File> {
    let leader = getsid(None).ok()?;
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/{leader}/fd/{fd}"))
        .ok()
}

/// A task's words that nobody can take are lost, as they would be if it wrote them itself.
fn write<W: Write + AsFd>(to: &mut W, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return,
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                // Interrupted or not, writing is tried again.
                let _ready = poll(&mut ready, PollTimeout::from(1000u16));
            }
            Err(_) => return,
        }
    }
    let _lost = to.flush();
}

/// A line on our stderr.
pub(crate) fn say(text: &str) {
    write(&mut io::stderr().lock(), format!("{text}\n").as_bytes());
}
