//! A disk that is full, for real: a small file system of its own, where the tests run as root.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capstan_store::{IndexReport, Store};
use support::{check_payloads, open, seqs, submitted, wait_until};

/// A file system of a few megabytes, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(place: &Path, options: &str) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(place);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self(place.to_path_buf()))
    }

    /// Takes all room but about `left` bytes.
    fn fill(&self, left: usize) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut bytes = vec![1; 64 << 20];
        while fs::write(&ballast, &bytes).is_err() {
            let held = fs::metadata(&ballast).map_or(0, |data| data.len() as usize);
            bytes.truncate(held.saturating_sub(left));
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Fills the disk, submits until and after it is full, makes room, submits again, and restarts: what was acknowledged
/// is there, what was refused is not. Also restarts while the disk is full, when sled can not open.
#[test]
fn full_disk_refuses_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), "size=8m,mode=0700") else {
        let mut stderr = std::io::stderr();
        std::io::Write::write_all(&mut stderr, b"skipped: no right to mount a small disk\n")
            .unwrap();
        return;
    };
    let place = disk.0.join("store");
    let (mut store, _, _) = open(&place);
    let mut kept = Vec::new();
    for seq in 1..=20 {
        store.commit(&[submitted(seq)]).unwrap();
        kept.push(seq);
    }
    wait_until("the index has followed", || {
        store.statistics().index_lag_records == 0
    });
    let ballast = disk.fill(24 << 10);
    let mut refused = 0;
    for seq in 21..=200 {
        match store.commit(&[submitted(seq)]) {
            Ok(()) => kept.push(seq),
            Err(error) => {
                assert!(error.is_full() && error.is_passing(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "only {refused} refused");
    let reader = store.payload_reader();
    check_payloads(&*reader, kept.iter().copied());
    drop(store);

    let (store, state, report) = open(&place);
    assert_eq!(seqs(&state), kept, "{report}");
    check_payloads(&*store.payload_reader(), kept.iter().copied());
    drop(store);

    fs::remove_file(ballast).unwrap();
    let (mut store, state, _) = open(&place);
    assert_eq!(seqs(&state), kept);
    for seq in 201..=220 {
        store.commit(&[submitted(seq)]).unwrap();
        kept.push(seq);
    }
    store.close().unwrap();
    let (store, state, report) = open(&place);
    assert_eq!(seqs(&state), kept);
    assert_eq!(report.index, IndexReport::Good);
    check_payloads(&*store.payload_reader(), kept.iter().copied());
    store.close().unwrap();
}

/// The server lives through it: no restart between the full disk and the room.
#[test]
fn store_goes_on_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), "size=8m,mode=0700") else {
        return;
    };
    let place = disk.0.join("store");
    let (mut store, _, _) = open(&place);
    store.commit(&[submitted(1)]).unwrap();
    let ballast = disk.fill(0);
    let mut seq = 2;
    while store.commit(&[submitted(seq)]).is_ok() {
        seq += 1;
        assert!(seq < 1000, "the disk is never full");
    }
    fs::remove_file(ballast).unwrap();
    let kept: Vec<u64> = (1..seq).chain([1001, 1002]).collect();
    store.commit(&[submitted(1001), submitted(1002)]).unwrap();
    check_payloads(&*store.payload_reader(), kept.iter().copied());
    wait_until("the index is usable again and has followed", || {
        store.statistics().index_lag_records == 0
    });
    store.close().unwrap();
    let (store, state, _) = open(&place);
    assert_eq!(seqs(&state), kept);
    check_payloads(&*store.payload_reader(), kept);
    store.close().unwrap();
}
