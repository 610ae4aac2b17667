//! Ordinary users for tests. Made once per machine with `useradd`; tests that need them must run as root.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use nix::unistd::{Gid, Uid, chown};

static MAKING: Mutex<()> = Mutex::new(());

/// An ordinary user of this host.
#[derive(Clone, Debug)]
pub struct User {
    /// Login name.
    pub name: &'static str,
    /// Its uid.
    pub uid: u32,
    /// Its login group.
    pub gid: u32,
    /// Its home folder.
    pub home: PathBuf,
}

impl User {
    /// The first test user.
    #[must_use]
    pub fn alice() -> Self {
        Self::ensure("capstan-alice")
    }

    /// The second test user.
    #[must_use]
    pub fn bob() -> Self {
        Self::ensure("capstan-bob")
    }

    /// A fresh folder of this user under its home, empty.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.home.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("an old test folder can be removed");
        }
        std::fs::create_dir_all(&path).expect("the home folder is there");
        self.own(&path);
        path
    }

    /// Gives `path` to this user.
    ///
    /// # Panics
    /// When the test does not run as root.
    pub fn own(&self, path: &std::path::Path) {
        chown(
            path,
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
        )
        .expect("root may give files away");
    }

    fn ensure(name: &'static str) -> Self {
        let _one_at_a_time = MAKING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(user) = Self::find(name) {
            return user;
        }
        let made = Command::new("useradd")
            .args(["-m", "-s", "/bin/bash", name])
            .output();
        let made = made.expect("useradd is installed");
        let text = String::from_utf8_lossy(&made.stderr).into_owned();
        Self::find(name).unwrap_or_else(|| panic!("useradd {name}: {text}"))
    }

    fn find(name: &'static str) -> Option<Self> {
        let user = nix::unistd::User::from_name(name).ok().flatten()?;
        Some(Self {
            name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
        })
    }
}
