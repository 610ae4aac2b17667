//! The agent's memory of attempts: a root-only file for each, kept until the server says that it may be forgotten.
//!
//! The entry is synced before the shim starts; the shim adds its mark when it begins, and the end, synced. It holds a
//! lock on the file for as long as it lives: unlike a process id, a lock cannot be mistaken for another's. One file,
//! because making and removing files is what an attempt costs most on a disk.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use capstan_proto::wire;
use capstan_types::AttemptId;
use prost::Message;

use super::record::{Damaged, Entry, Kind, ShimRecord, seal, unseal};

/// How the name of a terminal's socket ends.
pub(super) const TERMINAL: &str = "terminal";
/// How the name of a socket ends at which a program of a person's is to be had.
const PROGRAM: &str = "program";
/// How the name of a file beside that socket ends: it says what the engine calls the program, which runs in a container.
pub(super) const ENTERED: &str = "entered";
/// How the name of a file ends that says whose attempt it is whose script runs on another node.
const GUEST: &str = "guest";
/// Longest file read back; a script is bounded far below by the server.
const FILE_BYTES_MAX: u64 = 64 << 20;

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
    /// The entry is there, but not whole.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        #[source]
        source: Damaged,
    },
}

/// The same in the ledger's folder.
pub(super) fn guest_in(folder: &Path, attempt: AttemptId) -> PathBuf {
    folder.join(format!("{}.{GUEST}", attempt.0))
}

/// All attempts' files.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
}

/// One attempt's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptFile(PathBuf);

/// What an attempt's file says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contents {
    pub(super) entry: Entry,
    /// A shim began. A mark that is torn counts, as one of a shim that we cannot name.
    pub(super) shim: Option<ShimRecord>,
    /// How it ended. An end that is torn does not count: its shim died while writing it.
    pub(super) ended: Option<wire::AttemptEnded>,
    /// Up to here the file is whole.
    whole_bytes: u64,
}

/// An attempt read back after a restart of the agent.
#[derive(Debug)]
pub(super) struct Found {
    /// From the file's name.
    pub(super) attempt: AttemptId,
    /// The entry, or why it cannot be read.
    pub(super) entry: Result<Entry, LedgerError>,
}

impl Ledger {
    /// Opens the ledger under the state folder, making what is missing: `attempts` (root only), `spool`, `undelivered`
    /// and `tmp` (may be passed through) and `aux` (may be listed).
    pub(super) fn open(state: &Path) -> Result<Self, LedgerError> {
        let folders = [
            (state.to_owned(), 0o711),
            (state.join("attempts"), 0o700),
            (state.join("spool"), 0o711),
            (state.join("undelivered"), 0o711),
            (state.join("tmp"), 0o711),
            (state.join("aux"), 0o755),
        ];
        for (path, mode) in folders {
            let made = DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.and_then(|()| fs::set_permissions(&path, permissions(mode)))
                .map_err(failed(&path, "made"))?;
        }
        let folder = state.join("attempts");
        Ok(Self { folder })
    }

    /// The file of `attempt`, whether it exists or not.
    pub(super) fn file(&self, attempt: AttemptId) -> AttemptFile {
        AttemptFile(self.folder.join(attempt.0.to_string()))
    }

    /// The socket at which a program that a person runs in `attempt` is to be had; `key` is made of hexadecimal digits.
    pub(super) fn program(&self, attempt: AttemptId, key: &str) -> PathBuf {
        self.folder.join(format!("{}.{key}.{PROGRAM}", attempt.0))
    }

    /// Where it is noted whose processes here are those of `attempt`, whose script runs elsewhere.
    pub(super) fn guest(&self, attempt: AttemptId) -> PathBuf {
        guest_in(&self.folder, attempt)
    }

    /// Attempts of which that is noted.
    pub(super) fn guests(&self) -> Vec<AttemptId> {
        let folder = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let guests = folder.filter_map(|file| {
            let name = file.file_name();
            let number = name.to_str()?.strip_suffix(GUEST)?.strip_suffix('.')?;
            number.parse().ok().map(AttemptId)
        });
        guests.collect()
    }

    /// The sockets of such programs, also of those that have ended, or that were begun by an engine and are held by nobody.
    pub(super) fn programs(&self) -> BTreeSet<(AttemptId, PathBuf)> {
        let folder = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let programs = folder.filter_map(|file| {
            let path = file.path();
            let extension = path.extension()?;
            if extension != PROGRAM && extension != ENTERED {
                return None;
            }
            let number = path.file_name()?.to_str()?.split('.').next()?;
            let number = number.parse().ok()?;
            Some((AttemptId(number), path.with_extension(PROGRAM)))
        });
        programs.collect()
    }

    /// Writes the entry durably; when this returns, a restarted agent will know the attempt. When it fails, nothing
    /// of the attempt is left.
    pub(super) fn record(&self, entry: &Entry) -> Result<AttemptFile, LedgerError> {
        let file = self.file(entry.attempt());
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file.0)?;
            file.write_all(&seal(Kind::Entry, entry))?;
            file.sync_data()?;
            File::open(&self.folder)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(file),
            Err(source) => {
                // The first error is the one worth telling; a leftover is dropped at the next start.
                let _leftover = fs::remove_file(&file.0);
                Err(failed(&file.0, "written")(source))
            }
        }
    }

    /// Every attempt on disk, by number. Files that are no attempt's are left alone; a damaged entry is reported in
    /// its [`Found`].
    pub(super) fn read_all(&self) -> Result<Vec<Found>, LedgerError> {
        let fail = failed(&self.folder, "listed");
        let mut all = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(&fail)? {
            let name = file.map_err(&fail)?.file_name();
            let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let attempt = AttemptId(attempt);
            let entry = self.file(attempt).read().map(|contents| contents.entry);
            all.push(Found { attempt, entry });
        }
        all.sort_by_key(|found| found.attempt);
        Ok(all)
    }

    /// Drops an attempt; to be called only on the server's word. One that is not there is no error.
    pub(super) fn remove(&self, attempt: AttemptId) -> Result<(), LedgerError> {
        let file = self.file(attempt);
        for path in [file.control(), file.terminal(), file.problem(), file.0] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, "removed")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

impl AttemptFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The socket on which a shim waits for a new agent when it has lost the old one.
    pub(super) fn control(&self) -> PathBuf {
        self.0.with_extension("control")
    }

    /// The socket on which the terminal of an interactive attempt is to be had.
    pub(super) fn terminal(&self) -> PathBuf {
        self.0.with_extension(TERMINAL)
    }

    /// Where a shim that cannot even write its end says why.
    pub(super) fn problem(&self) -> PathBuf {
        self.0.with_extension("problem")
    }

    /// What the file says; an error when the entry itself is missing or damaged.
    pub(super) fn read(&self) -> Result<Contents, LedgerError> {
        let mut bytes = Vec::new();
        File::open(&self.0)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(failed(&self.0, "read"))?;
        contents(&bytes).map_err(|source| LedgerError::Damaged {
            path: self.0.clone(),
            source,
        })
    }

    /// Whether a shim began, however damaged the rest is. `None` when the file cannot be read.
    pub(super) fn has_begun(&self) -> Option<bool> {
        let bytes = fs::read(&self.0).ok()?;
        match unseal(&bytes) {
            Ok(first) => Some(!first.rest.is_empty()),
            // The entry is synced before any shim starts, so one that is cut off had none.
            Err(Damaged::Cut { .. }) => Some(false),
            Err(Damaged::Checksum | Damaged::Content) => None,
        }
    }

    /// The last mark of a shim in a file whose entry is damaged: wherever a whole record stands.
    pub(super) fn salvaged_shim(&self) -> Option<ShimRecord> {
        let bytes = fs::read(&self.0).ok()?;
        (0..bytes.len()).rev().find_map(|at| {
            let record = unseal(&bytes[at..]).ok()?;
            let is_mark = record.kind == Kind::Shim;
            is_mark.then(|| ShimRecord::decode(record.body).ok())?
        })
    }

    /// The shim's lock, or `None` when another holds it. Records are added through it.
    pub(super) fn lock(&self) -> Result<Option<LockedFile>, LedgerError> {
        let file = OpenOptions::new().read(true).append(true).open(&self.0);
        self.lock_opened(file.map_err(failed(&self.0, "opened"))?)
    }

    /// As [`Self::lock`]. `None` also when the file has been removed since it was opened, and perhaps been written anew: a
    /// lock on what nobody finds any more keeps nobody else from running the attempt.
    fn lock_opened(&self, file: File) -> Result<Option<LockedFile>, LedgerError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(&self.0, "locked")(error)),
        }
        let opened = file.metadata().map_err(failed(&self.0, "looked at"))?;
        let is_found = match fs::symlink_metadata(&self.0) {
            Ok(found) => (found.dev(), found.ino()) == (opened.dev(), opened.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(&self.0, "looked at")(error)),
        };
        Ok(is_found.then(|| LockedFile {
            path: self.0.clone(),
            file,
        }))
    }

    /// Whether a shim of this attempt is alive.
    pub(super) fn is_live(&self) -> Result<bool, LedgerError> {
        Ok(self.lock()?.is_none())
    }

    /// Writes an end for an attempt without a shim. A torn record of a dead one is cut off first: what is behind it
    /// would never be read.
    pub(super) fn write_end(&self, ended: &wire::AttemptEnded) -> Result<(), LedgerError> {
        let whole_bytes = self.read()?.whole_bytes;
        let write = || {
            let mut file = OpenOptions::new().append(true).open(&self.0)?;
            file.set_len(whole_bytes)?;
            file.write_all(&seal(Kind::Ended, ended))?;
            file.sync_data()
        };
        write().map_err(failed(&self.0, "written"))
    }
}

/// An attempt's file while its shim lives.
pub(super) struct LockedFile {
    path: PathBuf,
    file: File,
}

impl LockedFile {
    /// Marks that a shim began, or what it has come to. Not synced: after a power cut the boot id tells more.
    pub(super) fn mark(&mut self, shim: &ShimRecord) -> Result<(), LedgerError> {
        let written = self.file.write_all(&seal(Kind::Shim, shim));
        written.map_err(failed(&self.path, "written"))
    }

    /// Writes durably how the attempt ended. A failed try may have left a part, which is cut off.
    pub(super) fn end(&mut self, ended: &wire::AttemptEnded) -> Result<(), LedgerError> {
        let mut write = || {
            let whole_bytes = self.file.metadata()?.len();
            let written = self.file.write_all(&seal(Kind::Ended, ended));
            let synced = written.and_then(|()| self.file.sync_data());
            synced.inspect_err(|_| {
                // Tried again by the caller; when even this fails, the torn end hides the next.
                let _stuck = self.file.set_len(whole_bytes);
            })
        };
        write().map_err(failed(&self.path, "written"))
    }
}

fn contents(bytes: &[u8]) -> Result<Contents, Damaged> {
    let first = unseal(bytes)?;
    if first.kind != Kind::Entry {
        return Err(Damaged::Content);
    }
    let mut contents = Contents {
        entry: Entry::decode(first.body).map_err(|_| Damaged::Content)?,
        shim: None,
        ended: None,
        whole_bytes: 0,
    };
    let mut rest = first.rest;
    if !rest.is_empty() {
        // Only a shim writes behind the entry, whatever became of what it wrote.
        contents.shim = Some(ShimRecord::default());
    }
    while let Ok(record) = unseal(rest) {
        match record.kind {
            Kind::Entry => break,
            Kind::Shim => match ShimRecord::decode(record.body) {
                Ok(shim) => contents.shim = Some(shim),
                Err(_) => break,
            },
            Kind::Ended => match wire::AttemptEnded::decode(record.body) {
                Ok(ended) => contents.ended = Some(ended),
                Err(_) => break,
            },
        }
        rest = record.rest;
    }
    contents.whole_bytes = (bytes.len() - rest.len()) as u64;
    Ok(contents)
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

#[cfg(test)]
mod tests;
