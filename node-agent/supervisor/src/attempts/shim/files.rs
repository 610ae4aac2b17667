//! What a job finds ready: its script, PBS_NODEFILE, PBS_GPUFILE and, when it gets one, a folder of its own for TMPDIR.
//! Written as root into folders of ours.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};

use super::launch::Unstartable;
use super::user::AsUser;
use crate::attempts::record::{Entry, Identity};

/// Longest job id; longer ones make no file names.
const JOB_ID_BYTES_MAX: usize = 200;

/// The script that this attempt wrote; another attempt of the job may have put its own in its place.
#[derive(Clone, Copy)]
pub(super) struct Written {
    script_inode: u64,
}

/// Writes the files.
pub(super) fn write(entry: &Entry, identity: &Identity) -> Result<Written, Unstartable> {
    let spec = &entry.spec;
    if !is_file_name(&spec.job_id) {
        return Err(Unstartable::JobId(spec.job_id.clone()));
    }
    let lines = |names: &[String]| {
        names
            .iter()
            .map(|name| format!("{name}\n"))
            .collect::<String>()
    };
    put(
        &entry.node_file(),
        lines(&spec.node_file).as_bytes(),
        0o644,
        None,
    )?;
    if !spec.gpu_file.is_empty() {
        put(
            &entry.gpu_file(),
            lines(&spec.gpu_file).as_bytes(),
            0o644,
            None,
        )?;
    }
    if let Some(folder) = entry.tmp_folder() {
        make_own(&folder, identity).map_err(|source| Unstartable::File {
            path: folder,
            source,
        })?;
    }
    let script_inode = put(&entry.script_file(), &spec.script, 0o500, Some(identity))?;
    Ok(Written { script_inode })
}

/// Removes the files, unless a later attempt of the job has written its own.
pub(super) fn remove(entry: &Entry, written: Option<&Written>) {
    if !is_file_name(&entry.spec.job_id) {
        return;
    }
    remove_own(entry);
    if let Some(written) = written {
        let now = fs::symlink_metadata(entry.script_file()).map(|file| file.ino());
        if now.is_ok_and(|inode| inode != written.script_inode) {
            return;
        }
    }
    remove_written(entry);
}

fn remove_written(entry: &Entry) {
    for path in [entry.script_file(), entry.node_file(), entry.gpu_file()] {
        // What cannot be removed is overwritten by the next attempt of that job, and harmless.
        let _absent = fs::remove_file(path);
    }
}

/// As [`remove`], of an attempt whose shim cannot: whatever it had written. For the agent, which has threads and stays root.
pub(in crate::attempts) fn remove_all(entry: &Entry) {
    if !is_file_name(&entry.spec.job_id) {
        return;
    }
    if let Some(folder) = entry.tmp_folder() {
        // It goes down by descriptors and follows no link of the user's.
        let _absent = fs::remove_dir_all(folder);
    }
    remove_written(entry);
}

/// A folder of the user's in one of ours, named by the attempt: nobody else can have made it.
fn make_own(path: &str, identity: &Identity) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    match nix::unistd::geteuid().is_root() {
        true => std::os::unix::fs::chown(path, Some(identity.uid), Some(identity.gid)),
        false => Ok(()),
    }
}

/// What the job left there goes with the user's rights, the folder itself with ours.
fn remove_own(entry: &Entry) {
    let (Some(folder), Some(identity)) = (entry.tmp_folder(), &entry.identity) else {
        return;
    };
    if let Ok(_rights) = AsUser::become_user(identity) {
        // The folder itself stays: its own parent is not the user's.
        let _stays = fs::remove_dir_all(&folder);
    }
    // Not empty when another user's process wrote into it.
    let _left = fs::remove_dir(&folder);
}

fn is_file_name(job_id: &str) -> bool {
    !job_id.is_empty()
        && job_id.len() <= JOB_ID_BYTES_MAX
        && !job_id.starts_with('.')
        && !job_id.contains(['/', '\0'])
}

/// Makes a file anew and returns its inode.
fn put(
    path: &str,
    content: &[u8],
    mode: u32,
    owner: Option<&Identity>,
) -> Result<u64, Unstartable> {
    let write = || -> io::Result<u64> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(content)?;
        if let Some(identity) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
            fchown(&file, Some(identity.uid), Some(identity.gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(file.metadata()?.ino())
    };
    write().map_err(|source| Unstartable::File {
        path: path.to_owned(),
        source,
    })
}
