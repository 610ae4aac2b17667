//! The limit of scratch folders: what each holds is counted again and again, and an attempt whose folder holds more than it
//! may is ended. Counting is bounded in what it looks at, costs little of a core, and follows no link: the folders are
//! their users' to fill.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::record::Entry;
use super::table::{Order, Supervisor};

/// Between two counts.
const PERIOD: Duration = Duration::from_secs(10);
/// A count may cost this part of the time between two.
const COST_FACTOR: u32 = 100;
const PERIOD_MAX: Duration = Duration::from_secs(600);
/// Files and folders that one count looks at; what is behind them is not counted.
const FILES_MAX: usize = 500_000;
/// Folders that wait to be looked at, each with a descriptor.
const FOLDERS_MAX: usize = 512;
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
    let held = held(Path::new(&folder)).ok()?;
    let (held, limit) = (held / 1024, limit / 1024);
    (held > limit).then(|| format!("scratch {held}kb exceeded limit {limit}kb"))
}

/// Bytes on the disk under `folder`, which is counted as far as it lies on one file system.
fn held(folder: &Path) -> nix::Result<u64> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(folder, flags, Mode::empty())?;
    let device = fstat(&root)?.st_dev;
    let (mut bytes, mut files) = (0, 0);
    let mut folders: VecDeque<OwnedFd> = VecDeque::from([root]);
    while let Some(folder) = folders.pop_back() {
        // By way of the descriptor, so that nobody can put another folder in its place.
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            files += 1;
            if files > FILES_MAX {
                return Ok(bytes);
            }
            let name = entry.file_name();
            // Gone since.
            let Ok(found) = fstatat(&folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            if found.st_dev != device {
                continue;
            }
            bytes += size(&found);
            let is_folder =
                SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
            if is_folder
                && folders.len() < FOLDERS_MAX
                && let Ok(inner) = openat(folder.as_fd(), name.as_os_str(), flags, Mode::empty())
            {
                folders.push_back(inner);
            }
        }
    }
    Ok(bytes)
}

/// Its part of a file that has several names.
fn size(found: &FileStat) -> u64 {
    let bytes = u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK_BYTES;
    match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG {
        true => bytes / found.st_nlink.max(1),
        false => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, kb: usize) {
        fs::write(path, vec![1; kb << 10]).unwrap();
    }

    #[test]
    fn what_is_held_is_counted_once_and_through_no_link() {
        let root = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (root.path().join("scratch"), root.path().join("elsewhere"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        write(&elsewhere.join("big"), 4096);
        write(&folder.join("a/b/file"), 256);
        let few = held(&folder).unwrap();
        assert!((256 << 10..1 << 20).contains(&few), "{few}");
        std::os::unix::fs::symlink(&elsewhere, folder.join("a/link")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("big"), folder.join("big")).unwrap();
        fs::hard_link(folder.join("a/b/file"), folder.join("again")).unwrap();
        let same = held(&folder).unwrap();
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
