//! PBS's accounting log, as this server and Torque write it: `MM/DD/YYYY HH:MM:SS;E;id;key=value …`. The record of a job's
//! end says all that a simulation needs; a job without one never ran, or runs still. Decides what of it counts.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capstan_types::{ResourceList, Seconds};

use crate::trace::{Ask, JOBS_MAX, SECS_MAX, Trace, TraceJob};
use crate::{SimError, lines};

/// Longest line, bytes: `exec_host` of a job over a thousand nodes has some ten thousand.
const LINE_BYTES_MAX: usize = 4 << 20;

/// What follows from other resources, and the walltime, which has a field of its own.
const NOT_ASKED: [&str; 4] = ["nodect", "neednodes", "procct", "walltime"];

/// A resource's name and its value.
type Resource = (Box<str>, Box<str>);

/// Logs, read one after another.
#[derive(Default)]
pub(crate) struct Logs {
    jobs: Vec<TraceJob>,
    /// Jobs that came, by id, and were not seen to end.
    open: BTreeMap<Box<str>, ()>,
    names: BTreeMap<Box<str>, Arc<str>>,
    asks: BTreeMap<Vec<Resource>, Ask>,
    first: Option<PathBuf>,
    incomplete: usize,
}

/// Whether a file begins as an accounting log does; an empty one is the log of a day without jobs.
///
/// # Errors
/// It cannot be read.
pub(crate) fn is_one(path: &Path, from: &mut impl BufRead) -> Result<bool, SimError> {
    let start = from.fill_buf().map_err(|source| SimError::Read {
        path: path.into(),
        source,
    })?;
    let pattern = b"dd/dd/dddd dd:dd:dd;";
    let matches = |(byte, wanted): (&u8, &u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    };
    let is_long = start.len() >= pattern.len();
    Ok(start.is_empty() || is_long && start.iter().zip(pattern).all(matches))
}

impl Logs {
    /// Takes one log in.
    ///
    /// # Errors
    /// A line that is no record.
    pub(crate) fn read(&mut self, path: &Path, from: impl BufRead) -> Result<(), SimError> {
        self.first.get_or_insert_with(|| path.into());
        lines::for_each(path, from, LINE_BYTES_MAX, |line| self.take(line))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        let mut parts = text.splitn(4, ';').skip(1);
        let (Some(kind), Some(id), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("no accounting record: date;letter;job;key=value …".to_owned());
        };
        match kind {
            "Q" | "S" => {
                self.open.insert(id.into(), ());
            }
            "E" => self.ended(id, rest)?,
            // Deleted, aborted, rerun, reserved, moved: what became of the job its E record says, if it has one.
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, id: &str, rest: &str) -> Result<(), String> {
        if self.jobs.len() >= JOBS_MAX {
            return Err(format!(
                "more than {JOBS_MAX} jobs: simulate a part of them"
            ));
        }
        self.open.remove(id);
        let mut fields = fields(rest);
        let secs = |name: &str| fields.get(name).map(|value| value.parse::<u64>());
        let at = |name: &str| match secs(name) {
            Some(Ok(secs)) if secs <= SECS_MAX => Ok(secs),
            None => Ok(0),
            Some(_) => Err(format!("{name} is no number of seconds since 1970")),
        };
        let (start, end) = (at("start")?, at("end")?);
        // A requeue makes the job eligible anew: the wait that counts began when it came.
        let is_first_run = fields.get("start_count").is_none_or(|count| count == "1");
        let names = if is_first_run {
            ["etime", "qtime", "ctime"]
        } else {
            ["qtime", "ctime", "etime"]
        };
        let mut came = 0;
        for name in names {
            came = if came == 0 { at(name)? } else { came };
        }
        if start == 0 || end < start || came == 0 {
            self.incomplete += 1;
            return Ok(());
        }
        let ran = (end - start).max(1);
        let walltime = fields.remove("Resource_List.walltime");
        let walltime = walltime.and_then(|text| Seconds::parse(&text).ok());
        let walltime = walltime.map_or(ran, |walltime| walltime.0.max(1));
        let mut text = |name: &str| self.name(fields.remove(name).unwrap_or_default());
        let (user, group, name, queue) =
            (text("user"), text("group"), text("jobname"), text("queue"));
        let job = TraceJob {
            label: id.into(),
            submit_secs: came.min(start),
            runtime_secs: ran.min(walltime),
            walltime_secs: walltime,
            ask: self.ask(&fields),
            user,
            group,
            queue: (!queue.is_empty()).then_some(queue),
            name,
        };
        self.jobs.push(job);
        Ok(())
    }

    fn name(&mut self, text: String) -> Arc<str> {
        let name = self.names.entry(text.into_boxed_str());
        let name = name.or_insert_with_key(|text| Arc::from(&**text));
        name.clone()
    }

    /// What was asked for, each request that was made often but once in memory.
    fn ask(&mut self, fields: &BTreeMap<&str, String>) -> Ask {
        let asked = fields.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("Resource_List.")?;
            let is_asked = !NOT_ASKED.contains(&name);
            is_asked.then(|| (Box::from(name), Box::from(value.as_str())))
        });
        let asked: Vec<_> = asked.collect();
        let ask = self.asks.entry(asked);
        let ask = ask.or_insert_with_key(|asked| Ask::Resources(asked.as_slice().into()));
        ask.clone()
    }

    /// All jobs that ended, by the time at which they came.
    ///
    /// # Errors
    /// None of the records is of a job that ended.
    pub(crate) fn finish(self) -> Result<Trace, SimError> {
        let left_out = self.open.len() + self.incomplete;
        let mut jobs = self.jobs;
        if let (true, Some(path)) = (jobs.is_empty(), self.first) {
            return Err(SimError::NoEnds {
                path,
                skipped: left_out,
            });
        }
        jobs.sort_by_key(|job| job.submit_secs);
        Ok(Trace {
            jobs,
            left_out,
            ..Trace::default()
        })
    }
}

/// `key=value` with blanks between; a word without `=` belongs to the value before it.
fn fields(text: &str) -> BTreeMap<&str, String> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match (word.split_once('='), fields.last_mut()) {
            (Some((key, value)), _) => fields.push((key, value.to_owned())),
            (None, Some((_, value))) => {
                value.push(' ');
                value.push_str(word);
            }
            (None, None) => {}
        }
    }
    fields.into_iter().collect()
}

/// The resources of a record as a job asks for them. What this server cannot read any more is left out: old logs name
/// resources that nobody has.
pub(crate) fn resources(asked: &[(Box<str>, Box<str>)]) -> ResourceList {
    let mut list = ResourceList::default();
    for (name, value) in asked {
        // A value that is none is as good as not asked for.
        list.set(name, value).ok();
    }
    list
}
