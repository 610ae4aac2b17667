//! Which attempts were there when the kernel complained: by process, by cgroup, by card, or by having run at the time.

use super::live::{LiveAttempt, LiveTable};
use super::table::Supervisor;

/// An attempt that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// `att-57` as a number.
    pub attempt: u64,
    /// `123.hn1`.
    pub job_id: String,
    /// Whose it is.
    pub user: String,
}

impl Witness {
    fn of(live: &LiveAttempt) -> Self {
        Self {
            attempt: live.entry.spec.attempt,
            job_id: live.entry.spec.job_id.clone(),
            user: live.entry.spec.user.clone(),
        }
    }
}

impl Supervisor {
    /// The attempt that process `pid` belongs to. Blocks for a moment.
    #[must_use]
    pub fn witness_of_process(&self, pid: u32) -> Option<Witness> {
        let live = self.live.attempt_of(pid, &self.site.cgroups)?;
        Some(Witness::of(&live))
    }

    /// The attempt in whose group `path` (`/capstan/1a2b3c4d/att-57/…`) is.
    #[must_use]
    pub fn witness_of_group(&self, path: &str) -> Option<Witness> {
        self.find(|live| {
            let own = live.entry.cgroup.as_str();
            let below = path.strip_prefix(own).filter(|_| !own.is_empty());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
        .into_iter()
        .next()
    }

    /// The attempts that have the card at this address of PCI, or a part of it; `0000:3b:00` without its function as well.
    #[must_use]
    pub fn witnesses_of_card(&self, address: &str) -> Vec<Witness> {
        self.find(|live| {
            let mut cards = live.entry.spec.cards.iter();
            cards.any(|card| is_same_slot(&card.pci_address, address))
        })
    }

    /// The attempts that run and ran at this time, milliseconds since 1970.
    #[must_use]
    pub fn witnesses_at(&self, at_ms: u64) -> Vec<Witness> {
        self.find(|live| (1..=at_ms).contains(&live.started_ms()))
    }

    fn find(&self, is_meant: impl Fn(&LiveAttempt) -> bool) -> Vec<Witness> {
        let all = LiveTable::all(&self.live);
        let meant = all.iter().filter(|live| is_meant(live));
        meant.map(|live| Witness::of(live)).collect()
    }
}

/// NVML writes `00000000:3B:00.0`, the driver's messages `0000:3b:00`.
fn is_same_slot(card: &str, told: &str) -> bool {
    let slot = |address: &str| {
        let address = address.to_ascii_lowercase();
        let mut parts = address.split([':', '.']);
        let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
        Some([number()?, number()?, number()?])
    };
    slot(card).is_some_and(|card| slot(told) == Some(card))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_and_nvml_name_the_same_slot() {
        assert!(is_same_slot("00000000:3B:00.0", "0000:3b:00"));
        assert!(is_same_slot("00000000:3B:00.0", "0000:3b:00.0"));
        assert!(!is_same_slot("00000000:3B:00.0", "0000:3c:00"));
        assert!(!is_same_slot("", ""));
        assert!(!is_same_slot("00000000:3B:00.0", "3b"));
    }
}
