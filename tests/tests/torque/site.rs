//! The site of the recorded sessions, brought up and down by `scripts/torque-cases`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use capstan_tests::cluster::{binaries, sources};

/// Its users and names belong to the host, so there is one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The folder of the site for what its commands keep for a while.
const SCRATCH: &str = "scratch";

/// The site while it is up.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    path: String,
    _alone: MutexGuard<'static, ()>,
}

/// Users and host names can be added only by root; says so otherwise.
pub(crate) fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        let line = b"skipped: needs root to add users and host names\n";
        std::io::Write::write_all(&mut std::io::stderr(), line).ok();
    }
    is_root
}

impl Site {
    /// Brings it up, with more arguments for `torque-cases up`.
    #[track_caller]
    pub(crate) fn up(arguments: &[&str]) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new()
            .prefix("capstan-torque-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let scratch = folder.path().join(SCRATCH);
        std::fs::create_dir(&scratch).unwrap();
        std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o1777)).unwrap();
        let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let path = format!("{}:{usual}", folder.path().join("bin").display());
        let site = Self {
            folder,
            path,
            _alone: alone,
        };
        let ran = site.script("up", arguments);
        assert!(ran.status.success(), "{ran:?}");
        site
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command as root with the site's commands on its PATH. What it leaves in its temporary folder goes with the site.
    #[track_caller]
    pub(crate) fn run(&self, command: &mut Command) -> Output {
        let command = command.env("PATH", &self.path).stdin(Stdio::null());
        let command = command.env("TMPDIR", self.path().join(SCRATCH));
        command.output().unwrap()
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(sources().join("scripts/torque-cases"));
        command.arg(verb).arg(self.path()).args(arguments);
        command.env("CAPSTAN_BIN_DIR", binaries());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let ran = self.script("down", &[]);
        if !ran.status.success() && !std::thread::panicking() {
            panic!("torque-cases down: {ran:?}");
        }
    }
}
