//! The server's disk: damaged, deleted, full, torn, and without power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capstan_tests::{Cluster, User, cluster::binaries, wait_until};

use crate::is_root;

/// A cluster with a held job and a completed one, and their ids.
fn cluster_with_history(folder: &str) -> (Cluster, User, PathBuf, String, String) {
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder(folder);
    let held = cluster.submit(
        &alice,
        &folder,
        "-h -N kept -v COLOUR=green -d . -o kept.out",
        "echo $COLOUR",
    );
    let done = cluster.submit(&alice, &folder, "-N done", "exit 2");
    cluster.wait_state(&done, "C");
    (cluster, alice, folder, held, done)
}

fn check_history(cluster: &Cluster, alice: &User, folder: &Path, held: &str, done: &str) {
    cluster.wait_server();
    cluster.wait_nodes();
    assert_eq!(cluster.attribute(done, "exit_status").as_deref(), Some("2"));
    assert_eq!(cluster.attribute(held, "Job_Name").as_deref(), Some("kept"));
    cluster.sh(alice, &format!("qrls {held}")).ok();
    cluster.wait_state(held, "C");
    assert_eq!(
        fs::read_to_string(folder.join("kept.out")).unwrap(),
        "green\n"
    );
}

/// The folder of the store that holds sled's files.
fn sled_folder(state: &Path) -> PathBuf {
    let found = Command::new("find")
        .arg(state)
        .args(["-name", "db", "-type", "f"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let file = PathBuf::from(text.lines().next().expect("sled keeps a file named db"));
    file.parent().unwrap().to_owned()
}

#[test]
fn a_deleted_index_is_rebuilt() {
    if !is_root() {
        return;
    }
    let (mut cluster, alice, folder, held, done) = cluster_with_history("index-deleted");
    cluster.kill("server");
    fs::remove_dir_all(sled_folder(&cluster.server_state())).unwrap();
    cluster.start("server");
    check_history(&cluster, &alice, &folder, &held, &done);
}

#[test]
fn an_index_full_of_garbage_is_rebuilt() {
    if !is_root() {
        return;
    }
    let (mut cluster, alice, folder, held, done) = cluster_with_history("index-garbage");
    cluster.kill("server");
    for entry in fs::read_dir(sled_folder(&cluster.server_state())).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let length = fs::metadata(&path).unwrap().len().max(4096);
            let garbage: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            fs::write(&path, garbage).unwrap();
        }
    }
    cluster.start("server");
    check_history(&cluster, &alice, &folder, &held, &done);
}

#[test]
fn a_journal_torn_anywhere_in_its_last_frame_loses_nothing_before_it() {
    if !is_root() {
        return;
    }
    let (mut cluster, alice, folder, held, done) = cluster_with_history("torn");
    cluster.kill("server");
    let journal = last_segment(&cluster.server_state());
    let whole = fs::read(&journal).unwrap();
    let last = last_nonzero(&whole);
    // The last commit was after the completed job's end or part of it; cutting a few bytes tears the last frame only.
    for cut in [1usize, 2, 3, 7, 11, 16] {
        fs::write(&journal, &whole[..last - cut]).unwrap();
        cluster.start("server");
        cluster.wait_server();
        assert_eq!(
            cluster.attribute(&held, "job_state").as_deref(),
            Some("H"),
            "cut {cut}"
        );
        cluster.kill("server");
        fs::write(&journal, &whole).unwrap();
    }
    remove_younger(&cluster.server_state(), &journal);
    cluster.start("server");
    check_history(&cluster, &alice, &folder, &held, &done);
}

#[test]
fn a_power_cut_loses_nothing_that_was_answered() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("power");
    let library = binaries().join("libpower_cut.so");
    assert!(library.exists(), "{library:?} is built with the workspace");
    let state = cluster.server_state();
    let platter = cluster.path().join("platter");
    cluster.kill("server");
    // There is no platter yet: what is on the disk now counts as durable.
    let library = library.to_str().unwrap().to_owned();
    let (watch, mirror) = (
        state.to_str().unwrap().to_owned(),
        platter.to_str().unwrap().to_owned(),
    );
    cluster.start_with(
        "server",
        &[
            ("LD_PRELOAD", &library),
            ("POWER_CUT_WATCH", &watch),
            ("POWER_CUT_PLATTER", &mirror),
        ],
    );
    cluster.wait_server();
    cluster.wait_nodes();
    let jobs: Vec<String> = (0..20)
        .map(|_| {
            cluster.submit(
                &alice,
                &folder,
                "-h -d . -o /dev/null -e /dev/null",
                "echo $PBS_JOBID >> diary",
            )
        })
        .collect();
    cluster.kill("server");
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&platter, &state).unwrap();
    cluster.start_with(
        "server",
        &[
            ("LD_PRELOAD", ""),
            ("POWER_CUT_WATCH", ""),
            ("POWER_CUT_PLATTER", ""),
        ],
    );
    cluster.wait_server();
    cluster.wait_nodes();
    for job in &jobs {
        assert_eq!(
            cluster.attribute(job, "job_state").as_deref(),
            Some("H"),
            "{job} was answered and is gone"
        );
    }
    cluster.sh(&alice, &format!("qrls {}", jobs.join(" "))).ok();
    cluster.wait_all_completed();
    let ran = fs::read_to_string(folder.join("diary")).unwrap();
    assert_eq!(ran.lines().count(), jobs.len());
}

#[test]
fn a_full_disk_refuses_submissions_and_loses_nothing_accepted() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("full");
    let state = cluster.server_state();
    cluster.kill("server");
    let small = SmallDisk::over(&state);
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    fs::write(folder.join("large.sh"), "#".repeat(200_000)).unwrap();
    let mut accepted = Vec::new();
    let refusal = (0..400).find_map(|_| {
        let ran = cluster.sh_in(&alice, &folder, "qsub -h large.sh");
        if ran.status == 0 {
            accepted.push(ran.stdout.trim().to_owned());
            return None;
        }
        Some(ran)
    });
    let refusal = refusal.expect("a disk of 24 MB is full before 400 submissions of 200 kB");
    assert!(
        refusal.stderr.to_lowercase().contains("space")
            || refusal.stderr.to_lowercase().contains("full"),
        "{refusal:?}"
    );
    for job in &accepted {
        assert_eq!(
            cluster.attribute(job, "job_state").as_deref(),
            Some("H"),
            "{job}"
        );
    }
    small.grow();
    let after = wait_until("submissions are taken again", || {
        let ran = cluster.sh_in(&alice, &folder, "echo true | qsub");
        if ran.status == 0 {
            Ok(ran.ok())
        } else {
            Err(ran)
        }
    });
    cluster.wait_state(&after, "C");
    cluster.kill("server");
    cluster.start("server");
    cluster.wait_server();
    for job in &accepted {
        assert_eq!(
            cluster.attribute(job, "job_state").as_deref(),
            Some("H"),
            "{job}"
        );
    }
    cluster.kill("server");
    drop(small);
    cluster.start("server");
    cluster.wait_server();
}

/// A tmpfs over a folder, with what the folder held; taken off again when dropped.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn over(folder: &Path) -> Self {
        let aside = folder.with_extension("aside");
        let run = |line: &str| {
            let status = Command::new("sh")
                .args(["-ec", line, "sh"])
                .arg(folder)
                .arg(&aside)
                .status()
                .unwrap();
            assert!(status.success(), "{line}");
        };
        run(
            "cp -a \"$1\" \"$2\"; mount -t tmpfs -o size=24m,mode=0700 capstan-test \"$1\"; cp -a \"$2\"/. \"$1\"; rm -rf \"$2\"",
        );
        Self {
            folder: folder.to_owned(),
        }
    }

    fn grow(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,size=512m"])
            .arg(&self.folder)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(&self.folder)
            .status()
            .ok();
    }
}

fn last_segment(state: &Path) -> PathBuf {
    let found = Command::new("find")
        .arg(state)
        .args(["-path", "*journal*", "-name", "*.log"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut files: Vec<&str> = text.lines().collect();
    files.sort_unstable();
    PathBuf::from(files.last().expect("the journal has a segment"))
}

/// Length without the zeros that a preallocated tail may have.
fn last_nonzero(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1)
}

/// Removes segments that a restart in between may have begun behind `journal`.
fn remove_younger(state: &Path, journal: &Path) {
    let mut last = last_segment(state);
    while last != journal {
        fs::remove_file(&last).unwrap();
        last = last_segment(state);
    }
}
