//! Containers through the life of their jobs: stopped and continued, signalled, warned, run again, and served on by an agent
//! that was killed, without a byte of their output lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use capstan_tests::engine::{self, IMAGE, docker};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

fn cluster() -> Option<Cluster> {
    let is_possible = is_root() && engine::is_there();
    is_possible.then(|| Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]))
}

/// A script for the container beside the job's.
fn inner(alice: &User, folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("inner.sh");
    fs::write(&path, text).unwrap();
    alice.own(&path);
    path
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn wait_lines(path: &Path, more_than: usize) -> usize {
    wait_until("the container goes on", || {
        let count = text_of(path).lines().count();
        match count > more_than {
            true => Ok(count),
            false => Err(count),
        }
    })
}

#[test]
fn a_suspended_job_stops_its_containers_too_and_they_go_on_when_it_does() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("lasting-suspend");
    let ticks = folder.join("ticks");
    let text = format!(
        "while :; do echo tick >>{}; sleep 0.05; done",
        ticks.display()
    );
    let path = inner(&alice, &folder, &text);
    let script = format!("startdocker -s {} {IMAGE}", path.display());
    let job = cluster.submit(&alice, &folder, "-N j", &script);
    wait_lines(&ticks, 3);
    cluster.root(&format!("qsig -s suspend {job}")).ok();
    cluster.wait_state(&job, "S");
    // Two looks that see the same, a while apart.
    let still = wait_until("nothing is written any more", || {
        let before = text_of(&ticks).lines().count();
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(400) {
            let now = text_of(&ticks).lines().count();
            if now != before {
                return Err(now);
            }
        }
        Ok(before)
    });
    cluster.root(&format!("qsig -s resume {job}")).ok();
    wait_lines(&ticks, still);
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
    assert_eq!(left_of(&cluster, "node01"), "");
}

/// The containers that the cluster's agent has made and that are still there.
pub(crate) fn left_of(cluster: &Cluster, node: &str) -> String {
    let id = cluster.path().join(format!("nodes/{node}/state/agent-id"));
    let id = fs::read_to_string(id).unwrap();
    let filter = format!("label=capstan.agent={}", id.trim());
    docker(&["ps", "-aq", "--filter", &filter]).unwrap()
}

#[test]
fn a_signal_reaches_a_containers_main_process_once() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("lasting-signal");
    let heard = folder.join("heard");
    let text = format!(
        "trap 'echo heard >>{0}' USR1; echo ready >>{0}; until test -e {1}; do sleep 0.05; done; echo done >>{0}",
        heard.display(),
        folder.join("go").display()
    );
    let path = inner(&alice, &folder, &text);
    let run = |arguments: &str, script: &str| {
        let arguments = format!("-N j {arguments}");
        let job = cluster.submit(&alice, &folder, &arguments, script);
        wait_lines(&heard, 0);
        cluster.sh(&alice, &format!("qsig -s USR1 {job}")).ok();
        wait_lines(&heard, 1);
        fs::write(folder.join("go"), "").unwrap();
        cluster.wait_state(&job, "C");
        let text = text_of(&heard);
        fs::remove_file(&heard).unwrap();
        fs::remove_file(folder.join("go")).unwrap();
        text
    };
    // The login shell dies of a signal, as in Torque: its users bring one that does not.
    let shell = folder.join("shell");
    fs::write(&shell, "#!/bin/sh\ntrap '' USR1\nexec /bin/bash -l\n").unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    let outside = format!("startdocker -s {} {IMAGE}", path.display());
    assert_eq!(
        run(&format!("-S {}", shell.display()), &outside),
        "ready\nheard\ndone\n"
    );
    let image = format!("-W image={IMAGE}");
    assert_eq!(run(&image, &text), "ready\nheard\ndone\n");
}

#[test]
fn a_warning_is_delivered_once_to_script_and_container() {
    let Some(cluster) = cluster() else { return };
    cluster
        .root("qmgr -c 'set server warning_signal = USR1@600'")
        .ok();
    let refused = cluster.root("qmgr -c 'set server warning_signal = KILL@600'");
    assert!(refused.status != 0, "{refused:?}");
    let alice = User::alice();
    let folder = alice.folder("lasting-warning");
    let (inside, outside) = (folder.join("inside"), folder.join("outside"));
    let text = format!(
        "trap 'echo warned >>{0}' USR1; while :; do sleep 0.05; done",
        inside.display()
    );
    let path = inner(&alice, &folder, &text);
    let script = format!(
        "trap 'echo warned >>{}' USR1\nstartdocker -s {} {IMAGE} &\nwait; wait; wait",
        outside.display(),
        path.display()
    );
    let ends = |arguments: &str, script: &str| {
        let arguments = format!("-N j -l walltime=8 {arguments}");
        let job = cluster.submit(&alice, &folder, &arguments, script);
        cluster.wait_state(&job, "C");
        let status = cluster.attribute(&job, "exit_status");
        assert_eq!(status.as_deref(), Some("-11"));
    };
    ends("", &script);
    assert_eq!(text_of(&inside), "warned\n");
    assert_eq!(text_of(&outside), "warned\n");
    fs::remove_file(&inside).unwrap();
    ends(&format!("-W image={IMAGE}"), &text);
    assert_eq!(text_of(&inside), "warned\n");
    // What a queue says counts before what the server says.
    cluster
        .root("qmgr -c 'set queue batch warning_signal = USR2@600'")
        .ok();
    let script = "trap 'exit 8' USR2; trap 'exit 9' USR1; while :; do sleep 0.1; done";
    let job = cluster.submit(&alice, &folder, "-N j -l walltime=4", script);
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("8"));
}

/// The second attempt begins when nothing of the first writes any more, whatever that one makes of its signals.
#[test]
fn the_containers_of_an_attempt_are_gone_before_the_next_one_begins() {
    let Some(cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("lasting-rerun");
    let diary = folder.join("diary");
    let text = format!(
        "trap '' TERM; while :; do echo alive $1 >>{}; sleep 0.02; done",
        diary.display()
    );
    let path = inner(&alice, &folder, &text);
    let script = format!(
        "n=$(($(cat count 2>/dev/null) + 1)); echo $n >count; echo begin $n >>{}\n\
         startdocker -c \"sh {} $n\" {IMAGE}",
        diary.display(),
        path.display()
    );
    let job = cluster.submit(
        &alice,
        &folder,
        &format!("-N j -d {}", folder.display()),
        &script,
    );
    let says = |words: &str| {
        wait_until("the attempt writes", || {
            let text = text_of(&diary);
            match text.contains(words) {
                true => Ok(()),
                false => Err(text.lines().last().map(str::to_owned)),
            }
        });
    };
    says("alive 1");
    cluster.root(&format!("qrerun {job}")).ok();
    says("alive 2");
    // Once more, and held in between.
    cluster.root(&format!("qhold -h o {job}")).ok();
    cluster.root(&format!("qrerun {job}")).ok();
    cluster.wait_state(&job, "QHR");
    cluster.root(&format!("qrls -h o {job}")).ok();
    says("alive 3");
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
    assert_eq!(left_of(&cluster, "node01"), "");
    let mut attempt = 0;
    for line in text_of(&diary).lines() {
        let (word, number) = line.rsplit_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        match word {
            "begin" => {
                assert_eq!(number, attempt + 1);
                attempt = number;
            }
            _ => assert_eq!(number, attempt, "an earlier attempt still writes"),
        }
    }
    assert_eq!(attempt, 3);
}

#[test]
fn no_byte_of_a_containers_output_is_lost_when_the_agent_is_killed_again_and_again() {
    let Some(mut cluster) = cluster() else { return };
    let alice = User::alice();
    let folder = alice.folder("lasting-output");
    let text = "i=0; while test $i -lt 3000; do i=$((i + 1)); echo line $i of the output; \
                test $((i % 10)) = 0 && sleep 0.02; done; echo last words; exit 6";
    let path = inner(&alice, &folder, text);
    let script = format!("startdocker -s {} {IMAGE}", path.display());
    let job = cluster.submit(&alice, &folder, "-N j", &script);
    let output = folder.join(format!("j.o{}", job.split('.').next().unwrap()));
    let mut seen = 0;
    for _ in 0..3 {
        seen = wait_lines(&output, seen + 200);
        cluster.kill("node01");
        cluster.start("node01");
    }
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("6"));
    let text = text_of(&output);
    let text = text.split("---- job ").next().unwrap();
    let expected = (1..=3000).map(|number| format!("line {number} of the output\n"));
    let expected: String = expected.chain(["last words\n".to_owned()]).collect();
    let first_wrong = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
    assert_eq!(first_wrong, None);
    assert_eq!(text.len(), expected.len());
    assert_eq!(left_of(&cluster, "node01"), "");
}
