//! How far the kernel's log has been dealt with: up to where an administrator has forgiven what it says, and up to where jobs
//! were told of it. It outlives the agent, which reads the whole log again when it starts, and not the kernel, which begins
//! a new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file's name, in the agent's folder.
const FILE: &str = "kernel-log";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Microseconds of the kernel's clock, of the last record that was dealt with so; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    forgiven_us: u64,
    told_us: u64,
}

/// The marks of one boot of the kernel.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    boot_id: String,
    /// Jobs were told up to here by an agent before.
    told_before_us: u64,
    reached: Mutex<Reached>,
}

impl Mark {
    /// As an agent before left it in this folder.
    pub(super) fn open(folder: &Path) -> Self {
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::of_boot(folder, boot_id.trim())
    }

    fn of_boot(folder: &Path, boot_id: &str) -> Self {
        let path = folder.join(FILE);
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let reached = parse(&kept, boot_id).unwrap_or_default();
        Self {
            told_before_us: reached.told_us,
            reached: Mutex::new(reached),
            path,
            boot_id: boot_id.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record of this time was forgiven.
    pub(super) fn is_forgiven(&self, at_us: u64) -> bool {
        at_us <= self.lock().forgiven_us
    }

    /// Whether an agent before has told jobs of a record of this time. Those of our own come late and out of order.
    pub(super) const fn is_told(&self, at_us: u64) -> bool {
        at_us <= self.told_before_us
    }

    /// All records up to this time are forgiven. Blocks for a moment.
    pub(super) fn forgive(&self, at_us: u64) {
        self.change(|reached| reached.forgiven_us = reached.forgiven_us.max(at_us));
    }

    /// Jobs were told of records up to this time. Blocks for a moment.
    pub(super) fn tell(&self, at_us: u64) {
        self.change(|reached| reached.told_us = reached.told_us.max(at_us));
    }

    fn change(&self, change: impl Fn(&mut Reached)) {
        let mut reached = self.lock();
        let before = *reached;
        change(&mut reached);
        if *reached == before {
            return;
        }
        if let Err(error) = self.write(*reached) {
            // It holds until the agent ends.
            tracing::warn!(path = %self.path.display(), %error, "how far the kernel's log was dealt with cannot be written down");
        }
    }

    fn write(&self, reached: Reached) -> io::Result<()> {
        let Reached {
            forgiven_us,
            told_us,
        } = reached;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{} {forgiven_us} {told_us}", self.boot_id)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

/// Of another boot there is nothing to know.
fn parse(kept: &str, boot_id: &str) -> Option<Reached> {
    let mut words = kept.split_whitespace();
    (words.next()? == boot_id).then_some(())?;
    Some(Reached {
        forgiven_us: words.next()?.parse().ok()?,
        told_us: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dealt_with_is_known_to_the_next_agent_and_not_after_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark::of_boot(folder.path(), "one");
        assert!(!mark.is_forgiven(1) && !mark.is_told(1));
        mark.forgive(500);
        mark.tell(700);
        mark.forgive(400);
        assert!(mark.is_forgiven(500) && !mark.is_forgiven(501));
        assert!(!mark.is_told(700), "by an agent before");
        let mark = Mark::of_boot(folder.path(), "one");
        assert!(mark.is_forgiven(500) && !mark.is_forgiven(501));
        assert!(mark.is_told(700) && !mark.is_told(701));
        let mark = Mark::of_boot(folder.path(), "two");
        assert!(!mark.is_forgiven(1) && !mark.is_told(1));
        fs::write(folder.path().join(FILE), "one x").unwrap();
        assert!(!Mark::of_boot(folder.path(), "one").is_forgiven(1));
    }
}
