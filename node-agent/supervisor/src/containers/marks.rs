//! Which attempts may have containers: remembered on disk before the first one is created.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use capstan_types::AttemptId;

/// Attempts that may have containers: a file each, written before the first one is created. Its content is the cgroup
/// parent.
pub(super) struct Marks {
    folder: PathBuf,
    known: std::sync::Mutex<BTreeMap<AttemptId, String>>,
}

impl Marks {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut known = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let id = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            if let Some(id) = id {
                known.insert(AttemptId(id), std::fs::read_to_string(&path)?);
            }
        }
        Ok(Self {
            folder,
            known: known.into(),
        })
    }

    pub(super) fn set(&self, attempt: AttemptId, cgroup: Option<&str>) -> io::Result<()> {
        let cgroup = cgroup.unwrap_or_default();
        if self.known().insert(attempt, cgroup.to_owned()).is_none() {
            // Not synced: a mark and its containers both end with a power cut.
            std::fs::write(self.path(attempt), cgroup)?;
        }
        Ok(())
    }

    pub(super) fn get(&self, attempt: AttemptId) -> Option<String> {
        self.known().get(&attempt).cloned()
    }

    pub(super) fn clear(&self, attempt: AttemptId) {
        drop(std::fs::remove_file(self.path(attempt)));
        self.known().remove(&attempt);
    }

    pub(super) fn all(&self) -> Vec<AttemptId> {
        self.known().keys().copied().collect()
    }

    fn path(&self, attempt: AttemptId) -> PathBuf {
        self.folder.join(attempt.0.to_string())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, String>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
