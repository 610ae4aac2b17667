//! What must be true after the chaos: of cards, of statuses, of output, of submissions. Each rule gives its breaches. What
//! excuses a job is only what was done to that very job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::done::{Dirty, Done, Moment, Sent, moment};
use super::past::Records;
use super::work::Kind;

/// A look at a card is so much older than the first word of the script that got it, at most.
const LOOK: Moment = 300;
/// A time of the journal and one of the host's clock differ by so much at most.
const ROUNDING: Moment = 100;
/// An engine that was killed is back, and knows what became of its containers, after so long at most.
const ENGINE: Moment = 1500;
/// A kill comes so much later than its note, at most.
const ABOUT: Moment = 100;
/// An engine has passed on what a container printed after so long, at most.
const PASSED_ON: Moment = 500;

/// One run of a job, as the job itself told it.
#[derive(Debug)]
pub(super) struct Run {
    /// The name of its file, which is in its output too.
    name: String,
    pub(super) job: String,
    pub(super) first: Moment,
    last: Moment,
    cards: Vec<String>,
    /// Per node of the job, by its number there, the indices of the cards that its programs were told to use.
    told: Vec<(usize, Vec<String>)>,
    end: Option<i32>,
    /// How many times it said that it lives, by itself.
    beats: usize,
}

impl Run {
    /// Whether a program on this node of the job was told to use its cards there. Containers have their own numbers.
    fn is_told(&self, kind: Option<Kind>, node: usize, indices: &[String]) -> bool {
        let cards = self.cards.iter();
        let cards: Vec<(&str, &str)> = cards.filter_map(|card| card.rsplit_once("-gpu")).collect();
        let mut nodes: Vec<&str> = cards.iter().map(|(name, _)| *name).collect();
        nodes.dedup();
        let own = cards
            .iter()
            .filter(|(name, _)| nodes.get(node) == Some(name));
        let own: BTreeSet<&str> = own.map(|(_, index)| *index).collect();
        if kind == Some(Kind::Inside) {
            return indices.len() == own.len();
        }
        indices.iter().map(String::as_str).collect::<BTreeSet<_>>() == own
    }
}

/// A job as the server tells it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) job: String,
    /// Its name.
    name: String,
    pub(super) state: String,
    pub(super) status: Option<i32>,
}

impl Told {
    /// The kind of job; none of one that the run has not sent.
    fn kind<'a>(&self, sent: &'a [Sent]) -> Option<&'a Sent> {
        // A member of an array has its index behind the name.
        sent.iter().find(|sent| {
            let rest = self.name.strip_prefix(&sent.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }
}

pub(super) fn runs(folder: &Path) -> Vec<Run> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.filter_map(|entry| run(&entry.path())).collect()
}

fn run(path: &Path) -> Option<Run> {
    let name = path.file_name()?.to_str()?;
    let text = fs::read_to_string(path).ok()?;
    let mut run = Run {
        name: format!("runs/{name}"),
        job: name.split('+').next()?.to_owned(),
        first: u64::MAX,
        last: 0,
        cards: Vec::new(),
        told: Vec::new(),
        end: None,
        beats: 0,
    };
    for line in text.lines() {
        let mut words = line.split(' ');
        let now = words.next().and_then(moment)?;
        run.first = run.first.min(now);
        run.last = run.last.max(now);
        match words.next() {
            Some("start") => run
                .cards
                .extend(words.filter(|word| !word.is_empty()).map(str::to_owned)),
            Some("cuda") => run.told.extend(cuda(words)),
            Some("beat") => run.beats += 1,
            Some("end") => run.end = words.next().and_then(|word| word.parse().ok()),
            Some(_) | None => {}
        }
    }
    Some(run)
}

/// The number of a node in its job, and `CUDA_VISIBLE_DEVICES` there: `1 0,2`.
fn cuda<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(usize, Vec<String>)> {
    let node = words.next()?.parse().ok()?;
    let indices = words.next().unwrap_or_default().split(',');
    let indices = indices.filter(|index| !index.is_empty());
    Some((node, indices.map(str::to_owned).collect()))
}

/// The jobs of `qstat -f -t`, without the arrays themselves.
pub(super) fn told(listing: &str) -> Vec<Told> {
    let whole = listing.replace("\n\t", "");
    let blocks = whole.split("Job Id: ").skip(1);
    let jobs = blocks.map(|block| {
        let value = |name: &str| {
            let start = format!("    {name} = ");
            let mut lines = block.lines();
            lines.find_map(|line| line.strip_prefix(&start))
        };
        let text = |name: &str| value(name).unwrap_or_default().to_owned();
        Told {
            job: block.lines().next().unwrap_or_default().to_owned(),
            name: text("Job_Name"),
            state: text("job_state"),
            status: value("exit_status").and_then(|text| text.parse().ok()),
        }
    });
    jobs.filter(|told| !told.job.contains("[]")).collect()
}

/// Whether a run came to its own end with this status.
pub(super) fn some_ended(runs: &[Run], status: i32) -> bool {
    runs.iter().any(|run| run.end == Some(status))
}

/// No card was in two runs at once, and no job ran twice at once.
pub(super) fn overlaps(runs: &[Run]) -> Vec<String> {
    let mut held: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        held.entry(&run.job).or_default().push(run);
        let cards: BTreeSet<&String> = run.cards.iter().collect();
        for card in cards {
            held.entry(card).or_default().push(run);
        }
    }
    let mut found = Vec::new();
    for (what, mut runs) in held {
        runs.sort_by_key(|run| run.first);
        for pair in runs.windows(2) {
            if let [before, after] = pair
                && after.first < before.last
            {
                found.push(format!("{what} had two runs at once: {before:?} {after:?}"));
            }
        }
    }
    found
}

/// No run began with a card that was dirty then. What runs inside an image may begin long after its attempt (`begun`, by
/// job) whose cards were looked at.
pub(super) fn lent_dirty(
    runs: &[Run],
    dirty: &[Dirty],
    begun: &BTreeMap<String, BTreeSet<Moment>>,
) -> Vec<String> {
    let breach = |run: &Run| {
        let known = begun.get(&run.job).into_iter().flatten();
        let attempt = known.filter(|at| **at <= run.first + ROUNDING).max();
        let began = attempt.copied().unwrap_or(run.first);
        let is_in = |dirty: &&Dirty| {
            run.cards.contains(&dirty.card) && dirty.from + LOOK < began && began < dirty.to
        };
        let dirty = dirty.iter().find(is_in)?;
        Some(format!(
            "{run:?} began at {began} with a dirty card: {dirty:?}"
        ))
    };
    runs.iter().filter_map(breach).collect()
}

/// All that is known of what happened.
pub(super) struct Case<'a> {
    pub(super) told: &'a [Told],
    pub(super) runs: &'a [Run],
    pub(super) accounts: &'a BTreeMap<String, Records>,
    pub(super) done: &'a Done,
    /// The cards of each attempt of a job, as the journal has them.
    pub(super) lent: &'a BTreeMap<&'a str, Vec<&'a BTreeSet<String>>>,
    /// Jobs of which a shim was killed.
    pub(super) shimless: &'a BTreeSet<&'a str>,
    /// The users' folders.
    pub(super) homes: &'a [&'a Path],
}

impl Case<'_> {
    /// Those of all its rules.
    pub(super) fn breaches(&self) -> Vec<String> {
        [
            self.untrue(),
            self.unaccounted(),
            self.unlent(),
            self.run_again(),
            self.silent(),
            self.miscounted(),
        ]
        .concat()
    }

    fn last(&self, job: &str) -> Option<&Run> {
        let own = self.runs.iter().filter(|run| run.job == job);
        own.max_by_key(|run| run.first)
    }

    fn is_engines(&self, run: &Run) -> bool {
        let mut killed = self.done.engine.iter();
        killed.any(|at| *at + ENGINE > run.first && *at < run.last + ENGINE)
    }

    /// Whether an engine was killed while the run lasted. What a container had printed and the engine had not yet passed on
    /// is lost then, as it is with `docker run`: the next engine does not read it.
    fn is_lost_by_engine(&self, run: &Run) -> bool {
        let mut killed = self.done.engine.iter();
        killed.any(|at| *at + ABOUT > run.first && *at < run.last + PASSED_ON)
    }

    /// What the server says of its end against the last of the job's runs.
    pub(super) fn untrue(&self) -> Vec<String> {
        let breach = |told: &Told| {
            let last = self.last(&told.job);
            let kind = told.kind(&self.done.sent).map(|sent| sent.kind);
            (!self.is_true(told, kind, last)).then(|| {
                let records = self.accounts.get(&told.job);
                format!(
                    "{told:?} is not what its last run was: {last:?} {records:?} {:?}",
                    self.output(&told.job).map(|text| tail(&text))
                )
            })
        };
        self.told.iter().filter_map(breach).collect()
    }

    fn is_true(&self, told: &Told, kind: Option<Kind>, last: Option<&Run>) -> bool {
        let is_meddled = self.done.is_meddled(&told.job);
        let is_touched = is_meddled
            || self.done.touched.contains(&told.job)
            || self.shimless.contains(told.job.as_str());
        let wrote = last.and_then(|run| run.end);
        // The container of a job dies with its engine, and a killed engine cannot tell how it had ended before.
        let is_engines = kind == Some(Kind::Inside) && last.is_some_and(|run| self.is_engines(run));
        match (told.status, wrote) {
            (Some(status), Some(wrote)) if status == wrote => true,
            (Some(0), _) => false,
            (Some(1..=255), _) if is_engines => true,
            (Some(1..=255), None) => {
                matches!(kind, Some(Kind::Inside | Kind::Container)) && is_touched
            }
            // A signal's or the node's: never what a script could have written.
            (Some(_), None) => is_touched || kind == Some(Kind::Warned),
            (Some(status), Some(_)) => is_touched && !(1..=255).contains(&status),
            (None, None) => is_meddled,
            (None, Some(_)) => false,
        }
    }

    /// The accounting log has one end of each job that ended, with the same status, and no fewer starts than runs.
    pub(super) fn unaccounted(&self) -> Vec<String> {
        let breach = |told: &Told| {
            let records = self.accounts.get(&told.job).cloned().unwrap_or_default();
            let runs = self.runs.iter().filter(|run| run.job == told.job).count();
            let is_right = match told.status {
                Some(status) => records.ends == [Some(status)],
                None => records.ends.iter().all(Option::is_none) && records.ends.len() < 2,
            };
            (!is_right || records.starts < runs)
                .then(|| format!("{told:?} with {runs} runs is accounted as {records:?}"))
        };
        self.told.iter().filter_map(breach).collect()
    }

    /// Each run saw the cards that were lent to an attempt of its job, all of them and no other, and its programs were told
    /// to use those of their node.
    pub(super) fn unlent(&self) -> Vec<String> {
        let breach = |run: &Run| {
            let seen: BTreeSet<String> = run.cards.iter().cloned().collect();
            let lent = self.lent.get(run.job.as_str());
            let is_lent = lent.is_some_and(|lent| lent.contains(&&seen));
            let sent = self.told.iter().find(|told| told.job == run.job);
            let kind = sent
                .and_then(|told| told.kind(&self.done.sent))
                .map(|sent| sent.kind);
            let is_told =
                |(node, indices): &(usize, Vec<String>)| run.is_told(kind, *node, indices);
            (!is_lent || !run.told.iter().all(is_told))
                .then(|| format!("{run:?} has not the cards that were lent: {lent:?}"))
        };
        self.runs.iter().filter_map(breach).collect()
    }

    /// A job that may not run again has not.
    pub(super) fn run_again(&self) -> Vec<String> {
        let breach = |told: &Told| {
            let is_once = told.kind(&self.done.sent)?.kind == Kind::Once;
            let runs = self.runs.iter().filter(|run| run.job == told.job);
            let runs: Vec<&Run> = runs.collect();
            (is_once && runs.len() > 1).then(|| format!("{} ran again: {runs:?}", told.job))
        };
        self.told.iter().filter_map(breach).collect()
    }

    /// A run that came to its end and is believed has all it printed in the job's output.
    pub(super) fn silent(&self) -> Vec<String> {
        let breach = |told: &Told| {
            let run = self.last(&told.job)?;
            let end = run.end.filter(|end| told.status == Some(*end))?;
            let output = self.output(&told.job).unwrap_or_default();
            let kind = told.kind(&self.done.sent)?.kind;
            // All that it prints goes through the engine.
            let is_lost = self.is_lost_by_engine(run);
            if kind == Kind::Inside && is_lost {
                return None;
            }
            let mut wanted = vec![format!("{} began", run.name)];
            // So do the ticks of this one; what came to another end was ended between two of them.
            if kind != Kind::Container || (end == 4 && !is_lost) {
                wanted.extend((0..run.beats).map(|beat| format!("{} tick {beat}", run.name)));
            }
            wanted.push(format!("{} done {end}", run.name));
            let lines: BTreeSet<&str> = output.lines().map(str::trim_end).collect();
            // In a container the file has its whole path.
            let is_short = |line: &&String| !lines.iter().any(|own| own.ends_with(line.as_str()));
            let missing: Vec<&String> = wanted.iter().filter(is_short).collect();
            (!missing.is_empty()).then(|| {
                format!(
                    "{told:?}: its output has not {missing:?}, only {}",
                    tail(&output)
                )
            })
        };
        self.told.iter().filter_map(breach).collect()
    }

    fn output(&self, job: &str) -> Option<String> {
        let told = self.told.iter().find(|told| told.job == job)?;
        let sent = told.kind(&self.done.sent)?;
        let id = job.split('.').next()?;
        let seq = id.replace('[', "-").replace(']', "");
        let file = format!("{}.o{seq}", sent.name);
        let mut files = self.homes.iter().map(|home| home.join(&file));
        files.find_map(|path| fs::read_to_string(path).ok())
    }

    /// Each submission made one job if it was answered, and one or none if not; what was answered is there.
    pub(super) fn miscounted(&self) -> Vec<String> {
        let breach = |sent: &Sent| {
            let jobs = self
                .told
                .iter()
                .filter(|told| told.kind(std::slice::from_ref(sent)).is_some());
            let ids: Vec<&str> = jobs.map(|told| told.job.as_str()).collect();
            let wanted = usize::try_from(sent.kind.jobs()).unwrap_or_default();
            let is_right = match &sent.answer {
                Some(id) => {
                    let seq = id.split(['[', '.']).next();
                    let is_own = |job: &&str| job.split(['[', '.']).next() == seq;
                    // Of an array that was deleted as a whole, members that had not run are not told of.
                    let is_all = ids.len() == wanted || self.done.meddled.contains(id);
                    is_all && ids.iter().all(is_own)
                }
                None => ids.is_empty() || ids.len() == wanted,
            };
            (!is_right).then(|| format!("{sent:?} made {ids:?}"))
        };
        self.done.sent.iter().filter_map(breach).collect()
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}
