//! What a user is told before a job is submitted, and what an administrator is told of a decision afterwards.

use std::fs;

use capstan_tests::{Cluster, User, cluster::binaries, wait_until};

use crate::is_root;

/// The next job number, which no examination may use.
fn submitted_number(job: &str) -> u64 {
    job.split('.').next().unwrap().parse().unwrap()
}

#[test]
fn a_job_explained_as_startable_starts_and_a_dry_run_leaves_no_trace() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "4", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("foresight");
    let script = "#!/bin/sh\n#PBS -N seen\n#PBS -l nodes=1:ppn=2:gpus=2,walltime=1:00\nsleep 600\n";
    fs::write(folder.join("job.pbs"), script).unwrap();
    let before = cluster.submit(&alice, &folder, "-h", "true");
    let explained = cluster
        .sh_in(&alice, &folder, "qsub --explain job.pbs")
        .ok();
    assert!(
        explained.starts_with("It would start now on node0"),
        "{explained}"
    );
    assert!(explained.contains(" with 2 cards."), "{explained}");
    let shown = cluster
        .sh_in(&alice, &folder, "qsub --dry-run job.pbs")
        .ok();
    for part in [
        "    Job_Name = seen\n",
        "    Resource_List.walltime = 00:01:00\n",
        "    Resource_List.nodes = 1:ppn=2:gpus=2\n",
        "    queue = batch\n",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let listed = cluster.root("qstat").ok();
    assert!(!listed.contains("seen"), "{listed}");
    let job = cluster.sh_in(&alice, &folder, "qsub job.pbs").ok();
    assert_eq!(submitted_number(&job), submitted_number(&before) + 1);
    cluster.wait_state(&job, "R");
    let host = cluster.attribute(&job, "exec_host").unwrap();
    let node = explained.split(' ').nth(5).unwrap();
    assert!(host.starts_with(&format!("{node}/")), "{host}: {explained}");

    // A second one fits the other node, a third would wait.
    let second = cluster.sh_in(&alice, &folder, "qsub job.pbs").ok();
    cluster.wait_state(&second, "R");
    let waits = cluster
        .sh_in(&alice, &folder, "qsub --explain job.pbs")
        .ok();
    assert!(waits.starts_with("It would wait: "), "{waits}");
    assert!(waits.contains("It would be number 1 in line."), "{waits}");
    let never = cluster.sh_in(&alice, &folder, "qsub --explain -l nodes=9:gpus=2 job.pbs");
    let plain = cluster.sh_in(&alice, &folder, "qsub -l nodes=9:gpus=2 job.pbs");
    assert_eq!(never.status, plain.status, "{never:?} {plain:?}");
    assert!(never.stdout.contains("command line: error: "), "{never:?}");
    cluster
        .sh(&alice, &format!("qdel {job} {second} {before}"))
        .ok();
    cluster.wait_all_completed();
}

#[test]
fn a_waiting_job_says_who_has_its_cards_and_starts_when_it_is_changed_as_told() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("why");
    let holder = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1:gpus=1,walltime=1:00:00",
        "sleep 600",
    );
    cluster.wait_state(&holder, "R");
    let waiting = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1:gpus=2,walltime=0:10:00",
        "sleep 600",
    );
    let told = wait_until("the plan has told of the job", || {
        let told = cluster
            .sh_in(&alice, &folder, &format!("qwhy {waiting}"))
            .ok();
        match told.contains("It would start now with gpus=1:") {
            true => Ok(told),
            false => Err(told),
        }
    });
    let number = submitted_number(&waiting);
    for part in [
        "It needs 2 cards on a node.".to_owned(),
        format!("{holder} of {} holds 1 card of node01 until ", alice.name),
        "Place: first of 1 in line.".to_owned(),
        "at the latest: nodes are reserved for it.".to_owned(),
        format!("    qalter -l nodes=1:ppn=1:gpus=1 {number}"),
    ] {
        assert!(told.contains(&part), "{part}\n{told}");
    }
    let full = cluster
        .sh_in(&alice, &folder, &format!("qstat -f {waiting}"))
        .ok();
    assert!(full.contains("    estimated_start = "), "{full}");
    let own = cluster.sh_in(&alice, &folder, "qwhy").ok();
    assert!(own.starts_with(&format!("{waiting} Q ")), "{own}");
    let change = format!("qalter -l nodes=1:ppn=1:gpus=1 {number}");
    cluster.sh_in(&alice, &folder, &change).ok();
    cluster.wait_state(&waiting, "R");
    let told = cluster
        .sh_in(&alice, &folder, &format!("qwhy --json {waiting}"))
        .ok();
    assert!(told.contains("\"waited\":"), "{told}");
    cluster.sh(&alice, &format!("qdel {holder} {waiting}")).ok();
    cluster.wait_all_completed();
}

#[test]
fn the_past_is_shown_as_it_was_while_the_server_runs() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("past");
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(cluster.submit(&alice, &folder, "-l nodes=1:gpus=2", "true"));
    }
    cluster.wait_all_completed();
    let store = cluster.server_state().join("store");
    let replay = |arguments: &str| {
        let capstan = binaries().join("capstan");
        let line = format!(
            "{} replay --store {} {arguments}",
            capstan.display(),
            store.display()
        );
        cluster.root(&line)
    };
    let checked = replay("--check").ok();
    assert_eq!(checked, "4 cycles as stored, 0 not");
    for job in &jobs {
        let number = submitted_number(job);
        let cycle = replay(&format!("--job {number}")).ok();
        assert!(cycle.contains("as stored in record"), "{cycle}");
        assert!(
            cycle.contains(&format!("  {job}  node01 slots ")),
            "{cycle}"
        );
        assert_eq!(replay(&format!("--job {number}")).ok(), cycle);
    }
    let other = cluster.sh(
        &alice,
        &format!("capstan replay --list --store {}", store.display()),
    );
    assert_eq!(other.status, 1, "the store is the server's: {other:?}");
    // The server has not noticed anything.
    let last = cluster.submit(&alice, &folder, "", "true");
    cluster.wait_state(&last, "C");
}
