//! Keys that are typed while the way to the job is away, in an agent or a server that is stopped, killed and started again:
//! each arrives, and no key twice.

use std::fs;
use std::path::Path;

use capstan_tests::{Cluster, Terminal, User};
use nix::sys::signal::{Signal, kill};

use crate::is_root;

/// Lines that are typed before the process is stopped, while it is, while it is gone, and after it is back.
const LINES: [std::ops::Range<u32>; 4] = [0..100, 100..200, 200..3000, 3000..3100];

fn line(number: u32) -> String {
    format!("key-{number}")
}

/// Has a program at the terminal keep what is typed, and types all lines while `victim` goes and comes.
fn check_typed(cluster: &mut Cluster, victim: &str, folder: &Path, terminal: &mut Terminal) {
    let got = folder.join("got");
    fs::remove_file(&got).ok();
    terminal.line(&format!(
        "stty -echo; echo rea''dy; cat >{}; stty echo; echo do''ne",
        got.display()
    ));
    terminal.wait_for("ready");
    let [before, stopped, gone, after] = LINES;
    let mut kind = |lines: std::ops::Range<u32>| lines.for_each(|it| terminal.line(&line(it)));
    kind(before);
    kill(cluster.pid(victim), Signal::SIGSTOP).expect("it runs");
    kind(stopped);
    cluster.kill(victim);
    kind(gone);
    cluster.start(victim);
    kind(after);
    terminal.keys("\u{4}");
    terminal.wait_for("done");
    let typed: Vec<String> = LINES.into_iter().flatten().map(line).collect();
    let got = fs::read_to_string(&got).expect("text");
    let got: Vec<&str> = got.lines().collect();
    let first = got.iter().zip(&typed).position(|(got, typed)| got != typed);
    assert_eq!((got.len(), first), (typed.len(), None), "lines, {victim}");
}

#[test]
fn each_key_of_a_session_arrives_once_whatever_goes_and_comes_on_its_way() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("typing");
    let begin = "exec qsub -I -l walltime=600";
    let mut session = Terminal::run(&cluster, &alice, &folder, begin);
    session.wait_for("qsub: waiting for job ");
    let job = session.wait_for(" to start");
    let job = job.trim_end_matches(" to start").to_owned();
    session.wait_for(&format!("qsub: job {job} ready"));
    for victim in ["node01", "server"] {
        check_typed(&mut cluster, victim, &folder, &mut session);
    }
    cluster.wait_nodes();

    // A program of the same job.
    let line = format!("exec qexec {job} sh");
    let mut program = Terminal::run(&cluster, &alice, &folder, &line);
    check_typed(&mut cluster, "node01", &folder, &mut program);
    program.line("exit 5");
    assert_eq!(program.end(), 5);
    cluster.wait_nodes();

    // Who returns to the session types in it as before.
    let line = format!("exec qattach {job}");
    let mut returned = Terminal::run(&cluster, &alice, &folder, &line);
    returned.line("echo he''re");
    returned.wait_for("here");
    session.wait_for("somebody else is connected");
    check_typed(&mut cluster, "node01", &folder, &mut returned);
    returned.line("exit");
    returned.wait_for(" completed");
}
