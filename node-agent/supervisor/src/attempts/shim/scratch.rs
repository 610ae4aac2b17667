//! `PBS_SCRATCH`: a folder per attempt on this node's own disk. Gone with the attempt; after a failure it is kept for the
//! site's time, with a note beside the ledger that says until when, by which the agent removes it later.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::attempts::record::{Entry, Identity};

/// Where notes of kept folders lie, in the state folder.
const KEPT: &str = "scratch";
/// Notes that are looked at in one sweep; the others are looked at in the next one.
const NOTES_MAX: usize = 10_000;
/// Longest note: a time and a path.
const NOTE_BYTES_MAX: u64 = 8192;

/// Makes the attempt's folder, when the site has scratch space.
///
/// # Errors
/// When it cannot be made; one that is there already is not taken.
pub(super) fn make(entry: &Entry, identity: &Identity) -> Result<(), (String, io::Error)> {
    let Some(folder) = entry.scratch_folder() else {
        return Ok(());
    };
    let made = DirBuilder::new().mode(0o700).create(&folder);
    let owned = made.and_then(|()| match nix::unistd::geteuid().is_root() {
        true => chown(&folder, Some(identity.uid), Some(identity.gid)),
        false => Ok(()),
    });
    owned.map_err(|error| (folder, error))
}

/// Removes the folder of an attempt that is over, or notes until when it is kept.
pub(in crate::attempts) fn leave(entry: &Entry, has_failed: bool) {
    let Some(folder) = entry.scratch_folder() else {
        return;
    };
    let until = now_secs().saturating_add(entry.scratch_keep_secs);
    let is_noted = has_failed
        && entry.scratch_keep_secs > 0
        && has_content(&folder)
        && note(entry, &folder, until).is_ok();
    // Without a note nobody would ever remove it.
    if !is_noted {
        remove(entry);
    }
}

/// Notes that the folder is to be removed then, seconds since 1970.
fn note(entry: &Entry, folder: &str, until: u64) -> io::Result<()> {
    let notes = Path::new(&entry.state_folder).join(KEPT);
    let note = notes.join(entry.spec.attempt.to_string());
    make_private(&notes)?;
    fs::write(note, format!("{until} {folder}\n"))
}

/// Removes the folder; notes one that cannot be removed, so that it is tried again.
pub(super) fn remove(entry: &Entry) {
    let Some(folder) = entry.scratch_folder() else {
        return;
    };
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            // A disk that takes no note either keeps the folder: there is nobody to tell here.
            let _unnoted = note(entry, &folder, now_secs());
        }
        Ok(()) | Err(_) => {}
    }
}

/// Removes kept folders whose time is over; how many. Only what lies right in `root` is touched.
pub(in crate::attempts) fn sweep(state: &Path, root: &Path) -> usize {
    let notes = fs::read_dir(state.join(KEPT)).into_iter().flatten();
    let notes = notes.filter_map(Result::ok).take(NOTES_MAX);
    let now = now_secs();
    notes
        .filter(|note| is_swept(&note.path(), root, now))
        .count()
}

fn is_swept(note: &Path, root: &Path, now: u64) -> bool {
    let is_short = fs::symlink_metadata(note).is_ok_and(|found| found.len() <= NOTE_BYTES_MAX);
    let text = fs::read_to_string(note)
        .ok()
        .filter(|_| is_short)
        .unwrap_or_default();
    match due(&text, now) {
        Due::Later => return false,
        Due::Now(folder) if folder.parent() == Some(root) => match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return false,
            Ok(()) | Err(_) => {}
        },
        // Of another scratch space, or no note of ours: there is nothing to wait for.
        Due::Now(_) | Due::Never => {}
    }
    fs::remove_file(note).is_ok()
}

/// When what a note names is to be removed.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Now(PathBuf),
    Later,
    Never,
}

fn due(note: &str, now: u64) -> Due {
    let parts = note.trim_end().split_once(' ');
    let read = parts.and_then(|(until, folder)| Some((until.parse::<u64>().ok()?, folder)));
    match read {
        Some((until, _)) if until > now => Due::Later,
        Some((_, folder)) => Due::Now(folder.into()),
        None => Due::Never,
    }
}

fn has_content(folder: &str) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn make_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(root: &Path, keep_secs: u64) -> Entry {
        let mut entry = Entry {
            state_folder: root.join("state").to_string_lossy().into_owned(),
            scratch_root: root.join("scratch").to_string_lossy().into_owned(),
            scratch_keep_secs: keep_secs,
            ..Entry::default()
        };
        entry.spec.job_id = "7[3].hn1".into();
        entry.spec.attempt = 9;
        fs::create_dir_all(&entry.state_folder).unwrap();
        fs::create_dir_all(&entry.scratch_root).unwrap();
        entry
    }

    fn folder(root: &Path) -> PathBuf {
        root.join("scratch/7-3.hn1.9")
    }

    /// An attempt that wrote something: whether its folder is still there.
    fn check(keep_secs: u64, has_failed: bool, is_kept: bool) {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path(), keep_secs);
        make(&entry, &Identity::default()).unwrap();
        fs::write(folder(root.path()).join("checkpoint"), "1").unwrap();
        leave(&entry, has_failed);
        assert_eq!(folder(root.path()).exists(), is_kept);
    }

    #[test]
    fn a_folder_outlives_its_attempt_only_after_a_failure() {
        check(60, true, true);
        check(60, false, false);
        check(0, true, false);
    }

    #[test]
    fn what_cannot_be_removed_is_noted_and_tried_again() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path(), 0);
        let (state, scratch) = (root.path().join("state"), root.path().join("scratch"));
        // Something that is no folder cannot be removed as one.
        fs::write(folder(root.path()), "").unwrap();
        leave(&entry, false);
        assert_eq!(sweep(&state, &scratch), 0, "it is still in the way");
        fs::remove_file(folder(root.path())).unwrap();
        fs::create_dir(folder(root.path())).unwrap();
        assert_eq!(sweep(&state, &scratch), 1);
        assert!(!folder(root.path()).exists());
    }

    #[test]
    fn a_kept_folder_goes_when_its_time_is_over() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path(), 60);
        let (state, scratch) = (root.path().join("state"), root.path().join("scratch"));
        make(&entry, &Identity::default()).unwrap();
        fs::write(folder(root.path()).join("checkpoint"), "1").unwrap();
        leave(&entry, true);
        assert_eq!(sweep(&state, &scratch), 0);
        let note = state.join("scratch/9");
        let path = folder(root.path());
        fs::write(&note, format!("1 {}\n", path.display())).unwrap();
        assert_eq!(sweep(&state, &scratch), 1);
        assert!(!path.exists() && !note.exists());
    }

    #[test]
    fn a_note_about_a_folder_elsewhere_removes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path(), 60);
        let elsewhere = root.path().join("home");
        fs::create_dir(&elsewhere).unwrap();
        let state = PathBuf::from(&entry.state_folder);
        fs::create_dir(state.join(KEPT)).unwrap();
        fs::write(
            state.join("scratch/9"),
            format!("1 {}\n", elsewhere.display()),
        )
        .unwrap();
        sweep(&state, Path::new(&entry.scratch_root));
        assert!(elsewhere.exists());
        assert_eq!(due("", 5), Due::Never);
        assert_eq!(due("6 /s/x\n", 5), Due::Later);
    }
}
