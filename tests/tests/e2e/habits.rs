//! Habits of Torque's users and administrators that need a whole cluster: settings that outlive the server, mail,
//! jobs that are altered, moved and suspended while they wait or run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

#[test]
fn what_qmgr_sets_outlives_the_server_and_makes_the_same_server_again() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--name", "hn1"]);
    for line in [
        "create queue long queue_type=e,enabled=t,started=t",
        "set queue long resources_default.walltime = 10:00:00",
        "set queue long acl_users = alice@*",
        "set queue long acl_users += bob",
        "set server keep_completed = 77",
        "set server comment = \"closed on, say, Sunday\"",
        "set node node01 properties += gpu",
    ] {
        cluster.root(&format!("qmgr -c '{line}'")).ok();
    }
    let before = cluster.root("qmgr -c 'print server'").ok();
    assert!(before.contains("set queue long resources_default.walltime = 10:00:00"));
    cluster.kill("server");
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    assert_eq!(cluster.root("qmgr -c 'print server'").ok(), before);
    let properties = cluster.root("qmgr -c 'list node node01 properties'").ok();
    assert!(properties.contains("S,gpu"), "{properties}");

    let fresh = Cluster::up(&["--nodes", "1", "--name", "hn1", "--no-queues"]);
    fs::write(fresh.path().join("dump"), &before).unwrap();
    let loaded = fresh.root(&format!("qmgr < {}/dump", fresh.path().display()));
    assert_eq!((loaded.status, loaded.stderr.as_str()), (0, ""));
    assert_eq!(fresh.root("qmgr -c 'print server'").ok(), before);
}

/// A sendmail that keeps what it is given.
pub(crate) fn stand_in(cluster: &Cluster) -> std::path::PathBuf {
    let program = cluster.path().join("sendmail");
    let kept = cluster.path().join("letters");
    let script = format!(
        "#!/bin/sh\n{{ echo \"argv: $*\"; cat; }} >> {}\n",
        kept.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    cluster
        .root(&format!(
            "qmgr -c 'set server sendmail_path = {}'",
            program.display()
        ))
        .ok();
    kept
}

#[test]
fn owners_hear_by_mail_of_begin_end_and_deletion() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--name", "hn1"]);
    let (alice, letters) = (User::alice(), stand_in(&cluster));
    let folder = alice.folder("mail");
    let job = cluster.submit(&alice, &folder, "-N told -m abe -M root", "exit 3");
    let held = cluster.submit(&alice, &folder, "-N gone -h", "true");
    cluster.root(&format!("qdel {held}")).ok();
    let text = wait_until("three letters are sent", || {
        let text = fs::read_to_string(&letters).unwrap_or_default();
        if text.matches("Precedence: bulk").count() == 3 {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let id = format!("PBS Job Id: {job}\nJob Name:   told\nExec host:  node01/0\n");
    assert!(text.contains(&format!("{id}Begun execution\n")), "{text}");
    assert!(
        text.contains(&format!("{id}Execution terminated\nExit_status=3\n")),
        "{text}"
    );
    let deleted = "Job Name:   gone\njob deleted\nJob deleted at request of root@";
    assert!(text.contains(deleted), "{text}");
    assert!(text.contains("argv: -f adm root\n"), "{text}");
}

#[test]
fn a_running_job_can_be_altered_suspended_resumed_signalled_and_rerun() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1"]);
    let alice = User::alice();
    let folder = alice.folder("control");
    let script = "trap 'echo usr1 >> said' USR1; echo begun >> said; while :; do sleep 0.1; done";
    let line = format!("-d {} -l walltime=01:00:00", folder.display());
    let job = cluster.submit(&alice, &folder, &line, script);
    let said = || fs::read_to_string(folder.join("said")).unwrap_or_default();
    let wait_said = |wanted: &str| {
        wait_until(&format!("the job said {wanted:?}"), || match said() {
            text if text == wanted => Ok(()),
            text => Err(text),
        });
    };
    wait_said("begun\n");
    let raise = format!("qalter -l walltime=02:00:00 {job}");
    assert_eq!(
        cluster.sh(&alice, &raise).status,
        159,
        "the owner may only lower it"
    );
    cluster.root(&raise).ok();
    let walltime = cluster.attribute(&job, "Resource_List.walltime");
    assert_eq!(walltime.as_deref(), Some("02:00:00"));
    assert_eq!(
        cluster.sh(&alice, &format!("qsig -s suspend {job}")).status,
        159
    );
    cluster.root(&format!("qsig -s suspend {job}")).ok();
    cluster.wait_state(&job, "S");
    cluster.root(&format!("qsig -s resume {job}")).ok();
    cluster.wait_state(&job, "R");
    assert_eq!(cluster.sh(&alice, &format!("qrerun {job}")).status, 159);
    cluster.root(&format!("qrerun {job}")).ok();
    wait_said("begun\nbegun\n");
    assert_eq!(cluster.attribute(&job, "start_count").as_deref(), Some("2"));
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
}

#[test]
fn the_walltime_that_counts_is_the_altered_one() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1"]);
    let alice = User::alice();
    let folder = alice.folder("walltime");
    let job = cluster.submit(&alice, &folder, "-l walltime=01:00:00", "sleep 600");
    cluster.wait_state(&job, "R");
    cluster
        .sh(&alice, &format!("qalter -l walltime=1 {job}"))
        .ok();
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("-11")
    );
}
