//! Sessions at terminals: `qsub -I`, what is left of one whose terminal is lost, `qattach`, and `qexec`.

use std::fs;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, Terminal, User, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::is_root;

fn cluster(more: &[&str]) -> Option<Cluster> {
    if !is_root() {
        return None;
    }
    let usual = ["--cores", "4", "--cards", "2", "--debug"];
    let nodes: &[&str] = match more.contains(&"--nodes") {
        true => &[],
        false => &["--nodes", "1"],
    };
    Some(Cluster::up(&[&usual[..], nodes, more].concat()))
}

/// A session that has begun, with a prompt that is easy to tell, and its job.
fn session(cluster: &Cluster, user: &User, folder: &Path, options: &str) -> (Terminal, String) {
    let line = format!("echo $$ >client; exec qsub -I -l walltime=600 {options}");
    let mut terminal = Terminal::run(cluster, user, folder, &line);
    terminal.wait_for("qsub: waiting for job ");
    let job = terminal.wait_for(" to start");
    let job = job.trim_end_matches(" to start").to_owned();
    terminal.wait_for(&format!("qsub: job {job} ready"));
    (terminal, job)
}

fn client(folder: &Path) -> Pid {
    let text = fs::read_to_string(folder.join("client")).expect("the line wrote it");
    Pid::from_raw(text.trim().parse().expect("a number"))
}

#[test]
fn a_session_is_a_login_at_a_terminal_of_the_node_within_the_job() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("interactive");
    let (mut terminal, job) = session(&cluster, &alice, &folder, "-l nodes=1:gpus=1 -v GIVEN=yes");
    terminal.line(
        "echo said=$PBS_ENVIRONMENT,$TERM,$GIVEN,$CUDA_VISIBLE_DEVICES,$(id -un),$PBS_JOBID.",
    );
    let name = alice.name;
    terminal.wait_for(&format!("said=PBS_INTERACTIVE,vt100,yes,0,{name},{job}."));
    terminal.line("shopt -q login_shell && tty >/dev/null && echo lo''gin");
    terminal.wait_for("login");
    terminal.line("stty size; echo siz''ed");
    assert!(terminal.wait_for("sized").contains("24 80"));
    terminal.resize(33, 101);
    wait_until("the size arrives", || {
        terminal.line("stty size; echo siz''ed");
        let shown = terminal.wait_for("sized");
        if shown.contains("33 101") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    let attribute = |name| cluster.attribute(&job, name);
    assert_eq!(attribute("interactive").as_deref(), Some("True"));
    assert_eq!(attribute("Rerunable").as_deref(), Some("False"));

    // Keys that mean signals are for the program in front, and not for the session.
    terminal.line("sh -c 'echo begu''n; exec sleep 600'");
    terminal.wait_for("begun");
    terminal.keys("\u{3}");
    terminal.line("echo ali''ve");
    terminal.wait_for("alive");
    terminal.line("sh -c 'echo agai''n; exec sleep 601'");
    terminal.wait_for("again");
    terminal.keys("\u{1a}");
    terminal.wait_for("Stopped");
    // Left on purpose, it leaves nothing: what is stopped goes as well.
    terminal.line("exit 3");
    terminal.wait_for("stopped jobs");
    terminal.line("exit 3");
    terminal.wait_for(&format!("qsub: job {job} completed"));
    assert_eq!(terminal.end(), 0);
    assert_eq!(attribute("job_state").as_deref(), Some("C"));
    assert_eq!(attribute("exit_status").as_deref(), Some("3"));
}

#[test]
fn a_command_in_place_of_a_shell_ends_the_session_and_x11_is_refused_with_a_remedy() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("interactive-command");
    let script =
        "#!/bin/sh\n#PBS -N directed\necho command=$1,$PBS_JOBNAME,$PBS_ENVIRONMENT.\nexit 5\n";
    fs::write(folder.join("run"), script).unwrap();
    alice.own(&folder.join("run"));
    let line = "chmod 755 run; exec qsub -I -x ./run 'a b'";
    let mut terminal = Terminal::run(&cluster, &alice, &folder, line);
    terminal.wait_for("command=a b,directed,PBS_INTERACTIVE.");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);

    // The script of a session is not run, its directives count.
    let mut terminal = Terminal::run(&cluster, &alice, &folder, "exec qsub -I ./run");
    terminal.wait_for(" ready");
    terminal.line("echo name=$PBS_JOBNAME.; exit");
    terminal.wait_for("name=directed.");
    terminal.wait_for(" completed");
    assert!(!terminal.shown().contains("command="));
    assert_eq!(terminal.end(), 0);

    let line = "DISPLAY=:0; export DISPLAY; mkdir -p bin; printf '#!/bin/sh\\necho a b c\\n' >bin/xauth; chmod 755 bin/xauth; \
                echo XAUTHPATH $PWD/bin/xauth >torque.cfg; qsub -I -X";
    let refused = cluster.sh_in(&alice, &folder, line);
    assert_ne!(refused.status, 0, "{refused:?}");
    // Whoever has no secret of a display is not sent to look for one.
    let line = "DISPLAY=:0 exec qsub -I -X";
    let mut terminal = Terminal::run(&cluster, &alice, &folder, line);
    terminal
        .wait_for("qsub: X11 is not forwarded (-X): the connection to a job carries its terminal");
    terminal.wait_for("qsub: leave -X out; ");
    assert_eq!(terminal.end(), 1);
    let jobs = cluster.root("qselect -s Q,R,H,W").stdout;
    assert_eq!(jobs, "", "nothing was submitted");
}

#[test]
fn who_waits_for_a_session_may_give_it_up() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("interactive-waiting");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, "exec qsub -I -h");
    terminal.wait_for("qsub: waiting for job ");
    let job = terminal.wait_for(" to start").replace(" to start", "");
    // Not running yet: there is no terminal to return to, and nothing to enter.
    let early = cluster.sh(&alice, &format!("qexec {job} true"));
    assert!(early.stderr.contains("has not started"), "{early:?}");
    wait_until("the question is asked", || {
        terminal.keys("\u{3}");
        let shown = terminal.shown().to_owned();
        if shown.contains("(y|[n])?") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("n");
    assert_eq!(cluster.attribute(&job, "job_state").as_deref(), Some("H"));
    wait_until("the question is asked again", || {
        terminal.keys("\u{3}");
        let shown = terminal.shown().to_owned();
        if shown.matches("(y|[n])?").count() > 1 {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("y");
    terminal.wait_for(&format!("Job {job} is being deleted"));
    assert_eq!(terminal.end(), 0);
    cluster.wait_state(&job, "C");
}

#[test]
fn a_session_whose_client_is_killed_is_returned_to_by_its_owner_only() {
    let Some(cluster) = cluster(&[]) else { return };
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("interactive-lost");
    let (mut terminal, job) = session(&cluster, &alice, &folder, "");
    terminal.line("kept=still; echo bef''ore");
    terminal.wait_for("before");
    kill(client(&folder), Signal::SIGKILL).expect("it runs");
    assert_ne!(terminal.end(), 0);

    let attach = format!("exec qattach {job}");
    let mut refused = Terminal::run(&cluster, &bob, &bob.home, &attach);
    refused.wait_for("only the owner");
    assert_ne!(refused.end(), 0);
    let mut back = Terminal::run(&cluster, &alice, &folder, &attach);
    back.wait_for("before");
    back.line("echo $kept-the''re");
    back.wait_for("still-there");
    // Another terminal takes it.
    let mut other = Terminal::run(&cluster, &alice, &folder, &attach);
    other.wait_for("still-there");
    back.wait_for("somebody else is connected");
    assert_eq!(back.end(), 1);
    // It is left by a key, and goes on.
    other.line("");
    other.keys("~d");
    other.wait_for("returns to it");
    assert_eq!(other.end(), 0);
    assert_eq!(cluster.attribute(&job, "job_state").as_deref(), Some("R"));
    let mut last = Terminal::run(&cluster, &alice, &folder, &attach);
    last.line("echo $kept-ag''ain; exit");
    last.wait_for("still-again");
    last.wait_for(" completed");
    assert_eq!(last.end(), 0);
    cluster.wait_state(&job, "C");

    let batch = cluster.submit(&alice, &folder, "-o /dev/null -e /dev/null", "sleep 600");
    cluster.wait_state(&batch, "R");
    let mut refused = Terminal::run(&cluster, &alice, &folder, &format!("exec qattach {batch}"));
    refused.wait_for("batch job");
    assert_ne!(refused.end(), 0);
    cluster.sh(&alice, &format!("qdel {batch}")).ok();
}

/// Every line of the count, once and in order.
fn check_count(shown: &str, last: u32) {
    let lines = shown
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count-"));
    let numbers: Vec<u32> = lines.filter_map(|number| number.parse().ok()).collect();
    let expected: Vec<u32> = (1..=last).collect();
    assert_eq!(numbers.len(), expected.len(), "{} lines", numbers.len());
    assert_eq!(numbers, expected);
}

#[test]
fn no_byte_of_a_session_is_lost_when_the_agent_or_the_server_is_killed() {
    const LAST: u32 = 60_000;
    let Some(mut cluster) = cluster(&[]) else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("interactive-agent");
    let (mut terminal, job) = session(&cluster, &alice, &folder, "");
    for victim in ["node01", "server"] {
        terminal.line("stty -echo; PS1=; echo qui''et");
        terminal.wait_for("quiet");
        let count = format!(
            "i=0; while [ $i -lt {LAST} ]; do i=$((i+1)); echo count-$i; done; echo do''ne"
        );
        terminal.line(&count);
        let mut shown = terminal.wait_for("count-2000\r");
        cluster.kill(victim);
        cluster.start(victim);
        shown.push_str(&terminal.wait_for("done"));
        check_count(&shown, LAST);
        terminal.line("echo typing-goes-o''n");
        terminal.wait_for("typing-goes-on");
    }
    cluster.wait_server();
    assert_eq!(cluster.attribute(&job, "job_state").as_deref(), Some("R"));
    terminal.line("exit");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn an_idle_session_is_warned_and_ended_and_one_without_a_terminal_is_not_kept_for_ever() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("interactive-idle");
    cluster
        .root("qmgr -c 'set server interactive_idle = 6'")
        .ok();
    let (mut terminal, job) = session(&cluster, &alice, &folder, "");
    terminal.wait_for("this session ends in 3 s");
    terminal.wait_for("the session was idle for 6 s");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("271")
    );

    cluster.root("qmgr -c 'unset server interactive_idle'").ok();
    cluster
        .root("qmgr -c 'set queue batch interactive_keep = 1'")
        .ok();
    let (mut terminal, job) = session(&cluster, &alice, &folder, "");
    kill(client(&folder), Signal::SIGKILL).expect("it runs");
    terminal.end();
    cluster.wait_state(&job, "C");
    let bad = cluster.root("qmgr -c 'set server interactive_idle = -1'");
    assert_ne!(bad.status, 0, "{bad:?}");
}

#[test]
fn a_program_is_run_in_a_job_with_its_streams_and_exit_code() {
    let Some(cluster) = cluster(&["--nodes", "2"]) else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("qexec");
    let options = "-l nodes=2:ppn=2:gpus=1 -v GIVEN=yes -o /dev/null -e /dev/null";
    let job = cluster.submit(&alice, &folder, options, "sleep 600");
    cluster.wait_state(&job, "R");
    let run = |user: &User, line: &str| cluster.sh(user, line);
    let script = "cat; echo $GIVEN $PBS_JOBID $CUDA_VISIBLE_DEVICES; echo wrong >&2; exit 7";
    let ran = wait_until("the script runs", || {
        let ran = run(
            &alice,
            &format!("printf 'in\\nput\\n' | qexec {job} sh -c '{script}'"),
        );
        if ran.stderr.contains("not started yet") {
            Err(ran)
        } else {
            Ok(ran)
        }
    });
    assert_eq!(ran.status, 7, "{ran:?}");
    assert_eq!(ran.stdout.trim(), format!("in\nput\nyes {job} 0"));
    assert_eq!(ran.stderr.trim(), "wrong");
    // Killed by a signal; not there; more than any window.
    assert_eq!(
        run(&alice, &format!("qexec {job} sh -c 'kill -9 $$'")).status,
        137
    );
    assert_eq!(
        run(&alice, &format!("qexec {job} /no/such/program")).status,
        127
    );
    let many = run(
        &alice,
        &format!("qexec {job} seq 200000 | cksum; seq 200000 | cksum"),
    )
    .ok();
    let sums: Vec<&str> = many.lines().collect();
    assert_eq!(sums[0], sums[1]);
    cluster.sh(&alice, &format!("qdel {job}")).ok();
}

#[test]
fn a_program_in_a_job_is_in_its_share_and_its_owners_and_ends_with_both() {
    let Some(cluster) = cluster(&["--nodes", "2"]) else {
        return;
    };
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("qexec-share");
    let options = "-d . -l nodes=2:ppn=2:gpus=1 -o /dev/null -e /dev/null";
    let script = "touch started; sleep 600";
    let job = cluster.submit(&alice, &folder, options, script);
    wait_until("the script runs", || {
        folder.join("started").exists().then_some(()).ok_or(())
    });
    let run = |user: &User, line: &str| cluster.sh(user, line);
    let group = run(&alice, &format!("qexec {job} cat /proc/self/cgroup")).ok();
    assert!(group.contains("capstan/"), "{group}");
    let hosts = ["node01", "node02"].map(|node| {
        let line = format!("qexec --node {node} {job} sh -c 'echo $PBS_NODENUM'");
        run(&alice, &line).ok()
    });
    assert_eq!(
        hosts
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        2,
        "{hosts:?}"
    );
    let none = run(&alice, &format!("qexec --node node09 {job} true"));
    assert!(none.stderr.contains("no part of node node09"), "{none:?}");
    let refused = run(&bob, &format!("qexec {job} id"));
    assert!(refused.stderr.contains("only the owner"), "{refused:?}");
    // Root may delete it, but what is typed would be done in its owner's name.
    let refused = cluster.root(&format!("qexec {job} id"));
    assert!(refused.stderr.contains("only the owner"), "{refused:?}");

    let mut terminal = Terminal::run(&cluster, &alice, &folder, &format!("exec qexec {job}"));
    terminal.line("echo $PBS_JOBID-$TERM-$(stty size)-e''nd; exit 9");
    terminal.wait_for(&format!("{job}-vt100-24 80-end"));
    assert_eq!(terminal.end(), 9);

    // Nothing of it outlives its client, nor the job.
    let line = format!("exec qexec {job} sh -c 'echo $$; exec sleep 612'");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, &line);
    wait_until(
        "it runs",
        || {
            if is_running("612") { Ok(()) } else { Err(()) }
        },
    );
    terminal.keys("~.");
    terminal.end();
    wait_until("it is gone", || {
        if is_running("612") { Err(()) } else { Ok(()) }
    });
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
}

/// Whether a `sleep` of so long is there.
fn is_running(secs: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| line == format!("sleep\0{secs}\0").into_bytes())
}

#[test]
fn a_session_of_a_job_with_an_image_is_inside_its_container() {
    let Some(cluster) = cluster(&[]) else { return };
    if !engine::is_there() {
        return;
    }
    let alice = User::alice();
    let folder = alice.folder("interactive-image");
    let (mut terminal, _job) = session(&cluster, &alice, &folder, &format!("-W image={IMAGE}"));
    terminal.line("ls -d /usr/bin/perl || echo ins''ide $PBS_ENVIRONMENT $(id -u)");
    terminal.wait_for(&format!("inside PBS_INTERACTIVE {}", alice.uid));
    terminal.resize(41, 99);
    wait_until("the size arrives", || {
        terminal.line("stty size; echo siz''ed");
        let shown = terminal.wait_for("sized");
        if shown.contains("41 99") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("sh -c 'echo begu''n; exec sleep 600'");
    terminal.wait_for("begun");
    terminal.keys("\u{3}");
    terminal.line("echo ali''ve; exit");
    terminal.wait_for("alive");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_program_is_run_inside_the_container_of_a_job_that_is_one() {
    let Some(cluster) = cluster(&[]) else { return };
    if !engine::is_there() {
        return;
    }
    let alice = User::alice();
    let folder = alice.folder("qexec-image");
    let options = format!("-l nodes=1:gpus=1 -o /dev/null -e /dev/null -W image={IMAGE}");
    let job = cluster.submit(&alice, &folder, &options, "exec sleep 600");
    cluster.wait_state(&job, "R");
    let script = "cat; ls -d /usr/bin/perl; echo $PBS_JOBID $CUDA_VISIBLE_DEVICES $(id -u); exit 7";
    let line = format!("echo fed | qexec {job} sh -c '{script}'");
    let ran = wait_until("the container runs", || {
        let ran = cluster.sh(&alice, &line);
        if ran.stderr.contains("try again") || ran.stderr.contains("not started") {
            Err(ran)
        } else {
            Ok(ran)
        }
    });
    assert_eq!(ran.status, 7, "{ran:?}");
    assert_eq!(ran.stdout.trim(), format!("fed\n{job} 0 {}", alice.uid));
    assert!(ran.stderr.contains("/usr/bin/perl"), "{ran:?}");
    // It gains nothing that the container does not have.
    let held = cluster.sh(
        &alice,
        &format!("qexec {job} grep -E '^(CapEff|NoNewPrivs)' /proc/self/status"),
    );
    assert!(held.stdout.contains("0000000000000000"), "{held:?}");
    let outside = cluster.sh(&alice, &format!("qexec --outside {job} id"));
    assert!(
        outside.stderr.contains("nothing of it runs outside"),
        "{outside:?}"
    );

    let mut terminal = Terminal::run(&cluster, &alice, &folder, &format!("exec qexec {job}"));
    terminal.line("echo $TERM-$PBS_JOBID-e''nd");
    terminal.wait_for(&format!("vt100-{job}-end"));
    terminal.resize(44, 98);
    wait_until("the size arrives", || {
        terminal.line("stty size; echo siz''ed");
        let shown = terminal.wait_for("sized");
        if shown.contains("44 98") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("exit 9");
    assert_eq!(terminal.end(), 9);

    // It ends with its client.
    let line = format!("exec qexec {job} sleep 613");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, &line);
    wait_until(
        "it runs",
        || if is_running("613") { Ok(()) } else { Err(()) },
    );
    terminal.keys("~.");
    terminal.end();
    wait_until("it is gone", || {
        if is_running("613") { Err(()) } else { Ok(()) }
    });
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
}
