//! Processes killed between any two steps: every accepted job runs exactly once to its end.

use std::fs;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// Each line of the diary once: the job ran exactly once.
fn check_each_ran_once(diary: &Path, jobs: &[String]) {
    let text = fs::read_to_string(diary).unwrap_or_default();
    let mut seen: Vec<&str> = text.lines().collect();
    let mut expected: Vec<&str> = jobs.iter().map(String::as_str).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected, "each accepted job runs exactly once");
}

#[test]
fn a_server_killed_again_and_again_loses_no_job_and_runs_none_twice() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "2", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("server-killed");
    let mut accepted = Vec::new();
    for round in 0..6 {
        // A burst in the background, and the kill somewhere inside it: after `round` accepted submissions.
        let line = "for i in 1 2 3 4 5 6 7 8; do echo 'echo $PBS_JOBID >> diary' | qsub -d . -o /dev/null -e /dev/null >> accepted; done";
        let mut burst = cluster.shell(&alice, &folder, line).spawn().unwrap();
        let before = accepted.len();
        wait_until("the burst has begun", || {
            let text = fs::read_to_string(folder.join("accepted")).unwrap_or_default();
            if text.lines().count() >= before + round.min(4) {
                Ok(())
            } else {
                Err(text)
            }
        });
        cluster.kill("server");
        burst.wait().unwrap();
        cluster.start("server");
        cluster.wait_server();
        let text = fs::read_to_string(folder.join("accepted")).unwrap_or_default();
        accepted = text.lines().map(str::to_owned).collect();
    }
    cluster.wait_nodes();
    cluster.wait_all_completed();
    // A submission whose answer the kill swallowed may run as well: accepted is a subset of what the server lists.
    let listed: Vec<String> = cluster
        .root("qselect 2>/dev/null || qstat | tail -n +3 | cut -d' ' -f1")
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    for job in &accepted {
        assert!(
            listed.contains(job),
            "{job} was accepted and is gone: {listed:?}"
        );
    }
    check_each_ran_once(&folder.join("diary"), &listed);
}

#[test]
fn an_agent_killed_under_its_jobs_adopts_them_with_their_exit_status() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("agent-killed");
    let script = "echo $PBS_JOBID >> diary; until [ -e go ]; do sleep 0.1; done; exit 7";
    let jobs: Vec<String> = (0..3)
        .map(|_| cluster.submit(&alice, &folder, "-d .", script))
        .collect();
    for job in &jobs {
        cluster.wait_state(job, "R");
    }
    wait_until("all have begun", || {
        match fs::read_to_string(folder.join("diary")) {
            Ok(text) if text.lines().count() == 3 => Ok(()),
            other => Err(other),
        }
    });
    cluster.kill("node01");
    // One ends while no agent is there, the others after its return: the same flag frees all, so the agent comes
    // back in the middle of their ends.
    fs::write(folder.join("go"), "").unwrap();
    cluster.start("node01");
    for job in &jobs {
        cluster.wait_state(job, "C");
        assert_eq!(cluster.attribute(job, "exit_status").as_deref(), Some("7"));
    }
    check_each_ran_once(&folder.join("diary"), &jobs);
}

#[test]
fn server_and_agent_killed_together_come_back_to_the_same_jobs_and_containers() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("both-killed");
    let plain = cluster.submit(
        &alice,
        &folder,
        "-d .",
        "echo $PBS_JOBID >> diary; until [ -e go ]; do sleep 0.1; done; exit 4",
    );
    let inner = "echo $PBS_JOBID >> diary; touch inside; until [ -e go ]; do sleep 1; done; exit 6";
    let script = format!("startdocker -c '{inner}' {IMAGE}");
    let container = cluster.submit(&alice, &folder, "-d . -l nodes=1:gpus=1", &script);
    wait_until("both have begun", || {
        match fs::read_to_string(folder.join("diary")) {
            Ok(text) if text.lines().count() == 2 => Ok(()),
            other => Err(other),
        }
    });
    cluster.kill("server");
    cluster.kill("node01");
    cluster.start("node01");
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&plain, "C");
    cluster.wait_state(&container, "C");
    assert_eq!(
        cluster.attribute(&plain, "exit_status").as_deref(),
        Some("4")
    );
    check_each_ran_once(&folder.join("diary"), &[plain, container.clone()]);
    assert_eq!(cluster.containers_of(&container), "");
}

#[test]
fn an_agent_of_another_protocol_version_or_a_second_of_one_name_is_refused() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "1", "--debug"]);
    // A second agent of the same name: the first one's settings with folders of its own.
    let settings =
        find(cluster.path(), "agent.toml").or_else(|| find(cluster.path(), "node01.toml"));
    let text = fs::read_to_string(settings.expect("up wrote the agent's settings")).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    for key in ["state_dir", "run_dir"] {
        let folder = cluster.path().join(format!("second-{key}"));
        fs::create_dir_all(&folder).unwrap();
        table.insert(key.to_owned(), folder.to_str().unwrap().into());
    }
    let file = cluster.path().join("second.toml");
    fs::write(&file, table.to_string()).unwrap();
    let log = fs::File::create(cluster.path().join("second.log")).unwrap();
    let mut second =
        std::process::Command::new(capstan_tests::cluster::binaries().join("capstan-agent"))
            .arg("--settings")
            .arg(&file)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
    wait_until("the second agent is told why it is refused", || {
        let text = fs::read_to_string(cluster.path().join("second.log")).unwrap_or_default();
        if text.contains("node01") && text.contains("another agent") {
            Ok(())
        } else {
            Err(text)
        }
    });
    second.kill().unwrap();
    second.wait().unwrap();
    let alice = User::alice();
    let job = cluster.submit(&alice, &alice.folder("second"), "", "true");
    cluster.wait_state(&job, "C");
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let found = std::process::Command::new("find")
        .arg(folder)
        .args(["-name", name])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().next().map(std::path::PathBuf::from)
}
