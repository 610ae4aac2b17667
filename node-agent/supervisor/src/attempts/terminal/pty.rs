//! Pseudo terminals: made, given a size, and given away to the user whose programs run on them.
#![expect(unsafe_code, reason = "TIOCSWINSZ has no safe wrapper")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use capstan_proto::wire::WindowSize;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, fchown, geteuid, tcgetpgrp};

nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, Winsize);

/// Size of a terminal that nobody has told of.
pub(in crate::attempts) const USUAL: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// Both ends of a pseudo terminal.
#[derive(Debug)]
pub(in crate::attempts) struct Pty {
    /// Ours: what programs write is read here, and keys are written. Never blocks.
    pub(in crate::attempts) master: File,
    /// The programs' terminal.
    pub(in crate::attempts) slave: File,
}

impl Pty {
    /// A terminal that belongs to the user of this id, as one does on which a user logs in.
    pub(in crate::attempts) fn open(uid: u32, window: WindowSize) -> io::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        let slave = open(path.as_str(), flags, Mode::empty())?;
        if geteuid().is_root() {
            fchown(&slave, Some(Uid::from_raw(uid)), None)?;
        }
        // However the file system of terminals is mounted: nobody else writes on it, nor reads along.
        fchmod(&slave, Mode::S_IRUSR | Mode::S_IWUSR)?;
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let master = File::from(OwnedFd::from(master));
        resize(&master, window)?;
        let slave = File::from(slave);
        Ok(Self { master, slave })
    }
}

/// Gives the terminal a size; programs on it hear of it when it is another.
pub(in crate::attempts) fn resize(master: &File, window: WindowSize) -> io::Result<()> {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let size = Winsize {
        ws_row: number(window.rows),
        ws_col: number(window.columns),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one winsize, which outlives the call.
    unsafe { set_window_size(master.as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// Asks whatever is in front on the terminal to draw itself anew.
pub(in crate::attempts) fn redraw(master: &File) {
    if let Ok(group) = tcgetpgrp(master.as_fd()) {
        // It may have ended since.
        let _gone = killpg(group, Signal::SIGWINCH);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_written_on_one_end_is_read_on_the_other() {
        let Pty { mut master, slave } = Pty::open(geteuid().as_raw(), USUAL).expect("a terminal");
        let mode = nix::sys::stat::fstat(&slave).expect("it is open").st_mode;
        assert_eq!(mode & 0o777, 0o600);
        (&slave).write_all(b"hello\n").expect("written");
        let mut seen = [0; 64];
        let count = master.read(&mut seen).expect("read");
        assert_eq!(&seen[..count], b"hello\r\n");
        let nothing = master.read(&mut seen).expect_err("nothing is there");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
