//! Which images an attempt's containers were made of, by name and digest: what its footer says when they are gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use capstan_types::AttemptId;

/// Images of one attempt that are remembered.
const IMAGES_MAX: usize = 8;
/// Attempts whose images are remembered; the oldest go first.
const ATTEMPTS_MAX: usize = 1000;

/// A file per attempt that had containers, with a line per image.
#[derive(Debug)]
pub(super) struct Used {
    folder: PathBuf,
    known: Mutex<BTreeMap<AttemptId, Vec<String>>>,
}

impl Used {
    pub(super) fn open(folder: PathBuf) -> std::io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(id) = name.and_then(|name| name.parse().ok()) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                known.insert(AttemptId(id), text.lines().map(str::to_owned).collect());
            }
        }
        let known = known.into();
        Ok(Self { folder, known })
    }

    /// Remembers an image; its loss costs a line of a footer, no more.
    pub(super) fn note(&self, attempt: AttemptId, name: &str, digest: &str) {
        let line = format!("{name} {digest}");
        let mut known = self.known();
        let images = known.entry(attempt).or_default();
        if images.contains(&line) || images.len() >= IMAGES_MAX {
            return;
        }
        images.push(line);
        let text = images.join("\n");
        let old = known.keys().next().copied();
        let old = old.filter(|_| known.len() > ATTEMPTS_MAX);
        if let Some(old) = old {
            known.remove(&old);
            drop(fs::remove_file(self.path(old)));
        }
        drop(fs::write(self.path(attempt), text));
    }

    pub(super) fn of(&self, attempt: AttemptId) -> Vec<String> {
        self.known().get(&attempt).cloned().unwrap_or_default()
    }

    fn path(&self, attempt: AttemptId) -> PathBuf {
        self.folder.join(attempt.0.to_string())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Vec<String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempts_images_outlive_the_agent_and_the_oldest_attempts_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Used::open(folder.path().to_owned()).expect("ours");
        let used = open();
        for _ in 0..2 {
            used.note(AttemptId(7), "torch:2", "sha256:ab");
        }
        used.note(AttemptId(7), "python:3", "sha256:cd");
        assert_eq!(
            open().of(AttemptId(7)),
            ["torch:2 sha256:ab", "python:3 sha256:cd"]
        );
        for id in 8..8 + ATTEMPTS_MAX as u64 {
            used.note(AttemptId(id), "a", "sha256:ef");
        }
        let left = open();
        assert_eq!(left.of(AttemptId(7)), Vec::<String>::new());
        assert_eq!(left.of(AttemptId(8)).len(), 1);
    }
}
