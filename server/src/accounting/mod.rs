//! The accounting log: PBS's text format, a file a day by local time, because tools read it. Written by a thread of
//! its own, in the order of the effects; the engine never waits for it.

mod record;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::Context;
use capstan_core::{Account, Job};
use capstan_types::{ServerName, Timestamp};

/// Most records that wait for the disk. Over it, records are lost, which is said in the log: a cluster that stands
/// still for its accounting would be worse.
const QUEUE_MAX: usize = 65_536;

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
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
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

    /// Appends `text` and empties it; what cannot be written is said and dropped.
    fn append(&mut self, folder: &Path, text: &mut String) {
        if text.is_empty() {
            return;
        }
        if let Err(error) = self.try_append(folder, text.as_bytes()) {
            let lines = text.lines().count();
            let file = folder.join(&self.name);
            tracing::error!(%error, lines, file = %file.display(), "accounting records lost");
            self.file = None;
        }
        text.clear();
    }

    fn try_append(&mut self, folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
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
        file.write_all(bytes)
    }
}
