//! What every store promises, run on each of them.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use capstan_core::{Change, Payload, State};
use capstan_store::{DiskStore, MemoryDisk, MemoryStore, PayloadReader, Store};
use capstan_types::JobId;
use support::{
    check_payloads, commit_each, contents, forgotten, payload, seqs, submitted, touched,
};

/// Somewhere a store can be opened again and again.
trait Place {
    fn open(&self) -> (Box<dyn Store>, State);
}

struct OnDisk(PathBuf);

impl Place for OnDisk {
    fn open(&self) -> (Box<dyn Store>, State) {
        let (store, state, _) = DiskStore::open(&self.0, support::SMALL).unwrap();
        (Box::new(store), state)
    }
}

impl Place for MemoryDisk {
    fn open(&self) -> (Box<dyn Store>, State) {
        let (store, state) = MemoryStore::open(self);
        (Box::new(store), state)
    }
}

fn check(promise: fn(&dyn Place)) {
    promise(&MemoryDisk::default());
    let dir = tempfile::tempdir().unwrap();
    promise(&OnDisk(dir.path().join("store")));
}

/// Opens again after a clean end, and after a kill.
fn reopen(place: &dyn Place, store: Box<dyn Store>, is_clean: bool) -> (Box<dyn Store>, State) {
    match is_clean {
        true => store.close().unwrap(),
        false => drop(store),
    }
    place.open()
}

#[test]
fn new_store_is_empty() {
    check(|place| {
        let (store, state) = place.open();
        assert_eq!(contents(&state), contents(&State::default()));
        assert_eq!(
            store.payload_reader().payload(JobId::whole(1)).unwrap(),
            None
        );
    });
}

#[test]
fn committed_records_are_there_after_any_end() {
    for is_clean in [true, false] {
        check(match is_clean {
            true => |place| survives(place, true),
            false => |place| survives(place, false),
        });
    }
}

fn survives(place: &dyn Place, is_clean: bool) {
    let (mut store, mut expected) = place.open();
    let groups = [
        vec![submitted(1)],
        vec![submitted(2), submitted(3)],
        vec![touched(2, "waits")],
        vec![forgotten(1)],
    ];
    for group in groups {
        store.commit(&group).unwrap();
        let changes = group.iter().flat_map(|record| &record.changes);
        changes.for_each(|change| expected.absorb(change));
        let (again, state) = reopen(place, store, is_clean);
        assert_eq!(contents(&state), contents(&expected));
        store = again;
    }
    check_payloads(&*store.payload_reader(), [2, 3]);
}

#[test]
fn payload_is_there_when_the_commit_returns_and_goes_with_its_job() {
    check(|place| {
        let (mut store, _) = place.open();
        let reader = store.payload_reader();
        for seq in 1..=50 {
            store.commit(&[submitted(seq)]).unwrap();
            check_payloads(&*reader, [seq, 1 + seq / 2]);
        }
        store.commit(&[forgotten(7)]).unwrap();
        assert_eq!(reader.payload(JobId::whole(7)).unwrap(), None);
        let (store, _) = reopen(place, store, true);
        let reader = store.payload_reader();
        assert_eq!(reader.payload(JobId::whole(7)).unwrap(), None);
        check_payloads(&*reader, (1..=50).filter(|seq| *seq != 7));
    });
}

#[test]
fn array_has_its_payload_under_the_arrays_id() {
    check(|place| {
        let (mut store, _) = place.open();
        let mut record = submitted(5);
        record.changes = vec![Change::PutPayload(JobId::array(5), payload(5))];
        store.commit(&[record]).unwrap();
        let (store, _) = reopen(place, store, true);
        let reader = store.payload_reader();
        assert_eq!(reader.payload(JobId::array(5)).unwrap(), Some(payload(5)));
        assert_eq!(reader.payload(JobId::whole(5)).unwrap(), None);
        assert_eq!(reader.payload(JobId::member(5, 0)).unwrap(), None);
    });
}

#[test]
fn group_costs_one_sync_whatever_its_size() {
    check(|place| {
        let (mut store, _) = place.open();
        store.commit(&[]).unwrap();
        assert_eq!(store.statistics().fsyncs, 0);
        let group: Vec<_> = (1..=64).map(submitted).collect();
        store.commit(&group).unwrap();
        let counts = store.statistics();
        assert_eq!((counts.groups, counts.records, counts.fsyncs), (1, 64, 1));
    });
}

#[test]
fn records_after_a_restart_come_after_those_before() {
    check(|place| {
        let (mut store, _) = place.open();
        for round in 0..5_u64 {
            commit_each(&mut *store, (1..=20).map(|seq| submitted(round * 20 + seq)));
            commit_each(&mut *store, [touched(1, &round.to_string())]);
            let (again, state) = reopen(place, store, round % 2 == 0);
            store = again;
            assert_eq!(seqs(&state), (1..=(round + 1) * 20).collect::<Vec<_>>());
            assert_eq!(
                state.job(JobId::whole(1)).unwrap().comment.as_deref(),
                Some(&*round.to_string())
            );
        }
    });
}

#[test]
fn readers_on_other_threads_see_what_is_committed() {
    check(|place| {
        let (mut store, _) = place.open();
        let reader = store.payload_reader();
        let (done, told) = std::sync::mpsc::channel();
        let thread =
            std::thread::spawn(move || told.iter().for_each(|seq| check_payloads(&*reader, [seq])));
        for seq in 1..=300 {
            store.commit(&[submitted(seq)]).unwrap();
            done.send(seq).unwrap();
        }
        drop(done);
        thread.join().unwrap();
    });
}

/// More than a store keeps in memory while its index follows.
#[test]
fn large_payloads_are_there_however_fast_they_come() {
    check(|place| {
        let (mut store, _) = place.open();
        let reader = store.payload_reader();
        let large = |seq: u64| Payload {
            script: vec![seq as u8; 1 << 20],
            ..Payload::default()
        };
        for seq in 1..=24 {
            let mut record = submitted(seq);
            record
                .changes
                .push(Change::PutPayload(JobId::whole(seq), large(seq).into()));
            store.commit(&[record]).unwrap();
        }
        let check = |reader: &dyn PayloadReader| {
            for seq in 1..=24 {
                let found = reader.payload(JobId::whole(seq)).unwrap().unwrap();
                assert!(*found == large(seq), "payload of job {seq}");
            }
        };
        check(&*reader);
        let (store, _) = reopen(place, store, false);
        check(&*store.payload_reader());
        let (store, _) = reopen(place, store, true);
        check(&*store.payload_reader());
    });
}

#[test]
fn full_memory_disk_refuses_and_recovers() {
    let disk = MemoryDisk::default();
    let (mut store, _) = MemoryStore::open(&disk);
    store.commit(&[submitted(1)]).unwrap();
    disk.set_full(true);
    let error = store.commit(&[submitted(2)]).unwrap_err();
    assert!(error.is_full() && error.is_passing());
    disk.set_full(false);
    store.commit(&[submitted(3)]).unwrap();
    let payloads: Arc<_> = store.payload_reader();
    assert_eq!(payloads.payload(JobId::whole(2)).unwrap(), None);
    assert_eq!(seqs(&MemoryStore::open(&disk).1), [1, 3]);
}
