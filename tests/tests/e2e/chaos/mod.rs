//! The chaos run: many jobs of all kinds by ordinary users, while processes of the server, the agents, shims, scripts,
//! clients and dockerd are killed or stopped, connections cut or silent, disks filled and cards dirtied by chance.
//! `CAPSTAN_CHAOS_SEED` and `CAPSTAN_CHAOS_JOBS` repeat a run or make it longer.

mod dice;
mod done;
mod judge;
mod judge_tests;
mod left;
mod past;
mod torment;
mod wire;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use capstan_tests::{Cluster, OwnEngine, User, engine, wait_until};

use crate::disk::Disk;
use crate::is_root;
use dice::Dice;
use done::Sent;
use torment::Torment;
use wire::Wire;
use work::Kind;

/// What is thrown is the same at each run; what the throws meet is not.
const SEED: u64 = 11;
/// How many jobs the run has unless told otherwise: what CI has time for.
const JOBS: u64 = 100;
/// Longest quiet time after the last fault until all jobs are done. A start that failed is tried again after 2, 4, 8 …
/// seconds.
const SETTLING: Duration = Duration::from_secs(300);
/// Longest pause between two faults, milliseconds.
const PAUSE_MS: u64 = 900;
const NODES: [&str; 2] = ["node01", "node02"];

/// A user of the run, and where his jobs live.
pub(crate) struct Member {
    user: User,
    home: PathBuf,
}

impl Member {
    /// Two runs at a time on one host have folders of their own.
    fn of(user: User) -> Self {
        let home = user.folder(&format!("chaos-{}", std::process::id()));
        fs::create_dir(home.join("runs")).unwrap();
        user.own(&home.join("runs"));
        Self { user, home }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // For who looks for a cause it stays.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.home).ok();
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is '{text}', no number")),
    )
}

/// Goal: whatever is killed, no card is lent twice or dirty, no status is invented, no accepted job and no printed line is
/// lost, nothing is left, and nobody has to release anything. Method: see the module; what the jobs saw themselves is
/// compared with what the server says of them, its journal and its accounting log.
#[test]
fn whatever_is_killed_no_card_is_lent_twice_no_status_is_invented_and_nothing_is_left() {
    if !is_root() || !engine::is_there() {
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
    let of_node = Disk::mount(&folder.join("spool/node02"), "16m");
    let of_server = Disk::mount(&folder.join("server"), "256m");
    let own = OwnEngine::start(&folder.join("docker"));
    let spool = folder.join("spool").display().to_string();
    let cards = torment::CARDS.to_string();
    let mut cluster = Cluster::up(&[
        "--nodes",
        "2",
        "--cores",
        "8",
        "--cards",
        &cards,
        "--debug",
        "--keep-completed",
        "7200",
        "--spool",
        &spool,
    ]);
    let socket = OwnEngine::socket(&folder.join("docker"));
    let wire = rewire(&mut cluster, &socket, &of_server.0);
    let disks = [of_node.0.clone(), of_server.0.clone()];
    let mut torment = Torment::new(cluster, own, wire, disks);
    let users = [Member::of(User::alice()), Member::of(User::bob())];
    let mut dice = Dice::new(seed);
    storm(&mut torment, &mut dice, &users, jobs);
    torment.end();
    let told = settle(&mut torment, &users);
    judged(&torment, &told, &users, seed);
}

/// Has the agents reach the server through a wire, and the run's own engine; moves what the server keeps to a disk.
fn rewire(cluster: &mut Cluster, socket: &Path, disk: &Path) -> Wire {
    let table = |path: &Path| -> toml::Table { fs::read_to_string(path).unwrap().parse().unwrap() };
    let settings =
        |cluster: &Cluster, node: &str| cluster.path().join(format!("nodes/{node}/agent.toml"));
    let of_node = table(&settings(cluster, "node01"));
    let wire = Wire::to(of_node["server"].as_str().unwrap());
    for node in NODES {
        let path = settings(cluster, node);
        let mut table = table(&path);
        table.insert("server".into(), wire.address().into());
        table.insert("docker_socket".into(), socket.display().to_string().into());
        fs::write(&path, table.to_string()).unwrap();
        cluster.kill(node);
        cluster.start(node);
    }
    cluster.kill("server");
    let state = disk.join("state");
    let copied = Command::new("cp")
        .arg("-a")
        .args([&cluster.server_state(), &state])
        .status();
    assert!(copied.unwrap().success());
    let path = cluster.path().join("server.toml");
    let mut server = table(&path);
    server.insert("state_dir".into(), state.display().to_string().into());
    fs::write(&path, server.to_string()).unwrap();
    cluster.start("server");
    cluster.wait_server();
    cluster.wait_nodes();
    wire
}

fn storm(torment: &mut Torment, dice: &mut Dice, users: &[Member], jobs: u64) {
    let mut submitted = 0;
    while submitted < jobs {
        for _ in 0..dice.below(7) {
            let kind = Kind::any(dice);
            let user = usize::try_from(dice.below(2)).unwrap_or_default();
            let hold = if dice.below(12) == 0 { "-h" } else { "" };
            let sent = Sent::of(kind, user, &torment.done);
            let line = sent.line(hold, 2 + dice.below(12));
            let member = &users[user];
            // A server that is stopped or whose disk is full keeps people waiting; they do not wait for ever.
            let line = format!("timeout 5 {line}");
            let ran = torment.cluster.sh_in(&member.user, &member.home, &line);
            let answer = (ran.status == 0).then(|| ran.stdout.trim().to_owned());
            if answer.is_some() {
                submitted += kind.jobs();
            }
            torment.done.sent(sent, answer);
        }
        torment.meddle(dice, users);
        torment.once(dice, users);
        std::thread::park_timeout(Duration::from_millis(dice.below(PAUSE_MS)));
    }
}

/// Waits until every job has ended. People release what people hold and let go on what they stopped; what the system holds
/// it must release by itself.
fn settle(torment: &mut Torment, users: &[Member]) -> Vec<judge::Told> {
    let start = Instant::now();
    loop {
        torment.revive();
        for member in users {
            let line = "for job in $(qselect -s H -h u); do qrls -h u $job; done";
            torment.cluster.sh(&member.user, line).stdout.clear();
        }
        let line = "for job in $(qselect -s S); do qsig -s resume $job; done";
        torment.cluster.root(line).stdout.clear();
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
            torment.done.log.join("\n")
        );
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

fn judged(torment: &Torment, told: &[judge::Told], users: &[Member], seed: u64) {
    wait_until("all nodes are free and no card is held back", || {
        let said = torment.cluster.root("pbsnodes").stdout;
        let is_well = !said.contains("quarantined") && !said.contains("in use by no job");
        match said.matches("     state = free\n").count() == NODES.len() && is_well {
            true => Ok(()),
            false => Err(said),
        }
    });
    let runs: Vec<judge::Run> = users
        .iter()
        .flat_map(|member| judge::runs(&member.home.join("runs")))
        .collect();
    let name = torment.cluster.root("qstat -B -f").ok();
    let name = name
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("Server: "));
    let state = torment.cluster.server_state();
    let journal = past::journal(&state, &name.unwrap().into());
    let shims = torment.done.attempts.iter();
    let shimless = shims.filter_map(|attempt| journal.jobs.get(attempt));
    let mut lent: BTreeMap<&str, Vec<&BTreeSet<String>>> = BTreeMap::new();
    for (attempt, cards) in &journal.lent {
        lent.entry(&journal.jobs[attempt]).or_default().push(cards);
    }
    let homes: Vec<&Path> = users.iter().map(|member| member.home.as_path()).collect();
    let case = judge::Case {
        told,
        runs: &runs,
        accounts: &past::accounting(&state),
        lent: &lent,
        done: &torment.done,
        shimless: &shimless.map(String::as_str).collect(),
        homes: &homes,
    };
    let dirty = &torment.done.dirty;
    let mut breaches: Vec<String> = journal.breaches.iter().cloned().collect();
    breaches.extend(judge::overlaps(&runs));
    breaches.extend(judge::lent_dirty(&runs, dirty, &journal.begun));
    breaches.extend(case.breaches());
    breaches.extend(nothing_left(torment));
    assert!(
        breaches.is_empty(),
        "CAPSTAN_CHAOS_SEED={seed}, {} jobs, {} runs, {} changes:\n{}\n\nwhat was done:\n{}",
        told.len(),
        runs.len(),
        journal.changes,
        breaches.join("\n"),
        torment.done.log.join("\n")
    );
    let has_proved = |end: &i32| judge::some_ended(&runs, *end);
    let missing: Vec<i32> = [0, 3, 4, 5]
        .into_iter()
        .filter(|end| !has_proved(end))
        .collect();
    assert!(
        missing.is_empty(),
        "of some kind no job came to its own end: {missing:?}"
    );
    assert!(
        runs.len() * 2 > told.len() && journal.changes > told.len(),
        "too few jobs ran for this to prove anything: {} of {}",
        runs.len(),
        told.len()
    );
}

/// What is still left after a while.
fn nothing_left(torment: &Torment) -> Vec<String> {
    let start = Instant::now();
    loop {
        let left = left::left(torment, &NODES);
        if left.is_empty() || start.elapsed() > Duration::from_secs(45) {
            return left
                .into_iter()
                .map(|what| format!("left: {what}"))
                .collect();
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
