//! What surrounds a job from its start to its end: limits and how their breach is told, the warning before the walltime is
//! over, prologues and epilogues, the node's health script, scratch space, files that are copied back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// A cluster of one node whose agent has these settings on top of the usual ones.
fn cluster_with(arguments: &[&str], settings: &str) -> Cluster {
    cluster_of(1, arguments, settings)
}

/// A cluster whose agents have these settings on top of the usual ones.
pub(crate) fn cluster_of(nodes: usize, arguments: &[&str], settings: &str) -> Cluster {
    let count = nodes.to_string();
    let arguments: Vec<&str> = ["--nodes", &count, "--debug"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let mut cluster = Cluster::up(&arguments);
    let settings = settings.replace("DIR", &cluster.path().to_string_lossy());
    for number in 1..=nodes {
        let node = format!("node{number:02}");
        cluster.kill(&node);
        let path = cluster.path().join(format!("nodes/{node}/agent.toml"));
        let before = fs::read_to_string(&path).unwrap();
        // Above the tables.
        fs::write(&path, format!("{settings}\n{before}")).unwrap();
        cluster.start(&node);
        let door = cluster.path().join(format!("nodes/{node}/run/agent.sock"));
        wait_until("the node is free", || {
            let listing = cluster.root(&format!("pbsnodes {node}")).stdout;
            match listing.contains("state = ") && !listing.contains("state = down,offline") {
                true if door.exists() => Ok(()),
                _ => Err(listing),
            }
        });
    }
    cluster
}

/// A script of root's in the site's folder of hooks.
pub(crate) fn hook(cluster: &Cluster, name: &str, mode: u32, text: &str) -> PathBuf {
    let folder = cluster.path().join("hooks");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// What the job wrote; without the footer that the node adds.
fn outputs(folder: &Path, job: &str) -> (String, String) {
    let seq = job.split('.').next().unwrap();
    let read = |letter| {
        let text = fs::read_to_string(folder.join(format!("j.{letter}{seq}"))).unwrap_or_default();
        let own = text.split("---- job ").next();
        own.unwrap_or_default().to_owned()
    };
    (read('o'), read('e'))
}

const HOOKS: &str = "hooks_dir = 'DIR/hooks'";

#[test]
fn a_job_that_runs_out_of_memory_is_told_so_and_which_process_the_kernel_killed() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-oom");
    let script = "head -c 300m /dev/zero | tail -c 300m >/dev/null; exit ${PIPESTATUS[1]}";
    let job = cluster.submit(&alice, &folder, "-N j -l mem=40mb", script);
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("-10")
    );
    let (_, stderr) = outputs(&folder, &job);
    assert!(stderr.contains("=>> PBS: job killed: mem "), "{stderr}");
    let cause = cluster.attribute(&job, "exit_cause").unwrap_or_default();
    assert!(
        cause.contains("out of memory: the kernel killed process "),
        "{cause}"
    );
    assert!(
        cause.contains("(tail)") && cause.contains("limit of 40960kb"),
        "{cause}"
    );
    assert!(stderr.contains(&format!("=>> PBS: {cause}")), "{stderr}");
}

#[test]
fn a_job_uses_no_more_cores_than_its_slots_are() {
    if !is_root() {
        return;
    }
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-cores");
    // A job is in the group of its devices at once, and enters that of its cores when it has lived a moment.
    let script = "until grep -q -e ':cpu:/capstan' -e '^0::/capstan' /proc/self/cgroup; do sleep 0.05; done; cat /proc/self/cgroup; sleep 600";
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=1:ppn=1", script);
    let group = wait_until("the job is in its group", || {
        let (stdout, _) = outputs(&folder, &job);
        let line = stdout
            .lines()
            .find(|line| line.contains(":cpu:") || line.starts_with("0::/capstan"));
        line.and_then(|line| line.rsplit(':').next().map(str::to_owned))
            .ok_or(stdout)
    });
    let first = fs::read_to_string(format!("/sys/fs/cgroup/cpu{group}/cpu.cfs_quota_us"));
    let group = group.trim_end_matches("/job");
    let quota = first.or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup{group}/cpu.max")));
    let quota = quota.unwrap();
    let quota: i64 = quota.split_whitespace().next().unwrap().parse().unwrap();
    // A slot of a node with two of them is half of the host, and at least one core.
    let of_slot = (cpus / 2).max(1);
    let expected = if of_slot >= cpus {
        -1
    } else {
        of_slot as i64 * 100_000
    };
    assert_eq!(quota, expected);
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
}

#[test]
fn where_slots_are_cores_a_job_runs_on_its_own_core_only() {
    if !is_root() || std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-cpuset");
    let script = "for try in $(seq 100); do grep Cpus_allowed_list /proc/self/status | grep -qv '[-,]' && break; sleep 0.05; done; \
                  grep Cpus_allowed_list /proc/self/status";
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=1:ppn=1", script);
    cluster.wait_state(&job, "C");
    let (stdout, _) = outputs(&folder, &job);
    let list = stdout.split_whitespace().nth(1).unwrap_or_default();
    assert!(list.parse::<u32>().is_ok(), "one core: {stdout}");
}

#[test]
fn a_file_beyond_its_limit_is_told_by_the_limit() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-file");
    let job = cluster.submit(
        &alice,
        &folder,
        "-N j -d . -l file=1mb",
        "head -c 3m /dev/zero >big; exit $?",
    );
    cluster.wait_state(&job, "C");
    let cause = cluster.attribute(&job, "exit_cause").unwrap_or_default();
    assert!(cause.contains("limit of file=1024kb"), "{cause}");
    assert_eq!(fs::metadata(folder.join("big")).unwrap().len(), 1 << 20);
}

#[test]
fn a_warning_reaches_who_catches_it_and_ends_nobody_else() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-warning");
    let script = "trap 'echo warned; kill -0 $child && echo child lives; exit 7' USR1\n\
                  sleep 100 & child=$!\nwhile :; do sleep 0.1; done";
    let arguments = "-N j -l walltime=4 -W signal=USR1@600";
    let job = cluster.submit(&alice, &folder, arguments, script);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("7"));
    let (stdout, stderr) = outputs(&folder, &job);
    assert_eq!(stdout, "warned\nchild lives\n");
    assert!(
        stderr.contains("=>> PBS: warning: walltime 4 ends in "),
        "{stderr}"
    );
    assert!(stderr.contains("SIGUSR1 sent to 1 process"), "{stderr}");
    assert_eq!(
        cluster.attribute(&job, "signal").as_deref(),
        Some("USR1@600")
    );
    let refused = cluster.sh_in(&alice, &folder, "echo true | qsub -W signal=KILL@5");
    assert!(
        refused.status != 0 && refused.stderr.contains("signal"),
        "{refused:?}"
    );
}

#[test]
fn a_queue_warns_the_jobs_that_name_no_warning_of_their_own() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    cluster
        .root("qmgr -c 'set queue batch warning_signal = USR2@600'")
        .ok();
    let refused = cluster.root("qmgr -c 'set queue batch warning_signal = STOP@600'");
    assert!(refused.status != 0, "{refused:?}");
    let alice = User::alice();
    let folder = alice.folder("life-queue");
    let script = "trap 'exit 8' USR2; while :; do sleep 0.1; done";
    let job = cluster.submit(&alice, &folder, "-N j -l walltime=4", script);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("8"));
}

#[test]
fn a_warning_reaches_the_main_process_of_a_container() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-inner");
    let inner = "trap \"echo inner warned; exit 5\" USR1; echo ready; while :; do sleep 0.1; done";
    let script = format!("startdocker -c '{inner}' {IMAGE}");
    let job = cluster.submit(
        &alice,
        &folder,
        "-N j -l walltime=20 -W signal=USR1@600",
        &script,
    );
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = outputs(&folder, &job);
    assert!(
        stdout.contains("ready\ninner warned\n"),
        "{stdout} {stderr}"
    );
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("5"));
}

#[test]
fn prologues_and_epilogues_run_as_torque_runs_them() {
    if !is_root() {
        return;
    }
    let cluster = cluster_with(&["--cores", "2"], HOOKS);
    let say = "echo $(basename $0) $# $(id -un) $2 $4 $PBS_NUM_PPN";
    hook(
        &cluster,
        "prologue",
        0o500,
        &format!("{say}; echo 5:$5; echo 6:$6 7:$7"),
    );
    hook(&cluster, "prologue.user", 0o505, say);
    hook(&cluster, "epilogue.user", 0o505, say);
    hook(
        &cluster,
        "epilogue",
        0o500,
        &format!("{say}; echo $8 ${{10}}; echo $7"),
    );
    let alice = User::alice();
    let folder = alice.folder("life-hooks");
    let arguments = "-N j -A acct7 -l nodes=1:ppn=2,walltime=60";
    let job = cluster.submit(&alice, &folder, arguments, "echo body; exit 3");
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("3"));
    let (stdout, stderr) = outputs(&folder, &job);
    let lines: Vec<&str> = stdout.lines().collect();
    let user = alice.name;
    assert_eq!(
        lines[0],
        format!("prologue 8 root {user} j 2"),
        "{stdout} {stderr}"
    );
    assert!(
        lines[1].starts_with("5:") && lines[1].ends_with("neednodes=1:ppn=2"),
        "{stdout}"
    );
    assert!(lines[1].contains("walltime=00:01:00"), "{stdout}");
    assert_eq!(lines[2], "6:batch 7:acct7");
    assert_eq!(lines[3], format!("prologue.user 8 {user} {user} j 2"));
    assert_eq!(lines[4], "body");
    assert_eq!(lines[5], format!("epilogue.user 11 {user} {user} j 2"));
    assert_eq!(lines[6], format!("epilogue 11 root {user} j 2"));
    assert_eq!(lines[7], "batch 3");
    assert!(lines[8].starts_with("cput=00:00:00,vmem="), "{stdout}");
}

#[test]
fn a_job_chooses_its_kind_of_prologue_and_brings_its_own() {
    if !is_root() {
        return;
    }
    let cluster = cluster_with(&["--cores", "2"], HOOKS);
    hook(&cluster, "prologue", 0o500, "echo general");
    hook(&cluster, "prologue.mpi", 0o500, "echo for mpi");
    hook(&cluster, "prologue.user", 0o505, "echo for $(id -un)");
    let alice = User::alice();
    let folder = alice.folder("life-kind");
    let own = folder.join("own.sh");
    fs::write(&own, "#!/bin/sh\necho own $(id -un)\n").unwrap();
    alice.own(&own);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    let run = |arguments: &str| {
        let job = cluster.submit(&alice, &folder, &format!("-N j {arguments}"), "echo body");
        cluster.wait_state(&job, "C");
        outputs(&folder, &job).0
    };
    let user = alice.name;
    assert_eq!(run("-T mpi"), format!("for mpi\nfor {user}\nbody\n"));
    assert_eq!(run("-T other"), format!("general\nfor {user}\nbody\n"));
    // The name of another kind of script is none of a job: that one is meant to run as the user.
    assert_eq!(run("-T user"), format!("general\nfor {user}\nbody\n"));
    let said = run("-l prologue=own.sh");
    assert_eq!(said, format!("general\nfor {user}\nown {user}\nbody\n"));
}

#[test]
fn a_prologue_that_exits_1_ends_the_job_and_one_that_exits_otherwise_puts_it_back() {
    if !is_root() {
        return;
    }
    let cluster = cluster_with(&["--cores", "2"], HOOKS);
    hook(&cluster, "prologue", 0o500, "exit 1");
    hook(&cluster, "epilogue", 0o500, "echo epilogue ${10}");
    let alice = User::alice();
    let folder = alice.folder("life-exits");
    let job = cluster.submit(&alice, &folder, "-N j", "echo body");
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("-2")
    );
    assert_eq!(outputs(&folder, &job).0, "epilogue -2\n");
    let cause = cluster.attribute(&job, "exit_cause").unwrap_or_default();
    assert!(cause.contains("prologue ended with 1"), "{cause}");

    hook(&cluster, "prologue", 0o500, "exit 3");
    let job = cluster.submit(&alice, &folder, "-N j", "echo body");
    let comment = wait_until("the job is back in its queue", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        if comment.contains("prologue ended with 3 on node01") {
            Ok(comment)
        } else {
            Err(comment)
        }
    });
    assert!(comment.contains("prologue failed"), "{comment}");
    hook(&cluster, "prologue", 0o500, "exit 0");
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
}

#[test]
fn a_prologue_that_somebody_else_could_have_written_is_not_run() {
    if !is_root() {
        return;
    }
    let cluster = cluster_with(&["--cores", "2"], HOOKS);
    let ran = cluster.path().join("ran");
    let path = hook(
        &cluster,
        "prologue",
        0o757,
        &format!("touch {}", ran.display()),
    );
    let alice = User::alice();
    let folder = alice.folder("life-unsafe");
    let job = cluster.submit(&alice, &folder, "-N j", "echo body");
    wait_until("the job is back in its queue", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        if comment.contains("lets others write to it") {
            Ok(())
        } else {
            Err(comment)
        }
    });
    assert!(!ran.exists());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    cluster.wait_state(&job, "C");
    assert!(ran.exists());
}

#[test]
fn a_prologue_that_hangs_is_ended_after_its_time_and_nothing_of_it_is_left() {
    if !is_root() {
        return;
    }
    let settings = format!("{HOOKS}\nprologue_timeout_secs = 1");
    let cluster = cluster_with(&["--cores", "2"], &settings);
    let pid = cluster.path().join("pid");
    let text = format!("sleep 300 & echo $! >{}; wait", pid.display());
    hook(&cluster, "prologue", 0o500, &text);
    let alice = User::alice();
    let folder = alice.folder("life-hangs");
    let job = cluster.submit(&alice, &folder, "-N j", "echo body");
    wait_until("the prologue's time is over", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        if comment.contains("took longer than 1 s") {
            Ok(())
        } else {
            Err(comment)
        }
    });
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid}");
    cluster.sh(&alice, &format!("qdel {job}")).ok();
}

#[test]
fn nothing_starts_on_a_node_whose_health_script_complains() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let said = cluster.path().join("said");
    fs::write(&said, "").unwrap();
    let script = hook(&cluster, "check", 0o500, &format!("cat {}", said.display()));
    cluster.kill("node01");
    let path = cluster.path().join("nodes/node01/agent.toml");
    let before = fs::read_to_string(&path).unwrap();
    let script = script.display();
    let settings =
        format!("node_check_script = '{script}'\nnode_check_interval_secs = 1\n{before}");
    fs::write(&path, settings).unwrap();
    cluster.start("node01");
    fs::write(&said, "ERROR disk sda is read-only\n").unwrap();
    wait_until("the node is down and says why", || {
        let listing = cluster.root("pbsnodes node01").stdout;
        let is_told = listing.contains("message=ERROR disk sda is read-only");
        if listing.contains("state = down") && is_told {
            Ok(())
        } else {
            Err(listing)
        }
    });
    let alice = User::alice();
    let folder = alice.folder("life-health");
    let job = cluster.submit(&alice, &folder, "-N j", "true");
    wait_until("the job says why it waits", || {
        let comment = cluster.attribute(&job, "comment").ok_or(());
        comment.map(drop)
    });
    cluster.wait_state(&job, "Q");
    fs::write(&said, "all is well\nERROR is no first word\n").unwrap();
    cluster.wait_state(&job, "C");
}

fn shows(cluster: &Cluster, words: &str) {
    wait_until("the node is shown so", || {
        let listing = cluster.root("pbsnodes node01").stdout;
        match listing.contains(words) {
            true => Ok(()),
            false => Err(listing),
        }
    });
}

#[test]
fn a_job_is_put_back_by_the_look_before_it_and_the_look_behind_it_takes_the_node_out() {
    if !is_root() {
        return;
    }
    // Only the looks around jobs happen while this test runs.
    let settings = "node_check_script = 'DIR/hooks/check'\nnode_check_interval_secs = 86400\n\
                    node_check_on_job_start = true\nnode_check_on_job_end = true";
    let mut cluster = cluster_with(&["--cores", "2"], settings);
    let alice = User::alice();
    let folder = alice.folder("life-around");
    // There was no script when the agent looked first.
    shows(&cluster, "message=ERROR the health script");
    hook(&cluster, "check", 0o500, "true");
    cluster.kill("node01");
    cluster.start("node01");
    shows(&cluster, "state = free");
    hook(&cluster, "check", 0o500, "echo ERROR fan 3 stands still");
    let job = cluster.submit(&alice, &folder, "-N j", "echo body");
    wait_until("the job is back in its queue", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        match comment.contains("ERROR fan 3 stands still on node01") {
            true => Ok(()),
            false => Err(comment),
        }
    });
    shows(&cluster, "state = down");
    // What was found stays in the node's note until somebody takes it away.
    shows(&cluster, " - ERROR fan 3 stands still\n");
    assert!(
        !folder
            .join(format!("j.o{}", job.split('.').next().unwrap()))
            .exists()
    );
    cluster.sh(&alice, &format!("qdel {job}")).ok();

    let flag = folder.join("broken");
    let text = format!("test -e {} && echo ERROR no disk", flag.display());
    hook(&cluster, "check", 0o500, &text);
    cluster.kill("node01");
    cluster.start("node01");
    shows(&cluster, "state = free");
    let script = format!("touch {}", flag.display());
    let job = cluster.submit(&alice, &folder, "-N j", &script);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
    shows(&cluster, "state = down");
    shows(&cluster, "ERROR no disk");
}

#[test]
fn scratch_files_go_with_the_job_and_stay_a_while_after_a_failure() {
    if !is_root() {
        return;
    }
    let cluster = cluster_with(&["--cores", "2"], "scratch_dir = 'DIR/scratch'");
    let alice = User::alice();
    let folder = alice.folder("life-scratch");
    let run = |end: &str| {
        let script = format!(
            "echo $PBS_SCRATCH; stat -c '%U %a' $PBS_SCRATCH; date >$PBS_SCRATCH/file; {end}"
        );
        let job = cluster.submit(&alice, &folder, "-N j", &script);
        cluster.wait_state(&job, "C");
        let (stdout, stderr) = outputs(&folder, &job);
        let mut lines = stdout.lines();
        let path = PathBuf::from(lines.next().unwrap_or_default());
        assert_eq!(
            lines.next(),
            Some(format!("{} 700", alice.name).as_str()),
            "{stdout}{stderr}"
        );
        assert!(path.starts_with(cluster.path().join("scratch")), "{stdout}");
        path
    };
    assert!(!run("exit 0").exists());
    let kept = run("exit 1");
    assert_eq!(fs::metadata(kept.join("file")).unwrap().uid(), alice.uid);
    // Nobody else can put a folder there.
    let root = fs::metadata(cluster.path().join("scratch")).unwrap();
    assert_eq!((root.uid(), root.mode() & 0o022), (0, 0));
}

#[test]
fn a_job_that_holds_more_in_its_scratch_folder_than_it_asked_for_is_ended_and_told() {
    if !is_root() {
        return;
    }
    let settings = "scratch_dir = 'DIR/scratch'\nscratch_limit = '1mb'";
    let cluster = cluster_with(&["--cores", "2"], settings);
    let alice = User::alice();
    let folder = alice.folder("life-limit");
    let script = "echo $PBS_SCRATCH; head -c 4m /dev/zero >$PBS_SCRATCH/file; sleep $1";
    let small = cluster.submit(&alice, &folder, "-N j -F 300", script);
    let asks = "-N j -F 1 -l scratch=64mb";
    let asking = cluster.submit(&alice, &folder, asks, script);
    cluster.wait_state(&small, "C");
    let (stdout, stderr) = outputs(&folder, &small);
    let cause = cluster.attribute(&small, "exit_cause").unwrap_or_default();
    assert!(
        cause.starts_with("scratch 4") && cause.ends_with("kb exceeded limit 1024kb"),
        "{cause} {stderr}"
    );
    let status = cluster.attribute(&small, "exit_status");
    assert_eq!(status.as_deref(), Some("153"));
    let told = format!("=>> PBS: job killed: {cause}");
    assert!(stderr.contains(&told), "{stderr}");
    // What it made is kept for a while, as after any failure.
    assert!(Path::new(stdout.trim()).join("file").exists(), "{stdout}");
    cluster.wait_state(&asking, "C");
    let status = cluster.attribute(&asking, "exit_status");
    assert_eq!(status.as_deref(), Some("0"));
}

/// Torque's statuses, and its words in the job's stderr.
#[test]
fn limits_of_time_and_memory_end_a_job_as_in_torque() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-limits");
    let check = |limit: &str, script: &str, status: &str, words: &str| {
        let job = cluster.submit(&alice, &folder, &format!("-N j -l {limit}"), script);
        cluster.wait_state(&job, "C");
        let (stdout, stderr) = outputs(&folder, &job);
        let ended = cluster.attribute(&job, "exit_status");
        assert_eq!(ended.as_deref(), Some(status), "{limit}: {stdout} {stderr}");
        assert!(stderr.contains(words), "{limit}: {stdout} {stderr}");
    };
    let spin = "while :; do :; done";
    check("cput=1", spin, "-12", "=>> PBS: job killed: cput ");
    let words = "=>> PBS: job killed: walltime 1 exceeded limit 1";
    check("walltime=1", "sleep 60", "-11", words);
    // Several processes, each well within it.
    let many = "for i in 1 2 3 4; do perl -e '$x = \"x\" x 150_000_000; sleep 60' & done; wait";
    check("vmem=400mb", many, "-10", "=>> PBS: job killed: vmem ");
    // A process that may not have it is told by the kernel, and says so in its own words.
    let one =
        "perl -e '$x = \"x\" x 300_000_000; print length $x' || { echo refused $? >&2; exit 3; }";
    check("pvmem=100mb", one, "3", "refused ");
    check("pmem=100mb", one, "3", "refused ");
    // It counts each process on its own.
    let each = "for i in 1 2 3; do perl -e '$x = \"x\" x 30_000_000; sleep 1' || exit 3; done & wait $!; exit $?";
    check("pmem=100mb", &format!("{each}; "), "0", "");
}

#[test]
fn files_are_copied_back_after_the_walltime_and_after_a_failure() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("life-stageout");
    for (name, arguments, end) in [
        ("late", "-l walltime=2", "while :; do sleep 0.1; done"),
        ("failed", "-l walltime=60", "exit 9"),
    ] {
        let made = folder.join(format!("{name}.made"));
        let back = folder.join(format!("{name}.back"));
        let stage = format!("stageout={}@localhost:{}", made.display(), back.display());
        let script = format!("echo {name} >{}; {end}", made.display());
        let job = cluster.submit(
            &alice,
            &folder,
            &format!("-N j {arguments} -W {stage}"),
            &script,
        );
        cluster.wait_state(&job, "C");
        assert_eq!(
            fs::read_to_string(&back).unwrap_or_default(),
            format!("{name}\n")
        );
    }
}
