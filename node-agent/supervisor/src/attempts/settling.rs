//! Before an attempt its cards are looked at once more: the server's word may be old. After it they go back only when nobody
//! is on them and their memory is at the base line. What the attempt left there is ended; a card that stays dirty all the
//! same is quarantined with the evidence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use capstan_proto::wire::{AttemptEnded, Card, LaunchSpec};
use capstan_types::{AttemptId, CardId};
use nix::sys::signal::Signal;

use super::aimed;
use super::cgroup::CgroupTree;
use super::keeper::{Keeping, blocking, refuse};
use super::live::{LiveAttempt, LiveTable, now_ms};
use super::proc;
use super::site::Refused;
use super::table::Supervisor;
use super::tasks::TaskTable;
use crate::cards::{Tenants, Warden, strangers};
use crate::ports::{Containers, GpuUse, Gpus};

/// How long cards may take to become clean.
const CARDS_WAIT: Duration = Duration::from_secs(5);
/// What is still on them after so long is ended.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Who has which card, by the kernel's word.
pub(super) struct Holders<'a> {
    pub(super) live: &'a LiveTable,
    pub(super) cgroups: &'a CgroupTree,
    pub(super) tasks: &'a TaskTable,
}

impl Tenants for Holders<'_> {
    fn is_lent(&self, card: &CardId) -> bool {
        let all = self.live.all();
        all.iter().any(|attempt| attempt.has_card(card.as_str()))
    }

    fn is_tenant(&self, card: &CardId, pid: u32) -> bool {
        if let Some(live) = self.live.attempt_of(pid, self.cgroups) {
            return live.has_card(card.as_str());
        }
        // Attempts whose script runs on another node have tasks here, and cards that came with the order for those.
        let guest = self.cgroups.attempt_of(pid);
        guest.is_some_and(|attempt: AttemptId| {
            self.tasks.has(attempt) && self.tasks.visits().has_card(attempt, card.as_str())
        })
    }
}

impl Supervisor {
    /// The attempts that have the card.
    #[must_use]
    pub fn tenants(&self, card: &str) -> Vec<AttemptId> {
        let all = self.live.all();
        let theirs = all.iter().filter(|attempt| attempt.has_card(card));
        theirs.map(|attempt| attempt.entry.attempt()).collect()
    }

    pub(super) fn holders(&self) -> Holders<'_> {
        Holders {
            live: &self.live,
            cgroups: &self.site.cgroups,
            tasks: &self.tasks,
        }
    }
}

/// The end of an attempt that would get a card which is not clean.
pub(super) async fn look_before<C: Containers, G: Gpus>(
    shared: &Keeping<C, G>,
    spec: &LaunchSpec,
) -> Option<AttemptEnded> {
    if spec.cards.is_empty() {
        return None;
    }
    let (shared, spec) = (shared.clone(), spec.clone());
    blocking(move || {
        let (gpus, warden) = (&*shared.gpus, &shared.warden);
        let (card, what) = unclean_before(&spec.cards, gpus, warden, &shared.holders())?;
        let node = shared.site.node().to_owned();
        let unclean_cards = vec![card.clone()];
        let refused = Refused::Unclean { card, node, what };
        tracing::warn!(attempt = spec.attempt, %refused, "given back");
        Some(AttemptEnded {
            unclean_cards,
            ..refuse(&shared.site, spec, &refused)
        })
    })
    .await
}

impl<C, G> Keeping<C, G> {
    pub(super) fn holders(&self) -> Holders<'_> {
        Holders {
            live: &self.live,
            cgroups: &self.site.cgroups,
            tasks: &self.tasks,
        }
    }
}

/// The first of `cards` with something on it before an attempt gets it, and what that is; what passes at once is not heeded.
/// Of a card that does not answer at all the warden judges, over several looks. Blocks for a moment.
fn unclean_before(
    cards: &[Card],
    gpus: &impl Gpus,
    warden: &Warden,
    holders: &Holders<'_>,
) -> Option<(String, String)> {
    let began = Instant::now();
    loop {
        let uses = gpus.loads();
        let is_ours = |seen: &&GpuUse| cards.iter().any(|card| seen.uuid.as_str() == card.uuid);
        let mut seen = uses.iter().filter(is_ours);
        let unclean = seen.find(|seen| !warden.is_clean(seen, holders))?;
        if began.elapsed() > PATIENCE {
            return Some((unclean.uuid.to_string(), found_on(unclean, holders)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until the cards of an attempt that is over are clean, and ends what it left on them. Returns those that are not
/// clean in the end. Blocks for seconds.
pub(super) fn settle(
    attempt: &LiveAttempt,
    gpus: &impl Gpus,
    warden: &Warden,
    holders: &Holders<'_>,
) -> Vec<String> {
    let cards = attempt.entry.spec.cards.iter();
    let mut unclean: BTreeSet<CardId> =
        cards.map(|card| CardId::from(card.uuid.as_str())).collect();
    let began = Instant::now();
    while !unclean.is_empty() {
        let uses = gpus.loads();
        unclean.retain(|card| {
            let seen = uses.iter().find(|seen| seen.uuid == *card);
            !seen.is_some_and(|seen| warden.is_clean(seen, holders))
        });
        let left = uses.iter().filter(|seen| unclean.contains(&seen.uuid));
        if began.elapsed() > CARDS_WAIT {
            left.for_each(|seen| {
                warden.quarantine(&seen.uuid, &evidence(attempt, seen, holders), now_ms())
            });
            break;
        }
        if began.elapsed() > PATIENCE {
            left.for_each(|seen| end_left(attempt, seen, holders));
        }
        if !unclean.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    unclean.iter().map(ToString::to_string).collect()
}

/// Ends processes on the card that are the attempt's user's, began after the attempt did and belong to no other: they
/// escaped from it. Anybody else's are evidence.
fn end_left(attempt: &LiveAttempt, seen: &GpuUse, holders: &Holders<'_>) {
    let Some(identity) = &attempt.entry.identity else {
        return;
    };
    let shim_ticks = attempt.marked_shim().start_ticks;
    let escaped = |pid: u32| {
        let is_theirs = proc::real_uid(pid) == Some(identity.uid) && identity.uid != 0;
        let is_later = proc::stat(pid).is_some_and(|stat| stat.start_ticks >= shim_ticks);
        let is_others = holders.live.attempt_of(pid, holders.cgroups).is_some();
        is_theirs && is_later && shim_ticks > 0 && !is_others && !holders.is_tenant(&seen.uuid, pid)
    };
    for process in seen.processes.iter().filter(|process| escaped(process.pid)) {
        tracing::warn!(
            attempt = %attempt.entry.attempt(), pid = process.pid, card = %seen.uuid,
            "a process that escaped from the attempt is ended"
        );
        // It may have ended since.
        let is_it = || escaped(process.pid);
        let _killed = aimed::send_one(process.pid, Signal::SIGKILL, is_it);
    }
}

fn evidence(attempt: &LiveAttempt, seen: &GpuUse, holders: &Holders<'_>) -> String {
    let what = found_on(seen, holders);
    format!("after job {}: {what}", attempt.entry.spec.job_id)
}

/// What keeps a card from being clean.
fn found_on(seen: &GpuUse, holders: &Holders<'_>) -> String {
    let foreign = seen
        .processes
        .iter()
        .filter(|process| !holders.is_tenant(&seen.uuid, process.pid));
    let left = strangers(&foreign.copied().collect::<Vec<_>>());
    match left.is_empty() {
        true => format!(
            "{} MiB are in use by no process",
            seen.memory_used_bytes >> 20
        ),
        false => left,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ports::{GpuDetail, GpuHealth, GpuInventory};

    /// Cards with so many bytes in use, look by look; the last look holds.
    struct Looks(Mutex<Vec<Vec<(&'static str, u64)>>>);

    impl Gpus for Looks {
        fn inventory(&self) -> GpuInventory {
            GpuInventory::default()
        }

        fn usage(&self) -> Vec<GpuUse> {
            let mut looks = self.0.lock().unwrap();
            let look = match looks.len() {
                1 => looks[0].clone(),
                _ => looks.remove(0),
            };
            let seen = look.into_iter().map(|(uuid, bytes)| GpuUse {
                uuid: CardId::from(uuid),
                utilization_percent: 0,
                memory_used_bytes: bytes,
                temperature_celsius: 0,
                power_milliwatts: 0,
                processes: Vec::new(),
                detail: GpuDetail::default(),
                health: GpuHealth::default(),
            });
            seen.collect()
        }
    }

    fn check(looks: &[&[(&'static str, u64)]], expected: Option<(&str, &str)>) {
        let folder = tempfile::tempdir().unwrap();
        let warden = Warden::open(folder.path(), "boot");
        let looks = looks.iter().map(|look| look.to_vec()).collect();
        let holders = Holders {
            live: &LiveTable::default(),
            cgroups: &CgroupTree::default(),
            tasks: &TaskTable::default(),
        };
        let wanted = ["GPU-1", "GPU-2"].map(|uuid| Card {
            uuid: uuid.to_owned(),
            ..Card::default()
        });
        let found = unclean_before(&wanted, &Looks(Mutex::new(looks)), &warden, &holders);
        let found = found
            .as_ref()
            .map(|(card, what)| (card.as_str(), what.as_str()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_card_with_something_on_it_is_not_given_to_an_attempt() {
        const IDLE: u64 = 5 << 20;
        const USED: u64 = 9000 << 20;
        check(&[&[("GPU-1", IDLE), ("GPU-2", IDLE)]], None);
        let what = "9000 MiB are in use by no process";
        check(
            &[&[("GPU-1", IDLE), ("GPU-2", USED)]],
            Some(("GPU-2", what)),
        );
        // Others' cards are others' affair, what passes at once is not heeded, and of one that is silent the warden judges.
        check(
            &[&[("GPU-1", IDLE), ("GPU-2", IDLE), ("GPU-3", USED)]],
            None,
        );
        check(
            &[
                &[("GPU-1", USED), ("GPU-2", IDLE)],
                &[("GPU-1", IDLE), ("GPU-2", IDLE)],
            ],
            None,
        );
        check(&[&[("GPU-1", IDLE)]], None);
    }
}
