//! Tasks of `pbsdsh` while agents and the server are killed and come back: they go on, not a byte of their output is lost or
//! said twice, how they ended is known, and none is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;
use crate::lasting::left_of;

fn two_nodes() -> Cluster {
    Cluster::up(&["--nodes", "2", "--cores", "2", "--debug"])
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The output of a job named `j`, without the footer.
fn output(folder: &Path, job: &str, letter: char) -> String {
    let seq = job.split('.').next().unwrap();
    let text = text_of(&folder.join(format!("j.{letter}{seq}")));
    text.split("---- job ").next().unwrap().to_owned()
}

/// Counts to `LAST` on both streams, says in a file how far it is, waits in the middle of it for leave to go on, and exits
/// with its number.
fn counting(folder: &Path) -> String {
    let path = folder.display();
    format!(
        "i=0; while [ $i -lt {LAST} ]; do i=$((i+1)); echo out $PBS_VNODENUM $i; echo err $PBS_VNODENUM $i >&2; \
         echo $i >{path}/at-$PBS_VNODENUM; \
         while [ $((i % 50)) = 0 ] && ! [ -e {path}/go-$i ]; do sleep 0.05; done; done; exit $((7 + PBS_VNODENUM))"
    )
}

const LAST: usize = 200;

/// Both tasks wait for leave to go on behind line number `at`.
fn wait_at(folder: &Path, at: usize) {
    for task in 0..2 {
        wait_until("the task comes that far", || {
            let text = text_of(&folder.join(format!("at-{task}")));
            match text.trim() == at.to_string() {
                true => Ok(()),
                false => Err(text),
            }
        });
    }
}

fn go_on(folder: &Path, from: usize) {
    fs::write(folder.join(format!("go-{from}")), "").unwrap();
}

#[test]
fn tasks_on_all_nodes_outlive_agents_and_server_without_losing_a_byte() {
    if !is_root() {
        return;
    }
    let mut cluster = two_nodes();
    let alice = User::alice();
    let folder = alice.folder("ranks-go-on");
    let count = folder.join("count.sh");
    fs::write(&count, counting(&folder)).unwrap();
    let script = format!("pbsdsh sh {}; echo it said $?", count.display());
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", &script);
    for (at, away) in [(50, "node02"), (100, "node01"), (150, "server")] {
        wait_at(&folder, at);
        cluster.kill(away);
        // Half of what follows is written while it is away.
        go_on(&folder, at);
        match at {
            150 => {}
            at => wait_at(&folder, at + 50),
        }
        cluster.start(away);
    }
    cluster.wait_server();
    wait_at(&folder, LAST);
    go_on(&folder, LAST);
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = (output(&folder, &job, 'o'), output(&folder, &job, 'e'));
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in stdout.lines().chain(stderr.lines()) {
        if let Some((task, number)) = line.rsplit_once(' ')
            && (task.starts_with("out ") || task.starts_with("err "))
        {
            let number = number.parse().unwrap();
            counts.entry(task.to_owned()).or_default().push(number);
        }
    }
    let all: Vec<usize> = (1..=LAST).collect();
    for task in ["out 0", "out 1", "err 0", "err 1"] {
        assert_eq!(counts.remove(task).as_ref(), Some(&all), "{task}: {stderr}");
    }
    assert!(stdout.ends_with("it said 0\n"), "{stdout}");
    for (task, status) in [(0, 7), (1, 8)] {
        let told = format!("pbsdsh(): task {task} exit status {status}\n");
        assert!(stderr.contains(&told), "{stderr}");
    }
    nothing_left(&cluster, &job);
}

#[test]
fn what_a_task_runs_in_a_container_on_another_node_outlives_that_nodes_agent() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let mut cluster = two_nodes();
    let alice = User::alice();
    let folder = alice.folder("ranks-containers");
    let inner = folder.join("inner.sh");
    fs::write(&inner, counting(&folder)).unwrap();
    alice.own(&inner);
    let script = format!(
        "pbsdsh -n 1 $(command -v startdocker) -s {} {IMAGE}",
        inner.display()
    );
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", &script);
    for at in [50, 100, 150, 200] {
        wait_until("the container comes that far", || {
            let text = text_of(&folder.join("at-1"));
            match text.trim() == at.to_string() {
                true => Ok(()),
                false => Err(text),
            }
        });
        if at < 150 {
            cluster.kill("node02");
        }
        go_on(&folder, at);
        if at < 150 {
            cluster.start("node02");
        }
    }
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = (output(&folder, &job, 'o'), output(&folder, &job, 'e'));
    let numbers = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("out 1 "));
    let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=LAST).collect::<Vec<_>>(), "{stdout} {stderr}");
    assert!(stderr.contains("task 1 exit status 8\n"), "{stderr}");
    assert_eq!(left_of(&cluster, "node02"), "");
    nothing_left(&cluster, &job);
}

#[test]
fn tasks_of_a_job_that_ended_while_their_node_was_away_end_when_it_is_back() {
    if !is_root() {
        return;
    }
    let mut cluster = two_nodes();
    let alice = User::alice();
    let folder = alice.folder("ranks-left");
    let count = folder.join("count.sh");
    fs::write(&count, counting(&folder)).unwrap();
    let script = format!("pbsdsh sh {}", count.display());
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", &script);
    wait_at(&folder, 50);
    cluster.kill("node02");
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
    assert!(!processes_of(&count).is_empty(), "it went with its agent");
    cluster.start("node02");
    wait_until("what it left ends", || {
        let left = processes_of(&count);
        match left.is_empty() {
            true => Ok(()),
            false => Err(left),
        }
    });
    nothing_left(&cluster, &job);
}

#[test]
fn tasks_end_with_the_call_that_wanted_them() {
    if !is_root() {
        return;
    }
    let cluster = two_nodes();
    let alice = User::alice();
    let folder = alice.folder("ranks-end");
    let count = folder.join("count.sh");
    fs::write(&count, counting(&folder)).unwrap();
    let script = format!(
        "cd {}\npbsdsh sh {} &\nuntil test -e at-0 && test -e at-1; do sleep 0.05; done\nkill -9 $!; touch killed\n\
         until test -e done; do sleep 0.05; done",
        folder.display(),
        count.display()
    );
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2", &script);
    wait_until("the call is killed", || {
        match folder.join("killed").exists() {
            true => Ok(()),
            false => Err(()),
        }
    });
    wait_until("its tasks end", || {
        let left = processes_of(&count);
        match left.is_empty() {
            true => Ok(()),
            false => Err(left),
        }
    });
    fs::write(folder.join("done"), "").unwrap();
    cluster.wait_state(&job, "C");
    nothing_left(&cluster, &job);
}

/// Shells that run this script.
fn processes_of(script: &Path) -> Vec<String> {
    let name = script.display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let line = line.replace('\0', " ");
        (line.starts_with("sh ") && line.contains(&name)).then_some(line)
    });
    lines.collect()
}

/// No note, socket or group of the job's attempts is there.
fn nothing_left(cluster: &Cluster, job: &str) {
    wait_until("nothing of it is left", || {
        let mut left = Vec::new();
        for node in ["node01", "node02"] {
            let state = cluster.path().join(format!("nodes/{node}/state"));
            let found = fs::read_dir(state.join("attempts")).into_iter().flatten();
            let names = found.flatten().map(|entry| entry.file_name());
            left.extend(names.filter_map(|name| {
                let name = name.to_string_lossy().into_owned();
                let is_ours = name.ends_with(".guest") || name.ends_with(".program");
                is_ours.then(|| format!("{node}: {name}"))
            }));
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{job}: {left:?}")),
        }
    });
}
