//! What is done to the cluster: one fault at a time, by chance, each followed by what an init system would do.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Instant;

use capstan_tests::{Cluster, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Done;
use super::dice::Dice;
use super::engine::OwnEngine;
use super::wire::Wire;

pub(super) struct Torment {
    pub(super) cluster: Cluster,
    pub(super) engine: OwnEngine,
    wire: Wire,
    filler: PathBuf,
    pub(super) done: Done,
    /// Ids of jobs that the server accepted.
    pub(super) known: Vec<String>,
    /// What was done when, for who looks for a cause.
    pub(super) log: Vec<String>,
    start: Instant,
}

impl Torment {
    pub(super) fn new(cluster: Cluster, engine: OwnEngine, wire: Wire, filler: PathBuf) -> Self {
        Self {
            cluster,
            engine,
            wire,
            filler,
            done: Done::default(),
            known: Vec::new(),
            log: Vec::new(),
            start: Instant::now(),
        }
    }

    fn note(&mut self, what: &str) {
        let now = fs::read_to_string("/proc/uptime").unwrap();
        let now = now.split(' ').next().unwrap_or_default();
        self.log
            .push(format!("{now} ({:?}) {what}", self.start.elapsed()));
    }

    /// One fault.
    pub(super) fn once(&mut self, dice: &mut Dice) {
        self.revive();
        fs::remove_file(&self.filler).ok();
        match dice.below(10) {
            0 => self.kill_and_start("server"),
            1 => self.kill_and_start("node01"),
            2 => self.kill_and_start("node02"),
            3 => {
                self.note("server and node01 killed");
                self.cluster.kill("node01");
                self.kill_and_start("server");
            }
            4 => self.kill_one(dice, "shim or spawner", |torment, pid| {
                torment.is_of_agent(pid)
            }),
            5 => self.kill_one(dice, "process of a job", |torment, pid| {
                torment.is_of_job(pid)
            }),
            6 => self.kill_clients(dice),
            7 => {
                self.note("connections cut");
                self.wire.cut();
            }
            8 => self.fill(),
            _ => {
                self.note("dockerd killed");
                self.done.kills += 1;
                self.engine.kill_and_start();
            }
        }
    }

    /// A person does something to a job that is there.
    pub(super) fn meddle(&mut self, dice: &mut Dice) {
        let Some(job) = dice.one(&self.known).cloned() else {
            return;
        };
        let (line, who_is_root) = match dice.below(7) {
            0 => (format!("qdel {job}"), false),
            1 => (format!("qhold {job}"), false),
            2 => (format!("qrls {job}"), false),
            3 => (format!("qrerun {job}"), true),
            4 => (format!("qsig -s suspend {job}"), true),
            5 => (format!("qsig -s resume {job}"), true),
            _ => (format!("qdel -p {job}"), true),
        };
        // A purge is for jobs that nothing else ends; here it would take the evidence.
        if line.starts_with("qdel -p") {
            return;
        }
        self.note(&line);
        if line.starts_with("qdel") || line.starts_with("qrerun") {
            self.done.meddled.insert(job);
        }
        let ran = match who_is_root {
            true => self.cluster.root(&line),
            false => self.cluster.sh(&User::alice(), &line),
        };
        self.log
            .push(format!("  -> {} {}", ran.status, ran.stderr.trim()));
    }

    /// Starts again whatever has ended, as an init system does.
    pub(super) fn revive(&mut self) {
        for name in ["server", "node01", "node02"] {
            if !self.lives(name) {
                self.note(&format!("{name} started again"));
                self.cluster.start(name);
            }
        }
    }

    /// The end of all faults.
    pub(super) fn end(&mut self) {
        fs::remove_file(&self.filler).ok();
        self.note("no fault from here on");
        self.revive();
        self.cluster.wait_server();
    }

    /// The part of an agent's id that its cgroups are named by.
    pub(super) fn agent(&self, node: &str) -> String {
        let path = self
            .cluster
            .path()
            .join(format!("nodes/{node}/state/agent-id"));
        fs::read_to_string(path)
            .unwrap()
            .trim()
            .chars()
            .take(8)
            .collect()
    }

    fn lives(&self, name: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.cluster.pid(name)));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn kill_and_start(&mut self, name: &str) {
        self.note(&format!("{name} killed"));
        self.cluster.kill(name);
        self.cluster.start(name);
    }

    fn kill_one(&mut self, dice: &mut Dice, what: &str, is_one: impl Fn(&Self, Pid) -> bool) {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        let mut of: Vec<Pid> = pids.filter(|pid| is_one(self, *pid)).collect();
        of.sort_unstable();
        if let Some(pid) = dice.one(&of).copied() {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            self.note(&format!(
                "{what} {pid} killed: {}",
                line.replace('\0', " ").trim()
            ));
            self.done.kills += 1;
            kill(pid, Signal::SIGKILL).ok();
        }
    }

    /// A process of an agent's binary that is not the agent.
    fn is_of_agent(&self, pid: Pid) -> bool {
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        let is_agents =
            exe.is_ok_and(|exe| exe == self.cluster.path().join("libexec/capstan-agent"));
        is_agents
            && !["node01", "node02"]
                .iter()
                .any(|node| self.cluster.pid(node) == pid)
    }

    fn is_of_job(&self, pid: Pid) -> bool {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environ).into_owned();
        let start = format!("PBS_NODEFILE={}/", self.cluster.path().display());
        text.split('\0').any(|pair| pair.starts_with(&start)) && !self.is_of_agent(pid)
    }

    /// Commands that are killed anywhere in their work.
    fn kill_clients(&mut self, dice: &mut Dice) {
        self.note("clients killed");
        let alice = User::alice();
        let lines = [
            "qstat -f",
            "echo true | qsub -N cut",
            "pbsnodes",
            "qstat -Q",
        ];
        let mut children: Vec<Child> = (0..4)
            .filter_map(|_| dice.one(&lines))
            .filter_map(|line| {
                self.cluster
                    .shell(
                        &alice,
                        &alice.home,
                        &format!("exec 2>/dev/null >&2; {line}"),
                    )
                    .spawn()
                    .ok()
            })
            .collect();
        for child in &mut children {
            std::thread::park_timeout(std::time::Duration::from_millis(dice.below(25)));
            child.kill().ok();
        }
        for mut child in children {
            child.wait().ok();
        }
    }

    /// Fills the disk of node02 to its last byte, until the next fault.
    fn fill(&mut self) {
        self.note("disk of node02 filled");
        let mut file = fs::File::create(&self.filler).unwrap();
        let block = vec![0_u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}
