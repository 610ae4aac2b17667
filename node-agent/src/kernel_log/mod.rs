//! What the kernel complained of and which jobs were there: read from its log as it is written, tied to attempts while
//! their processes are still known, kept in a bounded record, and shown by `k_log`.

mod line;
mod mark;
mod telling;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use capstan_proto::wire::ReadKernelLog;
use capstan_supervisor::attempts::{Supervisor, Witness};
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::notes::Notes;
use line::{Kind, Line};
use mark::Mark;
use telling::{People, tell_people};

/// Records that are kept; the oldest go first.
const RECORDS_MAX: usize = 1000;
/// Longest answer; the server takes none that is twice as long.
const ANSWER_BYTES_MAX: usize = 1 << 19;
/// Records that may wait to be told of.
const TOLD_MAX: usize = 64;
/// Longest record of the kernel's.
const RECORD_BYTES_MAX: usize = 8192;
/// A record may tell who was running when those were made that are no older than this.
const BURST_US: u64 = 2_000_000;
/// A log that is a plain file is looked at so often when it has ended.
const PAUSE: Duration = Duration::from_millis(500);
/// Whose notes these are.
pub(crate) const KERNEL: &str = "kernel";
/// Jobs that are named with one line.
const NAMED_MAX: usize = 4;

/// What becomes of a node whose kernel finds something wrong with itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnKernelErrors {
    /// It is told of.
    #[default]
    Report,
    /// Nothing is started there for an hour as well.
    Drain,
}

/// What the agent's settings say of the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelLogSettings {
    /// None: it is not read.
    pub(crate) path: Option<PathBuf>,
    pub(crate) on_errors: OnKernelErrors,
}

/// One complaint, and who was there.
#[derive(Clone, Debug)]
struct Record {
    line: Line,
    /// Milliseconds since 1970.
    at_ms: u64,
    witnesses: Vec<Witness>,
    /// The kernel names them; else they only ran at the time.
    is_named: bool,
}

/// What the kernel complained of.
#[derive(Debug, Default)]
pub(crate) struct KernelLog {
    records: Mutex<VecDeque<Record>>,
    /// None where the log is not read.
    mark: Option<Mark>,
}

impl KernelLog {
    /// The complaints that `wish` asks for, a line each; the newest, where they are too many for one answer.
    pub(crate) fn answer(&self, wish: &ReadKernelLog, now_ms: u64) -> String {
        let since_ms = now_ms.saturating_sub(wish.secs.saturating_mul(1000));
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = records
            .iter()
            .rev()
            .filter(|record| record.at_ms >= since_ms)
            .filter_map(|record| record.shown(wish));
        let mut shown = Vec::new();
        let mut left = ANSWER_BYTES_MAX;
        for line in lines {
            if line.len() > left {
                shown.push("(older ones are left out)\n".to_owned());
                break;
            }
            left -= line.len();
            shown.push(line);
        }
        shown.reverse();
        shown.concat()
    }

    /// An administrator has looked at what was taken in so far: an agent that reads it again is not to complain of it.
    /// Blocks for a moment.
    pub(crate) fn forgive(&self) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = records.iter().map(|record| record.line.at_us).max();
        drop(records);
        if let (Some(mark), Some(newest)) = (&self.mark, newest) {
            mark.forgive(newest);
        }
    }

    fn is_forgiven(&self, at_us: u64) -> bool {
        self.mark
            .as_ref()
            .is_some_and(|mark| mark.is_forgiven(at_us))
    }

    fn is_told(&self, at_us: u64) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.is_told(at_us))
    }

    /// Keeps a complaint; what people are to be told of it.
    fn take_in(&self, line: Line, at_ms: u64, supervisor: &Supervisor) -> Option<Record> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let named = named(&line, records.back(), supervisor);
        if line.is_detail {
            // It names who ran while the lines before it were made.
            let since = line.at_us.saturating_sub(BURST_US);
            let mut told = None;
            for record in records.iter_mut().rev() {
                if record.line.at_us < since || record.line.kind != Kind::Kernel || record.is_named
                {
                    break;
                }
                record.witnesses.clone_from(&named);
                record.is_named = !named.is_empty();
                told = Some(record.clone());
            }
            return told.filter(|record| record.is_named);
        }
        let is_named = !named.is_empty();
        let witnesses = match is_named || !line.kind.is_of_all() {
            true => named,
            false => supervisor.witnesses_at(at_ms),
        };
        let record = Record {
            line,
            at_ms,
            witnesses,
            is_named,
        };
        if records.len() >= RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(record.clone());
        Some(record)
    }
}

/// Whom the kernel names: a group, a process, else a card.
fn named(line: &Line, before: Option<&Record>, supervisor: &Supervisor) -> Vec<Witness> {
    let of_group = line.group.as_deref();
    let of_group = of_group.and_then(|group| supervisor.witness_of_group(group));
    let of_process = || line.pid.and_then(|pid| supervisor.witness_of_process(pid));
    if let Some(witness) = of_group.or_else(of_process) {
        return vec![witness];
    }
    // A kill is told of twice, and the second time its process may be gone.
    let same = before.filter(|before| {
        line.kind == Kind::Memory && line.pid.is_some() && before.line.pid == line.pid
    });
    match (same, &line.card) {
        (Some(before), _) => before.witnesses.clone(),
        (None, Some(card)) => supervisor.witnesses_of_card(card),
        (None, None) => Vec::new(),
    }
}

impl Record {
    /// As `wish` may see it; `None` for what is others' affair.
    fn shown(&self, wish: &ReadKernelLog) -> Option<String> {
        let is_own = |witness: &&Witness| wish.all || witness.user == wish.user;
        let own: Vec<&Witness> = self.witnesses.iter().filter(is_own).collect();
        let others = self.witnesses.len() - own.len();
        let may_see = wish.all
            || !own.is_empty()
            || (self.line.kind.is_of_all() && (!self.is_named || self.line.kind == Kind::Kernel));
        if !may_see {
            return None;
        }
        let who = who(&own, others, self.is_named);
        let text = match self.is_named && own.is_empty() && !wish.all {
            // Whose it is and what it runs is nobody else's business.
            true => self.line.text.split(':').next().unwrap_or_default(),
            false => &self.line.text,
        };
        let time = local_time(self.at_ms);
        Some(format!("{time} {:<8} {text}{who}\n", self.line.kind.word()))
    }
}

/// ` [job 7.hn1 of alice]`, ` [while job 7.hn1 of alice and 2 others ran]`; empty for nobody.
fn who(own: &[&Witness], others: usize, is_named: bool) -> String {
    let named = own.iter().take(NAMED_MAX);
    let mut names: Vec<String> = named
        .map(|witness| format!("job {} of {}", witness.job_id, witness.user))
        .collect();
    let rest = others + own.len().saturating_sub(NAMED_MAX);
    match (names.is_empty(), rest) {
        (_, 0) => {}
        (true, 1) => names.push("another user's job".to_owned()),
        (true, rest) => names.push(format!("{rest} jobs of others")),
        (false, rest) => names.push(format!("{rest} more")),
    }
    match (names.is_empty(), is_named) {
        (true, _) => String::new(),
        (false, true) => format!(" [{}]", names.join(", ")),
        (false, false) => format!(" [while there: {}]", names.join(", ")),
    }
}

fn local_time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
    at.map_or_else(String::new, |at| {
        at.strftime("%Y-%m-%d %H:%M:%S").to_string()
    })
}

/// Reads the log at `path` for as long as the agent lives, on a thread of its own, since reading waits in the kernel.
/// How far it was dealt with is noted in the `folder` of the agent.
pub(crate) fn watch(
    (settings, folder): (KernelLogSettings, &Path),
    supervisor: Supervisor,
    notes: Arc<Notes>,
    beat: impl Fn() + Send + 'static,
) -> Arc<KernelLog> {
    let KernelLogSettings { path, on_errors } = settings;
    let log = Arc::new(KernelLog {
        records: Mutex::default(),
        mark: path.is_some().then(|| Mark::open(folder)),
    });
    let Some(path) = path else { return log };
    let (tell, told) = mpsc::channel(TOLD_MAX);
    let people = People {
        log: log.clone(),
        notes,
        on_errors,
    };
    tokio::spawn(tell_people(told, supervisor.clone(), people, beat));
    let kept = log.clone();
    let thread = std::thread::Builder::new().name("kernel-log".to_owned());
    let started = thread.spawn(move || {
        let took_in = read(&path, |line| {
            let at_ms = wall_ms(line.at_us);
            // Who is not told of one of many has heard of enough.
            if let Some(record) = kept.take_in(line, at_ms, &supervisor) {
                let _full = tell.try_send(record).is_err();
            }
        });
        if let Err(error) = took_in {
            tracing::warn!(path = %path.display(), %error, "the kernel's log cannot be read; k_log has nothing to show");
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to read the kernel's log");
    }
    log
}

fn read(path: &Path, mut take: impl FnMut(Line)) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; RECORD_BYTES_MAX];
    let mut begun = Vec::new();
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Ok(length) => length,
            // The kernel has written over what was not read yet: what follows is read.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPIPE as i32) => continue,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        begun.extend_from_slice(&buffer[..length]);
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let record: Vec<u8> = begun.drain(..=end).collect();
            if let Some(line) = line::read(&String::from_utf8_lossy(&record)) {
                take(line);
            }
        }
        if begun.len() > RECORD_BYTES_MAX {
            begun.clear();
        }
    }
}

/// When a record was made, milliseconds since 1970; never in the future.
fn wall_ms(at_us: u64) -> u64 {
    let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let age = since_boot.saturating_sub(Duration::from_micros(at_us));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.saturating_sub(age).as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str, users: &[&str], is_named: bool) -> Record {
        let witness = |user: &&str| Witness {
            attempt: 1,
            job_id: format!("7{user}.hn1"),
            user: (*user).to_owned(),
        };
        Record {
            line: line::read(&format!("3,1,5,-;{text}")).unwrap(),
            at_ms: 1000,
            witnesses: users.iter().map(witness).collect(),
            is_named,
        }
    }

    fn check(record: Record, user: &str, all: bool, expected: Option<&str>) {
        let log = KernelLog::default();
        log.records.lock().unwrap().push_back(record);
        let wish = ReadKernelLog {
            secs: 300,
            user: user.to_owned(),
            all,
        };
        let text = log.answer(&wish, 2000);
        assert_eq!(
            text.is_empty(),
            expected.is_none(),
            "{user}: {text:?}, not {expected:?}"
        );
        assert!(text.contains(expected.unwrap_or_default()), "{text:?}");
        assert_eq!(log.answer(&wish, 400_000), "", "that is long ago");
    }

    #[test]
    fn an_answer_that_would_be_too_long_has_the_newest() {
        let log = KernelLog::default();
        for number in 0..RECORDS_MAX {
            // Longer in bytes than in letters.
            let text = format!("BUG: {number} {}", "\u{20ac}".repeat(400));
            log.records
                .lock()
                .unwrap()
                .push_back(record(&text, &[], false));
        }
        let wish = ReadKernelLog {
            secs: 300,
            user: "root".to_owned(),
            all: true,
        };
        let text = log.answer(&wish, 2000);
        assert!(text.len() <= ANSWER_BYTES_MAX + 100, "{}", text.len());
        assert!(
            text.starts_with("(older ones are left out)\n"),
            "{}",
            &text[..100]
        );
        assert!(text.contains(&format!("BUG: {} ", RECORDS_MAX - 1)));
    }

    #[test]
    fn each_sees_own_and_the_nodes_complaints_and_an_operator_all() {
        let oom = || {
            record(
                "Memory cgroup out of memory: Killed process 9 (secret)",
                &["alice"],
                true,
            )
        };
        check(
            oom(),
            "alice",
            false,
            Some("(secret) [job 7alice.hn1 of alice]"),
        );
        check(oom(), "bob", false, None);
        check(oom(), "root", true, Some("[job 7alice.hn1 of alice]"));
        let nfs = || record("nfs: server nas not responding", &["alice", "bob"], false);
        check(
            nfs(),
            "alice",
            false,
            Some("[while there: job 7alice.hn1 of alice, 1 more]"),
        );
        check(
            nfs(),
            "carol",
            false,
            Some("[while there: 2 jobs of others]"),
        );
        let bug = || record("BUG: bad page state in process secret", &["alice"], true);
        check(
            bug(),
            "bob",
            false,
            Some(" kernel   BUG [another user's job]"),
        );
        check(
            bug(),
            "alice",
            false,
            Some("secret [job 7alice.hn1 of alice]"),
        );
        let nobody = record("secret[9]: segfault at 0", &[], false);
        check(nobody, "bob", false, None);
    }

    #[test]
    fn records_come_whole_from_a_file_that_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kmsg");
        std::fs::write(&path, "3,1,5,-;BUG: one\n SUB=x\n3,2,6,-;BUG: t").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let read_path = path.clone();
        std::thread::spawn(move || {
            read(&read_path, |line| {
                let _over = tell.send(line.text);
            })
        });
        assert_eq!(told.recv().unwrap(), "BUG: one");
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"wo\n").unwrap();
        assert_eq!(told.recv().unwrap(), "BUG: two");
    }
}
