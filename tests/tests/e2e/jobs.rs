//! A job's life as its user sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

#[test]
fn a_job_runs_as_its_user_and_its_output_lands_beside_the_script() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("plain");
    fs::write(
        folder.join("job.pbs"),
        "#PBS -N hello\nid -un; echo oops >&2; exit 3\n",
    )
    .unwrap();
    let job = cluster.sh_in(&alice, &folder, "qsub job.pbs").ok();
    assert!(
        job.split_once('.')
            .is_some_and(|(seq, _)| seq.parse::<u64>().is_ok()),
        "{job}"
    );
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("3"));
    let seq = job.split('.').next().unwrap();
    let stdout = folder.join(format!("hello.o{seq}"));
    assert_eq!(fs::read_to_string(&stdout).unwrap(), "capstan-alice\n");
    assert_eq!(
        fs::read_to_string(folder.join(format!("hello.e{seq}"))).unwrap(),
        "oops\n"
    );
    assert_eq!(
        fs::metadata(&stdout).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn the_environment_of_a_job_is_torques() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&[
        "--nodes", "1", "--cores", "4", "--cards", "2", "--name", "hn1", "--debug",
    ]);
    let alice = User::alice();
    let folder = alice.folder("environment");
    let script =
        "env; echo ==; cat $PBS_NODEFILE; echo ==; cat $PBS_GPUFILE; echo ==; umask; id -G";
    let job = cluster.submit(
        &alice,
        &folder,
        "-N env -l nodes=1:ppn=2:gpus=2 -v FOO=bar -j oe -o out",
        script,
    );
    cluster.wait_state(&job, "C");
    let text = fs::read_to_string(folder.join("out")).unwrap();
    let parts: Vec<&str> = text.split("==\n").collect();
    let has = |line: &str| {
        assert!(
            parts[0].lines().any(|seen| seen == line),
            "no {line} in {text}"
        )
    };
    for line in [
        "PBS_ENVIRONMENT=PBS_BATCH",
        "PBS_JOBNAME=env",
        "PBS_QUEUE=batch",
        "PBS_NUM_NODES=1",
        "PBS_NUM_PPN=2",
        "PBS_NP=2",
        "PBS_O_LOGNAME=capstan-alice",
        "PBS_O_QUEUE=batch",
        "CUDA_VISIBLE_DEVICES=0,1",
        "FOO=bar",
        "PBS_WALLTIME=604800",
    ] {
        has(line);
    }
    has(&format!("PBS_JOBID={job}"));
    has(&format!("PBS_O_WORKDIR={}", folder.display()));
    assert_eq!(parts[1], "node01\nnode01\n");
    let mut cards: Vec<&str> = parts[2].lines().collect();
    cards.sort_unstable();
    assert_eq!(cards, ["node01-gpu0", "node01-gpu1"]);
    assert!(parts[3].starts_with("0077\n"), "{text}");
}

#[test]
fn output_can_be_read_while_the_job_runs_and_qdel_leaves_no_process() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("qdel");
    // A daemon that double-forks, leaves the session and ignores TERM.
    let script = "echo started; (setsid sh -c 'trap \"\" TERM; echo $$ > daemon.pid; while :; do sleep 1; done' &) ; \
                  trap '' TERM; while :; do sleep 1; done";
    let job = cluster.submit(&alice, &folder, "-d . -o live.out -N live", script);
    let daemon = wait_until("the daemon runs and the output is there", || {
        let text = fs::read_to_string(folder.join("live.out")).unwrap_or_default();
        let pid = fs::read_to_string(folder.join("daemon.pid")).unwrap_or_default();
        match pid.trim().parse::<u32>() {
            Ok(pid) if text == "started\n" => Ok(pid),
            _ => Err(text),
        }
    });
    cluster.sh(&alice, &format!("qdel -W 1 {job}")).ok();
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("271")
    );
    assert!(
        !std::path::Path::new(&format!("/proc/{daemon}")).exists(),
        "the daemon is alive"
    );
}

#[test]
fn walltime_ends_a_job_that_ignores_term() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("walltime");
    let script = "trap '' TERM; while :; do sleep 1; done";
    let job = cluster.submit(&alice, &folder, "-N wt -l walltime=1", script);
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("-11")
    );
    let seq = job.split('.').next().unwrap();
    let stderr = fs::read_to_string(folder.join(format!("wt.e{seq}"))).unwrap();
    assert!(
        stderr.contains("=>> PBS: job killed: walltime "),
        "{stderr}"
    );
    assert!(stderr.contains(" exceeded limit 1"), "{stderr}");
}

#[test]
fn jobs_wait_in_order_and_say_why() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "8", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("order");
    let first = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1", "sleep 600");
    cluster.wait_state(&first, "R");
    let second = cluster.submit(&alice, &folder, "-l nodes=1:gpus=2", "true");
    let third = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1", "true");
    let comment = wait_until("the second says why it waits", || {
        cluster.attribute(&second, "comment").ok_or("no comment")
    });
    assert!(
        comment.contains("wants 2 cards on 1 node; node01 has 1 free"),
        "{comment}"
    );
    cluster.wait_state(&third, "Q");
    let held = cluster.submit(&alice, &folder, "-h", "true");
    cluster.wait_state(&held, "H");
    cluster.sh(&alice, &format!("qdel {first}")).ok();
    cluster.wait_state(&second, "C");
    cluster.wait_state(&third, "C");
    cluster.sh(&alice, &format!("qrls {held}")).ok();
    cluster.wait_state(&held, "C");
}

#[test]
fn a_dependent_job_runs_after_its_parent_and_is_deleted_when_the_parent_fails() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("depend");
    let good = cluster.submit(&alice, &folder, "-h", "true");
    let bad = cluster.submit(&alice, &folder, "-h", "exit 1");
    let after_good = cluster.submit(
        &alice,
        &folder,
        &format!("-W depend=afterok:{good}"),
        "true",
    );
    let after_bad = cluster.submit(&alice, &folder, &format!("-W depend=afterok:{bad}"), "true");
    let any = cluster.submit(
        &alice,
        &folder,
        &format!("-W depend=afterany:{bad}"),
        "true",
    );
    cluster.wait_state(&after_good, "H");
    cluster.sh(&alice, &format!("qrls {good} {bad}")).ok();
    for job in [&good, &bad, &after_good, &after_bad, &any] {
        cluster.wait_state(job, "C");
    }
    let status = |job: &str| cluster.attribute(job, "exit_status");
    assert_eq!(status(&after_good).as_deref(), Some("0"));
    assert_eq!(status(&any).as_deref(), Some("0"));
    assert_eq!(status(&after_bad).as_deref(), Some("271"));
}

#[test]
fn two_clusters_run_side_by_side() {
    if !is_root() {
        return;
    }
    let one = Cluster::up(&["--nodes", "2", "--cores", "1", "--name", "one", "--debug"]);
    let two = Cluster::up(&["--nodes", "1", "--cores", "1", "--name", "two", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("side");
    let first = one.submit(&alice, &folder, "-N first -l nodes=2", "cat $PBS_NODEFILE");
    let second = two.submit(&alice, &folder, "-N second", "true");
    assert!(first.ends_with(".one") && second.ends_with(".two"));
    one.wait_state(&first, "C");
    two.wait_state(&second, "C");
    let seq = first.split('.').next().unwrap();
    let nodes = fs::read_to_string(folder.join(format!("first.o{seq}"))).unwrap();
    assert_eq!(nodes.lines().count(), 2, "{nodes}");
}

#[test]
fn one_user_cannot_touch_anothers_job_or_see_its_variables() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("others");
    // By name only: what stands on the command line itself is shown to everybody as submit_args, as in Torque.
    let line = "echo true | SECRET=hunter2 qsub -h -v SECRET";
    let job = cluster.sh_in(&alice, &folder, line).ok();
    for command in ["qdel", "qhold", "qrls"] {
        let ran = cluster.sh(&bob, &format!("{command} {job}"));
        assert_eq!(ran.status, 159, "{command}: {ran:?}");
    }
    let seen = cluster.sh(&bob, &format!("qstat -f {job}")).ok();
    assert!(!seen.contains("hunter2"), "{seen}");
    let own = cluster.sh(&alice, &format!("qstat -f {job}")).ok();
    assert!(own.replace("\n\t", "").contains("SECRET=hunter2"), "{own}");
}

#[test]
fn the_accounting_log_tells_the_job_in_torques_records() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("accounting");
    let job = cluster.submit(&alice, &folder, "-N acct", "true");
    cluster.wait_state(&job, "C");
    let log = cluster.server_state().join("accounting");
    let text = wait_until("the E record is written", || {
        let mut text = String::new();
        for entry in fs::read_dir(&log).map_err(|error| error.to_string())? {
            text += &fs::read_to_string(entry.map_err(|error| error.to_string())?.path())
                .unwrap_or_default();
        }
        if text.contains(&format!(";E;{job};")) {
            Ok(text)
        } else {
            Err(text)
        }
    });
    let letters: String = text
        .lines()
        .filter(|line| line.contains(&job))
        .map(|line| line.split(';').nth(1).unwrap())
        .collect();
    assert_eq!(letters, "QSE", "{text}");
    assert!(
        text.contains("user=capstan-alice") && text.contains("Exit_status=0"),
        "{text}"
    );
}
