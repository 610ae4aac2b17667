//! A node whose disk is full: what runs there ends with its true status, what would start waits and says why, and all goes on
//! when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use capstan_tests::{Cluster, User, wait_until};

use crate::disk::Disk;
use crate::is_root;

/// Writes a file until nothing more goes onto its disk.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
}

/// A folder that is removed when dropped, for a disk that the cluster's state lies on.
fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::Builder::new().prefix("capstan-full-").tempdir();
    let place = place.unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(place.path(), open).unwrap();
    let spool = place.path().join("spool");
    (place, spool)
}

#[test]
fn a_full_disk_of_a_node_costs_no_job_and_is_told_to_those_who_wait_for_it() {
    if !is_root() {
        return;
    }
    let (_place, spool) = place();
    let disk = Disk::mount(&spool.join("node01"), "16m");
    let root = spool.display().to_string();
    let usual = ["--nodes", "1", "--cores", "4", "--cards", "1", "--debug"];
    let cluster = Cluster::up(&[&usual[..], &["--spool", &root]].concat());
    let alice = User::alice();
    let folder = alice.folder("full-node");
    let script = "touch begun; until [ -e go ]; do sleep 0.1; done; echo out; echo err >&2; exit 3";
    let options = "-l nodes=1:gpus=1,walltime=600 -d . -o out -e err";
    let running = cluster.submit(&alice, &folder, options, script);
    let begun = folder.join("begun");
    wait_until("it runs", || begun.exists().then_some(()).ok_or(()));
    let agent = cluster.pid("node01");
    let filler = disk.0.join("filler");
    fill(&filler);

    // Its files are elsewhere, and room for how it ended was taken when it began.
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&running, "C");
    assert_eq!(
        cluster.attribute(&running, "exit_status").as_deref(),
        Some("3")
    );
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "out\n");
    assert_eq!(fs::read_to_string(folder.join("err")).unwrap(), "err\n");

    // Whatever it left room for is gone as well.
    fill(&disk.0.join("more"));
    let options = "-l nodes=1:gpus=1,walltime=600 -d . -j oe -o next";
    let next = cluster.submit(&alice, &folder, options, "echo next; exit 4");
    let told = wait_until("it waits and says why", || {
        let state = cluster.attribute(&next, "job_state");
        let comment = cluster.attribute(&next, "comment").unwrap_or_default();
        match state.as_deref() {
            Some("W" | "Q" | "H") if comment.contains("cannot be written") => Ok(comment),
            _ => Err((state, comment)),
        }
    });
    assert!(told.contains(&root), "{told}");
    assert!(!folder.join("next").exists(), "it has not run");
    for path in [filler, disk.0.join("more")] {
        fs::remove_file(path).unwrap();
    }
    cluster.wait_state(&next, "C");
    assert_eq!(
        cluster.attribute(&next, "exit_status").as_deref(),
        Some("4")
    );
    assert_eq!(fs::read_to_string(folder.join("next")).unwrap(), "next\n");
    assert_eq!(cluster.pid("node01"), agent);
    assert!(
        Path::new("/proc").join(agent.to_string()).exists(),
        "the agent was there all the while"
    );
}
