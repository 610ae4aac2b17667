//! The rules of the ledger: what is read back after a crash at any byte.

use super::*;
use capstan_proto::wire::attempt_ended::Outcome;

fn entry(attempt: u64) -> Entry {
    Entry {
        spec: wire::LaunchSpec {
            attempt,
            job_id: format!("{attempt}.srv"),
            script: b"echo hello".to_vec(),
            ..wire::LaunchSpec::default()
        },
        boot_id: "b".into(),
        ..Entry::default()
    }
}

fn ended(status: i32) -> wire::AttemptEnded {
    wire::AttemptEnded {
        attempt: 1,
        outcome: Some(Outcome::ExitStatus(status)),
        ..wire::AttemptEnded::default()
    }
}

fn shim(pid: u32) -> ShimRecord {
    ShimRecord {
        pid,
        ..ShimRecord::default()
    }
}

/// A ledger with attempt 1 in it.
fn ledger() -> (tempfile::TempDir, Ledger, AttemptFile) {
    let state = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(state.path()).unwrap();
    let file = ledger.record(&entry(1)).unwrap();
    (state, ledger, file)
}

#[test]
fn what_was_recorded_is_read_back_in_order() {
    let (state, ledger, _) = ledger();
    for attempt in [11, 2] {
        ledger.record(&entry(attempt)).unwrap();
    }
    ledger.remove(AttemptId(2)).unwrap();
    ledger.remove(AttemptId(2)).unwrap();
    fs::write(state.path().join("attempts/notes"), "not ours").unwrap();
    let reopened = Ledger::open(state.path()).unwrap();
    let all = reopened.read_all().unwrap();
    let numbers: Vec<u64> = all.iter().map(|found| found.attempt.0).collect();
    assert_eq!(numbers, [1, 11]);
    assert_eq!(all[1].entry.as_ref().unwrap(), &entry(11));
}

#[test]
fn a_file_tells_how_far_its_attempt_is() {
    let (_state, _, file) = ledger();
    let contents = file.read().unwrap();
    assert_eq!((contents.shim, contents.ended), (None, None));
    assert_eq!(file.has_begun(), Some(false));
    let mut locked = file.lock().unwrap().unwrap();
    locked.mark(&shim(7)).unwrap();
    locked.mark(&shim(8)).unwrap();
    assert_eq!(file.read().unwrap().shim, Some(shim(8)));
    assert_eq!(file.has_begun(), Some(true));
    locked.end(&ended(3)).unwrap();
    let contents = file.read().unwrap();
    assert_eq!(
        (contents.shim, contents.ended),
        (Some(shim(8)), Some(ended(3)))
    );
}

/// The file is cut at every byte: each cut shows what was whole before it, and hides no other attempt.
/// A shim that comes late, when its entry was dropped and the attempt was ordered again.
#[test]
fn a_lock_on_an_entry_that_was_replaced_is_none() {
    let (_state, ledger, file) = ledger();
    let open = || File::open(file.path()).unwrap();
    let late = open();
    ledger.remove(AttemptId(1)).unwrap();
    assert!(file.lock_opened(late).unwrap().is_none());
    ledger.record(&entry(1)).unwrap();
    let later = open();
    ledger.remove(AttemptId(1)).unwrap();
    ledger.record(&entry(1)).unwrap();
    assert!(file.lock_opened(later).unwrap().is_none());
    assert!(file.lock().unwrap().is_some());
}

#[test]
fn a_file_torn_at_any_byte_shows_what_is_whole() {
    let (_state, ledger, file) = ledger();
    ledger.record(&entry(2)).unwrap();
    let entry_end = fs::metadata(file.path()).unwrap().len() as usize;
    let mut locked = file.lock().unwrap().unwrap();
    locked.mark(&shim(7)).unwrap();
    let shim_end = fs::metadata(file.path()).unwrap().len() as usize;
    locked.end(&ended(3)).unwrap();
    let whole = fs::read(file.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(file.path(), &whole[..length]).unwrap();
        let read = file.read();
        assert_eq!(read.is_ok(), length >= entry_end, "{length}");
        assert_eq!(file.has_begun(), Some(length > entry_end), "{length}");
        if let Ok(contents) = read {
            assert_eq!(contents.shim.is_some(), length > entry_end, "{length}");
            assert_eq!(
                contents.shim == Some(shim(7)),
                length >= shim_end,
                "{length}"
            );
            assert_eq!(contents.ended, None, "{length}");
        }
        assert!(ledger.read_all().unwrap()[1].entry.is_ok(), "{length}");
    }
}

#[test]
fn a_shim_is_found_behind_a_damaged_entry() {
    let (_state, _, file) = ledger();
    assert_eq!(file.salvaged_shim(), None);
    let mut locked = file.lock().unwrap().unwrap();
    locked.mark(&shim(7)).unwrap();
    locked.mark(&shim(8)).unwrap();
    let mut bytes = fs::read(file.path()).unwrap();
    bytes[20] ^= 1;
    fs::write(file.path(), bytes).unwrap();
    assert!(file.read().is_err());
    assert_eq!(file.salvaged_shim(), Some(shim(8)));
}

#[test]
fn an_end_behind_a_torn_record_is_read() {
    let (_state, _, file) = ledger();
    let mut locked = file.lock().unwrap().unwrap();
    locked.mark(&shim(7)).unwrap();
    locked.end(&ended(3)).unwrap();
    let whole = fs::read(file.path()).unwrap();
    fs::write(file.path(), &whole[..whole.len() - 1]).unwrap();
    file.write_end(&ended(4)).unwrap();
    assert_eq!(file.read().unwrap().ended, Some(ended(4)));
}

#[test]
fn one_lock_at_a_time() {
    let (_state, _, file) = ledger();
    let lock = file.lock().unwrap();
    assert!(lock.is_some());
    assert!(file.lock().unwrap().is_none());
    assert!(file.is_live().unwrap());
    drop(lock);
    assert!(!file.is_live().unwrap());
}

#[test]
fn only_root_may_look_into_attempts() {
    use std::os::unix::fs::PermissionsExt;
    let (state, _, file) = ledger();
    for (name, mode) in [("attempts", 0o700), ("spool", 0o711), ("aux", 0o755)] {
        let seen = fs::metadata(state.path().join(name)).unwrap().permissions();
        assert_eq!(seen.mode() & 0o777, mode, "{name}");
    }
    let seen = fs::metadata(file.path()).unwrap().permissions();
    assert_eq!(seen.mode() & 0o777, 0o600);
}
