//! Prints what the store costs: syncs and time per 1,000 records for groups of several sizes, then the size of a
//! store of many jobs, its restart after a clean end and after a kill, and the memory that the state takes.
//!
//! `cargo run --release -p capstan-store --example measure -- [FOLDER [JOBS]]`

#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(clippy::unwrap_used, reason = "an example may stop at any failure")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use capstan_core::Change;
use capstan_store::{DiskStore, Options, Record, Store};
use support::submitted;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let jobs: u64 = arguments
        .next()
        .map_or(10_000, |jobs| jobs.parse().unwrap());
    let dir = base.join(format!("capstan-store-measure-{}", std::process::id()));
    groups(&dir);
    restarts(&dir, jobs);
    fs::remove_dir_all(&dir).unwrap();
}

/// A submission with a payload of the usual size: a short script, and the variables of a login shell.
fn sample(seq: u64) -> Record {
    let mut record = submitted(seq);
    for change in &mut record.changes {
        if let Change::PutPayload(_, payload) = change {
            let mut larger = (**payload).clone();
            (0..30).for_each(|number| {
                larger
                    .variables
                    .set(format!("PBS_O_VARIABLE_{number}"), "x".repeat(60))
            });
            *payload = larger.into();
        }
    }
    record
}

fn groups(dir: &Path) {
    println!("records per group | syncs per 1,000 records | records a second | bytes per record");
    for size in [1, 8, 64] {
        let (mut store, _, _) = DiskStore::open(dir, Options::default()).unwrap();
        let begin = Instant::now();
        for group in 0..2_000 / size {
            let records: Vec<Record> = (1..=size)
                .map(|number| sample(group * size + number))
                .collect();
            store.commit(&records).unwrap();
        }
        let counts = store.statistics();
        let rate = counts.records as f64 / begin.elapsed().as_secs_f64();
        let (syncs, bytes) = (
            counts.fsyncs * 1000 / counts.records,
            counts.bytes / counts.records,
        );
        println!("{size:17} | {syncs:23} | {rate:16.0} | {bytes:16}");
        Box::new(store).close().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }
}

fn restarts(dir: &Path, jobs: u64) {
    let (mut store, _, _) = DiskStore::open(dir, Options::default()).unwrap();
    for first in (0..jobs).step_by(8) {
        let records: Vec<Record> = (first + 1..=jobs.min(first + 8)).map(sample).collect();
        store.commit(&records).unwrap();
    }
    println!(
        "{jobs} jobs; {} KiB of memory without the state",
        resident_kib()
    );
    let begin = Instant::now();
    Box::new(store).close().unwrap();
    println!("closing took {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
    for folder in ["journal", "snapshot", "index"] {
        println!("  {folder}: {} KiB", folder_bytes(&dir.join(folder)) / 1024);
    }
    open_after("a clean end", dir).close().unwrap();
    // The index goes beyond the image, and then the server is gone.
    let mut store = open_after("a clean end", dir);
    store.commit(&[sample(jobs + 1)]).unwrap();
    support::wait_until("the index has followed", || {
        store.statistics().index_lag_records == 0
    });
    drop(store);
    open_after("a kill", dir).close().unwrap();
    fs::remove_dir_all(dir.join("index")).unwrap();
    open_after("the loss of the index", dir).close().unwrap();
}

fn open_after(event: &str, dir: &Path) -> Box<DiskStore> {
    let before = resident_kib();
    let begin = Instant::now();
    let (store, state, report) = DiskStore::open(dir, Options::default()).unwrap();
    let time = begin.elapsed().as_secs_f64() * 1e3;
    let (memory, jobs) = (resident_kib() - before, state.job_count());
    println!("open after {event}: {time:.1} ms, {memory} KiB more memory, {jobs} jobs; {report}");
    Box::new(store)
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        data if data.is_dir() => folder_bytes(&entry.path()),
        data => data.len(),
    });
    bytes.sum()
}

/// Memory of our own that is in use. In a debug build 21 MiB of it are counters that sled does not use.
fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
