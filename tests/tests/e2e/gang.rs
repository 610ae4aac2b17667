//! Gangs: programs of several tasks under `pbsdsh`, what they are told of each other, in containers and on other nodes too,
//! and what the first that fails means for the others and for the job.

use std::fs;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User};

use crate::is_root;
use crate::lasting::left_of;

/// Stdout and stderr of a job named `j`, without the footer that the node adds.
fn outputs(folder: &Path, job: &str) -> (String, String) {
    let seq = job.split('.').next().unwrap();
    let read = |letter| {
        let text = fs::read_to_string(folder.join(format!("j.{letter}{seq}"))).unwrap_or_default();
        text.split("---- job ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    (read('o'), read('e'))
}

const FIRST: &str = "rank 1 on node02 failed first, with exit status 9";
/// Of two ranks the second fails, and the first would go on for long.
const RANKS: &str = "sh -c 'test $PBS_VNODENUM = 1 && exit 9; sleep 300'";

#[test]
fn the_first_rank_that_fails_ends_a_job_that_wants_so_and_is_named_with_its_node() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("gang-ends");
    let script = format!("pbsdsh {RANKS}; echo went on");
    let job = cluster.submit(&alice, &folder, "-N j -W gang=end -l nodes=2", &script);
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = outputs(&folder, &job);
    let cause = cluster.attribute(&job, "exit_cause");
    assert_eq!(cause.as_deref(), Some(FIRST), "{stdout} {stderr}");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("9"));
    assert_eq!(cluster.attribute(&job, "gang").as_deref(), Some("end"));
    let told = format!("=>> PBS: job killed: {FIRST}");
    assert!(stderr.contains(&told), "{stderr}");
}

#[test]
fn with_k_a_call_ends_with_its_first_failing_rank_and_the_script_goes_on() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("gang-keeps");
    let script = format!("pbsdsh -k {RANKS}; echo it said $?; exit $1");
    let run = |arguments: &str| {
        let arguments = format!("-N j -l nodes=2 {arguments}");
        let job = cluster.submit(&alice, &folder, &arguments, &script);
        cluster.wait_state(&job, "C");
        let (stdout, stderr) = outputs(&folder, &job);
        assert_eq!(stdout, "it said 9\n", "{stderr}");
        let told = "pbsdsh(): rank 1 on node02 failed first; ending the others";
        assert!(stderr.contains(told), "{stderr}");
        let status = cluster.attribute(&job, "exit_status").unwrap_or_default();
        (status, cluster.attribute(&job, "exit_cause"))
    };
    assert_eq!(run("-F 4"), ("4".to_owned(), Some(FIRST.to_owned())));
    // A job that made the best of it has no cause to tell.
    assert_eq!(run("-F 0 -W gang=keep"), ("0".to_owned(), None));
    let refused = cluster.sh_in(&alice, &folder, "echo true | qsub -W gang=maybe");
    assert!(
        refused.status != 0 && refused.stderr.contains("'maybe' is neither end nor keep"),
        "{refused:?}"
    );
}

#[test]
fn ranks_in_containers_of_all_nodes_know_their_places_and_where_to_meet() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "2", "--cards", "1", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("gang-inside");
    let told = "echo rank $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE on node $PBS_NODENUM, \
                meet $MASTER_ADDR:$MASTER_PORT paddle $PADDLE_MASTER $PADDLE_CURRENT_ENDPOINT cards $CUDA_VISIBLE_DEVICES";
    fs::write(folder.join("rank.sh"), told).unwrap();
    alice.own(&folder.join("rank.sh"));
    let script = format!(
        "echo at $MASTER_ADDR:$MASTER_PORT\npbsdsh $(command -v startdocker) -s {}/rank.sh {IMAGE}\n",
        folder.display()
    );
    let job = cluster.submit(&alice, &folder, "-N j -l nodes=2:gpus=1", &script);
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = outputs(&folder, &job);
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    let meet = lines.first().and_then(|line| line.strip_prefix("at "));
    let meet = meet.unwrap_or_else(|| panic!("{stdout} {stderr}"));
    let port: u32 = meet.strip_prefix("node01:").unwrap().parse().unwrap();
    let rank = |rank: u32, node: &str| {
        format!(
            "rank {rank} of 2, 0 of 1 on node {rank}, meet {meet} paddle {meet} {node}:{} cards 0",
            port + 1
        )
    };
    assert_eq!(
        lines[1..],
        [rank(0, "node01"), rank(1, "node02")],
        "{stderr}"
    );
    for node in ["node01", "node02"] {
        assert_eq!(left_of(&cluster, node), "", "{node}");
    }
}

/// Goal: on a node where the script does not run, a container of a gang has the cards that the job has there: not as many as it
/// has elsewhere, not those of another job, also where it asks for more.
#[test]
fn containers_on_each_node_of_a_gang_have_its_share_of_that_nodes_cards() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "4", "--cards", "3", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("gang-shares");
    // The first card of the second node is another's.
    let other = "-l nodes=node02:gpus=1,walltime=600 -d . -o /dev/null -e /dev/null";
    let other = cluster.submit(&alice, &folder, other, "sleep 600");
    cluster.wait_state(&other, "R");
    let script = format!(
        "pbsdsh -u $(command -v startdocker) -c 'echo node $PBS_NODENUM: $NVIDIA_VISIBLE_DEVICES, $CUDA_VISIBLE_DEVICES' {IMAGE}
         pbsdsh -u env NVIDIA_VISIBLE_DEVICES=all CUDA_VISIBLE_DEVICES=0,1,2 $(command -v startdocker) -c 'echo again $PBS_NODENUM: $NVIDIA_VISIBLE_DEVICES' {IMAGE}
         pbsdsh -u $(command -v startdocker) -u '--gpus all' -c 'echo with all $PBS_NODENUM: $NVIDIA_VISIBLE_DEVICES' {IMAGE}"
    );
    let options = "-N j -l nodes=node01:gpus=2+node02:gpus=1,walltime=300";
    let job = cluster.submit(&alice, &folder, options, &script);
    cluster.wait_state(&job, "C");
    let (stdout, stderr) = outputs(&folder, &job);
    let uuid = |node: &str, card: usize| {
        let file = cluster
            .path()
            .join(format!("nodes/{node}/nvml/fake-nvml.toml"));
        let text = fs::read_to_string(file).unwrap();
        let found = text.split("uuid = \"").nth(card + 1).unwrap();
        found.split('"').next().unwrap().to_owned()
    };
    let first = format!("{},{}", uuid("node01", 0), uuid("node01", 1));
    let second = uuid("node02", 1);
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    let expected = [
        format!("again 0: {first}"),
        format!("again 1: {second}"),
        format!("node 0: {first}, 0,1"),
        format!("node 1: {second}, 0"),
        format!("with all 0: {first}"),
        format!("with all 1: {second}"),
    ];
    assert_eq!(lines, expected, "{stderr}");
    cluster.sh(&alice, &format!("qdel {other}")).ok();
    cluster.wait_state(&other, "C");
    for node in ["node01", "node02"] {
        assert_eq!(left_of(&cluster, node), "", "{node}");
    }
}
