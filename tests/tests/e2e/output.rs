//! Where what a job writes goes when another host is named (`-o HOST:PATH`), what becomes of it when that host does not take
//! it, and what is told at its end. The program that copies is a stand-in that notes who calls it with what.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use capstan_tests::{Cluster, User, wait_until};

use crate::cards::Driver;
use crate::habits::stand_in;
use crate::is_root;
use crate::life::cluster_of;

/// A host of no cluster: nobody has to be asked for its address.
const FAR: &str = "192.0.2.7";

/// A cluster of one node with a program that copies to `far/`, unless there is a file `refuse`.
fn cluster(settings: &str) -> Cluster {
    let settings = format!("rcpcmd = 'DIR/copy -q'\n{settings}");
    let cluster = cluster_of(1, &["--cores", "2"], &settings);
    let folder = cluster.path().display();
    let script = format!(
        "#!/bin/bash\n\
         echo \"$(id -un) $*\" >>{folder}/copied\n\
         test -e {folder}/refuse && {{ echo Permission denied >&2; exit 1; }}\n\
         from=${{@: -2:1}} to=${{@: -1}} to={folder}/far/${{to#*:}}\n\
         mkdir -p \"${{to%/*}}\"; cp -p \"$from\" \"$to\"\n"
    );
    let program = cluster.path().join("copy");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["far", "mapped"] {
        let made = cluster.path().join(name);
        fs::create_dir(&made).unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copied = cluster.path().join("copied");
    fs::write(&copied, "").unwrap();
    fs::set_permissions(&copied, fs::Permissions::from_mode(0o666)).unwrap();
    cluster
}

fn copied(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.path().join("copied")).unwrap()
}

fn state_of_node(cluster: &Cluster) -> PathBuf {
    let settings = fs::read_to_string(cluster.path().join("nodes/node01/agent.toml")).unwrap();
    let mut lines = settings.lines();
    let line = lines
        .find_map(|line| line.strip_prefix("state_dir = "))
        .unwrap();
    PathBuf::from(line.trim_matches(['"', '\'']))
}

/// Files of jobs that are left in a folder of the agent.
fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn seq(job: &str) -> &str {
    job.split('.').next().unwrap()
}

/// Goal: while it runs the output is on the node, for `qpeek` too; when it is over it is copied as the user, with its
/// footer, and nothing of it is left.
#[test]
fn output_for_another_host_is_copied_there_when_the_job_is_over() {
    if !is_root() {
        return;
    }
    let cluster = cluster("");
    cluster.root("qmgr -c 'set server job_footer = True'").ok();
    let alice = User::alice();
    let folder = alice.folder("output-far");
    let options = format!("-N j -d . -o {FAR}:/data/ -e '{FAR}:err/$PBS_JOBID'");
    let script = "echo body; echo trouble >&2; while [ ! -e go ]; do sleep 0.1; done";
    let job = cluster.submit(&alice, &folder, &options, script);
    wait_until("its output is seen", || {
        let ran = cluster.sh(&alice, &format!("qpeek {job}"));
        match ran.stdout == "body\n" {
            true => Ok(()),
            false => Err(ran),
        }
    });
    let path = cluster.attribute(&job, "Output_Path");
    assert_eq!(path, Some(format!("{FAR}:/data/")));
    let path = cluster.attribute(&job, "Error_Path");
    assert_eq!(path, Some(format!("{FAR}:err/$PBS_JOBID")));
    assert_eq!(copied(&cluster), "", "copied before the end");
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    let far = cluster.path().join("far");
    let number = seq(&job);
    let stdout = fs::read_to_string(far.join(format!("data/j.o{number}"))).unwrap();
    assert!(
        stdout.starts_with(&format!("body\n---- job {job} attempt ")),
        "{stdout}"
    );
    assert!(stdout.ends_with("\nexit     0: ended well\n"), "{stdout}");
    let stderr = far.join(format!("err/{job}"));
    assert_eq!(fs::read_to_string(&stderr).unwrap(), "trouble\n");
    let made = fs::metadata(&stderr).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (alice.uid, 0o600));
    let log = copied(&cluster);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert!(line.starts_with(&format!("{} -q /", alice.name)), "{log}");
    }
    let state = state_of_node(&cluster);
    for name in ["spool", "undelivered"] {
        assert_eq!(left(&state.join(name)), [""; 0], "{name}");
    }
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
}

/// Goal: as Torque: the job has ended as it has; the file is kept on the node for its user, who is told by mail, whatever
/// was asked for, and in the job's comment.
#[test]
fn output_that_its_host_does_not_take_is_kept_and_its_owner_is_told() {
    if !is_root() {
        return;
    }
    let cluster = cluster("");
    let (alice, letters) = (User::alice(), stand_in(&cluster));
    let folder = alice.folder("output-refused");
    fs::write(cluster.path().join("refuse"), "").unwrap();
    let options = format!("-N j -m n -j oe -o {FAR}:/data/out");
    let job = cluster.submit(&alice, &folder, &options, "echo body");
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
    let kept = state_of_node(&cluster).join(format!("undelivered/{job}.OU"));
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.starts_with("body\n"), "{text}");
    let made = fs::metadata(&kept).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (alice.uid, 0o600));
    let comment = cluster.attribute(&job, "comment").unwrap_or_default();
    assert!(
        comment.contains(&format!("is kept on node01: {}", kept.display())),
        "{comment}"
    );
    let letter = wait_until("a letter is sent", || {
        let text = fs::read_to_string(&letters).unwrap_or_default();
        match text.contains("Output_Path: ") {
            true => Ok(text),
            false => Err(text),
        }
    });
    let expected = format!(
        "Exec host:  node01/0\nAn error has occurred processing your job, see below.\n\
         Post job file processing error; job {job} on host node01/0\n\nUnable to copy file "
    );
    assert!(letter.contains(&expected), "{letter}");
    let expected = format!(
        " to {FAR}:/data/out, error 1\n*** error from copy\nPermission denied\n\
         *** end error output\nOutput retained on that host in: {}\n",
        kept.display()
    );
    assert!(letter.contains(&expected), "{letter}");
}

/// Goal: as Torque's `$usecp`: what the site says to be here is written in place, at once.
#[test]
fn output_for_a_folder_that_is_mapped_is_written_in_place() {
    if !is_root() {
        return;
    }
    let cluster = cluster("usecp = ['*.far.example:/data DIR/mapped']");
    let alice = User::alice();
    let folder = alice.folder("output-mapped");
    let options = "-N j -o login.far.example:/data/ -e login.far.example:/data/err";
    let job = cluster.submit(&alice, &folder, options, "echo body; echo trouble >&2");
    cluster.wait_state(&job, "C");
    let mapped = cluster.path().join("mapped");
    let stdout = fs::read_to_string(mapped.join(format!("j.o{}", seq(&job)))).unwrap();
    assert!(stdout.starts_with("body\n"), "{stdout}");
    let stderr = fs::read_to_string(mapped.join("err")).unwrap();
    assert_eq!(stderr, "trouble\n");
    assert_eq!(copied(&cluster), "");
}

/// Goal: the footer of a job of several nodes tells each with its cards and what was used there, and who failed first.
#[test]
fn the_footer_of_a_gang_tells_each_of_its_nodes() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "4", "--cards", "1", "--debug"]);
    cluster.root("qmgr -c 'set server job_footer = True'").ok();
    Driver::of_node(&cluster, "node02").set(&["utilization_percent = 80"]);
    let alice = User::alice();
    let folder = alice.folder("output-gang");
    let script = "pbsdsh -n 1 /bin/sh -c 'while [ ! -e go ]; do :; done; exit 9'";
    let options = format!(
        "-N j -j oe -o out -W gang=end -l nodes=node01:gpus=1+node02:gpus=1 -d {}",
        folder.display()
    );
    let job = cluster.submit(&alice, &folder, &options, script);
    wait_until("the other node's load is shown", || {
        let load = cluster.attribute(&job, "resources_used.gpu_util_peak");
        match load.as_deref() {
            Some("80") => Ok(()),
            _ => Err(load),
        }
    });
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    let text = fs::read_to_string(folder.join("out")).unwrap();
    let footer = text
        .split("---- job ")
        .nth(1)
        .unwrap_or_else(|| panic!("{text}"));
    let parts: Vec<&str> = footer.split("\nnode     ").collect();
    let [_, first, second] = parts[..] else {
        panic!("{text}");
    };
    assert!(first.starts_with("node01, 1 slots\ncard     0 "), "{text}");
    assert!(second.starts_with("node02, 1 slots\ncard     0 "), "{text}");
    assert!(second.contains("\nmemory   peak "), "{text}");
    assert!(second.contains("peak 80 % busy"), "{text}");
    let exit = "\nexit     9: rank 1 on node02 failed first, with exit status 9\n";
    assert!(text.ends_with(exit), "{text}");
}
