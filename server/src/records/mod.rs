//! What is written for people and tools to read: the accounting log and the server log, in PBS's text formats, a file
//! a day by local time. Written by a thread of its own, in the order of the effects; the engine never waits for it.

mod accounting;
mod log;
mod report;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::Context;
use capstan_core::{Account, Job};
use capstan_types::{ServerName, Timestamp};

use crate::bounded::{Entrance, Exit, queue};
use crate::view::words::local;
pub(crate) use log::{LogClass, LogEvent};
pub(crate) use report::{Month, Used, Who, month};

/// Most records that wait for the disk. Over it, records are lost, which is said in the log: a cluster that stands
/// still for its accounting would be worse.
const QUEUE_MAX: usize = 65_536;
/// Bytes of records that wait for a disk that takes nothing.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// After so long a disk that took nothing is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Folder of the accounting log, under the server's state folder.
const ACCOUNTING: &str = "accounting";
/// Folder of the server log.
const LOG: &str = "server_logs";

/// Something to be written.
#[derive(Clone)]
enum Entry {
    /// Of a job, in both logs.
    Job {
        at: Timestamp,
        job: Arc<Job>,
        record: Account,
        rules: LogRules,
    },
    /// In the server log.
    Line(Line, LogRules),
}

/// What a site has decided about its logs: the server attributes of the same names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogRules {
    /// `log_events`: sum of the events that the server log takes.
    pub(crate) events: u32,
    /// `accounting_keep_days` and `log_keep_days`: older files are removed; 0 for never.
    pub(crate) keep_days: [u32; 2],
}

/// A line of the server log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) event: LogEvent,
    pub(crate) class: LogClass,
    /// What it is about: a job's id, a queue's name …
    pub(crate) object: String,
    pub(crate) text: String,
}

/// The way to the logs. Dropping it ends the thread once all is written.
#[derive(Debug)]
pub(crate) struct Records {
    entrance: Option<Entrance<Entry>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Job { job, record, .. } => write!(f, "{record:?} of {}", job.id),
            Self::Line(line, _) => write!(f, "{line:?}"),
        }
    }
}

impl Records {
    /// Starts the logs in folders of `folder`, which are made when they are not there.
    ///
    /// # Errors
    /// When a folder cannot be made, or there is no thread to be had.
    pub(crate) fn start(folder: &Path, server: ServerName) -> anyhow::Result<Self> {
        let mut books = [ACCOUNTING, LOG].map(|name| Book::of(folder.join(name)));
        for book in &books {
            std::fs::create_dir_all(&book.folder)
                .with_context(|| format!("making the folder {}", book.folder.display()))?;
        }
        let (entrance, exit) = queue(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("records".to_owned());
        let thread = thread.spawn(move || write_all(&exit, &mut books, &server));
        Ok(Self {
            entrance: Some(entrance),
            thread: Some(thread.context("starting the thread of the logs")?),
        })
    }

    /// Has a record of a job written.
    pub(crate) fn write(&self, at: Timestamp, job: Arc<Job>, record: Account, rules: LogRules) {
        self.send(Entry::Job {
            at,
            job,
            record,
            rules,
        });
    }

    /// Has a line written in the server log, if the log takes its event.
    pub(crate) fn say(&self, line: Line, rules: LogRules) {
        if line.event.is_in(rules.events) {
            self.send(Entry::Line(line, rules));
        }
    }

    fn send(&self, entry: Entry) {
        let Some(entrance) = &self.entrance else {
            return;
        };
        if let Err(entry) = entrance.put(entry) {
            tracing::error!(
                ?entry,
                "record lost: {QUEUE_MAX} wait for the disk, or the logs have ended"
            );
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.entrance.take();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the thread of the logs panicked");
        }
    }
}

fn write_all(exit: &Exit<Entry>, books: &mut [Book; 2], server: &ServerName) {
    loop {
        // What could not be written is tried again, with or without more to write.
        let is_idle = books.iter().all(|book| book.text.is_empty());
        let mut next = match exit.take((!is_idle).then_some(RETRY_AFTER)) {
            Ok(entry) => Some(entry),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        while let Some(entry) = next {
            note(&entry, books, server);
            next = exit.take_now();
        }
        books.iter_mut().for_each(Book::append);
    }
    books.iter_mut().for_each(Book::append);
}

fn note(entry: &Entry, [accounts, log]: &mut [Book; 2], server: &ServerName) {
    match entry {
        Entry::Job {
            at,
            job,
            record,
            rules,
        } => {
            let [accounting_days, log_days] = rules.keep_days;
            let text = accounts.page(*at, accounting_days);
            accounting::append(text, job, record, *at, server);
            if let Some(line) = log::of_job(job, record, *at, server)
                && line.event.is_in(rules.events)
            {
                log::append(log.page(*at, log_days), &line);
            }
        }
        Entry::Line(line, rules) => log::append(log.page(line.at, rules.keep_days[1]), line),
    }
}

/// One of the logs.
struct Book {
    folder: PathBuf,
    day: Day,
    text: String,
}

impl Book {
    fn of(folder: PathBuf) -> Self {
        Self {
            folder,
            day: Day::default(),
            text: String::new(),
        }
    }

    /// What will be appended to the file of the day of `at`. A new day removes what is older than `keep_days`.
    fn page(&mut self, at: Timestamp, keep_days: u32) -> &mut String {
        let name = file_name(at);
        if name != self.day.name {
            self.append();
            self.day = Day::named(name);
            if keep_days > 0 {
                let secs = u64::from(keep_days) * 24 * 60 * 60;
                let oldest = file_name(Timestamp(at.0.saturating_sub(secs * 1000)));
                remove_older(&self.folder, &oldest);
            }
        }
        &mut self.text
    }

    fn append(&mut self) {
        self.day.append(&self.folder, &mut self.text);
    }
}

/// Removes the files of days before `oldest`; what is not named as a day is none of ours.
fn remove_older(folder: &Path, oldest: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_day = name.len() == oldest.len() && name.bytes().all(|byte| byte.is_ascii_digit());
        if !is_day || *name >= *oldest {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "old records removed"),
            Err(error) => {
                tracing::warn!(%error, file = %entry.path().display(), "old records stay");
            }
        }
    }
}

/// `20261122`: the file of the day of `at`.
fn file_name(at: Timestamp) -> String {
    local(at).strftime("%Y%m%d").to_string()
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
                    tracing::error!(%error, file = %file.display(), "records wait");
                    self.file = None;
                    break;
                }
            }
        }
        // Records are not all ASCII, and a disk may be full in the middle of a character.
        let rest = text.as_bytes()[written..].to_vec();
        *text = String::from_utf8_lossy(&rest).into_owned();
        if text.len() > BACKLOG_BYTES_MAX {
            tracing::error!(lines = text.lines().count(), "records lost");
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
    fn files_older_than_the_site_keeps_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["20261101", "20261120", "notes", "2026112"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut book = Book::of(folder.path().to_owned());
        book.page(seconds(0), 5).push_str("x\n");
        book.append();
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        left.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        let left = left
            .into_iter()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| *name != file_name(seconds(0))).collect();
        assert_eq!(left, ["2026112", "20261120", "notes"]);
    }

    #[test]
    fn a_file_holds_a_day() {
        let name = file_name(seconds(0));
        assert!(["20261121", "20261122"].contains(&&*name), "{name}");
    }

    #[test]
    fn all_records_are_on_the_disk_when_the_log_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = Records::start(folder.path(), "hn1".into()).unwrap();
        for seq in 0..1000 {
            let job = Arc::new(job(capstan_types::JobId::whole(seq), "a", &[]));
            let rules = LogRules {
                events: 511,
                keep_days: [0, 0],
            };
            log.write(seconds(0), job, Account::Queued, rules);
        }
        drop(log);
        let text = |name: &str| {
            let mut files = std::fs::read_dir(folder.path().join(name)).unwrap();
            let file = files.next().unwrap().unwrap();
            std::fs::read_to_string(file.path()).unwrap()
        };
        assert_eq!(text(LOG).lines().count(), 1000);
        let text = text(ACCOUNTING);
        assert_eq!(text.lines().count(), 1000);
        assert!(
            text.lines().last().unwrap().contains(";Q;999.hn1;"),
            "in order"
        );
    }
}
