//! What was done in the chaos run, as far as it may excuse what became of a job: who was killed, which jobs people meddled
//! with, when the engine died, which cards were dirty when.

use std::collections::BTreeSet;
use std::fs;

use nix::unistd::Pid;

use super::work::Kind;

/// Hundredths of a second since the host's start.
pub(super) type Moment = u64;

pub(super) fn now() -> Moment {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let first = text.split(' ').next().unwrap_or_default();
    moment(first).unwrap_or_default()
}

/// `69029.42` as the jobs write it.
pub(super) fn moment(text: &str) -> Option<Moment> {
    text.replace('.', "").parse().ok()
}

/// A submission.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    /// The job's name, which no other submission has.
    pub(super) name: String,
    user: usize,
    /// The id that was answered; none when nothing was.
    pub(super) answer: Option<String>,
}

impl Sent {
    pub(super) fn of(kind: Kind, user: usize, done: &Done) -> Self {
        Self {
            kind,
            name: format!("{}-{}", kind.name(), done.sent.len()),
            user,
            answer: None,
        }
    }

    /// The shell line.
    pub(super) fn line(&self, more: &str, beats: u64) -> String {
        format!(
            "qsub -N {} -d . -j oe {more} {} <<'END_OF_JOB'\n{}\nEND_OF_JOB\n",
            self.name,
            self.kind.options(),
            self.kind.script(beats)
        )
    }
}

/// A time in which a card had memory in use that was nobody's.
#[derive(Clone, Debug)]
pub(super) struct Dirty {
    /// As a job's list of cards has it: `node02-gpu1`.
    pub(super) card: String,
    pub(super) from: Moment,
    pub(super) to: Moment,
}

/// What was done.
#[derive(Default)]
pub(super) struct Done {
    /// All submissions.
    pub(super) sent: Vec<Sent>,
    /// Jobs that the server accepted, and whose they are.
    pub(super) known: Vec<(String, usize)>,
    /// Jobs that a person deleted or ran again.
    pub(super) meddled: BTreeSet<String>,
    /// Jobs of which a process was killed.
    pub(super) touched: BTreeSet<String>,
    /// Attempts whose shim was killed.
    pub(super) attempts: BTreeSet<u64>,
    /// When the engine was killed.
    pub(super) engine: Vec<Moment>,
    pub(super) dirty: Vec<Dirty>,
    /// What was done when, for who looks for a cause.
    pub(super) log: Vec<String>,
}

impl Done {
    pub(super) fn note(&mut self, what: &str) {
        let now = now();
        let line = format!("{}.{:02} {what}", now / 100, now % 100);
        self.log.push(line);
    }

    pub(super) fn sent(&mut self, mut sent: Sent, answer: Option<String>) {
        if let Some(id) = &answer {
            self.known.push((id.clone(), sent.user));
        }
        sent.answer = answer;
        self.sent.push(sent);
    }

    pub(super) fn engine_was_killed(&mut self) {
        self.note("dockerd killed");
        self.engine.push(now());
    }

    /// Notes whose process is about to be killed, and says it.
    pub(super) fn was_killed(&mut self, pid: Pid) -> String {
        let attempts: Vec<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let path = fs::read_link(entry.path()).ok()?;
                let (_, attempt) = path.to_str()?.rsplit_once("/attempts/")?;
                attempt.parse().ok()
            })
            .collect();
        let job = job_of(pid);
        let said = format!("attempts {attempts:?}, job {job:?}");
        self.attempts.extend(attempts);
        self.touched.extend(job);
        said
    }

    pub(super) fn is_dirty(&mut self, node: &str, card: u64) {
        let card = format!("{node}-gpu{card}");
        self.note(&format!("{card} is dirty"));
        self.dirty.push(Dirty {
            card,
            from: now(),
            to: Moment::MAX,
        });
    }

    pub(super) fn is_clean(&mut self, node: &str, card: u64) {
        self.note(&format!("{node}-gpu{card} is clean"));
        if let Some(last) = self.dirty.last_mut() {
            last.to = now();
        }
    }

    pub(super) fn is_meddled(&self, job: &str) -> bool {
        let array = job
            .split_once('[')
            .zip(job.split_once(']'))
            .map(|((seq, _), (_, rest))| format!("{seq}[]{rest}"));
        self.meddled.contains(job) || array.is_some_and(|array| self.meddled.contains(&array))
    }
}

/// The job that a process says it belongs to.
fn job_of(pid: Pid) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&environ).into_owned();
    let own = text
        .split('\0')
        .find_map(|pair| pair.strip_prefix("PBS_JOBID="));
    own.map(str::to_owned)
}
