//! Which images an attempt's containers were made of, by name and digest: what its footer says when they are gone. The
//! digest is the registry's, by which anybody gets the same image again; one that came from none has but this host's id.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use capstan_types::AttemptId;

use super::engine::ImageId;

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

    /// Remembers an image and by which digests registries know it; its loss costs a line of a footer, no more.
    pub(super) fn note(
        &self,
        attempt: AttemptId,
        name: &str,
        (id, digests): (&ImageId, &[String]),
    ) {
        let line = match digest(name, digests) {
            Some(digest) => format!("{name} {digest}"),
            None => format!("{name} id:{}", id.0),
        };
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

/// The digest of the registry that `name` is of; else any: it is the same image wherever it came from.
fn digest<'a>(name: &str, digests: &'a [String]) -> Option<&'a str> {
    let of = digests.iter().filter_map(|known| known.split_once('@'));
    let own = of.clone().find(|(of, _)| plain(of) == plain(name));
    let mut any = of;
    own.or_else(|| any.next()).map(|(_, digest)| digest)
}

/// Without tag and digest, as the engine writes names of Docker's own registry.
fn plain(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        Some(_) | None => name,
    };
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digits: &str) -> ImageId {
        ImageId(format!("sha256:{digits}"))
    }

    #[test]
    fn the_digest_is_that_of_the_registry_that_was_meant() {
        let known = ["lab:5000/torch@sha256:aa", "busybox@sha256:bb"].map(str::to_owned);
        for (name, expected) in [
            ("lab:5000/torch:2", "sha256:aa"),
            ("lab:5000/torch", "sha256:aa"),
            ("lab:5000/torch@sha256:aa", "sha256:aa"),
            ("busybox:latest", "sha256:bb"),
            ("docker.io/library/busybox:latest", "sha256:bb"),
            ("mine:1", "sha256:aa"),
        ] {
            assert_eq!(digest(name, &known), Some(expected), "{name}");
        }
        assert_eq!(digest("mine:1", &[]), None);
        assert_eq!(digest("mine:1", &["odd".to_owned()]), None);
    }

    #[test]
    fn an_attempts_images_outlive_the_agent_and_the_oldest_attempts_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Used::open(folder.path().to_owned()).expect("ours");
        let used = open();
        for _ in 0..2 {
            let digests = ["torch@sha256:ab".to_owned()];
            used.note(AttemptId(7), "torch:2", (&id("01"), &digests));
        }
        used.note(AttemptId(7), "own:3", (&id("cd"), &[]));
        assert_eq!(
            open().of(AttemptId(7)),
            ["torch:2 sha256:ab", "own:3 id:sha256:cd"]
        );
        for id in 8..8 + ATTEMPTS_MAX as u64 {
            used.note(AttemptId(id), "a", (&self::id("ef"), &[]));
        }
        let left = open();
        assert_eq!(left.of(AttemptId(7)), Vec::<String>::new());
        assert_eq!(left.of(AttemptId(8)).len(), 1);
    }
}
