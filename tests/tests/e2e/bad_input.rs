//! Bad input: a clear error that names the value, and nothing queued for ever.

use std::fs;

use capstan_tests::{Cluster, Ran, User, wait_until};

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
        "qsub -l nodes=1:marble ok.sh",
        190,
        &["Job exceeds queue resource limits", "marble"],
    );
    refused(
        "qsub -l nodes=1:gpus=3 ok.sh",
        190,
        &["cannot locate feasible nodes", "3 cards", "node01"],
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
fn an_unreachable_server_is_named_with_its_socket_and_the_remedy() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "1", "--debug"]);
    let alice = User::alice();
    let line = "echo true | CAPSTAN_SERVER_SOCKET=/tmp/nobody-listens.sock qsub";
    let ran: Ran = cluster.sh(&alice, line);
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("/tmp/nobody-listens.sock"), "{ran:?}");
    assert!(ran.stderr.contains("CAPSTAN_SERVER_SOCKET"), "{ran:?}");
}

#[test]
fn an_output_folder_is_made_where_the_user_may_and_otherwise_the_job_is_held_with_the_reason() {
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
    cluster.wait_state(&refused, "H");
    let comment = wait_until("the comment names the path", || {
        cluster.attribute(&refused, "comment").ok_or("no comment")
    });
    assert!(comment.contains("/root/sneaky"), "{comment}");
    assert!(!std::path::Path::new("/root/sneaky").exists());
    cluster.sh(&alice, &format!("qdel {refused}")).ok();
}
