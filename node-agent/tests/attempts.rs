//! What attempts do on a real node: a real agent and real shims, ordered by a server of the test's own.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stderr,
    reason = "a test fails by panicking, waits for one of many messages, and says aloud what it skips"
)]

mod harness;
mod questions;
mod surroundings;
mod tasks;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use capstan_proto::wire::{
    Card, attempt_ended::Outcome, known_attempt, output_files::Join, server_message,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Status;

use harness::{Node, is_skipped_without_root, processes_with, wait_until, wait_until_gone};

/// A script that ignores TERM and leaves daemons of their own sessions, each carrying `MARK`.
const STUBBORN: &str = "trap '' TERM
for n in 1 2 3; do
  (setsid bash -c 'trap \"\" TERM HUP; while :; do sleep 1; done' MARK &)
done
echo ready > WORK/ready
while :; do sleep 1; done # MARK
";

fn stubborn(node: &Node) -> String {
    let work = node.work("").to_string_lossy().into_owned();
    let work = work.trim_end_matches('/');
    STUBBORN.replace("WORK", work).replace("MARK", &mark(node))
}

/// Text that only processes of this test's jobs carry.
fn mark(node: &Node) -> String {
    format!(
        "mark-{}",
        node.folder.path().file_name().unwrap().to_string_lossy()
    )
}

#[tokio::test]
async fn exit_statuses_are_those_that_a_shell_gives() {
    let mut node = Node::start("").await;
    let scripts = [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("exit 256", 0),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
        ("nosuchcommand", 127),
        ("sh -c 'kill -9 $$'; true", 0),
        ("#!/bin/sh\nexit 4", 4),
        ("#!/nonexistent/interpreter\n", 126),
        ("", 0),
    ];
    for (number, (script, expected)) in (1..).zip(scripts) {
        let spec = node.spec(number, script);
        let outcome = node.outcome(spec).await;
        let Outcome::ExitStatus(status) = outcome else {
            panic!("{script}: {outcome:?}");
        };
        // Shells differ on a missing interpreter: not found or not executable.
        let is_expected = status == expected || (expected == 126 && status == 127);
        assert!(is_expected, "{script}: {status}");
    }
}

/// The script sees the user's rights, folder and variables, as Torque gives them.
#[tokio::test]
async fn a_job_runs_as_its_user_with_torques_surroundings() {
    let commands = tempfile::tempdir().unwrap();
    fs::set_permissions(commands.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!("commands_dir = '{}'", commands.path().display());
    let mut node = Node::start(&settings).await;
    let script = "id -u; id -G; pwd; umask; echo \"$0\"; cat $PBS_NODEFILE; cat $PBS_GPUFILE\n\
                  echo $CUDA_VISIBLE_DEVICES; echo $1-$2; echo $PATH; readlink /proc/self/fd/0\n\
                  cat; readlink ${PBS_NODEFILE%/*/*}/agent.sock; ps -o sid= $$\n";
    let mut spec = node.spec(5, script);
    spec.script_arguments = "a 'b c'".into();
    spec.gpu_file = vec!["node01-gpu1".into(), "node01-gpu0".into()];
    spec.cards = [1, 0]
        .map(|index| Card {
            index,
            uuid: format!("GPU-{index}"),
            ..Card::default()
        })
        .to_vec();
    node.run(spec).await;
    let started = node.started(5).await;
    let ended = node.ended(5).await;
    assert_eq!(
        ended.outcome,
        Some(Outcome::ExitStatus(0)),
        "{}",
        node.read("err")
    );
    // There is no driver in this test: cards that do not answer are not clean.
    assert_eq!(ended.unclean_cards, ["GPU-0", "GPU-1"]);
    let out = node.read("out");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], node.user.uid.to_string());
    assert!(
        lines[1]
            .split(' ')
            .any(|gid| gid == node.user.gid.to_string())
    );
    assert_eq!(lines[2], node.user.dir.to_string_lossy());
    assert_eq!(lines[3], "0077");
    assert!(lines[4].ends_with("/spool/5.srv15003.SC"), "{}", lines[4]);
    assert_eq!(
        &lines[5..10],
        ["node01", "node01-gpu1", "node01-gpu0", "1,0", "a-b c"]
    );
    assert!(
        lines[10].starts_with(commands.path().to_str().unwrap()),
        "{}",
        lines[10]
    );
    assert!(lines[11].starts_with("pipe:"), "{}", lines[11]);
    assert!(lines[12].ends_with("/run/agent.sock"));
    assert_eq!(lines[13].trim(), started.session.to_string());
    let file = fs::metadata(node.work("out")).unwrap();
    assert_eq!(
        (file.uid(), file.mode() & 0o777),
        (node.user.uid.as_raw(), 0o600)
    );
    let spool = node.state_folder().join("spool");
    assert_eq!(
        fs::read_dir(spool).unwrap().count(),
        0,
        "the script is removed"
    );
}

#[tokio::test]
async fn output_is_there_while_the_job_runs() {
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "echo one\nuntil [ -e {} ]; do sleep 0.05; done\necho two",
        go.display()
    );
    node.run(node.spec(1, &script)).await;
    assert_eq!(node.made("out").await, "one\n");
    fs::write(go, "").unwrap();
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(0)));
    assert_eq!(node.read("out"), "one\ntwo\n");
}

#[tokio::test]
async fn joined_output_is_one_file_in_order() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, "echo o; echo e >&2; echo o");
    spec.output.as_mut().unwrap().set_join(Join::IntoStdout);
    assert_eq!(node.outcome(spec).await, Outcome::ExitStatus(0));
    assert_eq!(node.read("out"), "o\ne\no\n");
    assert!(!node.work("err").exists());
}

/// Over its walltime: TERM is ignored, so KILL comes after the delay, for daemons of other sessions as well.
#[tokio::test]
async fn walltime_ends_all_processes() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, &stubborn(&node));
    spec.walltime_secs = Some(1);
    node.run(spec).await;
    node.made("ready").await;
    assert!(processes_with(&mark(&node)).len() >= 3);
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(-11)));
    assert!(processes_with(&mark(&node)).is_empty());
    let err = node.read("err");
    assert!(
        err.ends_with("=>> PBS: job killed: walltime 1 exceeded limit 1\n"),
        "{err}"
    );
    assert!(ended.usage.unwrap().walltime_secs >= 2);
}

#[tokio::test]
async fn a_stopped_job_may_catch_the_signal_but_has_torques_status() {
    let mut node = Node::start("").await;
    let script = "trap 'echo got TERM; exit 7' TERM; echo begin; sleep 300 & wait";
    node.run(node.spec(1, script)).await;
    node.made("out").await;
    node.stop(1, 20).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(271)));
    assert_eq!(node.read("out"), "begin\ngot TERM\n");
    node.run(node.spec(2, &stubborn(&node))).await;
    node.made("ready").await;
    node.stop(2, 0).await;
    assert_eq!(node.ended(2).await.outcome, Some(Outcome::ExitStatus(271)));
    assert!(processes_with(&mark(&node)).is_empty());
}

#[tokio::test]
async fn daemons_end_with_their_script() {
    let mut node = Node::start("").await;
    let daemons = "(setsid sleep 300 &); (setsid bash -c 'sleep 300; :' &)";
    let script = format!("export MARK={}\n{daemons}\nexit 5", mark(&node));
    assert_eq!(
        node.outcome(node.spec(1, &script)).await,
        Outcome::ExitStatus(5)
    );
    assert!(processes_with(&mark(&node)).is_empty());
}

#[tokio::test]
async fn too_much_cpu_time_ends_a_job() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, "while :; do :; done");
    spec.cput_secs = Some(1);
    assert_eq!(node.outcome(spec).await, Outcome::ExitStatus(-12));
    let err = node.read("err");
    assert!(err.contains("=>> PBS: job killed: cput "), "{err}");
}

/// The agent dies twice: while a job runs, and while it ends. Both times the next agent knows.
#[tokio::test]
async fn a_new_agent_adopts_what_the_old_one_left() {
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "echo x >> {}\nuntil [ -e {} ]; do sleep 0.05; done\nexit 9",
        node.work("runs").display(),
        go.display()
    );
    node.run(node.spec(1, &script)).await;
    let started = node.started(1).await;
    node.made("runs").await;
    node.kill_agent();

    node.start_agent();
    let hello = node.hello().await;
    assert_eq!(hello.attempts.len(), 1);
    let again = match hello.attempts[0].phase.clone().unwrap() {
        known_attempt::Phase::Running(started) => started,
        // The shim had not answered yet; it does at once.
        known_attempt::Phase::Starting(_) => node.started(1).await,
        known_attempt::Phase::Ended(ended) => panic!("{ended:?}"),
    };
    assert_eq!(again, started);
    node.kill_agent();

    fs::write(go, "").unwrap();
    wait_until_gone(&node.work("runs").to_string_lossy()).await;
    node.start_agent();
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(9)));
    assert_eq!(node.read("runs"), "x\n", "it ran once");
}

#[tokio::test]
async fn an_adopted_job_can_be_stopped() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    node.made("ready").await;
    node.kill_agent();
    node.start_agent();
    node.hello().await;
    node.stop(1, 1).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(271)));
    assert!(processes_with(&mark(&node)).is_empty());
}

/// `kill -9` of the shim: nobody knows how the job would have ended, and nothing of it may be left.
#[tokio::test]
async fn a_job_whose_shim_is_killed_is_lost_and_gone() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    let started = node.started(1).await;
    node.made("ready").await;
    kill(Pid::from_raw(parent_of(started.session)), Signal::SIGKILL).unwrap();
    let ended = node.ended(1).await;
    assert!(matches!(ended.outcome, Some(Outcome::Lost(_))), "{ended:?}");
    assert!(processes_with(&mark(&node)).is_empty());
}

/// As above, with the agent away: the next one finds neither lock nor status.
#[tokio::test]
async fn a_shim_killed_while_the_agent_is_away_is_found_out() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    let started = node.started(1).await;
    node.made("ready").await;
    node.kill_agent();
    kill(Pid::from_raw(parent_of(started.session)), Signal::SIGKILL).unwrap();
    node.start_agent();
    let ended = node.ended(1).await;
    assert!(matches!(ended.outcome, Some(Outcome::Lost(_))), "{ended:?}");
    assert!(processes_with(&mark(&node)).is_empty());
}

fn parent_of(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn an_order_repeated_starts_nothing_twice() {
    let mut node = Node::start("").await;
    let script = format!("echo x >> {}", node.work("runs").display());
    for _ in 0..3 {
        node.run(node.spec(1, &script)).await;
    }
    node.ended(1).await;
    node.run(node.spec(1, &script)).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(0)));
    assert_eq!(node.read("runs"), "x\n");
}

#[tokio::test]
async fn what_the_server_gave_up_is_stopped() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    node.made("ready").await;
    node.unwant(1);
    node.kill_agent();
    node.start_agent();
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(271)));
    assert!(processes_with(&mark(&node)).is_empty());
}

#[tokio::test]
async fn an_end_is_kept_until_the_server_forgets_it() {
    let mut node = Node::start("").await;
    node.outcome(node.spec(1, "exit 3")).await;
    let folder = node.state_folder().join("attempts/1");
    node.kill_agent();
    assert!(folder.exists());
    node.start_agent();
    node.hello().await;
    node.run(node.spec(1, "exit 4")).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(3)));
    node.order(server_message::Message::Forget(1)).await;
    wait_until("the folder is gone", || match folder.exists() {
        true => Err("still there".to_owned()),
        false => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let mut node = Node::start("").await;
    let refused = |outcome: Outcome, words: &[&str]| {
        let Outcome::Unstartable(why) = outcome else {
            panic!("{outcome:?}");
        };
        for word in words {
            assert!(why.contains(word), "{why}");
        }
    };
    let mut unknown = node.spec(1, "true");
    unknown.user = "no-such-user".into();
    refused(node.outcome(unknown).await, &["no-such-user", "node01"]);

    let mut other = node.spec(2, "true");
    other.uid += 1;
    refused(node.outcome(other).await, &["uid"]);

    let mut folder = node.spec(3, "true");
    folder.initial_folder = "/nonexistent/folder".into();
    refused(
        node.outcome(folder).await,
        &["/nonexistent/folder", "ENOENT"],
    );

    let mut shell = node.spec(4, "true");
    shell.shell = "/nonexistent/shell".into();
    refused(node.outcome(shell).await, &["/nonexistent/shell", "ENOENT"]);

    let mut hostile = node.spec(6, "true");
    hostile.job_id = "../../etc/x".into();
    refused(node.outcome(hostile).await, &["../../etc/x"]);
}

#[tokio::test]
async fn memory_over_the_limit_ends_a_job() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start("").await;
    let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let mut spec = node.spec(1, script);
    spec.memory_bytes = Some(32 << 20);
    let outcome = node.outcome(spec).await;
    assert_eq!(outcome, Outcome::ExitStatus(-10), "{}", node.read("err"));
    assert!(node.read("err").contains("exceeded limit 32768"));
}

#[tokio::test]
async fn heartbeats_tell_what_a_job_uses() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, "while :; do :; done")).await;
    node.started(1).await;
    let usage = node.usage(1).await;
    assert!(usage.mem_kb > 0 && usage.vmem_kb > 0, "{usage:?}");
    node.stop(1, 0).await;
    let ended = node.ended(1).await.usage.unwrap();
    assert!(ended.vmem_kb >= usage.vmem_kb, "{ended:?}");
}

/// An agent without rights runs its own user's jobs, without cgroups, and leaves nothing behind either.
#[tokio::test]
async fn an_agent_without_rights_serves_its_own_user() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start_as("", true).await;
    let mut spec = node.spec(1, &stubborn(&node));
    spec.walltime_secs = Some(1);
    node.run(spec).await;
    node.made("ready").await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(-11)));
    assert!(processes_with(&mark(&node)).is_empty());

    let mut others = node.spec(2, "true");
    (others.user, others.uid) = ("root".into(), 0);
    let outcome = node.outcome(others).await;
    assert!(
        matches!(&outcome, Outcome::Unstartable(why) if why.contains("root rights")),
        "{outcome:?}"
    );

    fs::remove_file(node.work("ready")).unwrap();
    node.run(node.spec(3, &stubborn(&node))).await;
    let started = node.started(3).await;
    node.made("ready").await;
    kill(Pid::from_raw(parent_of(started.session)), Signal::SIGKILL).unwrap();
    let ended = node.ended(3).await;
    assert!(matches!(ended.outcome, Some(Outcome::Lost(_))), "{ended:?}");
    assert!(processes_with(&mark(&node)).is_empty());
}

#[tokio::test]
async fn a_refused_agent_keeps_its_jobs_and_comes_back() {
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    node.made("ready").await;
    node.refuse(Some(Status::already_exists(
        "node01 is attached from elsewhere",
    )));
    node.kill_agent();
    node.start_agent();
    let log = node.folder.path().join("agent.log");
    wait_until("the refusal is logged", || {
        let log = fs::read_to_string(&log).unwrap();
        match log.contains("attached from elsewhere") {
            true => Ok(()),
            false => Err(log),
        }
    })
    .await;
    assert!(!processes_with(&mark(&node)).is_empty());
    node.refuse(None);
    assert_eq!(node.hello().await.attempts.len(), 1);
    node.stop(1, 0).await;
    node.ended(1).await;
}

#[tokio::test]
async fn one_agent_at_a_time_on_a_state_folder() {
    let node = Node::start("").await;
    let mut second = std::process::Command::new(node.program());
    second
        .arg("--settings")
        .arg(node.folder.path().join("agent.toml"));
    let second = second.output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another agent runs on"), "{said}");
    assert!(node.folder.path().join("run/agent.sock").exists());
}

/// A container lives below the attempt's cgroup and is no child of the shim: it ends with the script all the same.
#[tokio::test]
async fn what_lives_below_the_cgroup_ends_with_its_attempt() {
    if is_skipped_without_root() {
        return;
    }
    if !fs::exists("/sys/fs/cgroup/freezer").unwrap() {
        eprintln!("skipped: no cgroup freezer");
        return;
    }
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "until grep -q freezer:.*att- /proc/self/cgroup; do sleep 0.01; done\n\
         grep freezer /proc/self/cgroup | cut -d: -f3 > {}\nuntil [ -e {} ]; do sleep 0.05; done",
        node.work("group").display(),
        go.display()
    );
    node.run(node.spec(1, &script)).await;
    let group = node.made("group").await;
    let group = format!("/sys/fs/cgroup/freezer{}", group.trim());
    let below = format!("{group}/container");
    fs::create_dir(&below).unwrap();
    let mut stray = std::process::Command::new("sleep")
        .arg("300")
        .spawn()
        .unwrap();
    fs::write(format!("{below}/cgroup.procs"), stray.id().to_string()).unwrap();
    // The agent is away, so only the shim can do it.
    node.kill_agent();
    fs::write(go, "").unwrap();
    let status = wait_until("the stray is killed", || match stray.try_wait().unwrap() {
        Some(status) => Ok(status),
        None => Err("alive".to_owned()),
    })
    .await;
    assert!(!status.success());
    wait_until("the cgroup is removed", || {
        match fs::exists(&group).unwrap() {
            false => Ok(()),
            true => Err("there".to_owned()),
        }
    })
    .await;
}

/// Without its spawner the agent starts another one.
#[tokio::test]
async fn a_dead_spawner_is_replaced() {
    let mut node = Node::start("").await;
    assert_eq!(
        node.outcome(node.spec(1, "exit 1")).await,
        Outcome::ExitStatus(1)
    );
    let spawner = node.spawner();
    kill(Pid::from_raw(spawner), Signal::SIGKILL).unwrap();
    // Its zombie stays until the agent needs another one.
    wait_until("the spawner is dead", || {
        let stat = fs::read_to_string(format!("/proc/{spawner}/stat")).unwrap();
        match stat.contains(") Z ") {
            true => Ok(()),
            false => Err(stat),
        }
    })
    .await;
    assert_eq!(
        node.outcome(node.spec(2, "exit 2")).await,
        Outcome::ExitStatus(2)
    );
    assert_ne!(node.spawner(), spawner);
}

#[tokio::test]
async fn jobs_go_on_when_the_agent_is_told_to_stop() {
    let mut node = Node::start("").await;
    let go = node.work("go");
    let script = format!(
        "echo x > {}\nuntil [ -e {} ]; do sleep 0.05; done\nexit 6",
        node.work("ready").display(),
        go.display()
    );
    node.run(node.spec(1, &script)).await;
    node.made("ready").await;
    node.stop_agent().await;
    fs::write(go, "").unwrap();
    node.start_agent();
    node.hello().await;
    // Ended or ending: repeating the order reports how far it is.
    node.run(node.spec(1, &script)).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(6)));
}

/// The entry of a running attempt is damaged while the agent is away; its processes must not be forgotten with it.
#[tokio::test]
async fn a_damaged_entry_ends_its_attempt() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start("").await;
    node.run(node.spec(1, &stubborn(&node))).await;
    node.made("ready").await;
    node.kill_agent();
    let entry = node.state_folder().join("attempts/1");
    let mut bytes = fs::read(&entry).unwrap();
    bytes[100] ^= 1;
    fs::write(&entry, bytes).unwrap();
    node.start_agent();
    let ended = node.ended(1).await;
    assert!(matches!(ended.outcome, Some(Outcome::Lost(_))), "{ended:?}");
    assert!(processes_with(&mark(&node)).is_empty());
}

/// Other login shells: each is told in its own words to put the commands in front of PATH and become the script.
#[tokio::test]
async fn every_login_shell_runs_a_script() {
    let commands = tempfile::tempdir().unwrap();
    fs::set_permissions(commands.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!("commands_dir = '{}'", commands.path().display());
    let mut node = Node::start(&settings).await;
    let shells = [
        "/bin/sh",
        "/bin/bash",
        "/bin/dash",
        "/usr/bin/zsh",
        "/bin/csh",
        "/bin/tcsh",
        "/usr/bin/fish",
    ];
    let installed = shells.iter().filter(|shell| fs::exists(shell).unwrap());
    for (attempt, shell) in (1..).zip(installed) {
        let mut spec = node.spec(attempt, "#!/bin/sh\necho $PATH\nexit 3");
        spec.shell = (*shell).to_owned();
        assert_eq!(
            node.outcome(spec).await,
            Outcome::ExitStatus(3),
            "{shell}: {}",
            node.read("err")
        );
        assert!(
            node.read("out")
                .starts_with(commands.path().to_str().unwrap()),
            "{shell}"
        );
    }
}
