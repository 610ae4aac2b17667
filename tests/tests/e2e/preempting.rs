//! Running jobs that make room for others, with real agents: the signal, the grace, the way back.

use std::fs;
use std::path::Path;

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

fn appears(file: &Path) {
    let what = format!("{} is there", file.display());
    wait_until(&what, || match file.exists() {
        true => Ok(()),
        false => Err("not yet"),
    });
}

/// Goal: a job that traps SIGTERM saves its work within the grace, goes back to its queue, and goes on when the urgent
/// job has ended; one that ignores the signal is killed after the grace and runs again as well.
#[test]
fn a_preempted_job_saves_its_work_makes_room_and_runs_again() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "8", "--cards", "2", "--debug"]);
    for line in [
        "create queue urgent queue_type=Execution,Priority=100,enabled=True,started=True",
        "set queue urgent preempts = True",
        "set queue batch preemptable = requeue",
        "set queue batch preempt_grace = 2",
    ] {
        cluster.root(&format!("qmgr -c '{line}'")).ok();
    }
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("preempted");
    let saves = "[ -e saved ] && { echo > resumed; exit 0; }; \
                 trap 'echo > saved; exit 1' TERM; echo > up; while :; do sleep 0.1; done";
    let saving = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1 -d .", saves);
    let ignores = "[ -e deaf ] && exit 0; trap '' TERM; echo > deaf; while :; do sleep 0.1; done";
    let deaf = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1 -d .", ignores);
    appears(&folder.join("up"));
    appears(&folder.join("deaf"));

    let of_bob = bob.folder("urgent");
    let script = "while [ ! -e go ]; do sleep 0.1; done";
    let options = "-q urgent -l nodes=1:gpus=2 -d .";
    let urgent = cluster.submit(&bob, &of_bob, options, script);
    cluster.wait_state(&urgent, "R");
    assert!(folder.join("saved").exists(), "no time to save its work");
    let number = urgent.split('.').next().unwrap();
    for job in [&saving, &deaf] {
        cluster.wait_state(job, "Q");
        let said = format!("preempted by job {number} of queue urgent; requeued");
        wait_until("the job says who had it stopped", || {
            let comment = cluster.attribute(job, "comment").unwrap_or_default();
            match comment.contains(&said) {
                true => Ok(()),
                false => Err(comment),
            }
        });
    }

    fs::write(of_bob.join("go"), "").unwrap();
    for job in [&urgent, &saving, &deaf] {
        cluster.wait_state(job, "C");
        assert_eq!(cluster.attribute(job, "exit_status").as_deref(), Some("0"));
    }
    assert!(folder.join("resumed").exists());
}
