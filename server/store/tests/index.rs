//! The index may be lost, damaged, old or from elsewhere: all of it comes back from snapshot and journal.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use capstan_core::State;
use capstan_store::{IndexReport, OpenReport, RebuildReason, Store, StoreError, replay};
use support::{
    check_payloads, commit_each, contents, forgotten, open, seqs, submitted, touched, wait_until,
};

/// Lets the index follow now and then, so that snapshots are written along the way.
fn follow_now_and_then(store: &dyn Store, number: u64) {
    if number.is_multiple_of(25) {
        wait_until("the index has followed", || {
            store.statistics().index_lag_records == 0
        });
    }
}

/// Enough records for several segments and snapshots, cleanly closed; returns the state.
fn filled(dir: &Path, jobs: u64) -> State {
    let (mut store, mut state, _) = open(dir);
    for seq in 1..=jobs {
        let records = [submitted(seq), touched(seq, "waits for a card")];
        store.commit(&records).unwrap();
        follow_now_and_then(&*store, seq);
        records
            .iter()
            .flat_map(|record| &record.changes)
            .for_each(|change| state.absorb(change));
    }
    let record = forgotten(3);
    record
        .changes
        .iter()
        .for_each(|change| state.absorb(change));
    store.commit(&[record]).unwrap();
    store.close().unwrap();
    state
}

/// Opens the store, checks that all is there, follows up, and closes it; returns the report.
fn check_whole(dir: &Path, expected: &State) -> OpenReport {
    let (store, state, report) = open(dir);
    assert_eq!(contents(&state), contents(expected));
    // At once, while the index may still be in the making, and again when it is made.
    let live = || seqs(expected);
    check_payloads(&*store.payload_reader(), live());
    wait_until("the index has followed", || {
        store.statistics().index_lag_records == 0
    });
    check_payloads(&*store.payload_reader(), live());
    store.close().unwrap();
    report
}

/// The snapshots, oldest first.
fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("snapshot")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "snap"))
        .collect();
    found.sort();
    found
}

fn reason(report: &OpenReport) -> &RebuildReason {
    match &report.index {
        IndexReport::Rebuilt { reason, .. } => reason,
        other @ (IndexReport::New | IndexReport::Good | IndexReport::Unavailable { .. }) => {
            panic!("not rebuilt: {other:?}")
        }
    }
}

#[test]
fn clean_restart_replays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 100);
    let report = check_whole(dir.path(), &state);
    assert_eq!((report.replayed_records, report.torn_bytes), (0, 0));
    assert_eq!(report.index, IndexReport::Good);
    assert_eq!(report.last_record, 201);
    assert!(!report.is_remarkable());
}

#[test]
fn deleted_index_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 100);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let report = check_whole(dir.path(), &state);
    assert_eq!(*reason(&report), RebuildReason::Missing);
    assert!(report.is_remarkable());
    assert_eq!(check_whole(dir.path(), &state).index, IndexReport::Good);
}

#[test]
fn deleted_index_of_a_store_without_snapshots_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 5);
    assert_eq!(snapshots(dir.path()).len(), 0);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    check_whole(dir.path(), &state);
    assert_eq!(check_whole(dir.path(), &state).index, IndexReport::Good);
}

/// Overwrites each of the index's files with several kinds of garbage, one at a time: in whole, in part, cut short.
#[test]
fn garbage_in_any_index_file_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 60);
    let mut rebuilt = 0;
    for file in ["db", "conf"] {
        for damage in 0..7_u64 {
            let path = dir.path().join("index").join(file);
            let size = fs::metadata(&path).unwrap().len();
            match damage {
                0 => fs::write(&path, vec![0xa5; size as usize]).unwrap(),
                1 => fs::write(&path, vec![0; size as usize]).unwrap(),
                2 => fs::write(&path, b"").unwrap(),
                3 => OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(size / 2)
                    .unwrap(),
                _ => {
                    let garbage: Vec<u8> = (0..512_u64.min(size))
                        .map(|at| (at * damage % 251) as u8)
                        .collect();
                    let at = size * (damage - 4) / 3;
                    OpenOptions::new()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .write_all_at(&garbage, at)
                        .unwrap();
                }
            }
            let report = check_whole(dir.path(), &state);
            rebuilt += u32::from(report.is_remarkable());
        }
    }
    assert!(rebuilt >= 4, "only {rebuilt} of the damages were noticed");
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside = names
        .filter(|name| name.starts_with("index.damaged-"))
        .count();
    assert!((1..=2).contains(&aside), "{aside} broken indexes kept");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn older_index_follows_up_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let old = dir.path().join("old");
    copy_folder(&dir.path().join("index"), &old);
    let (mut store, mut state, _) = open(dir.path());
    commit_each(&mut *store, (6..=9).map(submitted));
    (6..=9).map(submitted).for_each(|record| {
        record
            .changes
            .iter()
            .for_each(|change| state.absorb(change))
    });
    store.close().unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    fs::rename(&old, dir.path().join("index")).unwrap();
    let report = check_whole(dir.path(), &state);
    assert_eq!(
        (report.replayed_records, report.index),
        (4, IndexReport::Good)
    );
}

#[test]
fn index_older_than_the_journal_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let old = dir.path().join("old");
    copy_folder(&dir.path().join("index"), &old);
    let (mut store, mut state, _) = open(dir.path());
    for seq in 6..=200 {
        store.commit(&[submitted(seq)]).unwrap();
        follow_now_and_then(&*store, seq);
        submitted(seq)
            .changes
            .iter()
            .for_each(|change| state.absorb(change));
    }
    wait_until("snapshots are written", || {
        store.statistics().index_lag_records == 0
    });
    store.close().unwrap();
    assert!(
        !dir.path().join("journal/00000001.log").exists(),
        "the journal was not cut at its beginning"
    );
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    fs::rename(&old, dir.path().join("index")).unwrap();
    let report = check_whole(dir.path(), &state);
    assert!(
        matches!(
            reason(&report),
            RebuildReason::OlderThanJournal { index: 11, .. }
        ),
        "{report}"
    );
}

/// The journal is what counts: an index that knows more is kept for a look at it, and said.
#[test]
fn index_newer_than_the_journal_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 5);
    let old = dir.path().join("old");
    copy_folder(&dir.path().join("journal"), &old);
    let (mut store, _, _) = open(dir.path());
    store.commit(&[submitted(6)]).unwrap();
    store.close().unwrap();
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    fs::rename(&old, dir.path().join("journal")).unwrap();
    let report = check_whole(dir.path(), &state);
    assert_eq!(
        *reason(&report),
        RebuildReason::NewerThanJournal {
            index: 12,
            journal: 11
        }
    );
    assert!(dir.path().join("index.damaged-1").is_dir());
}

#[test]
fn lost_journal_is_never_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let error = capstan_store::DiskStore::open(dir.path(), support::SMALL).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[test]
fn damaged_snapshot_is_passed_over_for_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 200);
    let damage_newest = || {
        let found = snapshots(dir.path());
        assert_eq!(found.len(), 2, "the newest two are kept");
        let newest = OpenOptions::new().write(true).open(&found[1]).unwrap();
        newest.write_all_at(b"garbage", 1000).unwrap();
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        found
    };
    damage_newest();
    check_whole(dir.path(), &state);
    // With the older one gone as well, nothing is made up.
    fs::remove_file(&damage_newest()[0]).unwrap();
    let error = capstan_store::DiskStore::open(dir.path(), support::SMALL).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn journal_and_snapshots_stay_in_proportion() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, _) = open(dir.path());
    for round in 0..600_u64 {
        let group: Vec<_> = (1..=5)
            .map(|seq| touched(seq, &round.to_string()))
            .collect();
        store.commit(&group).unwrap();
        follow_now_and_then(&*store, round);
    }
    wait_until("the index has followed", || {
        store.statistics().index_lag_records == 0
    });
    let counts = store.statistics();
    store.close().unwrap();
    let files = fs::read_dir(dir.path().join("journal")).unwrap();
    let bytes: u64 = files
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(counts.snapshots > 0);
    assert!(
        bytes < counts.bytes / 2,
        "{bytes} bytes of {} are kept",
        counts.bytes
    );
    assert_eq!(snapshots(dir.path()).len() as u64, counts.snapshots.min(2));
}

#[test]
fn replay_gives_the_records_and_the_state_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let state = filled(dir.path(), 5);
    let past = replay(dir.path()).unwrap();
    assert_eq!(past.first_record, 1);
    let records: Vec<_> = past.map(Result::unwrap).collect();
    assert_eq!(records.len(), 11);
    assert_eq!(records[0], submitted(1));

    let long = tempfile::tempdir().unwrap();
    let end = filled(long.path(), 200);
    let mut past = replay(long.path()).unwrap();
    assert!(past.first_record > 1);
    let mut now = past.start.clone();
    for record in &mut past {
        record
            .unwrap()
            .changes
            .iter()
            .for_each(|change| now.absorb(change));
    }
    assert_eq!(contents(&now), contents(&end));
    assert_ne!(contents(&now), contents(&state));
}

#[test]
fn store_is_one_servers_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("store");
    let (store, _, _) = open(&place);
    let error = capstan_store::DiskStore::open(&place, support::SMALL).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }));
    store.close().unwrap();
    let mode = |path: &str| fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o777;
    for folder in ["", "journal", "snapshot", "index"] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
    for file in ["lock", "journal/00000001.log"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}
