//! What is known of one card over time: how much memory it holds when nobody is on it, and why it is out of use. Pure: the
//! time and what was seen come from outside.

use serde::{Deserialize, Serialize};

use crate::ports::{GpuHealth, GpuUse};

/// So much more than when it was idle may be in use on a card that nobody works on: drivers keep caches.
const SLACK_BYTES: u64 = 256 << 20;
/// A card that was never seen idle may hold so much with nobody on it.
const IDLE_BYTES_MAX: u64 = 1 << 30;
/// A card that was out of use and mends by itself has to look clean for so long.
const SELF_TEST_MS: u64 = 30_000;
/// So many looks in a row may miss a card before it counts as lost: a driver may be slow.
const MISSES_MAX: u32 = 3;

/// How a card is kept from jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TroubleKind {
    /// What an attempt left on it could not be removed.
    Quarantined,
    /// The hardware or the driver failed.
    Drained,
}

/// Why a card is out of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// How it is kept from jobs.
    pub kind: TroubleKind,
    /// Evidence, one line.
    pub reason: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// What was found can pass by itself: a self-test may end it.
    pub may_mend: bool,
}

/// One card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CardRecord {
    /// Least memory in use while nobody was on it.
    pub(super) idle_bytes: Option<u64>,
    pub(super) trouble: Option<Trouble>,
    /// Uncorrected errors when last looked.
    #[serde(skip)]
    errors: Option<u64>,
    #[serde(skip)]
    misses: u32,
    /// Since when it has looked clean, while it is out of use.
    #[serde(skip)]
    clean_since_ms: Option<u64>,
}

/// What a look at a card found beside what the card says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Processes that belong to no attempt that has the card, in words; empty when there are none.
    pub(super) strangers: String,
    /// An attempt has it, or its end is being looked after.
    pub(super) is_lent: bool,
    pub(super) now_ms: u64,
}

impl CardRecord {
    /// Takes in a look; returns what is on the card that should not be there, in words.
    pub(super) fn look(&mut self, seen: &GpuUse, around: &Surroundings) -> String {
        self.misses = 0;
        let dirt = self.dirt(seen, around);
        if !around.is_lent && dirt.is_empty() {
            let least = self.idle_bytes.unwrap_or(u64::MAX);
            self.idle_bytes = Some(seen.memory_used_bytes.min(least));
        }
        let failure = self.failure(seen);
        if let Some((reason, may_mend)) = failure {
            self.drain(reason, may_mend, around.now_ms);
            self.clean_since_ms = None;
        } else if dirt.is_empty() {
            self.mend(around.now_ms);
        } else {
            self.clean_since_ms = None;
        }
        dirt
    }

    /// Whether nothing of an attempt is left, as far as memory tells.
    pub(super) fn is_at_base_line(&self, memory_used_bytes: u64) -> bool {
        let allowed = self.idle_bytes.map(|idle| idle.saturating_add(SLACK_BYTES));
        memory_used_bytes <= allowed.unwrap_or(IDLE_BYTES_MAX)
    }

    fn dirt(&self, seen: &GpuUse, around: &Surroundings) -> String {
        if !around.strangers.is_empty() {
            return around.strangers.clone();
        }
        if around.is_lent || self.is_at_base_line(seen.memory_used_bytes) {
            return String::new();
        }
        let idle = self.idle_bytes.map_or_else(String::new, |idle| {
            format!(" ({} MiB when idle)", idle >> 20)
        });
        let used = seen.memory_used_bytes >> 20;
        format!("{used} MiB are in use by no process that the driver names{idle}")
    }

    /// What the card says of itself that takes it out of use, and whether it can pass.
    fn failure(&mut self, seen: &GpuUse) -> Option<(String, bool)> {
        let GpuHealth {
            is_repair_pending,
            has_repair_failed,
            shutdown_celsius,
        } = seen.health;
        let before = self.errors;
        self.errors = seen.detail.double_bit_errors.or(before);
        if has_repair_failed {
            let text = "no spare row is left for broken memory; the card is to be replaced";
            return Some((text.to_owned(), false));
        }
        if is_repair_pending {
            let text = "broken memory waits to be remapped; reset the card (nvidia-smi -r)";
            return Some((text.to_owned(), false));
        }
        // What was counted before we first looked may be old.
        let new = self
            .errors
            .zip(before)
            .map(|(now, old)| now.saturating_sub(old));
        if let Some(count) = new.filter(|count| *count > 0) {
            return Some((format!("{count} uncorrectable memory errors"), false));
        }
        let limit = shutdown_celsius?;
        let heat = seen.temperature_celsius;
        (heat >= limit).then(|| (format!("{heat} C, and it stops at {limit} C"), true))
    }

    /// The card did not answer, though it is one of this node's. True when that has just become a failure.
    pub(super) fn miss(&mut self, is_driver_silent: bool, now_ms: u64) -> bool {
        self.misses = self.misses.saturating_add(1);
        self.clean_since_ms = None;
        if self.misses != MISSES_MAX {
            return false;
        }
        let what = match is_driver_silent {
            true => "the NVIDIA driver does not answer",
            false => "the card does not answer the NVIDIA driver",
        };
        self.drain(
            format!("{what}; see nvidia-smi and the kernel log"),
            true,
            now_ms,
        );
        true
    }

    /// Whether it did not answer of late.
    pub(super) fn is_missing(&self) -> bool {
        self.misses > 0
    }

    /// Takes it out of use. What cannot mend is not replaced by what can, and the first evidence stays.
    pub(super) fn drain(&mut self, reason: String, may_mend: bool, now_ms: u64) {
        let is_as_bad = |old: &Trouble| {
            old.kind == TroubleKind::Drained && (!old.may_mend || may_mend == old.may_mend)
        };
        if self.trouble.as_ref().is_some_and(is_as_bad) {
            return;
        }
        self.clean_since_ms = None;
        self.trouble = Some(Trouble {
            kind: TroubleKind::Drained,
            reason,
            since_ms: now_ms,
            may_mend,
        });
    }

    /// Takes it out of use for what was left on it, unless it is out of use already.
    pub(super) fn quarantine(&mut self, reason: String, now_ms: u64) {
        self.clean_since_ms = None;
        self.trouble.get_or_insert(Trouble {
            kind: TroubleKind::Quarantined,
            reason,
            since_ms: now_ms,
            may_mend: true,
        });
    }

    /// The self-test: a card whose trouble can pass is in use again when it has looked clean for a while.
    fn mend(&mut self, now_ms: u64) {
        if !self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.may_mend)
        {
            return;
        }
        let since = *self.clean_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) >= SELF_TEST_MS {
            self.release();
        }
    }

    /// In use again; what still holds is found again by the next look.
    pub(super) fn release(&mut self) {
        self.trouble = None;
        self.clean_since_ms = None;
        self.misses = 0;
    }
}

#[cfg(test)]
mod tests {
    use capstan_types::CardId;

    use super::*;
    use crate::ports::GpuDetail;

    fn seen(memory_mib: u64) -> GpuUse {
        GpuUse {
            uuid: CardId::from("GPU-1"),
            utilization_percent: 0,
            memory_used_bytes: memory_mib << 20,
            temperature_celsius: 40,
            power_milliwatts: 0,
            processes: Vec::new(),
            detail: GpuDetail::default(),
            health: GpuHealth::default(),
        }
    }

    fn at(now_ms: u64) -> Surroundings {
        Surroundings {
            now_ms,
            ..Surroundings::default()
        }
    }

    #[test]
    fn memory_that_nobody_holds_is_dirt_above_the_base_line() {
        let mut card = CardRecord::default();
        assert_eq!(card.look(&seen(400), &at(0)), "");
        assert_eq!(card.look(&seen(600), &at(1)), "");
        let dirt = card.look(&seen(700), &at(2));
        assert!(
            dirt.contains("700 MiB") && dirt.contains("400 MiB when idle"),
            "{dirt}"
        );
        let lent = Surroundings {
            is_lent: true,
            ..at(3)
        };
        assert_eq!(card.look(&seen(40_000), &lent), "", "it is the attempt's");
        assert!(
            CardRecord::default()
                .look(&seen(2000), &at(0))
                .contains("2000 MiB")
        );
        assert_eq!(card.idle_bytes, Some(400 << 20));
    }

    #[test]
    fn a_quarantined_card_is_in_use_again_after_a_time_of_being_clean() {
        let mut card = CardRecord::default();
        card.look(&seen(0), &at(0));
        card.quarantine("left".to_owned(), 1);
        card.look(&seen(0), &at(2));
        card.look(&seen(9000), &at(20_000));
        card.look(&seen(0), &at(40_000));
        card.look(&seen(0), &at(69_999));
        assert!(
            card.trouble.is_some(),
            "the time begins anew with each dirt"
        );
        card.look(&seen(0), &at(70_000));
        assert_eq!(card.trouble, None);
    }

    #[test]
    fn failed_memory_stays_out_of_use_and_heat_passes() {
        let drained = |change: fn(&mut GpuUse)| {
            let mut card = CardRecord::default();
            let mut sick = seen(0);
            card.look(&sick, &at(0));
            change(&mut sick);
            card.look(&sick, &at(1));
            let was = card.trouble.clone().map(|trouble| trouble.kind);
            for now_ms in [2, 60_000, 120_000] {
                card.look(&seen(0), &at(now_ms));
            }
            (was, card.trouble.is_some())
        };
        let forever = (Some(TroubleKind::Drained), true);
        assert_eq!(
            drained(|card| card.health.has_repair_failed = true),
            forever
        );
        assert_eq!(
            drained(|card| card.health.is_repair_pending = true),
            forever
        );
        let passing = (Some(TroubleKind::Drained), false);
        let hot = |card: &mut GpuUse| {
            card.health.shutdown_celsius = Some(95);
            card.temperature_celsius = 95;
        };
        assert_eq!(drained(hot), passing);
        let warm = |card: &mut GpuUse| card.health.shutdown_celsius = Some(95);
        assert_eq!(drained(warm), (None, false));
    }

    #[test]
    fn only_errors_that_are_new_drain() {
        let mut card = CardRecord::default();
        let mut look = |errors, now_ms| {
            let mut seen = seen(0);
            seen.detail.double_bit_errors = errors;
            card.look(&seen, &at(now_ms));
            card.trouble.is_some()
        };
        assert!(!look(Some(3), 0));
        assert!(!look(None, 1));
        assert!(!look(Some(3), 2));
        assert!(look(Some(4), 3));
    }

    #[test]
    fn a_card_that_does_not_answer_is_lost_after_some_looks_and_not_twice() {
        let mut card = CardRecord::default();
        let missed: Vec<bool> = (0..5).map(|now_ms| card.miss(false, now_ms)).collect();
        assert_eq!(missed, [false, false, true, false, false]);
        for now_ms in [10, 40_010] {
            card.look(&seen(0), &at(now_ms));
        }
        assert_eq!(card.trouble, None, "it came back");
    }

    #[test]
    fn what_cannot_pass_outweighs_what_can() {
        let mut card = CardRecord::default();
        card.drain("hot".to_owned(), true, 0);
        card.drain("XID 79".to_owned(), false, 1);
        card.drain("hot".to_owned(), true, 2);
        card.quarantine("left".to_owned(), 3);
        assert_eq!(card.trouble.as_ref().unwrap().reason, "XID 79");
        card.release();
        assert_eq!(card.trouble, None);
    }
}
