//! Containers: the demo script of the seed cluster, the attempt's cards, and nothing left behind.

use std::fs;
use std::path::PathBuf;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// The seed cluster's own kind of script; only the user's name and the image are put in.
const DEMO: &str = "#PBS    -N  testjob
#PBS    -o  /ghome/USER/$PBS_JOBID.out
#PBS    -e  /ghome/USER/$PBS_JOBID.err
#PBS\t-l nodes=1:gpus=1:S
#PBS    -r y
#PBS    -q mcc
cd $PBS_O_WORKDIR
echo Time is `date`
echo Directory is $PWD
echo This job runs on following nodes:
echo -n \"Node:\"
cat $PBS_NODEFILE
echo -n \"Gpus:\"
cat $PBS_GPUFILE
echo \"CUDA_VISIBLE_DEVICES:\"$CUDA_VISIBLE_DEVICES
startdocker -c \"sh /ghome/USER/mytest.sh\"  IMAGE
";

/// A user's folder under /ghome, removed again when dropped.
struct GHome {
    user: PathBuf,
    made_root: bool,
}

impl GHome {
    fn of(user: &User) -> Self {
        let root = PathBuf::from("/ghome");
        let made_root = !root.exists();
        let folder = root.join(user.name);
        fs::create_dir_all(&folder).unwrap();
        user.own(&folder);
        Self {
            user: folder,
            made_root,
        }
    }
}

impl Drop for GHome {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.user).ok();
        if self.made_root {
            fs::remove_dir("/ghome").ok();
        }
    }
}

#[test]
fn the_demo_script_of_the_seed_cluster_runs_on_a_card_in_a_container() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let arguments = [
        "--nodes", "1", "--cores", "4", "--cards", "2", "--queue", "mcc", "--debug",
    ];
    let cluster = Cluster::up(&arguments);
    let alice = User::alice();
    let home = GHome::of(&alice);
    let test = "echo in the container as `whoami` in $PWD with cards $CUDA_VISIBLE_DEVICES; id -u; cat $PBS_NODEFILE; exit 5\n";
    fs::write(home.user.join("mytest.sh"), test).unwrap();
    let script = DEMO.replace("USER", alice.name).replace("IMAGE", IMAGE);
    fs::write(home.user.join("demo.pbs"), script).unwrap();
    let job = cluster.sh_in(&alice, &home.user, "qsub demo.pbs").ok();
    cluster.wait_state(&job, "C");
    let stdout = fs::read_to_string(home.user.join(format!("{job}.out"))).unwrap();
    let stderr = fs::read_to_string(home.user.join(format!("{job}.err"))).unwrap();
    for line in [
        format!("Directory is {}", home.user.display()),
        "Node:node01".to_owned(),
        "Gpus:node01-gpu0".to_owned(),
        "CUDA_VISIBLE_DEVICES:0".to_owned(),
        format!(
            "in the container as capstan-alice in {} with cards 0",
            home.user.display()
        ),
        alice.uid.to_string(),
    ] {
        assert!(
            stdout.lines().any(|seen| seen == line),
            "no {line:?} in {stdout}\n{stderr}"
        );
    }
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("5"),
        "{stderr}"
    );
    assert_eq!(cluster.containers_of(&job), "");
}

#[test]
fn deleting_a_job_ends_its_container() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--cards", "1", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("container-qdel");
    let line = format!("startdocker -c 'touch in-container; sleep 600' {IMAGE}");
    let job = cluster.submit(&alice, &folder, "-d . -l nodes=1:gpus=1", &line);
    wait_until("the container runs", || {
        match folder.join("in-container").exists() {
            true => Ok(()),
            false => Err(cluster.attribute(&job, "job_state")),
        }
    });
    assert_ne!(cluster.containers_of(&job), "");
    cluster.sh(&alice, &format!("qdel -W 0 {job}")).ok();
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.containers_of(&job), "");
}

#[test]
fn startdocker_outside_a_job_is_refused() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let door = cluster.path().join("node01/run/agent.sock");
    let sockets = docker_free_find(cluster.path());
    let door = sockets.unwrap_or(door);
    let line = format!(
        "CAPSTAN_AGENT_SOCKET={} PBS_JOBID=1.x startdocker -c id {IMAGE}",
        door.display()
    );
    let ran = cluster.sh(&alice, &line);
    assert_eq!(ran.status, 125, "{ran:?}");
    assert!(ran.stderr.contains("job"), "{ran:?}");
}

/// The agent's door, wherever `scripts/cluster` put it.
fn docker_free_find(folder: &std::path::Path) -> Option<PathBuf> {
    let found = std::process::Command::new("find")
        .arg(folder)
        .args(["-name", "agent.sock"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().next().map(PathBuf::from)
}

/// Goal: processor time of a container is its job's: it counts for `-l cput` and stands in `resources_used`.
#[test]
fn what_a_container_computes_counts_as_the_jobs_own() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("container-cput");
    let script = format!("startdocker -c \"sh -c 'while :; do :; done'\" {IMAGE}");
    let job = cluster.submit(&alice, &folder, "-d . -j oe -o out -l cput=2", &script);
    cluster.wait_state(&job, "C");
    let said = fs::read_to_string(folder.join("out")).unwrap_or_default();
    let status = cluster.attribute(&job, "exit_status");
    assert_eq!(status.as_deref(), Some("-12"), "{said}");
    assert!(said.contains("=>> PBS: job killed: cput "), "{said}");
    let cput = cluster.attribute(&job, "resources_used.cput");
    assert!(
        cput.is_some_and(|cput| cput.as_str() >= "00:00:02"),
        "{said}"
    );
}
