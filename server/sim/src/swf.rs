//! The Standard Workload Format (Feitelson et al., "Standard Workload Format", Parallel Workloads Archive): a job a line,
//! eighteen numbers, −1 for what is not known; `;` begins a comment, and some comments say something (`; UnixStartTime:`).
//! Decides what of a line counts and what makes it no line.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use crate::trace::{Ask, JOBS_MAX, SECS_MAX, START_SECS, Trace, TraceJob};
use crate::{SimError, lines};

/// Longest line, bytes: a header may be long, a job is about a hundred.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Columns that a job has.
const COLUMNS: usize = 18;

/// Reads a whole file.
///
/// # Errors
/// A line that is no job and no comment, or more jobs than one simulation takes.
pub(crate) fn read(path: &Path, from: impl BufRead) -> Result<Trace, SimError> {
    let mut reader = Reader::default();
    lines::for_each(path, from, LINE_BYTES_MAX, |line| reader.take(line))?;
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    rows: Vec<Row>,
    nodes: Option<u32>,
    slots: Option<u32>,
    start_secs: Option<u64>,
    left_out: usize,
}

/// What counts of a line.
struct Row {
    label: i64,
    submit: u64,
    runtime: u64,
    /// Columns 5 and 8: what it got, and what it asked for; 0 for unknown.
    allocated: u32,
    requested: u32,
    walltime: Option<u64>,
    user: i64,
    group: i64,
    executable: i64,
    queue: i64,
}

impl Reader {
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if let Some(comment) = text.strip_prefix(';') {
            return self.header(comment);
        }
        if text.is_empty() {
            return Ok(());
        }
        if self.rows.len() >= JOBS_MAX {
            return Err(format!(
                "more than {JOBS_MAX} jobs: simulate a part of them"
            ));
        }
        match row(text)? {
            Some(row) => self.rows.push(row),
            None => self.left_out += 1,
        }
        Ok(())
    }

    /// `Name: value`; what has another name is for people.
    fn header(&mut self, comment: &str) -> Result<(), String> {
        let Some((name, value)) = comment.split_once(':') else {
            return Ok(());
        };
        let (name, value) = (name.trim(), value.trim());
        let positive = |max: u64| {
            let number = value.split_whitespace().next().unwrap_or_default();
            let number = number.parse().ok();
            let number = number.filter(|number: &u64| (1..=max).contains(number));
            number.ok_or_else(|| {
                let value: String = value.chars().take(40).collect();
                format!(
                    "{name} is a number from 1 to {max}, not '{}'",
                    value.escape_debug()
                )
            })
        };
        let small = || positive(u64::from(u16::MAX)).map(|number| u32::try_from(number).ok());
        match name {
            "X-Nodes" => self.nodes = small()?,
            "X-SlotsPerNode" => self.slots = small()?,
            // 0 stands for unknown in some archives.
            "UnixStartTime" => self.start_secs = positive(SECS_MAX).ok(),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Trace {
        let start = self.start_secs.unwrap_or(START_SECS);
        // A log that never says what was asked for says what was given.
        let has_requests = self.rows.iter().any(|row| row.requested > 0);
        let (all, mut names) = (self.rows.len(), Names::default());
        let jobs = self.rows.into_iter().filter_map(|row| {
            let slots = if has_requests {
                row.requested
            } else {
                row.allocated
            };
            (slots > 0).then(|| row.job(start, slots, &mut names))
        });
        let mut jobs: Vec<TraceJob> = jobs.collect();
        // Stable: who came at the same second stays in the order of the file.
        jobs.sort_by_key(|job| job.submit_secs);
        Trace {
            name: String::new(),
            left_out: self.left_out + all - jobs.len(),
            jobs,
            nodes: self.nodes,
            slots: self.slots,
        }
    }
}

impl Row {
    fn job(self, start: u64, slots: u32, names: &mut Names) -> TraceJob {
        let walltime = self.walltime.unwrap_or(self.runtime);
        TraceJob {
            label: self.label.to_string().into(),
            submit_secs: start + self.submit,
            runtime_secs: self.runtime.min(walltime),
            walltime_secs: walltime,
            ask: Ask::Slots(slots),
            user: names.of('u', self.user),
            group: names.of('g', self.group),
            queue: (self.queue >= 0).then(|| names.of('q', self.queue)),
            name: names.of('e', self.executable),
        }
    }
}

/// Names made of numbers, each once.
#[derive(Default)]
struct Names(BTreeMap<(char, i64), Arc<str>>);

impl Names {
    fn of(&mut self, kind: char, number: i64) -> Arc<str> {
        let name = self.0.entry((kind, number)).or_insert_with(|| {
            if number < 0 {
                format!("{kind}-unknown").into()
            } else {
                format!("{kind}{number}").into()
            }
        });
        name.clone()
    }
}

/// A job's line; `None` for a job that never ran.
fn row(text: &str) -> Result<Option<Row>, String> {
    let mut columns = [-1i64; COLUMNS];
    let mut count = 0;
    for (at, word) in text.split_ascii_whitespace().enumerate() {
        count = at + 1;
        let Some(column) = columns.get_mut(at) else {
            continue; // Some archives add columns of their own.
        };
        *column = number(word).ok_or_else(|| {
            let word: String = word.chars().take(40).collect();
            format!("column {count} is no number: '{}'", word.escape_debug())
        })?;
    }
    if count < COLUMNS {
        return Err(format!(
            "{count} columns where the Standard Workload Format has {COLUMNS}: is this file another format?"
        ));
    }
    let [
        label,
        submit,
        _,
        runtime,
        allocated,
        _,
        _,
        requested,
        walltime,
        ..,
    ] = columns;
    let [.., user, group, executable, queue, _, _, _] = columns;
    let secs = |value: i64, column: u32| match u64::try_from(value) {
        Ok(value) if value <= SECS_MAX => Ok(value),
        Ok(_) | Err(_) => Err(format!(
            "column {column} is {value}: seconds from 0 to {SECS_MAX}"
        )),
    };
    let submit = secs(submit, 2)?;
    if runtime <= 0 {
        return Ok(None);
    }
    let slots = |value: i64| u32::try_from(value.clamp(0, i64::from(u32::MAX))).unwrap_or(0);
    Ok(Some(Row {
        label,
        submit,
        runtime: secs(runtime, 4)?,
        allocated: slots(allocated),
        requested: slots(requested),
        walltime: (walltime > 0).then(|| secs(walltime, 9)).transpose()?,
        user,
        group,
        executable,
        queue,
    }))
}

/// A whole number, or one with a fraction, which is cut off: some archives measure to the hundredth.
fn number(word: &str) -> Option<i64> {
    if let Ok(number) = word.parse::<i64>() {
        return Some(number);
    }
    let number: f64 = word.parse().ok()?;
    // Beyond 2^53 a float is no exact number, and no column is so large.
    let is_sane = number.is_finite() && number.abs() < 9.0e15;
    is_sane.then_some(number as i64)
}
