//! Stores of every released format open for ever. `frozen/vN` is a store as version N left it; it is never written
//! anew for the same N. A new format adds a folder, made by the ignored-by-default switch below.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use capstan_core::State;
use capstan_store::{IndexReport, Record, Store, replay};
use support::{check_payloads, contents, forgotten, open, submitted, touched};

/// What every frozen store holds.
fn records() -> Vec<Record> {
    vec![
        submitted(1),
        submitted(2),
        submitted(3),
        touched(2, "waits for a card"),
        forgotten(1),
    ]
}

fn expected() -> State {
    let mut state = State::default();
    records()
        .iter()
        .flat_map(|record| &record.changes)
        .for_each(|change| state.absorb(change));
    state
}

fn frozen(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/frozen/v{version}"))
}

/// The folder's files, copied to where they may be written. Parts that are not in `parts` stay behind.
fn copy(version: u32, parts: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in parts {
        let to = dir.path().join(part);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(frozen(version).join(part)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    dir
}

/// With the variable set, makes the sample of the format that this version writes, when there is none.
#[test]
fn sample_of_this_format_is_there() {
    let place = frozen(1);
    if std::env::var_os("CAPSTAN_FREEZE").is_some() && !place.exists() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _, _) = open(dir.path());
        for record in records() {
            store.commit(&[record]).unwrap();
        }
        store.close().unwrap();
        // A second run under a bound that makes a snapshot due at once.
        let options = capstan_store::Options {
            snapshot_after_bytes: 1,
            ..support::SMALL
        };
        let (store, _, _) = capstan_store::DiskStore::open(dir.path(), options).unwrap();
        Box::new(store).close().unwrap();
        for part in ["journal", "snapshot"] {
            let to = place.join(part);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(dir.path().join(part)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }
    assert!(place.is_dir());
}

#[test]
fn journal_of_format_1_opens() {
    let dir = copy(1, &["journal"]);
    let (store, state, report) = open(dir.path());
    assert_eq!(contents(&state), contents(&expected()));
    assert_eq!(report.last_record, 5);
    check_payloads(&*store.payload_reader(), [2, 3]);
    store.close().unwrap();
    let found: Vec<_> = replay(dir.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, records());
}

#[test]
fn snapshot_of_format_1_opens() {
    let dir = copy(1, &["journal", "snapshot"]);
    let (store, state, report) = open(dir.path());
    assert_eq!(contents(&state), contents(&expected()));
    assert_eq!(report.replayed_records, 0, "{report}");
    assert!(matches!(report.index, IndexReport::Rebuilt { .. }));
    check_payloads(&*store.payload_reader(), [2, 3]);
    store.close().unwrap();
}
