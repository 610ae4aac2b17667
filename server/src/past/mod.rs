//! `capstan replay`: scheduling cycles of the past, made again from the journal by the very code that decided then, and
//! compared with what was stored. Reads the store's files and nothing else: no lock is taken and nothing is written, so
//! that it may run beside the server.

mod cycle;
mod show;
mod time;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use capstan_core::{Event, State};
use capstan_store::{Record, Replay, StoreError, replay, replay_near};
use capstan_types::{JobId, JobReference, Timestamp};
use clap::Args;

use cycle::{Cycle, Stored, order_of};

/// Where the store is when nobody says so.
const STORE_DEFAULT: &str = "/var/lib/capstan/server/store";
/// A cycle may have been decided a little before the time that somebody looks at; so much before it is read.
const LEAD_SECS: u64 = 600;
/// The server may remove the oldest files while they are read: so often it is begun anew.
const TRIES_MAX: usize = 3;

/// Exit status when a decision made again is not the one that was stored.
const DIFFERS: u8 = 1;

/// Show a scheduling cycle of the past
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["at", "job", "list", "check"])))]
pub struct Arguments {
    /// The cycle in force at TIME: 2026-11-22T14:03:05Z, '2026-11-22 14:03:05' (local), or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<Timestamp>,
    /// The cycle in which this job was placed last
    #[arg(long, value_name = "JOB")]
    job: Option<JobReference>,
    /// List the cycles that placed something
    #[arg(long)]
    list: bool,
    /// Make every stored cycle again and compare
    #[arg(long)]
    check: bool,
    /// With --list and --check: only from this time on
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<Timestamp>,
    /// With --list and --check: only until this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    to: Option<Timestamp>,
    /// The store of the server
    #[arg(long, value_name = "FOLDER", default_value = STORE_DEFAULT)]
    store: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is asked for; returns the exit status.
///
/// # Errors
/// The store cannot be read, or has nothing of that time or job.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let store = folder(&arguments.store);
    let mut tries = 1;
    loop {
        let mut text = Vec::new();
        let answered = answer(arguments, &store, &mut text);
        let is_passing = |error: &anyhow::Error| {
            let error = error.downcast_ref::<StoreError>();
            matches!(
                error,
                Some(StoreError::Missing { .. } | StoreError::Io { .. })
            )
        };
        match answered {
            Err(error) if is_passing(&error) && tries < TRIES_MAX => tries += 1,
            Err(error) => {
                let hint =
                    "the store belongs to the server's user: run this as that user or as root";
                return Err(
                    error.context(format!("reading the store {} ({hint})", store.display()))
                );
            }
            Ok(status) => {
                out.write_all(&text)
                    .and_then(|()| out.flush())
                    .context("writing the answer")?;
                return Ok(status);
            }
        }
    }
}

/// The folder with the journal in it: the store, or the state folder that has it.
fn folder(named: &Path) -> PathBuf {
    match named.join("store").join("journal").is_dir() {
        true => named.join("store"),
        false => named.to_owned(),
    }
}

fn answer(arguments: &Arguments, store: &Path, out: &mut Vec<u8>) -> anyhow::Result<u8> {
    let span = Span {
        from: arguments.from.unwrap_or_default(),
        to: arguments.to.unwrap_or(Timestamp(u64::MAX)),
    };
    if let Some(at) = arguments.at {
        let cycle = at_time(store, at)?;
        show::cycle(&cycle, arguments.json, out);
        return Ok(status(&cycle));
    }
    if let Some(job) = &arguments.job {
        let cycle = of_job(store, job.id)?;
        show::cycle(&cycle, arguments.json, out);
        return Ok(status(&cycle));
    }
    match arguments.list {
        true => list(store, span, arguments.json, out).map(|()| 0),
        false => check(store, span, arguments.json, out),
    }
}

fn status(cycle: &Cycle) -> u8 {
    match cycle.stored {
        Stored::Differs { .. } => DIFFERS,
        Stored::Same { .. } | Stored::Nothing | Stored::Unstored => 0,
    }
}

/// From when to when, both included.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    fn has(self, at: Timestamp) -> bool {
        self.from <= at && at <= self.to
    }
}

/// The journal, record by record, with the state before each.
struct Walk {
    state: State,
    number: u64,
    records: Replay,
}

impl Walk {
    fn from(records: Replay) -> Self {
        Self {
            state: records.start.clone(),
            number: records.first_record - 1,
            records,
        }
    }

    /// The next record with its number; [`Walk::take`] goes past it.
    fn next(&mut self) -> Result<Option<(u64, Record)>, StoreError> {
        let record = self.records.next().transpose()?;
        self.number += u64::from(record.is_some());
        Ok(record.map(|record| (self.number, record)))
    }

    fn take(&mut self, record: &Record) {
        record
            .changes
            .iter()
            .for_each(|change| self.state.absorb(change));
    }
}

/// The cycle that was in force at `at`: the last one that was stored, if nothing happened between it and then; else
/// what the state of that time makes of that time.
fn at_time(store: &Path, at: Timestamp) -> anyhow::Result<Cycle> {
    let lead = Timestamp(at.0.saturating_sub(LEAD_SECS * 1000));
    let mut walk = Walk::from(replay_near(store, lead)?);
    let mut last: Option<(u64, Record, State)> = None;
    let mut next = None;
    let mut is_empty = true;
    while let Some((number, record)) = walk.next()? {
        if record.at > at {
            next = Some((number, record));
            break;
        }
        is_empty = false;
        last = order_of(&record).map(|_| (number, record.clone(), walk.state.clone()));
        walk.take(&record);
    }
    if is_empty && next.is_some() {
        let begins = next.as_ref().map(|(_, record)| show::moment(record.at));
        anyhow::bail!(
            "the journal begins at {}: what was before is no longer kept (history_days and history_bytes_max of server.toml)",
            begins.unwrap_or_default()
        );
    }
    if let Some((number, record, state)) = last {
        return Ok(Cycle::stored(&state, number, &record));
    }
    let number = next.as_ref().map_or(walk.number, |(number, _)| number - 1);
    let following = next
        .as_ref()
        .filter(|(_, record)| order_of(record).is_some());
    Ok(Cycle::at(&walk.state, number, at, following))
}

/// The cycle that placed `job` last.
fn of_job(store: &Path, job: JobId) -> anyhow::Result<Cycle> {
    let mut walk = Walk::from(replay(store)?);
    let mut found: Option<(u64, Record, State)> = None;
    let mut ordered: Option<Timestamp> = None;
    while let Some((number, record)) = walk.next()? {
        if let Some(order) = order_of(&record)
            && order
                .placements
                .iter()
                .any(|placement| placement.job == job)
        {
            found = Some((number, record.clone(), walk.state.clone()));
            ordered = None;
        }
        if matches!(&record.event, Event::Run(order) if order.job == job) {
            ordered = Some(record.at);
        }
        walk.take(&record);
    }
    if let Some(at) = ordered {
        let at = show::moment(at);
        anyhow::bail!("job {job} was started by qrun at {at}, and not by a scheduling cycle");
    }
    let found = found.with_context(|| {
        format!("no scheduling cycle that is still kept has placed job {job}; an array's members are placed one by one, as 7[3]")
    })?;
    let (number, record, state) = found;
    Ok(Cycle::stored(&state, number, &record))
}

fn list(store: &Path, span: Span, is_json: bool, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut walk = Walk::from(replay(store)?);
    let mut listing = show::Listing::new(is_json);
    while let Some((number, record)) = walk.next()? {
        // A cycle may have been stored for what jobs have waited for alone.
        let acts = |order: &cycle::Order<'_>| {
            span.has(order.at) && !(order.placements.is_empty() && order.preemptions.is_empty())
        };
        if let Some(order) = order_of(&record).filter(acts) {
            listing.add(number, &order, walk.state.settings(), out);
        }
        walk.take(&record);
    }
    listing.end(out);
    Ok(())
}

fn check(store: &Path, span: Span, is_json: bool, out: &mut Vec<u8>) -> anyhow::Result<u8> {
    let mut walk = Walk::from(replay(store)?);
    let (mut same, mut differing) = (0_u64, 0_u64);
    while let Some((number, record)) = walk.next()? {
        if order_of(&record).is_some_and(|order| span.has(order.at)) {
            let cycle = Cycle::stored(&walk.state, number, &record);
            match cycle.stored {
                Stored::Same { .. } => same += 1,
                Stored::Differs { .. } | Stored::Nothing | Stored::Unstored => {
                    differing += 1;
                    show::cycle(&cycle, is_json, out);
                }
            }
        }
        walk.take(&record);
    }
    show::count(same, differing, is_json, out);
    Ok(if differing > 0 { DIFFERS } else { 0 })
}
