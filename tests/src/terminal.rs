//! A person at a terminal: a pseudo terminal on which a command of the cluster runs, keys that are typed, and what is shown.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use crate::{Cluster, User, wait_until};

/// A terminal of 24 rows and 80 columns with a command on it.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// Ours as well, or what was shown last would go with the command.
    slave: OwnedFd,
    child: Child,
    shown: String,
    /// Up to here it was waited for.
    seen: usize,
}

impl Terminal {
    /// Runs a shell line as `user` in `folder` on a new terminal, which is its controlling one.
    ///
    /// # Panics
    /// When the machine has no terminals left, or no `setsid`.
    #[must_use]
    pub fn run(cluster: &Cluster, user: &User, folder: &Path, line: &str) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a terminal can be made");
        let plain = cluster.shell(user, folder, line);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(plain.get_program());
        command.args(plain.get_args()).env_clear();
        let variables = plain.get_envs();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        command.env("TERM", "vt100").current_dir(folder);
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor can be cloned"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("setsid is installed");
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("it is ours");
        Self {
            master: File::from(pty.master),
            slave: pty.slave,
            child,
            shown: String::new(),
            seen: 0,
        }
    }

    /// Types keys.
    ///
    /// # Panics
    /// When the terminal takes none.
    pub fn keys(&mut self, keys: &str) {
        let mut rest = keys.as_bytes();
        wait_until("the keys are taken", || match self.master.write(rest) {
            Ok(count) => {
                rest = &rest[count..];
                if rest.is_empty() { Ok(()) } else { Err(None) }
            }
            Err(error) => Err(Some(error.to_string())),
        });
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    /// Waits until this is shown behind what was waited for before; gives what stands between, and it.
    pub fn wait_for(&mut self, what: &str) -> String {
        let Self {
            master,
            shown,
            seen,
            ..
        } = self;
        wait_until(&format!("{what:?} is shown"), || {
            read(master, shown);
            let behind = &shown[*seen..];
            match behind.find(what) {
                Some(at) => {
                    let found = behind[..at + what.len()].to_owned();
                    *seen += found.len();
                    Ok(found)
                }
                None => Err(shown[shown.len().saturating_sub(2000)..].to_owned()),
            }
        })
    }

    /// All that was shown.
    pub fn shown(&mut self) -> &str {
        read(&mut self.master, &mut self.shown);
        &self.shown
    }

    /// Gives the terminal another size, as a window that is pulled does.
    ///
    /// # Panics
    /// When there is no `stty`.
    pub fn resize(&self, rows: u16, columns: u16) {
        let path: PathBuf = ttyname(self.slave.as_fd()).expect("it is a terminal");
        let status = Command::new("stty")
            .arg("-F")
            .arg(path)
            .args(["rows", &rows.to_string(), "cols", &columns.to_string()])
            .status();
        assert!(status.expect("stty is installed").success());
    }

    /// Waits for the end of the command; its exit status.
    pub fn end(&mut self) -> i32 {
        let Self {
            master,
            shown,
            child,
            ..
        } = self;
        let status = wait_until("the command ends", || {
            read(master, shown);
            match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) | Err(_) => Err(shown[shown.len().saturating_sub(2000)..].to_owned()),
            }
        });
        status.code().unwrap_or(-1)
    }
}

fn read(master: &mut File, shown: &mut String) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that did not has waited for the end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
