//! Terminals of jobs in daily use: keys that mean something, big pastes and outputs, windows that are closed, those who look
//! on, messages, and what prologues say.

use std::fs;
use std::path::Path;

use capstan_tests::{Cluster, Terminal, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cards::Driver;
use crate::is_root;
use crate::life::{cluster_of, hook};

fn cluster() -> Option<Cluster> {
    let usual = ["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"];
    is_root().then(|| Cluster::up(&usual))
}

/// A session that has begun, and its job.
fn session(cluster: &Cluster, user: &User, folder: &Path, line: &str) -> (Terminal, String) {
    let mut terminal = Terminal::run(cluster, user, folder, line);
    terminal.wait_for("qsub: waiting for job ");
    let job = terminal.wait_for(" to start");
    let job = job.trim_end_matches(" to start").to_owned();
    terminal.wait_for(&format!("qsub: job {job} ready"));
    (terminal, job)
}

const BEGIN: &str = "exec qsub -I -l walltime=600";

fn client(folder: &Path) -> Pid {
    let text = fs::read_to_string(folder.join("client")).expect("the line wrote it");
    Pid::from_raw(text.trim().parse().expect("a number"))
}

#[test]
fn keys_that_end_input_or_quit_are_for_the_program_in_front() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("terminals-keys");
    let (mut terminal, _job) = session(&cluster, &alice, &folder, BEGIN);
    // It has its terminal, and nothing else of whoever made it; nobody else has the terminal.
    terminal
        .line("bash -c 'ls /proc/$$/fd | tr \"\\n\" ,'; echo fd''s; stat -c '%a-%U-mo''de' $(tty)");
    let descriptors = terminal.wait_for("fds");
    assert!(descriptors.contains("0,1,2,"), "{descriptors:?}");
    assert!(!descriptors.contains("4,"), "{descriptors:?}");
    terminal.wait_for(&format!("600-{}-mode", alice.name));
    terminal.line("cat; echo end-of-in''put");
    terminal.line("typed");
    terminal.wait_for("typed");
    terminal.keys("\u{4}");
    terminal.wait_for("end-of-input");
    terminal.line("sh -c 'echo begu''n; exec sleep 622'; echo status-$?-");
    terminal.wait_for("begun");
    terminal.keys("\u{1c}");
    terminal.wait_for("status-131-");
    terminal.line("sh -c 'echo agai''n; exec sleep 623'");
    terminal.wait_for("again");
    terminal.keys("\u{1a}");
    terminal.wait_for("Stopped");
    terminal.line("bg; jobs; kill %1; fg; echo ba''ck");
    terminal.wait_for("back");
    terminal.line("exit");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_terminal_is_as_it_was_whoever_ends_its_command() {
    let Some(mut cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("terminals-raw");
    let (first, id) = session(&cluster, &alice, &folder, BEGIN);
    drop(first);
    let check = |cluster: &mut Cluster, command: &str, end: &dyn Fn(&mut Cluster)| {
        let line = format!(
            "stty -a >before; sh -c 'echo $$ >client; exec {command}'; stty -a >after; cmp before after && echo as-be''fore"
        );
        let mut terminal = Terminal::run(cluster, &alice, &folder, &line);
        terminal.line("echo rea''dy");
        terminal.wait_for("ready");
        end(cluster);
        terminal.wait_for("as-before");
        terminal.end();
    };
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        for command in [format!("qattach {id}"), format!("qexec {id}")] {
            check(&mut cluster, &command, &|_| {
                kill(client(&folder), signal).expect("it runs");
            });
        }
    }
    // The job is deleted under it.
    check(&mut cluster, &format!("qexec {id}"), &|cluster| {
        cluster.sh(&alice, &format!("qdel {id}")).ok();
    });
}

#[test]
fn a_paste_of_a_megabyte_arrives_whole() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("terminals-paste");
    let (mut terminal, _job) = session(&cluster, &alice, &folder, BEGIN);
    terminal.line(&format!("cd {}", folder.display()));
    let text: String = (0..)
        .map(|i| format!("{i} gr\u{fc}\u{df}e "))
        .take(90_000)
        .collect();
    let text = &text[..text.floor_char_boundary(1 << 20)];
    let count = text.len();
    // Raw, so that the size of a line is not bounded by the kernel.
    terminal.line(&format!(
        "stty raw -echo; echo rea''dy; head -c {count} >got; stty sane; echo do''ne"
    ));
    terminal.wait_for("ready");
    terminal.keys(text);
    terminal.wait_for("done");
    let got = fs::read_to_string(folder.join("got")).expect("text");
    assert!(got == text, "{} of {count} bytes", got.len());
    terminal.line("exit");
    terminal.wait_for(" completed");
}

/// The most memory that a process has had, KiB.
fn peak_kb(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("the kernel tells it")
}

#[test]
fn output_without_end_waits_for_its_reader_and_costs_no_memory() {
    const MORE_KB: u64 = 24 << 10;
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("terminals-output");
    let (terminal, id) = session(&cluster, &alice, &folder, BEGIN);
    let line = "yes 'gr\u{fc}\u{df}e, \u{1f600}' | head -c 104857600";
    cluster.sh(&alice, &format!("qexec {id} true")).ok();
    let processes = [cluster.pid("server"), cluster.pid("node01")];
    let before = processes.map(peak_kb);
    let sums = format!("qexec {id} sh -c \"{line}\" | (sleep 2; cksum); {line} | cksum");
    let sums = cluster.sh(&alice, &sums).ok();
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums.len(), 2);
    assert_eq!(sums[0], sums[1]);
    for (pid, before) in processes.into_iter().zip(before) {
        let after = peak_kb(pid);
        assert!(
            after < before + MORE_KB,
            "{pid}: {before} KiB, then {after} KiB"
        );
    }
    drop(terminal);
}

#[test]
fn a_session_is_looked_at_and_told_of_things_without_being_disturbed() {
    let Some(cluster) = cluster() else { return };
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("terminals-look");
    let (mut terminal, id) = session(&cluster, &alice, &folder, BEGIN);
    terminal.line("printf 'plain\\033[31mred\\033]0;title\\007-te''xt\\n'; for i in 1 2 3; do echo line-$i-en''d; done");
    terminal.wait_for("line-3-end");
    let seen = cluster.sh(&alice, &format!("qpeek {id}")).ok();
    assert!(seen.contains("plainred-text\n"), "{seen:?}");
    assert!(!seen.contains('\u{1b}') && !seen.contains('\r'), "{seen:?}");
    let last = cluster.sh(&alice, &format!("qpeek -h -200 {id}")).ok();
    assert!(
        last.contains("line-1-end\nline-2-end\nline-3-end\n"),
        "{last:?}"
    );
    assert_ne!(cluster.sh(&bob, &format!("qpeek {id}")).status, 0);
    assert_ne!(cluster.sh(&bob, &format!("qmsg hello {id}")).status, 0);
    // Followed until its end.
    let line = format!("exec qlog -f {id}");
    let mut onlooker = Terminal::run(&cluster, &alice, &folder, &line);
    onlooker.wait_for("line-3-end");
    let message = format!("qmsg \"$(printf 'lunch\\033[2J at\\nnoon')\" {id}");
    cluster.root(&message).ok();
    terminal.wait_for("=>> PBS: lunch");
    assert!(terminal.wait_for("noon").contains("at"));
    assert!(!terminal.shown().contains("\u{1b}[2J"));
    onlooker.wait_for("noon");
    // The session is still the same, and whoever sits there was not put out.
    terminal.line("echo still-the''re; exit");
    terminal.wait_for("still-there");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
    onlooker.wait_for("still-there");
    assert_eq!(onlooker.end(), 0);
    let over = cluster.sh(&alice, &format!("qattach {id}"));
    assert_ne!(over.status, 0);
}

#[test]
fn what_prologues_print_is_shown_at_the_beginning_of_a_session_and_a_job_that_waits_is_told_of() {
    if !is_root() {
        return;
    }
    let cluster = cluster_of(1, &[], "hooks_dir = 'DIR/hooks'");
    hook(
        &cluster,
        "prologue",
        0o500,
        "echo welcome by $(id -un); echo mind the step >&2",
    );
    hook(&cluster, "epilogue", 0o500, "echo never shown");
    let alice = User::alice();
    let folder = alice.folder("terminals-prologue");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, BEGIN);
    terminal.wait_for(" ready");
    terminal.wait_for("welcome by root\r\n");
    terminal.wait_for("mind the step\r\n");
    terminal.line("echo she''ll; exit");
    terminal.wait_for("shell");
    terminal.wait_for(" completed");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.shown().contains("never shown"));

    // One that fails ends the session, and says why.
    hook(&cluster, "prologue", 0o500, "echo no room today; exit 3");
    let mut terminal = Terminal::run(&cluster, &alice, &folder, BEGIN);
    terminal.wait_for("no room today");
    terminal.end();

    let mut waiting = Terminal::run(&cluster, &alice, &folder, "exec qsub -I -h");
    waiting.wait_for("waiting for job ");
    let id = waiting.wait_for(" to start").replace(" to start", "");
    let mut refused = Terminal::run(&cluster, &alice, &folder, &format!("exec qattach {id}"));
    refused.wait_for("has not started yet");
    assert_ne!(refused.end(), 0);
    cluster.sh(&alice, &format!("qdel {id}")).ok();
}

#[test]
fn a_session_whose_card_works_is_not_idle() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("terminals-idle");
    cluster
        .root("qmgr -c 'set server interactive_idle = 20'")
        .ok();
    Driver::of(&cluster).set(&["utilization_percent = 80", "utilization_percent = 80"]);
    let (mut terminal, id) = session(
        &cluster,
        &alice,
        &folder,
        &format!("{BEGIN} -l nodes=1:gpus=1"),
    );
    // Longer than an idle session would live, counted by itself: no key is typed meanwhile.
    terminal.line("sleep 24; echo worke''d");
    terminal.wait_for("worked");
    assert!(!terminal.shown().contains("no key was typed"));
    Driver::of(&cluster).set(&["utilization_percent = 0", "utilization_percent = 0"]);
    terminal.wait_for("this session ends in 10 s");
    terminal.wait_for("the session was idle for 20 s");
    terminal.wait_for(" completed");
    cluster.wait_state(&id, "C");
}
