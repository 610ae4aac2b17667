//! The caller's terminal: its size, and its raw mode while a job has it.
#![expect(unsafe_code, reason = "TIOCGWINSZ has no safe wrapper")]

use std::io::{IsTerminal, stdin};

use capstan_proto::wire::WindowSize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Size of the terminal that is stdin; none when stdin is no terminal.
pub(crate) fn size() -> Option<WindowSize> {
    if !stdin().is_terminal() {
        return None;
    }
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel writes one winsize, which outlives the call.
    let done = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    // A terminal that was never given a size, as by some programs that make one: the usual one.
    let usual = |seen, usual| {
        if done == 0 && seen > 0 {
            u32::from(seen)
        } else {
            usual
        }
    };
    Some(WindowSize {
        rows: usual(size.ws_row, 24),
        columns: usual(size.ws_col, 80),
    })
}

/// Raw mode, until dropped.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Every key goes to the job; none when stdin is no terminal.
    pub(crate) fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone by now.
        tcsetattr(stdin(), SetArg::TCSADRAIN, &self.0).ok();
    }
}
