//! What the server's own records say of the chaos: the journal, change by change, and the accounting log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use capstan_core::{JobState, Run, State};
use capstan_types::{ServerName, Timestamp};

use super::done::{self, Moment};

/// What the journal has.
#[derive(Default)]
pub(super) struct Journal {
    /// The job of each attempt that was ordered.
    pub(super) jobs: BTreeMap<u64, String>,
    /// The cards of each attempt, as a job's list of cards has them: `node02-gpu1`.
    pub(super) lent: BTreeMap<u64, BTreeSet<String>>,
    /// When attempts of a job began to run, by its name.
    pub(super) begun: BTreeMap<String, BTreeSet<Moment>>,
    /// Rules that were broken at some moment.
    pub(super) breaches: BTreeSet<String>,
    /// Changes that were looked at.
    pub(super) changes: usize,
}

/// Walks the journal in the server's state folder: after each change no card and no slot is in two attempts.
pub(super) fn journal(state: &Path, server: &ServerName) -> Journal {
    let mut journal = Journal::default();
    let replay = capstan_store::replay(&state.join("store")).unwrap();
    let mut at = replay.start.clone();
    for record in replay {
        for change in &record.unwrap().changes {
            at.absorb(change);
            journal.changes += 1;
        }
        look(&at, server, &mut journal);
    }
    journal
}

fn look(state: &State, server: &ServerName, journal: &mut Journal) {
    let mut holders = Holders::default();
    for job in state.jobs() {
        let run = match &job.state {
            JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => run,
            JobState::Pending | JobState::Ended(_) => continue,
        };
        let name = job.id.on(server);
        let begun = run.started.map(|(at, _)| moment(at));
        journal.begun.entry(name.clone()).or_default().extend(begun);
        journal.jobs.insert(run.attempt.0, name);
        journal.lent.insert(run.attempt.0, cards(run));
        journal
            .breaches
            .extend(held(run).filter_map(|thing| holders.take(thing, run.attempt.0)));
    }
}

fn moment(at: Timestamp) -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago_ms = (since.as_millis() as u64).saturating_sub(at.0);
    done::now().saturating_sub(ago_ms / 10)
}

/// Who holds what at one moment.
#[derive(Default)]
pub(super) struct Holders(BTreeMap<String, u64>);

impl Holders {
    /// Gives a thing to an attempt; a breach when another one has it.
    pub(super) fn take(&mut self, thing: String, attempt: u64) -> Option<String> {
        let before = self.0.insert(thing.clone(), attempt);
        let before = before.filter(|before| *before != attempt)?;
        Some(format!(
            "{thing} was in attempts {before} and {attempt} at once"
        ))
    }
}

/// Cards as a job's list of them has them.
fn cards(run: &Run) -> BTreeSet<String> {
    let of_share = run.shares.iter().flat_map(|share| {
        let cards = share.cards.iter();
        cards.map(|card| format!("{}-gpu{}", share.node, card.index))
    });
    of_share.collect()
}

/// Cards by UUID, and slots.
fn held(run: &Run) -> impl Iterator<Item = String> {
    run.shares.iter().flat_map(|share| {
        let cards = share
            .cards
            .iter()
            .map(|card| format!("card {:?}", card.uuid));
        let slots = share.slots.iter();
        let slots = slots.map(|slot| format!("slot {} of {}", slot, share.node));
        cards.chain(slots).collect::<Vec<_>>()
    })
}

/// Of one job, what the accounting log has.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) starts: usize,
    /// The statuses of its E records; none of one that names no status.
    pub(super) ends: Vec<Option<i32>>,
}

pub(super) fn accounting(state: &Path) -> BTreeMap<String, Records> {
    let mut found: BTreeMap<String, Records> = BTreeMap::new();
    for file in fs::read_dir(state.join("accounting")).unwrap().flatten() {
        let text = fs::read_to_string(file.path()).unwrap();
        for line in text.lines() {
            let mut fields = line.splitn(4, ';').skip(1);
            let (Some(letter), Some(job)) = (fields.next(), fields.next()) else {
                continue;
            };
            let records = found.entry(job.to_owned()).or_default();
            let mut status = || {
                let words = fields.next()?.split(' ');
                let mut status = words.filter_map(|word| word.strip_prefix("Exit_status="));
                status.next()?.parse().ok()
            };
            match letter {
                "S" => records.starts += 1,
                "E" => records.ends.push(status()),
                _ => {}
            }
        }
    }
    found
}
