//! Programs that a person runs in a job (`qexec`) while agent or server are killed and come back: nothing of what they read
//! or write is lost, and how they ended is told truly.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, Terminal, User, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::is_root;

fn cluster(nodes: &str) -> Option<Cluster> {
    let usual = ["--nodes", nodes, "--cores", "4", "--cards", "2", "--debug"];
    is_root().then(|| Cluster::up(&usual))
}

/// A job whose script has begun on all its nodes.
fn job(cluster: &Cluster, user: &User, folder: &Path, options: &str) -> String {
    let options = format!("-d . -o /dev/null -e /dev/null -l walltime=600 {options}");
    let job = cluster.submit(user, folder, &options, "touch started; sleep 600");
    wait_until("the script runs", || {
        folder.join("started").exists().then_some(()).ok_or(())
    });
    job
}

/// A line of the user's in the background, whose output goes to the file `shown`; its shell's number is in `client`.
fn begin(cluster: &Cluster, user: &User, folder: &Path, line: &str) -> Child {
    let line = format!("echo $$ >client; {line}");
    let mut command = cluster.shell(user, folder, &line);
    let shown = File::create(folder.join("shown")).expect("the folder is ours");
    command.stdout(shown).stderr(Stdio::inherit());
    command.spawn().expect("runuser is installed")
}

fn end(child: &mut Child) -> i32 {
    let status = wait_until("the command ends", || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("it runs".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    status.code().unwrap_or(-1)
}

fn wait_for_file(path: &Path) {
    wait_until(&format!("{} is there", path.display()), || {
        path.exists().then_some(()).ok_or(())
    });
}

fn kill_and_start(cluster: &mut Cluster, victim: &str) {
    cluster.kill(victim);
    cluster.start(victim);
}

/// Whether a `sleep` of so long is there.
fn is_running(secs: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| line == format!("sleep\0{secs}\0").into_bytes())
}

fn wait_gone(secs: &str) {
    wait_until(&format!("sleep {secs} is gone"), || {
        if is_running(secs) { Err(()) } else { Ok(()) }
    });
}

/// A program that writes lines to both streams until the file `go` is there, and then more; and reads all the while.
const COUNT: &str = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo out-$i; echo err-$i >&2; \
                     if [ $i = 20000 ]; then touch half; while ! [ -e go ]; do sleep 0.1; done; fi; done; exit 7";

fn check_counted(text: &str, word: &str) {
    let expected: String = (1..=40_000).map(|i| format!("{word}-{i}\n")).collect();
    assert_eq!(text.len(), expected.len(), "bytes of {word}");
    assert!(text == expected, "{word} is whole and in order");
}

#[test]
fn no_byte_of_a_program_in_a_job_is_lost_when_agents_or_the_server_are_killed() {
    let Some(mut cluster) = cluster("2") else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("sessions-output");
    let id = job(&cluster, &alice, &folder, "-l nodes=2:ppn=2:gpus=1");
    let hosts = cluster.attribute(&id, "exec_host").expect("it runs");
    let (first, sister) = match hosts.starts_with("node01") {
        true => ("node01", "node02"),
        false => ("node02", "node01"),
    };
    for (node, victim) in [(first, first), (first, "server"), (sister, sister)] {
        for name in ["half", "go", "errors"] {
            fs::remove_file(folder.join(name)).ok();
        }
        let line = format!("exec qexec --node {node} {id} sh -c '{COUNT}' 2>errors");
        let mut child = begin(&cluster, &alice, &folder, &line);
        wait_for_file(&folder.join("half"));
        kill_and_start(&mut cluster, victim);
        fs::write(folder.join("go"), "").expect("written");
        assert_eq!(end(&mut child), 7, "{victim} was killed");
        let shown = fs::read_to_string(folder.join("shown")).expect("text");
        check_counted(&shown, "out");
        let errors = fs::read_to_string(folder.join("errors")).expect("text");
        let errors: String = errors
            .lines()
            .filter(|line| !line.contains("qexec:"))
            .fold(String::new(), |all, line| all + line + "\n");
        check_counted(&errors, "err");
        cluster.wait_server();
        cluster.wait_nodes();
    }
    cluster.sh(&alice, &format!("qdel {id}")).ok();
    cluster.wait_state(&id, "C");
}

#[test]
fn no_byte_that_a_program_in_a_job_reads_is_lost_when_its_agent_is_killed() {
    let Some(mut cluster) = cluster("1") else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("sessions-input");
    let id = job(&cluster, &alice, &folder, "");
    // The program reads slowly at first, so that pieces are on their way when the agent goes.
    let program = "touch waits; while ! [ -e go ]; do sleep 0.1; done; exec cat >got";
    let line = format!("seq 1 300000 | qexec {id} sh -c '{program}'; exit ${{PIPESTATUS[1]}}");
    for _ in 0..2 {
        for name in ["go", "waits"] {
            fs::remove_file(folder.join(name)).ok();
        }
        let mut child = begin(&cluster, &alice, &folder, &line);
        wait_for_file(&folder.join("waits"));
        kill_and_start(&mut cluster, "node01");
        fs::write(folder.join("go"), "").expect("written");
        assert_eq!(end(&mut child), 0);
        let expected: String = (1..=300_000).map(|i| format!("{i}\n")).collect();
        let got = fs::read_to_string(folder.join("got")).expect("text");
        assert_eq!(got.len(), expected.len(), "bytes");
        assert!(got == expected, "whole and in order");
        cluster.wait_nodes();
    }
    cluster.sh(&alice, &format!("qdel {id}")).ok();
}

#[test]
fn a_shell_in_a_job_goes_on_at_its_terminal_when_its_agent_is_killed_and_ends_when_it_is_left() {
    let Some(mut cluster) = cluster("1") else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("sessions-shell");
    let id = job(&cluster, &alice, &folder, "");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, &format!("exec qexec {id}"));
    terminal.line("kept=still; echo bef''ore");
    terminal.wait_for("before");
    kill_and_start(&mut cluster, "node01");
    terminal.line("echo $kept-the''re; stty size");
    terminal.wait_for("still-there");
    terminal.wait_for("24 80");
    terminal.resize(31, 97);
    wait_until("the size arrives", || {
        terminal.line("stty size; echo siz''ed");
        let shown = terminal.wait_for("sized");
        if shown.contains("31 97") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("(trap '' HUP; exec sleep 614) & echo behi''nd; exit 9");
    terminal.wait_for("behind");
    assert_eq!(terminal.end(), 9);
    // What it left goes as well, although another agent watches over it than the one that began it.
    wait_gone("614");
    cluster.sh(&alice, &format!("qdel {id}")).ok();
}

#[test]
fn a_program_ends_with_its_job_also_when_that_ended_while_the_agent_was_away() {
    let Some(mut cluster) = cluster("2") else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("sessions-end");
    let id = job(&cluster, &alice, &folder, "-l nodes=2:ppn=2");
    let mut children: Vec<Child> = ["node01", "node02"]
        .iter()
        .zip(["615", "616"])
        .map(|(node, secs)| {
            let line = format!("exec qexec --node {node} {id} sleep {secs}");
            begin(&cluster, &alice, &folder, &line)
        })
        .collect();
    for secs in ["615", "616"] {
        wait_until(
            "it runs",
            || {
                if is_running(secs) { Ok(()) } else { Err(()) }
            },
        );
    }
    kill_and_start(&mut cluster, "node01");
    kill_and_start(&mut cluster, "node02");
    cluster.wait_nodes();
    cluster.sh(&alice, &format!("qdel {id}")).ok();
    cluster.wait_state(&id, "C");
    wait_gone("615");
    wait_gone("616");
    for child in &mut children {
        assert_ne!(end(child), 0);
    }
    // Nothing listens any more for who would come back.
    let folder = cluster.path().join("node01/attempts");
    let left = fs::read_dir(folder).map(|files| files.flatten().count());
    assert!(!matches!(left, Ok(1..)), "{left:?}");
}

#[test]
fn a_program_whose_client_is_killed_ends_soon() {
    let Some(cluster) = cluster("1") else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("sessions-client");
    let id = job(&cluster, &alice, &folder, "");
    for (signal, secs) in [
        (Signal::SIGTERM, "617"),
        (Signal::SIGINT, "618"),
        (Signal::SIGKILL, "619"),
    ] {
        let mut child = begin(
            &cluster,
            &alice,
            &folder,
            &format!("exec qexec {id} sleep {secs}"),
        );
        wait_until(
            "it runs",
            || {
                if is_running(secs) { Ok(()) } else { Err(()) }
            },
        );
        let client = fs::read_to_string(folder.join("client")).expect("the line wrote it");
        kill(
            Pid::from_raw(client.trim().parse().expect("a number")),
            signal,
        )
        .expect("it runs");
        end(&mut child);
        wait_gone(secs);
    }
    cluster.sh(&alice, &format!("qdel {id}")).ok();
}

#[test]
fn no_byte_of_a_program_in_a_container_is_lost_when_its_agent_is_killed() {
    let Some(mut cluster) = cluster("1") else {
        return;
    };
    if !engine::is_there() {
        return;
    }
    let alice = User::alice();
    let folder = alice.folder("sessions-image");
    let options = format!("-W image={IMAGE} -o /dev/null -e /dev/null -l walltime=600");
    let id = cluster.submit(&alice, &folder, &options, "exec sleep 600");
    wait_until("the container runs", || {
        let ran = cluster.sh(&alice, &format!("qexec {id} true"));
        if ran.status == 0 { Ok(()) } else { Err(ran) }
    });
    // What it waits for must be visible inside: the job's own folder is.
    let line = format!(
        "cd; exec qexec {id} sh -c 'cd {}; {COUNT}' 2>{0}/errors",
        folder.display()
    );
    let mut child = begin(&cluster, &alice, &folder, &line);
    wait_for_file(&folder.join("half"));
    kill_and_start(&mut cluster, "node01");
    fs::write(folder.join("go"), "").expect("written");
    assert_eq!(end(&mut child), 7);
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("text");
    check_counted(&text("shown"), "out");
    let errors = text("errors");
    let errors = errors.lines().filter(|line| !line.contains("qexec:"));
    check_counted(
        &errors.fold(String::new(), |all, line| all + line + "\n"),
        "err",
    );

    let mut terminal = Terminal::run(&cluster, &alice, &folder, &format!("exec qexec {id}"));
    terminal.line("kept=still; echo bef''ore");
    terminal.wait_for("before");
    kill_and_start(&mut cluster, "node01");
    terminal.line("echo $kept-the''re");
    terminal.wait_for("still-there");
    terminal.resize(31, 97);
    wait_until("the size arrives", || {
        terminal.line("stty size; echo siz''ed");
        let shown = terminal.wait_for("sized");
        if shown.contains("31 97") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    terminal.line("exit 9");
    assert_eq!(terminal.end(), 9);

    // Left by its client, it ends, whichever agent began it; and it ends with the job.
    for (secs, is_left) in [("620", true), ("621", false)] {
        let line = format!("exec qexec {id} sleep {secs}");
        let mut terminal = Terminal::run(&cluster, &alice, &folder, &line);
        wait_until(
            "it runs",
            || {
                if is_running(secs) { Ok(()) } else { Err(()) }
            },
        );
        kill_and_start(&mut cluster, "node01");
        cluster.wait_nodes();
        if is_left {
            terminal.keys("~.");
        } else {
            cluster.sh(&alice, &format!("qdel {id}")).ok();
        }
        terminal.end();
        wait_gone(secs);
    }
    cluster.wait_state(&id, "C");
}

#[test]
fn no_byte_of_an_interactive_job_in_a_container_is_lost_when_its_agent_is_killed() {
    let Some(mut cluster) = cluster("1") else {
        return;
    };
    if !engine::is_there() {
        return;
    }
    let alice = User::alice();
    let folder = alice.folder("sessions-image-job");
    let line = format!("exec qsub -I -l walltime=600 -W image={IMAGE}");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, &line);
    terminal.wait_for(" ready");
    terminal.line("stty -echo; PS1=; echo qui''et");
    terminal.wait_for("quiet");
    terminal.line("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo count-$i; done; echo do''ne");
    let mut shown = terminal.wait_for("count-2000\r");
    kill_and_start(&mut cluster, "node01");
    shown.push_str(&terminal.wait_for("done"));
    let lines = shown.lines().filter(|line| line.starts_with("count-"));
    let expected: Vec<String> = (1..=30_000).map(|i| format!("count-{i}")).collect();
    let seen: Vec<&str> = lines.map(str::trim).collect();
    assert_eq!(seen.len(), expected.len());
    assert!(seen == expected, "whole and in order");
    terminal.line("exit");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
}
