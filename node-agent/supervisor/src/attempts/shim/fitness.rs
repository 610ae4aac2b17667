//! Whether a script may be run as root, or as a user on the site's behalf: only when nobody else could have changed it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether `path` is a plain file of root's alone to change, in folders of which the same holds, and has all rights of
/// `wanted` (0o500: root may read and execute it).
///
/// # Errors
/// Why it may not be run, for a person.
pub fn only_roots(path: &Path, wanted: u32) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|error| format!("cannot be run: {error}"))?;
    fitness(&found, 0, wanted)?;
    // A folder that others may write to would let them put another script in its place.
    let folder = path.parent().map(fs::canonicalize);
    let folder = folder.ok_or("may not be run: it is in no folder")?;
    let folder = folder.map_err(|error| format!("cannot be run: {error}"))?;
    for folder in folder.ancestors() {
        let found = fs::metadata(folder).map_err(|error| format!("cannot be run: {error}"))?;
        // In a folder like /tmp nobody may rename what is root's.
        let is_sticky = found.mode() & 0o1000 != 0;
        if found.uid() != 0 || (found.mode() & 0o022 != 0 && !is_sticky) {
            let folder = folder.display();
            return Err(format!(
                "may not be run: {folder} is not root's alone to write"
            ));
        }
    }
    Ok(())
}

/// Whether a file of these facts is `owner`'s alone to change, and has the rights that are wanted.
pub(super) fn fitness(found: &Metadata, owner: u32, wanted: u32) -> Result<(), String> {
    let mode = found.mode() & 0o7777;
    let problem = if !found.is_file() {
        "it is no plain file".to_owned()
    } else if found.uid() != owner {
        format!("it is owned by {} and not by {owner}", found.uid())
    } else if mode & 0o022 != 0 {
        format!("its mode {mode:03o} lets others write to it")
    } else if mode & wanted != wanted {
        format!("its mode {mode:03o} lacks some of {wanted:03o}")
    } else {
        return Ok(());
    };
    Err(format!("may not be run: {problem}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_file_that_nobody_else_can_change_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prologue");
        fs::write(&path, "").unwrap();
        let own = fs::metadata(&path).unwrap().uid();
        let check = |mode: u32, owner: u32, wanted: u32, part: Option<&str>| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let fit = fitness(&fs::metadata(&path).unwrap(), owner, wanted);
            match part {
                None => assert_eq!(fit, Ok(()), "{mode:o}"),
                Some(part) => assert!(fit.unwrap_err().contains(part), "{mode:o}"),
            }
        };
        check(0o500, own, 0o500, None);
        check(0o755, own, 0o505, None);
        check(0o720, own, 0o500, Some("lets others write"));
        check(0o702, own, 0o500, Some("lets others write"));
        check(0o700, own, 0o505, Some("lacks"));
        check(0o600, own, 0o500, Some("lacks"));
        check(0o500, own + 1, 0o500, Some("owned by"));
        let found = fs::metadata(folder.path()).unwrap();
        assert!(fitness(&found, own, 0).unwrap_err().contains("plain file"));
    }

    #[test]
    fn a_folder_that_others_write_to_spoils_a_good_file() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prologue");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
        assert_eq!(only_roots(&path, 0o500), Ok(()));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            only_roots(&path, 0o500)
                .unwrap_err()
                .contains("root's alone")
        );
    }
}
