//! Output for other hosts: written on this node while the job runs, and copied as the user when it is over. What cannot be
//! copied stays on the node, and its user is told where.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::control::Control;
use super::destination::There;
use super::staging::{Ended, Staging, message};
use crate::attempts::record::Entry;

/// How long all copies of one attempt may take together: its cards wait for them.
const COPY_TIME: Duration = Duration::from_secs(30 * 60);

/// A stream that is kept here for another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// `o` or `e`.
    pub(super) letter: char,
    pub(super) there: There,
}

impl Outgoing {
    /// Where it is written meanwhile.
    pub(super) fn file(&self, entry: &Entry) -> PathBuf {
        Path::new(&entry.outgoing_folder(self.letter)).join(&self.there.name)
    }

    /// Makes the folder of the file: a folder of ours, which nobody else can put anything into.
    pub(super) fn make_folder(&self, entry: &Entry) -> io::Result<()> {
        let folder = entry.outgoing_folder(self.letter);
        match DirBuilder::new().mode(0o711).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Staging<'_> {
    /// Copies streams to their hosts; a message for each that stays here, in the words of Torque's mail.
    pub(super) fn deliver(&self, outgoing: &[Outgoing], control: &mut Control) -> Vec<String> {
        let deadline = Instant::now() + COPY_TIME;
        let mut messages = Vec::new();
        for stream in outgoing {
            let file = stream.file(self.entry);
            let There { host, path, .. } = &stream.there;
            let there = format!("{host}:{path}");
            let words = self.remote_program();
            let paths = [file.to_string_lossy().into_owned(), there.clone()];
            let problem = match self.run(&words, &paths, (deadline, control)) {
                Ended::Well => {
                    // The folder stays until the agent has cleared up: it says where the stream was.
                    let _kept = fs::remove_file(&file);
                    continue;
                }
                Ended::Badly(problem) => problem,
                Ended::Stopped(_) => "stopped while it was copied".to_owned(),
            };
            let kept = retain(self.entry, stream.letter, &file);
            let failed = message(&file.to_string_lossy(), &there, &problem);
            messages.push(format!("{failed}{kept}"));
        }
        messages
    }
}

/// Puts what was not copied where such output is looked for; the line of the mail that says where that is.
fn retain(entry: &Entry, letter: char, file: &Path) -> String {
    let kept = entry.undelivered_file(letter);
    match fs::rename(file, &kept) {
        Ok(()) => retained(&kept),
        Err(_) => retained(&file.to_string_lossy()),
    }
}

/// Torque's line.
pub(super) fn retained(kept: &str) -> String {
    format!("Output retained on that host in: {kept}\n")
}

/// Drops what is kept of streams that nobody wants.
pub(super) fn forget(entry: &Entry, outgoing: &[Outgoing]) {
    for stream in outgoing {
        // The agent looks once more.
        let _left = fs::remove_file(stream.file(entry));
    }
}

/// Whether output of the attempt is, or was, kept here for another host.
pub(in crate::attempts) fn is_outgoing(entry: &Entry, letter: char) -> bool {
    fs::symlink_metadata(entry.outgoing_folder(letter)).is_ok()
}

/// Clears up behind an attempt: what still waits for its host is kept with what could not be delivered.
pub(in crate::attempts) fn clear(entry: &Entry) {
    for letter in ['o', 'e'] {
        let folder = entry.outgoing_folder(letter);
        let Ok(left) = fs::read_dir(&folder) else {
            continue;
        };
        for file in left.flatten() {
            let _line = retain(entry, letter, &file.path());
        }
        // What could not be moved stays in it, and so does it.
        let _left = fs::remove_dir(&folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_copied_is_found_with_what_could_not_be_delivered() {
        let state = tempfile::tempdir().unwrap();
        let mut entry = Entry {
            state_folder: state.path().to_string_lossy().into_owned(),
            ..Entry::default()
        };
        entry.spec.job_id = "12.srv".into();
        entry.spec.attempt = 3;
        for folder in ["spool", "undelivered"] {
            fs::create_dir(state.path().join(folder)).unwrap();
        }
        assert!(!is_outgoing(&entry, 'e'));
        let stream = Outgoing {
            letter: 'e',
            there: There {
                host: "h".into(),
                path: "/x".into(),
                name: "run.e12".into(),
            },
        };
        stream.make_folder(&entry).unwrap();
        fs::write(stream.file(&entry), "text").unwrap();
        assert!(is_outgoing(&entry, 'e') && !is_outgoing(&entry, 'o'));
        clear(&entry);
        assert!(!is_outgoing(&entry, 'e'));
        let kept = fs::read_to_string(state.path().join("undelivered/12.srv.ER"));
        assert_eq!(kept.unwrap(), "text");
    }
}
