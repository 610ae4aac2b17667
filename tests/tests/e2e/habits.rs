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

/// What operators do to nodes, cards, queues and the server is refused to others, and changes nothing.
#[test]
fn what_operators_do_is_refused_to_users() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--cards", "1", "--debug"]);
    let alice = User::alice();
    cluster.root("pbsnodes -o node01 -N looked-at").ok();
    let job = cluster.submit(&alice, &alice.home, "-o /dev/null -e /dev/null", "true");
    let state = || {
        let nodes = cluster
            .root("pbsnodes node01 | grep -E '^ +(state|note) ='")
            .ok();
        nodes + &cluster.root("qmgr -c 'print server' | grep -v '^#'").ok()
    };
    let before = state();
    for line in [
        "pbsnodes -r node01",
        "pbsnodes -c node01",
        "pbsnodes -o node01",
        "pbsnodes -N mine node01",
        "qgpumode -H node01 -g 0 -m 1",
        "qgpureset -H node01 -g 0 -p",
        "qmgr -c 'set server scheduling = False'",
        "qmgr -c 'set queue batch containers = required'",
        "qmgr -c 'create node node02'",
        "qmgr -c 'delete queue batch'",
        "qdisable batch",
        "qstop batch",
        "qterm",
        &format!("qrun {job}"),
        &format!("qhold -h s {job}"),
    ] {
        let ran = cluster.sh(&alice, line);
        assert!(
            ran.stderr.contains("Unauthorized Request"),
            "{line}: {ran:?}"
        );
        assert_eq!(state(), before, "{line}");
    }
    assert_eq!(cluster.attribute(&job, "job_state").as_deref(), Some("Q"));
    cluster.root("pbsnodes -c node01").ok();
    cluster.wait_state(&job, "C");
}

/// Each group with its users: what they used, of which part of the whole, and who stands below his share.
#[test]
fn everybody_sees_who_used_how_much_of_his_share() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--cards", "2", "--debug"]);
    let (alice, bob) = (User::alice(), User::bob());
    let nobody = cluster.sh(&alice, "qfair").ok();
    assert!(nobody.contains("Nobody has used anything"), "{nobody}");
    let options = "-l nodes=1:gpus=2,walltime=600 -o /dev/null -e /dev/null";
    let job = cluster.submit(&alice, &alice.home, options, "sleep 2");
    cluster.wait_state(&job, "C");
    let waiting = cluster.submit(&bob, &bob.home, &format!("-h {options}"), "true");
    let rows = |line: &str| {
        let text = cluster.sh(&bob, line).ok();
        let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        all
    };
    let used = |user: &str| {
        let table = cluster.sh(&bob, "qfair").ok();
        let row = table
            .lines()
            .find(|row| row.trim_start().starts_with(user))
            .map(str::to_owned);
        row.ok_or(table)
    };
    let row = wait_until("what was used is charged", || used(alice.name));
    assert!(row.contains("100"), "all that was used is hers: {row}");
    let only = cluster.sh(&bob, &format!("qfair -u {}", alice.name)).ok();
    assert!(
        only.contains(alice.name) && !only.contains(bob.name),
        "{only}"
    );
    let json = rows("qfair --json").to_string();
    assert!(json.contains(alice.name), "{json}");
    cluster.sh(&bob, &format!("qdel {waiting}")).ok();
}
