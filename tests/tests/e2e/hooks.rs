//! The site's scripts around jobs of several nodes: on which node, as whom, with what arguments, in which order; and what
//! becomes of a job when one of them fails, hangs, may not be run, or loses its agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;
use crate::life::{cluster_of, hook};

const HOOKS: &str = "hooks_dir = 'DIR/hooks'";

/// A file that root's scripts and the user's all write to.
fn log(alice: &User, folder: &Path) -> PathBuf {
    let log = folder.join("log");
    fs::write(&log, "").unwrap();
    alice.own(&log);
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    log
}

/// A script that writes who and where it is.
fn telling(cluster: &Cluster, name: &str, mode: u32, log: &Path) {
    let told = "$(basename $0) $# $(id -un) $PBS_NODENUM $PBS_MSHOST";
    let last = "${9:-}:${10:-}";
    hook(
        cluster,
        name,
        mode,
        &format!("echo {told} {last} >>{}", log.display()),
    );
}

fn comment_says(cluster: &Cluster, job: &str, words: &str) {
    wait_until("the job is back in its queue and says why", || {
        let comment = cluster.attribute(job, "comment").unwrap_or_default();
        match comment.contains(words) {
            true => Ok(()),
            false => Err(comment),
        }
    });
}

#[test]
fn a_job_of_two_nodes_has_prologues_and_epilogues_on_both() {
    if !is_root() {
        return;
    }
    let cluster = cluster_of(2, &["--cores", "2"], HOOKS);
    let alice = User::alice();
    let folder = alice.folder("hooks-order");
    let log = log(&alice, &folder);
    for name in [
        "presetup.prologue",
        "prologue",
        "prologue.parallel",
        "epilogue",
        "epilogue.parallel",
    ] {
        telling(&cluster, name, 0o500, &log);
    }
    for name in ["prologue.user.parallel", "epilogue.user.parallel"] {
        telling(&cluster, name, 0o505, &log);
    }
    let script = format!("echo body >>{}; exit 3", log.display());
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2:ppn=1", &script);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("3"));
    let told = fs::read_to_string(&log).unwrap();
    let user = alice.name;
    let expected = [
        "presetup.prologue 9 root 0 node01 node01,node02:".to_owned(),
        "prologue.parallel 8 root 1 node01 :".to_owned(),
        format!("prologue.user.parallel 8 {user} 1 node01 :"),
        "prologue 8 root 0 node01 :".to_owned(),
        "body".to_owned(),
        format!("epilogue.user.parallel 11 {user} 1 node01 :3"),
        "epilogue.parallel 11 root 1 node01 :3".to_owned(),
        "epilogue 11 root 0 node01 :3".to_owned(),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);

    // A job of one node has no other nodes.
    fs::write(&log, "").unwrap();
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=1", "true");
    cluster.wait_state(&job, "C");
    let told = fs::read_to_string(&log).unwrap();
    assert!(!told.contains("parallel"), "{told}");
    assert!(told.starts_with("presetup.prologue 9 root 0 "), "{told}");
}

#[test]
fn a_node_whose_prologue_fails_puts_the_job_back_whatever_the_status() {
    if !is_root() {
        return;
    }
    let cluster = cluster_of(2, &["--cores", "2"], HOOKS);
    let alice = User::alice();
    let folder = alice.folder("hooks-fails");
    hook(&cluster, "prologue.parallel", 0o500, "exit 1");
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", "echo body");
    comment_says(&cluster, &job, "prologue.parallel ended with 1 on node02");
    // One that somebody else could have written does not run.
    let ran = cluster.path().join("ran");
    let touch = format!("touch {}", ran.display());
    let path = hook(&cluster, "prologue.parallel", 0o757, &touch);
    comment_says(&cluster, &job, "lets others write to it on node02");
    assert!(!ran.exists());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    cluster.wait_state(&job, "C");
    assert!(ran.exists());
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));

    hook(&cluster, "presetup.prologue", 0o500, "exit 1");
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", "echo body");
    cluster.wait_state(&job, "C");
    let status = cluster.attribute(&job, "exit_status");
    assert_eq!(status.as_deref(), Some("-2"));
}

/// The id of the process that a hanging hook left in `path`.
fn written_pid(path: &Path) -> String {
    wait_until("the hook runs", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        match text.ends_with('\n') {
            true => Ok(text.trim().to_owned()),
            false => Err(text),
        }
    })
}

fn is_gone(pid: &str) {
    let process = Path::new("/proc").join(pid);
    wait_until("the hook's process is gone", || match process.exists() {
        true => Err(process.clone()),
        false => Ok(()),
    });
}

#[test]
fn a_job_that_is_deleted_while_another_node_prepares_ends_and_leaves_nothing_there() {
    if !is_root() {
        return;
    }
    let cluster = cluster_of(2, &["--cores", "2"], HOOKS);
    let alice = User::alice();
    let folder = alice.folder("hooks-deleted");
    let pid = cluster.path().join("pid");
    let text = format!("sleep 300 & echo $! >{}; wait", pid.display());
    hook(&cluster, "prologue.parallel", 0o500, &text);
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", "echo body");
    let sleeper = written_pid(&pid);
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("271")
    );
    is_gone(&sleeper);
}

#[test]
fn a_hook_of_another_node_that_hangs_is_ended_after_its_time() {
    if !is_root() {
        return;
    }
    let settings = format!("{HOOKS}\nprologue_timeout_secs = 1");
    let cluster = cluster_of(2, &["--cores", "2"], &settings);
    let alice = User::alice();
    let folder = alice.folder("hooks-hangs");
    let pid = cluster.path().join("pid");
    let text = format!("sleep 300 & echo $! >{}; wait", pid.display());
    hook(&cluster, "epilogue.parallel", 0o500, &text);
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", "exit 4");
    let sleeper = written_pid(&pid);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("4"));
    is_gone(&sleeper);
}

#[test]
fn an_agent_that_is_killed_while_another_node_prepares_asks_again() {
    if !is_root() {
        return;
    }
    let mut cluster = cluster_of(2, &["--cores", "2"], HOOKS);
    let alice = User::alice();
    let folder = alice.folder("hooks-restart");
    let (pid, go) = (cluster.path().join("pid"), cluster.path().join("go"));
    let text = format!(
        "echo $$ >{}; until test -e {}; do sleep 0.05; done",
        pid.display(),
        go.display()
    );
    hook(&cluster, "prologue.parallel", 0o500, &text);
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", "echo body");
    let first = written_pid(&pid);
    cluster.kill("node01");
    is_gone(&first);
    fs::remove_file(&pid).unwrap();
    cluster.start("node01");
    let second = written_pid(&pid);
    assert_ne!(first, second);
    fs::write(&go, "").unwrap();
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
    let output = fs::read_to_string(folder.join(format!("j.o{}", job.split('.').next().unwrap())));
    assert!(output.unwrap().starts_with("body\n"));
}
