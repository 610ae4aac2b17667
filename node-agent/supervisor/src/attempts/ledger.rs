//! The agent's memory of attempts: a root-only folder for each, kept until the server says that it may be forgotten.
//!
//! `entry` is synced before the shim starts; `shim` marks that one began; `status` is synced when it ended. A shim
//! holds a lock on the folder for as long as it lives: unlike a process id, a lock cannot be mistaken for another's.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use capstan_proto::wire;
use capstan_types::AttemptId;
use prost::Message;

use super::record::{Damaged, Entry, ShimRecord, seal, unseal};

/// Longest record read back; a script is bounded far below by the server.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file of the ledger.
    #[error("{path} cannot be {wanted}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// "read", "written" …
        wanted: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A record that is there, but not whole.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        #[source]
        source: Damaged,
    },
}

/// All attempts' folders.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
}

/// One attempt's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptFolder(PathBuf);

/// An attempt read back after a restart of the agent.
#[derive(Debug)]
pub(super) struct Found {
    /// From the folder's name.
    pub(super) attempt: AttemptId,
    /// The entry, or why it cannot be read.
    pub(super) entry: Result<Entry, LedgerError>,
}

impl Ledger {
    /// Opens the ledger under the state folder, making what is missing: `attempts` (root only), `spool` (may be
    /// passed through) and `aux` (may be listed).
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(super) fn open(state: &Path) -> Result<Self, LedgerError> {
        for (name, mode) in [
            ("", 0o711),
            ("attempts", 0o700),
            ("spool", 0o711),
            ("aux", 0o755),
        ] {
            let path = if name.is_empty() {
                state.to_owned()
            } else {
                state.join(name)
            };
            let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.and_then(|()| fs::set_permissions(&path, permissions(mode)))
                .map_err(failed(&path, "made"))?;
        }
        let folder = state.join("attempts");
        Ok(Self { folder })
    }

    /// The folder of `attempt`, whether it exists or not.
    #[must_use]
    pub(super) fn folder(&self, attempt: AttemptId) -> AttemptFolder {
        AttemptFolder(self.folder.join(attempt.0.to_string()))
    }

    /// Writes the entry durably; when this returns, a restarted agent will know the attempt.
    ///
    /// # Errors
    /// When the disk refuses; nothing of the attempt is left then.
    pub(super) fn record(&self, entry: &Entry) -> Result<AttemptFolder, LedgerError> {
        let folder = self.folder(entry.attempt());
        let written = self.write_entry(&folder, entry);
        if written.is_err() {
            // The first error is the one worth telling; what cannot be removed is dropped at the next start.
            let _leftover = fs::remove_dir_all(&folder.0);
        }
        written.map(|()| folder)
    }

    fn write_entry(&self, folder: &AttemptFolder, entry: &Entry) -> Result<(), LedgerError> {
        match DirBuilder::new().mode(0o700).create(&folder.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&folder.0, "made")(error)),
        }
        write_synced(&folder.0.join("entry"), &seal(entry))?;
        sync_folder(&self.folder)
    }

    /// Every attempt on disk, by number. Folders that are no attempt's are left alone.
    ///
    /// # Errors
    /// When the ledger itself cannot be listed; a damaged entry is reported in its [`Found`].
    pub(super) fn read_all(&self) -> Result<Vec<Found>, LedgerError> {
        let fail = failed(&self.folder, "listed");
        let mut all = Vec::new();
        for folder in fs::read_dir(&self.folder).map_err(&fail)? {
            let name = folder.map_err(&fail)?.file_name();
            let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let attempt = AttemptId(attempt);
            let entry = self.folder(attempt).entry();
            all.push(Found { attempt, entry });
        }
        all.sort_by_key(|found| found.attempt);
        Ok(all)
    }

    /// Drops an attempt; to be called only on the server's word.
    ///
    /// # Errors
    /// When its folder cannot be removed; an attempt that is not there is no error.
    pub(super) fn remove(&self, attempt: AttemptId) -> Result<(), LedgerError> {
        let path = self.folder(attempt).0;
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&path, "removed")(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl AttemptFolder {
    /// The folder at `path`.
    #[must_use]
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The entry.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub(super) fn entry(&self) -> Result<Entry, LedgerError> {
        let path = self.0.join("entry");
        let missing = || failed(&path, "read")(io::ErrorKind::NotFound.into());
        read(&path)?.ok_or_else(missing)
    }

    /// The mark of the shim that began, if one did.
    ///
    /// # Errors
    /// When the file cannot be read. A torn mark counts as one of a shim that we cannot name.
    pub(super) fn shim(&self) -> Result<Option<ShimRecord>, LedgerError> {
        match read(&self.0.join("shim")) {
            Err(LedgerError::Damaged { .. }) => Ok(Some(ShimRecord::default())),
            other => other,
        }
    }

    /// Marks that a shim began, or what it has come to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn mark_shim(&self, record: &ShimRecord) -> Result<(), LedgerError> {
        let path = self.0.join("shim");
        fs::write(&path, seal(record)).map_err(failed(&path, "written"))
    }

    /// How the attempt ended, if that is known. A torn status counts as none: its shim died while writing it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn status(&self) -> Result<Option<wire::AttemptEnded>, LedgerError> {
        match read(&self.0.join("status")) {
            Err(LedgerError::Damaged { .. }) => Ok(None),
            other => other,
        }
    }

    /// Writes durably how the attempt ended. Repeating it replaces the earlier word.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn write_status(&self, ended: &wire::AttemptEnded) -> Result<(), LedgerError> {
        let (new, path) = (self.0.join("status.new"), self.0.join("status"));
        write_synced(&new, &seal(ended))?;
        fs::rename(&new, &path).map_err(failed(&path, "written"))?;
        sync_folder(&self.0)
    }

    /// The shim's lock, or `None` when another holds it.
    ///
    /// # Errors
    /// When the folder cannot be opened or locked.
    pub(super) fn lock(&self) -> Result<Option<File>, LedgerError> {
        let folder = File::open(&self.0).map_err(failed(&self.0, "opened"))?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&self.0, "locked")(error)),
        }
    }

    /// Whether a shim of this attempt is alive.
    ///
    /// # Errors
    /// When the folder cannot be opened or locked.
    pub(super) fn is_live(&self) -> Result<bool, LedgerError> {
        Ok(self.lock()?.is_none())
    }
}

fn permissions(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

fn failed(path: &Path, wanted: &'static str) -> impl Fn(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        path: path.clone(),
        wanted,
        source,
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    write().map_err(failed(path, "written"))
}

fn sync_folder(path: &Path) -> Result<(), LedgerError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(path, "synced"))
}

/// Reads a record; a file that is not there is `None`.
fn read<M: Message + Default>(path: &Path) -> Result<Option<M>, LedgerError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed(path, "read"))?,
    };
    let mut bytes = Vec::new();
    let mut bounded = file.take(RECORD_BYTES_MAX);
    bounded
        .read_to_end(&mut bytes)
        .map_err(failed(path, "read"))?;
    let record = unseal(&bytes).map_err(|source| LedgerError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_was_recorded_is_read_back_in_order() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        for attempt in [11, 2, 7] {
            ledger.record(&entry(attempt)).unwrap();
        }
        ledger.remove(AttemptId(2)).unwrap();
        let reopened = Ledger::open(state.path()).unwrap();
        let all = reopened.read_all().unwrap();
        let numbers: Vec<u64> = all.iter().map(|found| found.attempt.0).collect();
        assert_eq!(numbers, [7, 11]);
        assert_eq!(all[1].entry.as_ref().unwrap(), &entry(11));
    }

    #[test]
    fn an_entry_torn_at_any_byte_hides_no_other() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        ledger.record(&entry(2)).unwrap();
        let path = ledger.record(&entry(1)).unwrap().0.join("entry");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let all = ledger.read_all().unwrap();
            assert!(all[0].entry.is_err(), "{length}");
            assert!(all[1].entry.is_ok(), "{length}");
        }
    }

    #[test]
    fn a_torn_status_is_no_status() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        let folder = ledger.record(&entry(1)).unwrap();
        assert_eq!(folder.status().unwrap(), None);
        let ended = wire::AttemptEnded {
            attempt: 1,
            outcome: Some(wire::attempt_ended::Outcome::ExitStatus(271)),
            ..wire::AttemptEnded::default()
        };
        folder.write_status(&ended).unwrap();
        assert_eq!(folder.status().unwrap(), Some(ended));
        let path = folder.0.join("status");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(folder.status().unwrap(), None);
    }

    #[test]
    fn one_lock_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        let folder = ledger.record(&entry(1)).unwrap();
        let lock = folder.lock().unwrap();
        assert!(lock.is_some());
        assert!(folder.lock().unwrap().is_none());
        assert!(folder.is_live().unwrap());
        drop(lock);
        assert!(!folder.is_live().unwrap());
    }

    #[test]
    fn only_root_may_look_into_attempts() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        Ledger::open(state.path()).unwrap();
        for (name, mode) in [("attempts", 0o700), ("spool", 0o711), ("aux", 0o755)] {
            let seen = fs::metadata(state.path().join(name)).unwrap().permissions();
            assert_eq!(seen.mode() & 0o777, mode, "{name}");
        }
    }
}
