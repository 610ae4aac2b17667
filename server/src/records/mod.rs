//! The accounting log: PBS's text format, a file a day by local time, because tools read it. Written by a thread of
//! its own, in the order of the effects; the engine never waits for it.

mod record;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::Context;
use capstan_core::{Account, Job};
use capstan_types::{ServerName, Timestamp};

/// Most records that wait for the disk. Over it, records are lost, which is said in the log: a cluster that stands
/// still for its accounting would be worse.
const QUEUE_MAX: usize = 65_536;
/// Bytes of records that wait for a disk that takes nothing.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// After so long a disk that took nothing is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

struct Entry {
    at: Timestamp,
    job: Arc<Job>,
    record: Account,
}

/// The way to the accounting log. Dropping it ends the thread once all is written.
#[derive(Debug)]
pub(crate) struct AccountingLog {
    sender: Option<SyncSender<Entry>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.record, self.job.id)
    }
}

impl AccountingLog {
    /// Starts the log in `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made, or there is no thread to be had.
    pub(crate) fn start(folder: PathBuf, server: ServerName) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("making the accounting folder {}", folder.display()))?;
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("accounting".to_owned());
        let thread = thread.spawn(move || write_all(&receiver, &folder, &server));
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread.context("starting the accounting thread")?),
        })
    }

    /// Has a record written.
    pub(crate) fn write(&self, at: Timestamp, job: Arc<Job>, record: Account) {
        let entry = Entry { at, job, record };
        let Some(sender) = &self.sender else { return };
        match sender.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(entry)) => {
                tracing::error!(
                    ?entry,
                    "accounting record lost: {QUEUE_MAX} wait for the disk"
                );
            }
            Err(TrySendError::Disconnected(entry)) => {
                tracing::error!(?entry, "accounting record lost: the log has ended");
            }
        }
    }
}

impl Drop for AccountingLog {
    fn drop(&mut self) {
        self.sender.take();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the accounting thread panicked");
        }
    }
}

fn write_all(receiver: &Receiver<Entry>, folder: &Path, server: &ServerName) {
    let mut day = Day::default();
    let mut text = String::new();
    loop {
        // What could not be written is tried again, with or without more to write.
        let first = match text.is_empty() {
            true => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => receiver.recv_timeout(RETRY_AFTER),
        };
        let mut next = match first {
            Ok(entry) => Some(entry),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        while let Some(entry) = next {
            let name = record::file_name(entry.at);
            if name != day.name {
                day.append(folder, &mut text);
                day = Day::named(name);
            }
            record::append(&mut text, &entry.job, &entry.record, entry.at, server);
            next = receiver.try_recv().ok();
        }
        day.append(folder, &mut text);
    }
    day.append(folder, &mut text);
}

/// The file of one day.
#[derive(Default)]
struct Day {
    name: String,
    file: Option<File>,
}

impl Day {
    fn named(name: String) -> Self {
        Self { name, file: None }
    }

    /// Appends `text` and takes out of it what was written; over a bound, the rest is given up.
    fn append(&mut self, folder: &Path, text: &mut String) {
        let mut written = 0;
        while written < text.len() {
            match self.append_some(folder, &text.as_bytes()[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) => {
                    let file = folder.join(&self.name);
                    tracing::error!(%error, file = %file.display(), "accounting records wait");
                    self.file = None;
                    break;
                }
            }
        }
        // Records are not all ASCII, and a disk may be full in the middle of a character.
        let rest = text.as_bytes()[written..].to_vec();
        *text = String::from_utf8_lossy(&rest).into_owned();
        if text.len() > BACKLOG_BYTES_MAX {
            tracing::error!(lines = text.lines().count(), "accounting records lost");
            text.clear();
        }
    }

    fn append_some(&mut self, folder: &Path, bytes: &[u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = folder.join(&self.name);
                let options = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .open(path);
                self.file.insert(options?)
            }
        };
        match file.write(bytes) {
            Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{job, seconds};

    /// A folder that is no folder stands for a disk that takes nothing; then it is one.
    #[test]
    fn records_that_cannot_be_written_wait_and_are_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("accounting");
        std::fs::write(&place, "").unwrap();
        let mut day = Day::named("20261122".to_owned());
        let mut text = "one\n".to_owned();
        day.append(&place, &mut text);
        assert_eq!(text, "one\n");
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        text.push_str("two\n");
        day.append(&place, &mut text);
        assert_eq!(text, "");
        let file = std::fs::read_to_string(place.join("20261122")).unwrap();
        assert_eq!(file, "one\ntwo\n");
    }

    #[test]
    fn all_records_are_on_the_disk_when_the_log_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccountingLog::start(folder.path().to_owned(), "hn1".into()).unwrap();
        for seq in 0..1000 {
            let job = Arc::new(job(capstan_types::JobId::whole(seq), "a", &[]));
            log.write(seconds(0), job, Account::Queued);
        }
        drop(log);
        let file = std::fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(
            text.lines().last().unwrap().contains(";Q;999.hn1;"),
            "in order"
        );
    }
}
