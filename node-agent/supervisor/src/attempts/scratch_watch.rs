//! The limit of scratch folders: what each holds is counted again and again, and an attempt whose folder holds more than it
//! may is ended. Counting is bounded in what it looks at, costs little of a core, and follows no link: the folders are
//! their users' to fill.

use std::collections::BTreeSet;
use std::fs::{self, ReadDir};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};

use super::record::Entry;
use super::table::{Order, Supervisor};

/// Between two counts.
const PERIOD: Duration = Duration::from_secs(10);
/// A count may cost this part of the time between two.
const COST_FACTOR: u32 = 100;
const PERIOD_MAX: Duration = Duration::from_secs(600);
/// Files and folders that one count looks at.
const FILES_MAX: usize = 3_000_000;
/// Folders within folders that one count looks at, each with two descriptors.
const DEPTH_MAX: usize = 200;
/// Bytes of one block of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// The exit status of a job that wrote too much: as of a program that goes beyond the limit of a file.
const STATUS: i32 = 128 + Signal::SIGXFSZ as i32;

impl Supervisor {
    /// Counts for ever what attempts with a limit have in their scratch folders.
    pub async fn keep_watching_scratch(self) {
        loop {
            let watched = self.live.all().into_iter();
            let watched = watched.filter(|live| limit(&live.entry).is_some());
            let watched: Vec<_> = watched.collect();
            let mut cost = Duration::ZERO;
            for live in watched {
                let counting = live.clone();
                let counted = tokio::task::spawn_blocking(move || {
                    let began = Instant::now();
                    (excess(&counting.entry), began.elapsed())
                });
                let Ok((words, took)) = counted.await else {
                    continue;
                };
                cost += took;
                if let Some(words) = words {
                    self.order(Order::Fail {
                        attempt: live.entry.attempt(),
                        status: STATUS,
                        words,
                    })
                    .await;
                }
            }
            let pause = PERIOD.max(cost * COST_FACTOR).min(PERIOD_MAX);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Bytes that the attempt's scratch folder may hold: what it asked for, else what the site gives.
fn limit(entry: &Entry) -> Option<u64> {
    let site = Some(entry.scratch_bytes).filter(|bytes| *bytes > 0);
    let limit = entry.spec.scratch_bytes.or(site);
    limit.filter(|_| !entry.scratch_root.is_empty())
}

/// How the folder is beyond its limit, in Torque's words for limits.
fn excess(entry: &Entry) -> Option<String> {
    let (limit, folder) = (limit(entry)?, entry.scratch_folder()?);
    let limit = limit / 1024;
    match held(Path::new(&folder)).ok()? {
        Held::Bytes(held) if held / 1024 > limit => Some(format!(
            "scratch {}kb exceeded limit {limit}kb",
            held / 1024
        )),
        Held::Bytes(_) => None,
        Held::TooMuchToCount => Some(format!(
            "scratch with over {FILES_MAX} files, or folders {DEPTH_MAX} deep, cannot be held to its limit {limit}kb"
        )),
    }
}

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Bytes(u64),
    /// More files, or deeper folders, than one count looks at: who could hide something there might.
    TooMuchToCount,
}

/// Bytes on the disk under `folder`, which is counted as far as it lies on one file system.
fn held(folder: &Path) -> nix::Result<Held> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(folder, flags, Mode::empty())?;
    let device = fstat(&root)?.st_dev;
    let (mut bytes, mut files) = (0, 0);
    // Files with several names, to count each once.
    let mut linked = BTreeSet::new();
    // The folders on the way to the one that is read: as many descriptors as it is deep, however many there are.
    let mut way: Vec<(OwnedFd, ReadDir)> = listed(root).into_iter().collect();
    loop {
        let depth = way.len();
        let Some((folder, entries)) = way.last_mut() else {
            return Ok(Held::Bytes(bytes));
        };
        let Some(entry) = entries.next() else {
            way.pop();
            continue;
        };
        files += 1;
        if files > FILES_MAX || depth > DEPTH_MAX {
            return Ok(Held::TooMuchToCount);
        }
        let Ok(name) = entry.map(|entry| entry.file_name()) else {
            continue;
        };
        // Gone since.
        let Ok(found) = fstatat(&*folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        let is_counted =
            kind == SFlag::S_IFREG && found.st_nlink > 1 && !linked.insert(found.st_ino);
        if found.st_dev != device || is_counted {
            continue;
        }
        bytes += u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK_BYTES;
        if kind == SFlag::S_IFDIR
            && let Ok(inner) = openat(folder.as_fd(), name.as_os_str(), flags, Mode::empty())
        {
            way.extend(listed(inner));
        }
    }
}

/// The folder with its entries, by way of the descriptor, so that nobody can put another folder in its place.
fn listed(folder: OwnedFd) -> Option<(OwnedFd, ReadDir)> {
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    let entries = fs::read_dir(path).ok()?;
    Some((folder, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, kb: usize) {
        fs::write(path, vec![1; kb << 10]).unwrap();
    }

    #[test]
    fn nothing_hides_behind_many_folders_and_what_is_too_deep_is_an_excess() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..2000 {
            fs::create_dir(root.path().join(number.to_string())).unwrap();
        }
        write(&root.path().join("1999/file"), 1024);
        write(&root.path().join("0/file"), 1024);
        assert!(matches!(held(root.path()), Ok(Held::Bytes(bytes)) if bytes >= 2 << 20));
        let deep = "d/".repeat(DEPTH_MAX + 1);
        fs::create_dir_all(root.path().join(deep)).unwrap();
        write(&root.path().join("d/d/file"), 1);
        fs::write(root.path().join("d/".repeat(DEPTH_MAX + 1) + "x"), "").unwrap();
        assert_eq!(held(root.path()), Ok(Held::TooMuchToCount));
    }

    #[test]
    fn what_is_held_is_counted_once_and_through_no_link() {
        let root = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (root.path().join("scratch"), root.path().join("elsewhere"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        write(&elsewhere.join("big"), 4096);
        write(&folder.join("a/b/file"), 256);
        let bytes = |folder: &Path| match held(folder).unwrap() {
            Held::Bytes(bytes) => bytes,
            Held::TooMuchToCount => panic!("{}", folder.display()),
        };
        let few = bytes(&folder);
        assert!((256 << 10..1 << 20).contains(&few), "{few}");
        std::os::unix::fs::symlink(&elsewhere, folder.join("a/link")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("big"), folder.join("big")).unwrap();
        fs::hard_link(folder.join("a/b/file"), folder.join("again")).unwrap();
        let same = bytes(&folder);
        assert!(same < few + (32 << 10), "{few} {same}");
        assert!(held(&folder.join("big")).is_err());
    }

    #[test]
    fn an_attempt_asks_for_its_limit_or_has_the_sites() {
        let root = tempfile::tempdir().unwrap();
        let mut entry = Entry {
            scratch_root: root.path().to_string_lossy().into_owned(),
            ..Entry::default()
        };
        entry.spec.job_id = "7.hn1".into();
        entry.spec.attempt = 9;
        fs::create_dir(entry.scratch_folder().unwrap()).unwrap();
        write(
            &Path::new(&entry.scratch_folder().unwrap()).join("file"),
            512,
        );
        assert_eq!(excess(&entry), None);
        entry.scratch_bytes = 100 << 10;
        let words = excess(&entry).unwrap();
        assert!(
            words.starts_with("scratch 5") && words.ends_with("kb exceeded limit 100kb"),
            "{words}"
        );
        entry.spec.scratch_bytes = Some(1 << 30);
        assert_eq!(excess(&entry), None);
    }
}
