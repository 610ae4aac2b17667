//! Reservations with real agents: a time begins and ends by the clock, and the server may be killed in between.

use std::fs;

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// Goal: a reservation of both cards that begins at once lets its owner's job in and keeps a stranger's out, survives a
/// server that is killed, and stops what still runs when it is over; then the stranger's job starts.
#[test]
fn a_reservation_lets_its_jobs_in_keeps_others_out_and_ends_by_the_clock() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "8", "--cards", "2", "--debug"]);
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("reserving");
    let refused = cluster.sh_in(&alice, &folder, "pbs_rsub -l nodes=1:gpus=2 -D 20");
    assert!(
        refused.stderr.contains("reservations_by_users = True"),
        "{refused:?}"
    );
    cluster
        .root("qmgr -c 'set server reservations_by_users = True'")
        .ok();
    let printed = cluster.sh_in(
        &alice,
        &folder,
        "pbs_rsub -N course -l nodes=1:gpus=2 -D 20",
    );
    let printed = printed.ok();
    let id = printed
        .trim()
        .strip_suffix(" CONFIRMED")
        .unwrap()
        .to_owned();
    let queue = id.split('.').next().unwrap().to_owned();
    assert!(queue.starts_with('R'), "{id}");

    let of_bob = bob.folder("outside");
    let outside = cluster.submit(&bob, &of_bob, "-l nodes=1:gpus=1,walltime=1:00:00", "true");
    wait_until("the job outside says what it waits for", || {
        let comment = cluster.attribute(&outside, "comment").unwrap_or_default();
        match comment.contains(&format!("{queue} course begins at")) {
            true => Ok(()),
            false => Err(comment),
        }
    });
    let endless = "while [ ! -e go ]; do sleep 0.1; done";
    let options = format!("-q {queue} -l nodes=1:gpus=2 -d .");
    let inside = cluster.submit(&alice, &folder, &options, endless);
    cluster.wait_state(&inside, "R");
    let stranger = cluster.sh_in(&bob, &of_bob, &format!("echo true | qsub -q {queue}"));
    assert_ne!(stranger.status, 0, "{stranger:?}");
    let listed = cluster.sh_in(&bob, &of_bob, "pbs_rstat").ok();
    assert!(listed.contains(" RN "), "{listed}");

    cluster.kill("server");
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    let listed = cluster.sh_in(&bob, &of_bob, "pbs_rstat -f").ok();
    assert!(listed.contains("Reserve_Name = course"), "{listed}");

    // By the clock it is over: what runs inside is stopped, the queue is gone, and the nodes are for everybody.
    cluster.wait_state(&inside, "C");
    cluster.wait_state(&outside, "C");
    assert_eq!(
        cluster.attribute(&outside, "exit_status").as_deref(),
        Some("0")
    );
    let listed = cluster.root("pbs_rstat").ok();
    assert!(listed.is_empty(), "{listed}");
    let queues = cluster.root("qstat -Q").ok();
    assert!(!queues.contains(&queue), "{queues}");
    fs::write(folder.join("go"), "").unwrap();
}

/// Goal: maintenance is refused while a job runs into it, made when it is forced, keeps new jobs out, and lets them start
/// when it is taken back.
#[test]
fn maintenance_keeps_jobs_out_until_it_is_taken_back() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "1", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("maintenance");
    let endless = "while [ ! -e go ]; do sleep 0.1; done";
    let running = cluster.submit(&alice, &folder, "-l walltime=1:00:00 -d .", endless);
    cluster.wait_state(&running, "R");
    let refused = cluster.root("pbs_rsub --maintenance -D 1:00:00");
    assert!(
        refused.stderr.contains("1 running jobs may not be over"),
        "{refused:?}"
    );
    let made = cluster
        .root("pbs_rsub --maintenance -D 1:00:00 --force")
        .ok();
    let id = made.trim().strip_suffix(" CONFIRMED").unwrap().to_owned();
    assert!(id.starts_with('M'), "{id}");
    let waiting = cluster.submit(&alice, &folder, "-l walltime=60", "true");
    wait_until("the job says that it waits for the window", || {
        let comment = cluster.attribute(&waiting, "comment").unwrap_or_default();
        match comment.contains("Job would conflict with a reservation") {
            true => Ok(()),
            false => Err(comment),
        }
    });
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&running, "C");
    cluster.wait_state(&waiting, "Q");
    cluster.root(&format!("pbs_rdel {id}")).ok();
    cluster.wait_state(&waiting, "C");
}
