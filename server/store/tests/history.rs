//! How far back the past can be replayed: for as long as the options say, up to a size, and never at the cost of what is
//! submitted now. A recovery finds the same with and without it.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

mod support;

use std::fs;
use std::path::Path;

use capstan_core::State;
use capstan_store::{DiskStore, Options, Record, Store, replay, replay_near};
use capstan_types::Timestamp;
use support::{SMALL, contents, submitted, wait_until};

/// Jobs submitted in a test, one a second: enough for many segments and several snapshots.
const JOBS: u64 = 400;

fn keeping(secs: u64, bytes_max: u64) -> Options {
    Options {
        history_secs: secs,
        history_bytes_max: bytes_max,
        ..SMALL
    }
}

/// Fills a store; returns its state.
fn filled(dir: &Path, options: Options) -> State {
    let (mut store, mut state, _) = DiskStore::open(dir, options).unwrap();
    for seq in 1..=JOBS {
        let record = submitted(seq);
        store.commit(std::slice::from_ref(&record)).unwrap();
        if seq.is_multiple_of(25) {
            wait_until("the index has followed", || {
                store.statistics().index_lag_records == 0
            });
        }
        record
            .changes
            .iter()
            .for_each(|change| state.absorb(change));
    }
    assert!(store.statistics().snapshots > 3);
    Box::new(store).close().unwrap();
    state
}

fn files(dir: &Path, folder: &str, extension: &str) -> usize {
    let entries = fs::read_dir(dir.join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == extension))
        .count()
}

/// When the first record that can be replayed was decided.
fn reach(dir: &Path) -> Timestamp {
    let first: Record = replay(dir).unwrap().next().unwrap().unwrap();
    first.at
}

/// The newest `secs` seconds can be replayed, and the end of it is the state.
fn check_reach(dir: &Path, secs: u64, state: &State) {
    let oldest = reach(dir).secs();
    assert!(oldest <= JOBS - secs, "from {oldest}, not {}", JOBS - secs);
    let past = replay(dir).unwrap();
    let mut now = past.start.clone();
    for record in past {
        let record = record.unwrap();
        record.changes.iter().for_each(|change| now.absorb(change));
    }
    assert_eq!(contents(&now), contents(state));
}

#[test]
fn the_past_is_kept_for_as_long_as_the_options_say() {
    let short = tempfile::tempdir().unwrap();
    filled(short.path(), keeping(0, u64::MAX));
    assert_eq!(files(short.path(), "snapshot", "snap"), 2);
    for secs in [10, 200, 300] {
        let dir = tempfile::tempdir().unwrap();
        let state = filled(dir.path(), keeping(secs, u64::MAX));
        check_reach(dir.path(), secs, &state);
    }
    let all = tempfile::tempdir().unwrap();
    let state = filled(all.path(), keeping(u64::MAX, u64::MAX));
    assert_eq!(reach(all.path()), Timestamp(1000));
    check_reach(all.path(), JOBS - 1, &state);
    assert!(reach(short.path()) > Timestamp(1000));
    assert!(files(all.path(), "journal", "log") > files(short.path(), "journal", "log"));
}

#[test]
fn the_past_takes_no_more_room_than_the_options_say() {
    let bytes = |dir: &Path| -> u64 {
        let folders = ["journal", "snapshot"].map(|folder| fs::read_dir(dir.join(folder)).unwrap());
        let entries = folders.into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    };
    let [none, some, plenty, all] = [0, 250 << 10, 64 << 20, u64::MAX].map(|bytes_max| {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), keeping(u64::MAX, bytes_max));
        (bytes(dir.path()), reach(dir.path()))
    });
    assert!(some.0 <= none.0 + (250 << 10), "{none:?} {some:?}");
    assert!(some.0 < all.0 && all.1 < some.1, "{some:?} {all:?}");
    // Besides the past there is what is not yet in a snapshot, and how much that is depends on when one was made: so a
    // little room cannot be told from none, but enough of it is used to the end.
    assert!(all.1 < none.1, "{none:?} {all:?}");
    assert_eq!(plenty.1, all.1, "{plenty:?} {all:?}");
}

#[test]
fn a_recovery_finds_the_same_with_a_history() {
    let dir = tempfile::tempdir().unwrap();
    let options = keeping(u64::MAX, u64::MAX);
    let state = filled(dir.path(), options);
    let check_open = |what: &str| {
        let (store, found, report) = DiskStore::open(dir.path(), options).unwrap();
        assert_eq!(contents(&found), contents(&state), "{what}");
        assert_eq!(report.last_record, JOBS, "{what}");
        Box::new(store).close().unwrap();
    };
    check_open("as it was closed");
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    check_open("without an index");
    // Fewer may be kept from now on; the surplus goes with the next snapshot.
    let (mut store, _, _) = DiskStore::open(dir.path(), SMALL).unwrap();
    let before = files(dir.path(), "journal", "log");
    for seq in JOBS + 1..=2 * JOBS {
        store.commit(&[submitted(seq)]).unwrap();
        if seq.is_multiple_of(25) {
            wait_until("the index has followed", || {
                store.statistics().index_lag_records == 0
            });
        }
    }
    wait_until("the surplus is gone", || {
        files(dir.path(), "snapshot", "snap") == 2 && files(dir.path(), "journal", "log") < before
    });
}

#[test]
fn replaying_begins_near_the_time_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), keeping(u64::MAX, u64::MAX));
    let mut firsts = Vec::new();
    for secs in [1, 100, 200, 300, JOBS] {
        let mut past = replay_near(dir.path(), Timestamp(secs * 1000)).unwrap();
        let mut now = past.start.clone();
        firsts.push(past.first_record);
        let first = past.next().unwrap().unwrap();
        assert!(first.at <= Timestamp(secs * 1000));
        first.changes.iter().for_each(|change| now.absorb(change));
        for record in past {
            let record = record.unwrap();
            record.changes.iter().for_each(|change| now.absorb(change));
        }
        assert_eq!(contents(&now), contents(&state), "from {secs}");
    }
    assert!(
        firsts.is_sorted() && firsts[0] == 1 && firsts[4] > 100,
        "{firsts:?}"
    );
    let before = replay_near(dir.path(), Timestamp(0)).unwrap();
    assert_eq!(before.first_record, 1, "nothing is as old as that");
}

/// What can be replayed is read without a lock and without a trace, while a server writes.
#[test]
fn the_past_is_read_while_a_server_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, _) = DiskStore::open(dir.path(), keeping(u64::MAX, u64::MAX)).unwrap();
    for seq in 1..=50 {
        store.commit(&[submitted(seq)]).unwrap();
    }
    let mut past = replay(dir.path()).unwrap();
    assert_eq!(past.next().unwrap().unwrap(), submitted(1));
    for seq in 51..=100 {
        store.commit(&[submitted(seq)]).unwrap();
    }
    let seen = past.map(Result::unwrap).count();
    assert!((49..=99).contains(&seen), "{seen}");
    // Half a group at the end, as a reader may find it at any moment.
    let journal = dir.path().join("journal");
    let mut names: Vec<_> = fs::read_dir(&journal)
        .unwrap()
        .map(|one| one.unwrap().path())
        .collect();
    names.sort();
    let last = names.last().unwrap();
    let mut bytes = fs::read(last).unwrap();
    bytes.extend_from_slice(b"\x10\0\0\0half a frame");
    drop(store);
    fs::write(last, &bytes).unwrap();
    assert_eq!(replay(dir.path()).unwrap().map(Result::unwrap).count(), 100);
    assert_eq!(fs::read(last).unwrap(), bytes, "nothing is cut off");
}
