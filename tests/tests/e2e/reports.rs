//! What users of the clusters look at all day, and what is reckoned at the end of a month: jobs with their cards, the map of
//! cards, who used how much.

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

#[test]
fn jobs_are_listed_with_their_cards_and_what_they_use_so_far_is_reckoned() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    let name = "qmgr -c 'set node node01 properties += S'";
    cluster.root(name).ok();
    let alice = User::alice();
    let folder = alice.folder("reports");
    let options = "-N trains -d . -l nodes=1:gpus=1:S";
    let job = cluster.submit(&alice, &folder, options, "sleep 600");
    cluster.wait_state(&job, "R");
    let waiting = cluster.submit(&alice, &folder, "-N waits -h -l nodes=1:gpus=2", "true");

    let listed = cluster.sh(&alice, "qstat --cards").ok();
    let line = |text: &str, job: &str| {
        let found = text.lines().find(|line| line.starts_with(job));
        found.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let of_job = line(&listed, &job);
    let words: Vec<&str> = of_job.split_whitespace().collect();
    assert_eq!(
        words[1..4],
        [alice.name, "trains", "1:gpus=1:S"],
        "{listed}"
    );
    let is_card = words
        .last()
        .is_some_and(|card| card.starts_with("node01-gpu/"));
    assert!(words[6] == "R" && is_card, "{listed}");
    let of_waiting = line(&listed, &waiting);
    assert!(of_waiting.contains(" H "), "{listed}");
    let one = cluster.sh(&alice, &format!("qstat --cards {job}")).ok();
    assert!(one.contains("trains") && !one.contains("waits"), "{one}");

    for name in ["chk_gpu", "qgpu"] {
        let picture = cluster.sh(&alice, name).ok();
        assert!(line(&picture, &job).contains("trains"), "{picture}");
        assert!(picture.contains(": 1 of 2 free; types "), "{picture}");
        let map = line(&picture, "  node01 ");
        assert!(map.contains("[x]") && map.contains("[ ]"), "{picture}");
    }

    // A month without an end, and a job that runs.
    let row = wait_until("its time is reckoned", || {
        let text = cluster.sh(&alice, "get_report").ok();
        let row = text.lines().find(|line| line.contains(alice.name));
        match row {
            Some(row) => Ok(row.to_owned()),
            None => Err(text),
        }
    });
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[2..5], ["0", "0", "1"], "{row}");
    let same = cluster.sh(&alice, "qreport").ok();
    assert!(same.contains(", and so far by jobs that run"), "{same}");
    let past = cluster.sh(&alice, "get_report -m 199901").ok();
    assert!(!past.contains(alice.name), "{past}");
    cluster.sh(&alice, &format!("qdel {job} {waiting}")).ok();
}
