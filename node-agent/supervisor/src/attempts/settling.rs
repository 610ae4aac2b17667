//! After an attempt: its cards go back only when nobody is on them and their memory is at the base line. What the attempt
//! left there is ended; a card that stays dirty all the same is quarantined with the evidence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use capstan_types::{AttemptId, CardId};
use nix::sys::signal::Signal;

use super::aimed;
use super::cgroup::CgroupTree;
use super::live::{LiveAttempt, LiveTable, now_ms};
use super::proc;
use super::table::Supervisor;
use super::tasks::TaskTable;
use crate::cards::{Tenants, Warden, strangers};
use crate::ports::{GpuUse, Gpus};

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
    let foreign = seen
        .processes
        .iter()
        .filter(|process| !holders.is_tenant(&seen.uuid, process.pid));
    let left = strangers(&foreign.copied().collect::<Vec<_>>());
    let what = match left.is_empty() {
        true => format!(
            "{} MiB are in use by no process",
            seen.memory_used_bytes >> 20
        ),
        false => left,
    };
    format!("after job {}: {what}", attempt.entry.spec.job_id)
}
