//! Bad input: a clear error that names the value, and nothing queued for ever.

use std::fs;

use capstan_tests::{Cluster, Ran, User};

use crate::is_root;

#[test]
fn what_cannot_be_is_refused_at_submission_with_the_reason() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("refused");
    fs::write(folder.join("binary"), b"\x7fELF\x02\x01\x01\0\0\0").unwrap();
    fs::write(folder.join("ok.sh"), "true\n").unwrap();
    let refused = |line: &str, status: i32, says: &[&str]| {
        let ran = cluster.sh_in(&alice, &folder, line);
        assert_eq!(ran.status, status, "{line}: {ran:?}");
        assert_eq!(ran.stdout, "", "{line}");
        for text in says {
            assert!(ran.stderr.contains(text), "{line}: no {text:?} in {ran:?}");
        }
    };
    refused(
        "qsub -q nosuch ok.sh",
        172,
        &["Unknown queue MSG=requested queue not found"],
    );
    refused(
        "qsub -l nodes=2 ok.sh",
        190,
        &["cannot locate feasible nodes"],
    );
    refused(
        "qsub -l nodes=1:ppn=0 ok.sh",
        27,
        &["Command syntax invalid"],
    );
    refused(
        "qsub -l marbles=3 ok.sh",
        189,
        &["Unknown resource type", "marbles"],
    );
    refused("qsub -l walltime=soon ok.sh", 168, &["walltime"]);
    refused(
        "qsub nosuch.sh",
        1,
        &["script file 'nosuch.sh' cannot be loaded - No such file or directory"],
    );
    refused("qsub binary", 1, &["file must be an ascii script"]);
    refused(
        "qsub -W depend=afterok:9999 ok.sh",
        208,
        &["Invalid Job Dependency"],
    );
}

#[test]
fn a_script_over_the_limit_is_refused_and_root_may_not_submit() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "1", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("large");
    let large = "head -c 20000000 /dev/zero | tr '\\0' '#' | qsub";
    let ran = cluster.sh_in(&alice, &folder, large);
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("20000000") || ran.stderr.contains("bytes"),
        "{ran:?}"
    );
    assert_eq!(cluster.root("qstat").ok(), "", "something was queued");
    assert_eq!(
        cluster.root("qsub /etc/hostname").status,
        1,
        "root may not submit"
    );
}

#[test]
fn what_can_never_run_is_refused_in_torques_words_and_at_a_terminal_with_the_reason() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--cards", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("infeasible");
    fs::write(folder.join("ok.sh"), "true\n").unwrap();
    // Programs get Torque's words and nothing else; a person at a terminal is told what cannot be.
    let infeasible = "qsub: submit error (Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes \
                      file is empty, all systems are busy, or no nodes have the requested feature))\n";
    for (request, hint) in [
        ("nodes=1:marble", &["marble"][..]),
        ("nodes=1:gpus=3", &["3 cards", "node01"]),
    ] {
        let ran = cluster.sh_in(&alice, &folder, &format!("qsub -l {request} ok.sh"));
        assert_eq!(
            (ran.status, ran.stderr.as_str()),
            (190, infeasible),
            "{request}"
        );
        let seen = cluster.sh_in(
            &alice,
            &folder,
            &format!("script -qec 'qsub -l {request} ok.sh' /dev/null"),
        );
        for text in hint {
            assert!(
                seen.stdout.contains(text),
                "{request}: no {text:?} in {seen:?}"
            );
        }
        assert!(seen.stdout.contains("hint: "), "{seen:?}");
    }
}

#[test]
fn an_unreachable_server_is_named_with_its_socket_and_the_remedy() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "1", "--debug"]);
    let alice = User::alice();
    let line = "CAPSTAN_SERVER_SOCKET=/tmp/nobody-listens.sock qstat";
    let ran: Ran = cluster.sh(&alice, line);
    assert_ne!(ran.status, 0);
    assert!(
        ran.stderr
            .contains("Cannot connect to specified server host"),
        "{ran:?}"
    );
    // Programs compare Torque's words; a person at a terminal is told more.
    assert!(!ran.stderr.contains("nobody-listens"), "{ran:?}");
    let ran: Ran = cluster.sh(&alice, &format!("script -qec '{line}' /dev/null"));
    assert!(ran.stdout.contains("/tmp/nobody-listens.sock"), "{ran:?}");
    assert!(ran.stdout.contains("CAPSTAN_SERVER_SOCKET"), "{ran:?}");
}

#[test]
fn an_output_folder_is_made_where_the_user_may_and_otherwise_the_output_is_kept_on_the_node() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("output");
    let made = cluster.submit(
        &alice,
        &folder,
        "-o new/deep.out -e new/deep.err",
        "echo made",
    );
    cluster.wait_state(&made, "C");
    assert_eq!(
        fs::read_to_string(folder.join("new/deep.out")).unwrap(),
        "made\n"
    );
    let refused = cluster.submit(&alice, &folder, "-o /root/sneaky/out", "echo never");
    // As in Torque the job runs, and what it wrote is not lost.
    cluster.wait_state(&refused, "C");
    assert_eq!(
        cluster.attribute(&refused, "exit_status").as_deref(),
        Some("0")
    );
    assert!(!std::path::Path::new("/root/sneaky").exists());
    let kept = cluster.path().join("nodes/node01/state/undelivered");
    let kept = kept.join(format!("{refused}.OU"));
    assert_eq!(fs::read_to_string(kept).unwrap(), "never\n");
}
