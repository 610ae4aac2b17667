//! The journal on a simulated disk that tears, fills, fails and loses what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use capstan_core::{Change, Event};
use capstan_types::Timestamp;
use proptest::prelude::*;

use super::{EndRule, Groups, Journal, segments};
use crate::medium::{Folder, Medium};
use crate::{Record, StoreError, codec};

/// A disk that keeps what was synced and may lose the rest: at a crash, each unsynced write survives in part, and a
/// new name survives by chance unless its folder was synced.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<String, File>,
    /// Whole bytes that may still be written; the disk is full then.
    room: Option<u64>,
    /// Syncs that fail from now on.
    failing_syncs: u32,
    /// Cuts that fail from now on.
    failing_cuts: u32,
    bytes_synced: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    has_durable_name: bool,
}

#[derive(Debug)]
struct Handle {
    disk: Disk,
    name: String,
}

impl Disk {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn with<T>(&self, run: impl FnOnce(&mut Platter) -> T) -> T {
        run(&mut self.0.lock().unwrap())
    }

    /// The power fails: `luck` decides how much of what was not synced is there all the same.
    fn crash(&self, luck: u64) -> Self {
        let mut files = self.with(|platter| platter.files.clone());
        let mut luck = luck;
        let mut draw = move |below: usize| {
            luck = luck
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((luck >> 33) as usize) % below.max(1)
        };
        files.retain(|_, file| file.has_durable_name || draw(2) == 0);
        for file in files.values_mut() {
            let survivor = match draw(3) {
                0 => file.durable.clone(),
                1 => file.seen.clone(),
                // The length reached the disk, the contents in part.
                _ => {
                    let mut torn = file.seen.clone();
                    let kept = file.durable.len().min(torn.len());
                    let from = kept + draw(torn.len() - kept + 1);
                    let with = if draw(2) == 0 { 0 } else { 0xa5 };
                    torn[from..].fill(with);
                    torn.truncate(from + draw(torn.len() - from + 1));
                    torn
                }
            };
            file.seen.clone_from(&survivor);
            file.durable = survivor;
            file.has_durable_name = true;
        }
        let platter = Platter {
            files,
            ..Platter::default()
        };
        Self(Arc::new(Mutex::new(platter)))
    }
}

impl Folder for Disk {
    fn path(&self) -> &Path {
        Path::new("disk")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|platter| platter.files.keys().cloned().collect()))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        self.with(|platter| platter.files.insert(name.to_owned(), File::default()));
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let is_there = self.with(|platter| platter.files.contains_key(name));
        let (disk, name) = (self.clone(), name.to_owned());
        match is_there {
            true => Ok(Box::new(Handle { disk, name })),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|platter| platter.files.remove(name));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|platter| {
            let file = platter.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            platter.files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|platter| {
            platter
                .files
                .values_mut()
                .for_each(|file| file.has_durable_name = true)
        });
        Ok(())
    }
}

impl Handle {
    fn with<T>(&self, run: impl FnOnce(&mut File, &mut Option<u64>) -> T) -> T {
        self.disk.with(|platter| {
            let file = platter
                .files
                .get_mut(&self.name)
                .expect("files in use are not removed");
            run(file, &mut platter.room)
        })
    }
}

impl Medium for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|file, _| file.seen.len() as u64))
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|file, _| {
            let rest = file.seen.get(at as usize..).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|file, room| {
            let fits = room.map_or(bytes.len(), |room| bytes.len().min(room as usize));
            let at = at as usize;
            file.seen.resize(file.seen.len().max(at + fits), 0);
            file.seen[at..at + fits].copy_from_slice(&bytes[..fits]);
            if let Some(room) = room {
                *room -= fits as u64;
            }
            match fits == bytes.len() {
                true => Ok(()),
                false => Err(io::ErrorKind::StorageFull.into()),
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.with(|platter| {
            if platter.failing_syncs > 0 {
                platter.failing_syncs -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            let file = platter
                .files
                .get_mut(&self.name)
                .expect("files in use are not removed");
            platter.bytes_synced += file.seen.len().saturating_sub(file.durable.len()) as u64;
            file.durable.clone_from(&file.seen);
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.with(|platter| {
            if platter.failing_cuts > 0 {
                platter.failing_cuts -= 1;
                return Err(io::Error::from_raw_os_error(5));
            }
            let file = platter
                .files
                .get_mut(&self.name)
                .expect("files in use are not removed");
            file.seen.truncate(size as usize);
            Ok(())
        })
    }
}

const SEGMENT_BYTES: u64 = 300;

fn record(number: u64) -> Record {
    Record {
        at: Timestamp(number),
        event: Event::Tick,
        changes: vec![Change::SetNextSeq(number)],
    }
}

fn numbers(disk: &Disk) -> Result<Vec<u64>, StoreError> {
    let mut groups = Groups::new(Arc::new(disk.clone()), 1, u64::MAX, EndRule::Judge)?;
    let mut found = Vec::new();
    while let Some(group) = groups.next()? {
        found.extend(
            codec::decode_records(group.body)?
                .iter()
                .map(|record| record.at.0),
        );
    }
    Ok(found)
}

fn open(disk: &Disk) -> Result<(Journal, Vec<u64>), StoreError> {
    let folder = Arc::new(disk.clone());
    if segments(disk)?.is_empty() {
        return Ok((Journal::create(folder, SEGMENT_BYTES)?, Vec::new()));
    }
    let mut groups = Groups::new(folder.clone(), 1, u64::MAX, EndRule::Judge)?;
    while groups.next()?.is_some() {}
    let (end, _) = groups.end().expect("there is a segment");
    Ok((Journal::resume(folder, SEGMENT_BYTES, end)?, numbers(disk)?))
}

/// What happens to a journal.
#[derive(Clone, Debug)]
enum Step {
    /// A group of so many records.
    Commit(u8),
    /// As on a disk with so many bytes of room.
    CommitFull(u8, u16),
    /// The sync fails; the cut fails as well, or not.
    CommitFailing(u8, bool),
    /// The power fails, before or after a write that is not synced, with this luck.
    Crash(bool, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..6u8).prop_map(Step::Commit),
        1 => (1..6u8, 0..400u16).prop_map(|(records, room)| Step::CommitFull(records, room)),
        1 => (1..6u8, any::<bool>()).prop_map(|(records, cut)| Step::CommitFailing(records, cut)),
        2 => (any::<bool>(), any::<u64>()).prop_map(|(unsynced, luck)| Step::Crash(unsynced, luck)),
    ]
}

/// A journal under test, and what it must hold.
struct World {
    disk: Disk,
    journal: Journal,
    acknowledged: Vec<u64>,
    /// Groups that were not acknowledged but may be there whole: only ever the last.
    in_doubt: Vec<u64>,
    drawn: u64,
}

impl World {
    fn draw(&mut self, count: u8) -> Vec<Record> {
        let first = self.drawn + 1;
        self.drawn += u64::from(count);
        (first..=self.drawn).map(record).collect()
    }

    fn commit(&mut self, count: u8) -> Result<(), StoreError> {
        let records = self.draw(count);
        let result = self.journal.append(&records).map(drop);
        let numbers = records.iter().map(|record| record.at.0);
        match &result {
            Ok(()) => self.acknowledged.extend(numbers),
            Err(StoreError::Poisoned { .. }) if self.in_doubt.is_empty() => {
                self.in_doubt.extend(numbers)
            }
            Err(_) => {}
        }
        result
    }

    /// Opens what is on `disk` and checks it: the acknowledged records, or those and the whole group in doubt.
    fn reopen(&mut self, disk: Disk) {
        let (journal, found) = open(&disk).expect("a crash damages nothing that counts");
        let with_doubt: Vec<u64> = self
            .acknowledged
            .iter()
            .chain(&self.in_doubt)
            .copied()
            .collect();
        assert!(
            found == self.acknowledged || found == with_doubt,
            "{found:?} instead of {with_doubt:?}"
        );
        *self = Self {
            disk,
            journal,
            acknowledged: found,
            in_doubt: Vec::new(),
            drawn: self.drawn,
        };
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Commit(count) => {
                let result = self.commit(count);
                assert!(
                    result.is_ok() || matches!(result, Err(StoreError::Poisoned { .. })),
                    "{result:?}"
                );
            }
            Step::CommitFull(count, room) => {
                self.disk
                    .with(|platter| platter.room = Some(u64::from(room)));
                if let Err(error) = self.commit(count) {
                    assert!(
                        error.is_full() || matches!(error, StoreError::Poisoned { .. }),
                        "{error:?}"
                    );
                }
                self.disk.with(|platter| platter.room = None);
            }
            Step::CommitFailing(count, is_cut_failing) => {
                self.disk.with(|platter| {
                    platter.failing_syncs = 1;
                    platter.failing_cuts = u32::from(is_cut_failing);
                });
                assert!(self.commit(count).is_err());
                self.disk
                    .with(|platter| (platter.failing_syncs, platter.failing_cuts) = (0, 0));
            }
            Step::Crash(is_writing, luck) => {
                if is_writing && self.in_doubt.is_empty() {
                    // The sync never returns: as if the power failed in it.
                    self.disk.with(|platter| {
                        (platter.failing_syncs, platter.failing_cuts) = (u32::MAX, u32::MAX)
                    });
                    let _refused = self.commit(3);
                }
                let disk = self.disk.crash(luck);
                self.reopen(disk);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random commits, full disks, failing syncs and power cuts: exactly the acknowledged records survive, and at
    /// most one whole group more, which was never refused for good.
    #[test]
    fn acknowledged_records_survive_any_crash(steps in prop::collection::vec(step(), 1..40), luck in any::<u64>()) {
        let disk = Disk::new();
        let (journal, _) = open(&disk).unwrap();
        let mut world = World { disk, journal, acknowledged: Vec::new(), in_doubt: Vec::new(), drawn: 0 };
        for step in &steps {
            world.take(step);
        }
        let disk = world.disk.crash(luck);
        world.reopen(disk);
        prop_assert!(world.commit(2).is_ok());
        let disk = world.disk.crash(luck);
        world.reopen(disk);
    }
}

/// Three groups, and the bytes of the last segment.
fn three_groups(segment_bytes: u64) -> (Disk, Vec<u8>) {
    let disk = Disk::new();
    let mut journal = Journal::create(Arc::new(disk.clone()), segment_bytes).unwrap();
    for number in 1..=3 {
        journal
            .append(&[record(number * 2 - 1), record(number * 2)])
            .unwrap();
    }
    let last = disk.with(|platter| platter.files.values().next_back().unwrap().seen.clone());
    (disk, last)
}

fn put_last(disk: &Disk, bytes: Vec<u8>) {
    disk.with(|platter| platter.files.values_mut().next_back().unwrap().seen = bytes);
}

#[test]
fn last_group_torn_at_any_byte_is_dropped_whole() {
    let (disk, whole) = three_groups(u64::MAX);
    let begin = whole.len() - (whole.len() - 32) / 3;
    for cut in begin..whole.len() {
        for filler in [None, Some(0), Some(0xff)] {
            let mut torn = whole.clone();
            match filler {
                None => torn.truncate(cut),
                Some(byte) => torn[cut..].fill(byte),
            }
            // Filling the end with what it was tears nothing.
            let is_whole = torn == whole;
            put_last(&disk, torn);
            let (mut journal, found) = open(&disk).unwrap();
            let expected: &[u64] = if is_whole {
                &[1, 2, 3, 4, 5, 6]
            } else {
                &[1, 2, 3, 4]
            };
            assert_eq!(found, expected, "cut at {cut}, filled with {filler:?}");
            journal.append(&[record(9)]).unwrap();
            assert_eq!(*numbers(&disk).unwrap().last().unwrap(), 9);
        }
    }
}

#[test]
fn segment_torn_in_its_header_is_begun_again() {
    for length in 0..32 {
        let (disk, first) = three_groups(u64::MAX);
        let name = super::name(2);
        disk.create(&name)
            .unwrap()
            .write_at(0, &first[..length])
            .unwrap();
        let (mut journal, found) = open(&disk).unwrap();
        assert_eq!(found.len(), 6);
        journal.segment_bytes = 1;
        journal.append(&[record(7)]).unwrap();
        assert_eq!(
            numbers(&disk).unwrap(),
            [1, 2, 3, 4, 5, 6, 7],
            "header of {length} bytes"
        );
    }
}

#[test]
fn damage_before_the_end_is_an_error_that_names_the_place() {
    let (disk, whole) = three_groups(u64::MAX);
    let group = (whole.len() - 32) / 3;
    for at in 32..32 + 2 * group {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        put_last(&disk, bytes);
        let begin = 32 + (at - 32) / group * group;
        match numbers(&disk) {
            Err(StoreError::Damaged { path, offset, .. }) => {
                assert_eq!(
                    (path, offset),
                    (PathBuf::from("disk/00000001.log"), begin as u64),
                    "byte {at}"
                );
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn every_segment_but_the_last_must_be_whole() {
    let (disk, _) = three_groups(1);
    let first = disk.with(|platter| platter.files.values().next().unwrap().seen.clone());
    for length in 32..first.len() {
        disk.with(|platter| {
            platter
                .files
                .values_mut()
                .next()
                .unwrap()
                .seen
                .truncate(length)
        });
        assert!(
            matches!(numbers(&disk), Err(StoreError::Damaged { .. })),
            "cut at {length}"
        );
        disk.with(|platter| {
            platter
                .files
                .values_mut()
                .next()
                .unwrap()
                .seen
                .clone_from(&first)
        });
    }
    disk.remove(&super::name(2)).unwrap();
    assert!(matches!(numbers(&disk), Err(StoreError::Missing { .. })));
}

/// A user's script may hold anything, also what looks like a journal.
#[test]
fn stored_bytes_never_pass_for_a_frame() {
    let (_, other) = three_groups(u64::MAX);
    let disk = Disk::new();
    let mut journal = Journal::create(Arc::new(disk.clone()), u64::MAX).unwrap();
    journal.append(&[record(1)]).unwrap();
    let mut bytes = disk.with(|platter| platter.files.values().next().unwrap().seen.clone());
    let good = bytes.len();
    // A torn frame whose contents are whole frames of another journal, with numbers that would fit.
    bytes.extend_from_slice(&[0; 20]);
    bytes.extend_from_slice(&other[32..]);
    put_last(&disk, bytes);
    assert_eq!(open(&disk).unwrap().1, [1]);
    assert_eq!(
        disk.with(|platter| platter.files.values().next().unwrap().seen.len()),
        good
    );
}

#[test]
fn refused_group_leaves_no_trace_and_the_next_succeeds() {
    let (disk, whole) = three_groups(u64::MAX);
    let (mut journal, _) = open(&disk).unwrap();
    journal.segment_bytes = u64::MAX;
    for room in 0..60 {
        disk.with(|platter| platter.room = Some(room));
        assert!(
            journal
                .append(&[record(7), record(8)])
                .unwrap_err()
                .is_full()
        );
        assert_eq!(
            disk.with(|platter| platter.files.values().next().unwrap().seen.clone()),
            whole
        );
    }
    disk.with(|platter| platter.room = None);
    journal.append(&[record(7)]).unwrap();
    assert_eq!(numbers(&disk).unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(
        (journal.counts.groups, journal.counts.refused_groups),
        (1, 60)
    );
}

#[test]
fn journal_that_can_not_be_cut_refuses_everything() {
    let (disk, _) = three_groups(u64::MAX);
    let (mut journal, _) = open(&disk).unwrap();
    journal.segment_bytes = u64::MAX;
    disk.with(|platter| (platter.failing_syncs, platter.failing_cuts) = (1, 1));
    for _ in 0..2 {
        let error = journal.append(&[record(7)]).unwrap_err();
        assert!(
            matches!(error, StoreError::Poisoned { .. }) && !error.is_passing(),
            "{error:?}"
        );
    }
}
