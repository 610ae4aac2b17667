//! The chaos run: many jobs of all kinds by ordinary users, while processes of the server, the agents, shims, scripts,
//! clients and dockerd are killed, connections cut and a disk filled by chance. `CAPSTAN_CHAOS_SEED` and `CAPSTAN_CHAOS_JOBS`
//! repeat a run or make it longer.

mod dice;
mod engine;
mod judge;
mod torment;
mod wire;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use capstan_tests::{Cluster, User, engine as shared_engine};

use crate::is_root;
use dice::Dice;
use engine::OwnEngine;
use torment::Torment;
use wire::Wire;
use work::Kind;

/// What is thrown is the same at each run; what the throws meet is not.
const SEED: u64 = 11;
/// How many jobs the run has unless told otherwise: what CI has time for.
const JOBS: u64 = 100;
/// Longest quiet time after the last fault until all jobs are done.
const SETTLING: Duration = Duration::from_secs(240);

/// What was done to the jobs.
#[derive(Default)]
pub(crate) struct Done {
    /// Jobs that a person deleted, ran again, held or suspended.
    meddled: BTreeSet<String>,
    /// Shims, scripts and dockerds that were killed.
    kills: u32,
}

impl Done {
    fn is_meddled(&self, job: &str) -> bool {
        let array = job
            .split_once('[')
            .zip(job.split_once(']'))
            .map(|((seq, _), (_, rest))| format!("{seq}[]{rest}"));
        self.meddled.contains(job) || array.is_some_and(|array| self.meddled.contains(&array))
    }
}

/// A small disk of a node, unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let ran = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs"])
            .arg(at)
            .status();
        assert!(ran.unwrap().success(), "mount {}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is '{text}', no number")),
    )
}

/// Goal: whatever is killed, no card is lent twice, no status is invented, nothing is left. Method: see the module; what the
/// jobs saw themselves is compared with what the server says of them.
#[test]
fn whatever_is_killed_no_card_is_lent_twice_no_status_is_invented_and_nothing_is_left() {
    if !is_root() || !shared_engine::is_there() {
        return;
    }
    let seed = number("CAPSTAN_CHAOS_SEED").unwrap_or(SEED);
    let jobs = number("CAPSTAN_CHAOS_JOBS").unwrap_or(JOBS);
    let line = format!("chaos with CAPSTAN_CHAOS_SEED={seed} CAPSTAN_CHAOS_JOBS={jobs}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).ok();
    let place = tempfile::Builder::new()
        .prefix("capstan-chaos-")
        .tempdir()
        .unwrap();
    let folder = place.path();
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let disk = Disk::mount(&folder.join("spool/node02"));
    let own = OwnEngine::start(&folder.join("docker"));
    let spool = folder.join("spool").display().to_string();
    let mut cluster = Cluster::up(&[
        "--nodes",
        "2",
        "--cores",
        "8",
        "--cards",
        "3",
        "--debug",
        "--keep-completed",
        "7200",
        "--spool",
        &spool,
    ]);
    let wire = rewire(&mut cluster, &OwnEngine::socket(&folder.join("docker")));
    let mut torment = Torment::new(cluster, own, wire, disk.0.join("filler"));
    let alice = User::alice();
    let home = alice.folder("chaos");
    fs::create_dir(home.join("runs")).unwrap();
    alice.own(&home.join("runs"));
    let mut dice = Dice::new(seed);
    storm(&mut torment, &mut dice, &home, jobs);
    torment.end();
    let told = settle(&mut torment);
    judged(&torment, &told, &home, seed);
}

/// Has the agents reach the server through a wire, and the run's own engine.
fn rewire(cluster: &mut Cluster, socket: &Path) -> Wire {
    let settings = |node: &str| cluster.path().join(format!("nodes/{node}/agent.toml"));
    let table: toml::Table = fs::read_to_string(settings("node01"))
        .unwrap()
        .parse()
        .unwrap();
    let wire = Wire::to(table["server"].as_str().unwrap());
    for node in ["node01", "node02"] {
        let path = cluster.path().join(format!("nodes/{node}/agent.toml"));
        let mut table: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        table.insert("server".into(), wire.address().into());
        table.insert("docker_socket".into(), socket.display().to_string().into());
        fs::write(&path, table.to_string()).unwrap();
        cluster.kill(node);
        cluster.start(node);
    }
    cluster.kill("server");
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    wire
}

fn storm(torment: &mut Torment, dice: &mut Dice, home: &Path, jobs: u64) {
    let alice = User::alice();
    let mut submitted = 0;
    while submitted < jobs {
        for _ in 0..dice.below(6) {
            let kind = Kind::any(dice);
            let hold = if dice.below(12) == 0 { "-h" } else { "" };
            let arguments = format!("-N {} -d . -j oe {hold} {}", kind.name(), kind.options());
            let line = format!(
                "qsub {arguments} <<'END_OF_JOB'\n{}\nEND_OF_JOB\n",
                kind.script(2 + dice.below(8))
            );
            // Without an answer the job may be there or not: it is judged if it is.
            let ran = torment.cluster.sh_in(&alice, home, &line);
            if ran.status == 0 {
                submitted += kind.jobs();
                torment.known.push(ran.stdout.trim().to_owned());
            }
        }
        torment.meddle(dice);
        torment.once(dice);
    }
}

/// Waits until every job has ended; held ones are released, suspended ones go on.
fn settle(torment: &mut Torment) -> Vec<judge::Told> {
    let start = Instant::now();
    loop {
        torment.revive();
        for (state, line) in [("H", "qrls -h uos"), ("S", "qsig -s resume")] {
            torment
                .cluster
                .root(&format!(
                    "for job in $(qselect -s {state}); do {line} $job; done"
                ))
                .stdout
                .clear();
        }
        let listing = torment.cluster.root("qstat -f -t");
        let told = judge::told(&listing.stdout);
        let open: Vec<&judge::Told> = told.iter().filter(|told| told.state != "C").collect();
        if listing.status == 0 && open.is_empty() {
            return told;
        }
        assert!(
            start.elapsed() < SETTLING,
            "not all jobs ended: {open:#?}\n{}\n{}",
            torment.cluster.root("pbsnodes").stdout,
            torment.log.join("\n")
        );
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

fn judged(torment: &Torment, told: &[judge::Told], home: &Path, seed: u64) {
    let runs = judge::runs(&home.join("runs"));
    let mut breaches = judge::overlaps(&runs);
    breaches.extend(judge::untrue(told, &runs, &torment.done));
    let listed: BTreeSet<&str> = told.iter().map(|told| told.job.as_str()).collect();
    let lost = torment
        .known
        .iter()
        .filter(|job| !job.contains("[]") && !listed.contains(job.as_str()));
    breaches.extend(lost.map(|job| format!("{job} was accepted and is gone")));
    let agents: Vec<String> = ["node01", "node02"]
        .iter()
        .map(|node| torment.agent(node))
        .collect();
    let rest = || {
        let mut left = judge::left(torment.cluster.path(), &agents, &BTreeSet::new());
        let containers = torment
            .engine
            .docker(&["ps", "-aq", "--filter", "label=capstan.agent"]);
        left.extend(
            containers
                .unwrap_or_default()
                .lines()
                .map(|id| format!("container {id}")),
        );
        left
    };
    let start = Instant::now();
    let mut left = rest();
    while !left.is_empty() && start.elapsed() < Duration::from_secs(30) {
        std::thread::park_timeout(Duration::from_millis(200));
        left = rest();
    }
    breaches.extend(left.into_iter().map(|what| format!("left: {what}")));
    assert!(
        breaches.is_empty(),
        "CAPSTAN_CHAOS_SEED={seed}, {} jobs, {} runs:\n{}\n\nwhat was done:\n{}",
        told.len(),
        runs.len(),
        breaches.join("\n"),
        torment.log.join("\n")
    );
    let missing: Vec<i32> = [0, 3, 4, 5]
        .into_iter()
        .filter(|end| !judge::some_ended(&runs, *end))
        .collect();
    assert!(
        missing.is_empty(),
        "of some kind no job came to its own end: {missing:?}"
    );
    assert!(
        runs.len() * 2 > told.len(),
        "too few jobs ran for this to prove anything: {} of {}",
        runs.len(),
        told.len()
    );
}
