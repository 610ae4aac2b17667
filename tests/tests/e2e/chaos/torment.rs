//! What is done to the cluster: one fault at a time, by chance, each followed by what an init system would do. Faults that
//! last end by themselves a while later.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan_tests::{Cluster, OwnEngine};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::dice::Dice;
use super::done::{Done, Sent};
use super::wire::Wire;
use super::work::Kind;
use super::{Member, NODES};
use crate::cards::Driver;

/// Cards of each node.
pub(super) const CARDS: u64 = 3;
/// What a job that holds this card has left in it.
const LEAK: &str = "leaked_mib = 9000";

/// A fault that lasts.
enum Lasting {
    /// The process does not run, and is not dead either.
    Stopped(&'static str),
    /// The wire is silent.
    Silent,
    /// The file fills its disk.
    Full(PathBuf),
    /// The node's card is dirty.
    Dirty(&'static str, u64),
}

pub(super) struct Torment {
    pub(super) cluster: Cluster,
    pub(super) engine: OwnEngine,
    wire: Wire,
    /// A folder on the disk of node02, and one on the server's.
    disks: [PathBuf; 2],
    lasting: Vec<(Instant, Lasting)>,
    pub(super) done: Done,
}

impl Torment {
    pub(super) fn new(
        cluster: Cluster,
        engine: OwnEngine,
        wire: Wire,
        disks: [PathBuf; 2],
    ) -> Self {
        Self {
            cluster,
            engine,
            wire,
            disks,
            lasting: Vec::new(),
            done: Done::default(),
        }
    }

    /// One fault.
    pub(super) fn once(&mut self, dice: &mut Dice, users: &[Member]) {
        self.end_lasting(false);
        self.revive();
        match dice.below(16) {
            0 => self.kill_and_start("server"),
            1 => self.kill_and_start("node01"),
            2 => self.kill_and_start("node02"),
            3 => {
                self.done.note("server and node01 killed");
                self.kill("node01");
                self.kill_and_start("server");
            }
            4 | 5 => self.kill_one(dice, "shim or spawner", |torment, pid| {
                torment.is_of_agent(pid)
            }),
            6 => self.kill_one(dice, "process of a job", |torment, pid| {
                torment.is_of_job(pid)
            }),
            7 | 8 => self.kill_clients(dice, users),
            9 => {
                self.done.note("connections cut");
                self.wire.cut();
            }
            10 => self.fill(dice, 0, "node02"),
            11 => self.fill(dice, 1, "the server"),
            12 => {
                self.done.engine_was_killed();
                self.engine.kill();
                self.engine.start_again();
            }
            13 => {
                let name = ["node01", "node02", "server"];
                let name = dice.one(&name).copied().unwrap_or("node01");
                self.done.note(&format!("{name} stopped"));
                kill(self.cluster.pid(name), Signal::SIGSTOP).ok();
                self.last(dice, Lasting::Stopped(name));
            }
            14 => {
                self.done.note("the wire goes dead");
                self.wire.set_dead(true);
                self.last(dice, Lasting::Silent);
            }
            _ => self.dirty(dice),
        }
    }

    /// A person does something to a job of his own that is there.
    pub(super) fn meddle(&mut self, dice: &mut Dice, users: &[Member]) {
        let Some((job, user)) = dice.one(&self.done.known).cloned() else {
            return;
        };
        let (words, by_root) = match dice.below(6) {
            0 => ("qdel", false),
            1 => ("qhold", false),
            2 => ("qrls", false),
            3 => ("qrerun", true),
            4 => ("qsig -s suspend", true),
            _ => ("qsig -s resume", true),
        };
        // A server that is stopped keeps people waiting; they do not wait for ever.
        let line = format!("timeout 5 {words} {job}");
        self.done.note(&line);
        if matches!(words, "qdel" | "qrerun") {
            self.done.meddled.insert(job);
        }
        let ran = match by_root {
            true => self.cluster.root(&line),
            false => self.cluster.sh(&users[user].user, &line),
        };
        let said = ran.stderr.lines().last().unwrap_or_default();
        self.done.note(&format!("  -> {} {said}", ran.status));
    }

    /// Starts again whatever has ended, as an init system does.
    pub(super) fn revive(&mut self) {
        for name in ["server", "node01", "node02"] {
            if !self.lives(name) {
                self.done.note(&format!("{name} started again"));
                self.cluster.start(name);
            }
        }
    }

    /// The end of all faults.
    pub(super) fn end(&mut self) {
        self.end_lasting(true);
        self.done.note("no fault from here on");
        self.revive();
        self.cluster.wait_server();
    }

    /// The part of an agent's id that its cgroups are named by.
    pub(super) fn agent(&self, node: &str) -> String {
        let path = self.state(node).join("agent-id");
        let id = fs::read_to_string(path).unwrap();
        id.trim().chars().take(8).collect()
    }

    pub(super) fn state(&self, node: &str) -> PathBuf {
        self.cluster.path().join(format!("nodes/{node}/state"))
    }

    fn lives(&self, name: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.cluster.pid(name)));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn kill(&mut self, name: &'static str) {
        if self.lives(name) {
            self.cluster.kill(name);
        }
        // A new one is not stopped.
        self.lasting
            .retain(|(_, fault)| !matches!(fault, Lasting::Stopped(one) if *one == name));
    }

    fn kill_and_start(&mut self, name: &'static str) {
        self.done.note(&format!("{name} killed"));
        self.kill(name);
        self.cluster.start(name);
    }

    /// Lets a fault last for one to twelve seconds: an agent counts as gone after some of them.
    fn last(&mut self, dice: &mut Dice, fault: Lasting) {
        let until = Instant::now() + Duration::from_millis(1000 + dice.below(11_000));
        self.lasting.push((until, fault));
    }

    fn end_lasting(&mut self, all: bool) {
        let now = Instant::now();
        let over = |(until, _): &mut (Instant, Lasting)| all || *until <= now;
        let ended: Vec<_> = self.lasting.extract_if(.., over).collect();
        for (_, fault) in ended {
            match fault {
                Lasting::Stopped(name) => {
                    self.done.note(&format!("{name} goes on"));
                    kill(self.cluster.pid(name), Signal::SIGCONT).ok();
                }
                Lasting::Silent => {
                    self.done.note("the wire is alive again");
                    self.wire.set_dead(false);
                }
                Lasting::Full(filler) => {
                    self.done.note(&format!("{} removed", filler.display()));
                    fs::remove_file(filler).ok();
                }
                Lasting::Dirty(node, card) => {
                    self.done.is_clean(node, card);
                    Driver::of_node(&self.cluster, node).set(&[]);
                }
            }
        }
    }

    fn kill_one(&mut self, dice: &mut Dice, what: &str, is_one: impl Fn(&Self, Pid) -> bool) {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
        let mut of: Vec<Pid> = pids.filter(|pid| is_one(self, *pid)).collect();
        of.sort_unstable();
        if let Some(pid) = dice.one(&of).copied() {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line: String = line.replace(['\0', '\n'], " ").chars().take(100).collect();
            let hit = self.done.was_killed(pid);
            self.done
                .note(&format!("{what} {pid} killed ({hit}): {}", line.trim()));
            kill(pid, Signal::SIGKILL).ok();
        }
    }

    /// A process of an agent's binary that is not the agent.
    fn is_of_agent(&self, pid: Pid) -> bool {
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        let own = self.cluster.path().join("libexec/capstan-agent");
        exe.is_ok_and(|exe| exe == own) && !NODES.iter().any(|node| self.cluster.pid(node) == pid)
    }

    fn is_of_job(&self, pid: Pid) -> bool {
        is_job_below(pid, self.cluster.path()) && !self.is_of_agent(pid)
    }

    /// Commands that are killed anywhere in their work, submissions among them.
    fn kill_clients(&mut self, dice: &mut Dice, users: &[Member]) {
        self.done.note("clients killed");
        let mut running = Vec::new();
        for _ in 0..5 {
            let user = usize::try_from(dice.below(2)).unwrap_or_default();
            let member = &users[user];
            let sent = match dice.below(3) {
                0 => None,
                _ => Some(Sent::of(Kind::Cut, user, &self.done)),
            };
            let line = match &sent {
                None => "exec qstat -f".to_owned(),
                Some(sent) => sent.line("", 1 + dice.below(3)),
            };
            let mut command = self.cluster.shell(&member.user, &member.home, &line);
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null());
            if let Ok(child) = command.spawn() {
                running.push(child.id());
                let answer = std::thread::spawn(move || child.wait_with_output());
                std::thread::park_timeout(Duration::from_millis(dice.below(60)));
                let group = running.last().copied().unwrap_or_default().cast_signed();
                nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
                let answer = answer.join().unwrap().unwrap();
                let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
                if let Some(sent) = sent {
                    self.done.sent(sent, Some(text).filter(|id| !id.is_empty()));
                }
            }
        }
    }

    /// Fills a disk to its last byte.
    fn fill(&mut self, dice: &mut Dice, disk: usize, of: &str) {
        let filler = self.disks[disk].join("filler");
        if filler.exists() {
            return;
        }
        self.done.note(&format!("disk of {of} filled"));
        let mut file = fs::File::create(&filler).unwrap();
        let block = vec![0_u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        self.last(dice, Lasting::Full(filler));
    }

    /// Leaves memory of a card in use that no process holds, which nobody may get.
    fn dirty(&mut self, dice: &mut Dice) {
        let is_dirty = |(_, fault): &(Instant, Lasting)| matches!(fault, Lasting::Dirty(..));
        if self.lasting.iter().any(is_dirty) {
            return;
        }
        let node = dice.one(&NODES).copied().unwrap_or("node01");
        let card = dice.below(CARDS);
        let lines: Vec<&str> = (0..CARDS)
            .map(|one| if one == card { LEAK } else { "" })
            .collect();
        Driver::of_node(&self.cluster, node).set(&lines);
        self.done.is_dirty(node, card);
        self.last(dice, Lasting::Dirty(node, card));
    }
}

/// Whether the environment of a process says that it belongs to a job of the cluster in this folder.
pub(super) fn is_job_below(pid: Pid, cluster: &Path) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&environ).into_owned();
    let start = format!("PBS_NODEFILE={}/", cluster.display());
    text.split('\0').any(|pair| pair.starts_with(&start))
}
