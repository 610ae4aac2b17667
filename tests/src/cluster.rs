//! A whole cluster in a temporary folder: brought up by `scripts/cluster` as anybody would, then tormented.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::engine::docker;
use crate::{User, wait_until};

/// A running cluster; ended when dropped.
pub struct Cluster {
    folder: TempDir,
    env: BTreeMap<String, String>,
    /// How killed processes were started, by name (`server`, `node01` …).
    command_lines: BTreeMap<String, CommandLine>,
}

/// How a process was started.
#[derive(Clone)]
struct CommandLine {
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit status; −1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output of a command that must have succeeded, without the last newline.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout.trim_end().to_owned()
    }
}

/// The root of the sources.
#[must_use]
pub fn sources() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the root").to_owned()
}

/// The folder of the binaries that this test was built with.
///
/// # Panics
/// When the test binary does not lie in cargo's target folder.
#[must_use]
pub fn binaries() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own.parent().expect("a binary lies in a folder");
    // Tests lie in target/PROFILE/deps, binaries in target/PROFILE.
    match folder.ends_with("deps") {
        true => folder.parent().unwrap_or(folder).to_owned(),
        false => folder.to_owned(),
    }
}

impl Cluster {
    /// Brings a cluster up with these arguments of `scripts/cluster up`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn up(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("capstan-e2e-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("the folder is ours");
        let mut cluster = Self {
            folder,
            env: BTreeMap::new(),
            command_lines: BTreeMap::new(),
        };
        let ran = cluster.script("up", arguments);
        assert_eq!(ran.status, 0, "scripts/cluster up {arguments:?}: {ran:?}");
        let env = fs::read_to_string(cluster.path().join("env")).expect("up wrote DIR/env");
        for line in env.lines().filter_map(|line| line.strip_prefix("export ")) {
            let (name, value) = line.split_once('=').expect("export NAME=value");
            let value = value.trim_matches(['"', '\'']);
            cluster.env.insert(name.to_owned(), value.to_owned());
        }
        // Tests compare what their jobs wrote, to the letter; those of the footer switch it on.
        cluster.root("qmgr -c 'set server job_footer = False'").ok();
        cluster
    }

    /// The cluster's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A variable of `DIR/env`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// The server's state folder.
    #[must_use]
    pub fn server_state(&self) -> PathBuf {
        self.setting_path("server.toml", "state_dir")
    }

    /// Runs a shell line as `user` in `folder`, with the environment that a login on this cluster has.
    ///
    /// # Panics
    /// When it cannot be run at all.
    #[must_use]
    pub fn sh_in(&self, user: &User, folder: &Path, line: &str) -> Ran {
        Ran::of(
            &self
                .shell(user, folder, line)
                .output()
                .expect("runuser is installed"),
        )
    }

    /// Runs a shell line as `user` in the home folder.
    #[must_use]
    pub fn sh(&self, user: &User, line: &str) -> Ran {
        self.sh_in(user, &user.home, line)
    }

    /// The command that [`Self::sh_in`] would run, to be started in the background.
    #[must_use]
    pub fn shell(&self, user: &User, folder: &Path, line: &str) -> Command {
        let mut command = Command::new("runuser");
        command.args(["-u", user.name, "--", "/bin/bash", "-c", line]);
        command.current_dir(folder).stdin(Stdio::null()).env_clear();
        command
            .env("HOME", &user.home)
            .env("USER", user.name)
            .env("LOGNAME", user.name);
        command.env("SHELL", "/bin/bash").env("LANG", "C.UTF-8");
        let inherited = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        for (name, value) in &self.env {
            command.env(
                name,
                value
                    .replace("$PATH", inherited)
                    .replace("${PATH}", inherited),
            );
        }
        command
    }

    /// Runs a shell line as root.
    ///
    /// # Panics
    /// When it cannot be run at all.
    #[must_use]
    pub fn root(&self, line: &str) -> Ran {
        let root = User {
            name: "root",
            uid: 0,
            gid: 0,
            home: PathBuf::from("/root"),
        };
        self.sh_in(&root, Path::new("/"), line)
    }

    /// Submits a script text as `user` with these arguments and returns the job id.
    #[must_use]
    #[track_caller]
    pub fn submit(&self, user: &User, folder: &Path, arguments: &str, script: &str) -> String {
        let line = format!("qsub {arguments} <<'END_OF_JOB'\n{script}\nEND_OF_JOB\n");
        self.sh_in(user, folder, &line).ok()
    }

    /// An attribute of `qstat -f`, with continuation lines joined; `None` when it is absent.
    #[must_use]
    pub fn attribute(&self, job: &str, name: &str) -> Option<String> {
        let listing = self.root(&format!("qstat -f {job}"));
        let whole = listing.stdout.replace("\n\t", "");
        let start = format!("    {name} = ");
        let found = whole.lines().find_map(|line| line.strip_prefix(&start));
        found.map(str::to_owned)
    }

    /// Waits until the job shows one of these state letters.
    pub fn wait_state(&self, job: &str, letters: &str) {
        wait_until(&format!("{job} is {letters}"), || {
            let listing = self.root(&format!("qstat -f {job}"));
            let state = listing
                .stdout
                .lines()
                .find_map(|line| line.strip_prefix("    job_state = "));
            match state {
                Some(state) if letters.contains(state) => Ok(()),
                _ => Err(listing),
            }
        });
    }

    /// The ids of the containers, running or not, that the agents of this cluster have made for a job, one per line. Other
    /// clusters on this host have jobs of the same number.
    ///
    /// # Panics
    /// When an agent has not written down who it is, or the engine does not answer.
    #[must_use]
    pub fn containers_of(&self, job: &str) -> String {
        let of_job = format!("label=capstan.job={job}");
        let nodes = fs::read_dir(self.path().join("nodes")).expect("the cluster has nodes");
        let found = nodes.map(|node| {
            let path = node.expect("the folder is ours").path();
            let id = fs::read_to_string(path.join("state/agent-id"))
                .expect("an agent writes down who it is");
            let of_agent = format!("label=capstan.agent={}", id.trim());
            docker(&["ps", "-aq", "--filter", &of_agent, "--filter", &of_job])
                .expect("the engine answers")
        });
        let found: Vec<String> = found.collect();
        found.join("\n").trim().to_owned()
    }

    /// Waits until every job that `qstat` lists is completed.
    pub fn wait_all_completed(&self) {
        wait_until("all jobs are completed", || {
            let listing = self.root("qstat");
            let open = listing
                .stdout
                .lines()
                .skip(2)
                .any(|row| !row.contains(" C "));
            if open || listing.status != 0 {
                Err(listing)
            } else {
                Ok(())
            }
        });
    }

    /// The process id of `server` or a node.
    ///
    /// # Panics
    /// When the cluster has no such process.
    #[must_use]
    pub fn pid(&self, name: &str) -> Pid {
        let file = self.pid_file(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let first = text.split_whitespace().next().unwrap_or_default();
        Pid::from_raw(first.parse().expect("a pid file begins with the pid"))
    }

    /// Kills `server` or a node with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self, name: &str) {
        let pid = self.pid(name);
        let line = CommandLine::of(pid).expect("the process runs");
        self.command_lines.insert(name.to_owned(), line);
        kill(pid, Signal::SIGKILL).expect("the process runs");
        wait_until(&format!("{name} is dead"), || {
            let status = fs::read_to_string(format!("/proc/{pid}/stat"));
            match status {
                Ok(stat) if !stat.contains(") Z ") => Err(stat),
                Ok(_) | Err(_) => Ok(()),
            }
        });
    }

    /// Starts a killed process again, with more environment variables if wanted.
    ///
    /// # Panics
    /// When it was not killed by [`Self::kill`], or cannot be started.
    pub fn start_with(&mut self, name: &str, env: &[(&str, &str)]) {
        let line = self.command_lines.get(name).expect("it was killed before");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join(format!("{name}-again.log")))
            .expect("the folder is ours");
        let mut command = Command::new(&line.arguments[0]);
        command
            .args(&line.arguments[1..])
            .env_clear()
            .envs(line.env.iter().cloned());
        command.envs(env.iter().copied()).stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log);
        command.process_group(0);
        let child = command.spawn().expect("the binary is there");
        let stat = start_time(child.id());
        let old = fs::read_to_string(self.pid_file(name)).unwrap_or_default();
        let text = match old.split_whitespace().count() {
            0 | 1 => format!("{}\n", child.id()),
            _ => format!("{} {stat}\n", child.id()),
        };
        fs::write(self.pid_file(name), text).expect("the folder is ours");
        // Reaped here so that a later kill does not leave a zombie that looks alive.
        std::thread::spawn(move || {
            let mut child = child;
            child.wait()
        });
    }

    /// Starts a killed process again behind the words of another command, which becomes it (`nsenter`, `unshare`).
    ///
    /// # Panics
    /// When it was not killed by [`Self::kill`], or cannot be started.
    pub fn start_behind(&mut self, name: &str, words: &[String]) {
        let line = self.command_lines.get_mut(name);
        let line = line.expect("it was killed before");
        line.arguments = [words, &line.arguments].concat();
        self.start(name);
    }

    /// Starts a killed process again.
    pub fn start(&mut self, name: &str) {
        self.start_with(name, &[]);
    }

    /// Waits until the server answers.
    pub fn wait_server(&self) {
        wait_until("the server answers", || {
            let ran = self.root("qstat -Q");
            if ran.status == 0 { Ok(()) } else { Err(ran) }
        });
    }

    /// Waits until all nodes are connected.
    pub fn wait_nodes(&self) {
        wait_until("no node is down", || {
            let ran = self.root("pbsnodes -l");
            if ran.status == 0 && ran.stdout.is_empty() {
                Ok(())
            } else {
                Err(ran)
            }
        });
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(sources().join("scripts/cluster"));
        command.arg(verb).arg(self.path()).args(arguments);
        command
            .env("CAPSTAN_BIN_DIR", binaries())
            .stdin(Stdio::null());
        Ran::of(&command.output().expect("scripts/cluster can be run"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        let folder = self.path().join("pids");
        let plain = folder.join(name);
        if plain.exists() {
            plain
        } else {
            folder.join(format!("{name}.pid"))
        }
    }

    fn setting_path(&self, file: &str, key: &str) -> PathBuf {
        let text = fs::read_to_string(self.path().join(file)).expect("up wrote the settings");
        let table: toml::Table = text.parse().expect("up wrote TOML");
        PathBuf::from(table[key].as_str().expect("a path"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(output) = logs_of(self.path()).output()
        {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).ok();
        }
        let ran = self.script("down", &[]);
        if ran.status != 0 && !std::thread::panicking() {
            panic!("scripts/cluster down: {ran:?}");
        }
    }
}

fn logs_of(folder: &Path) -> Command {
    let mut command = Command::new("sh");
    // Not the journal, whose files are named alike.
    let line = "find \"$1\" -maxdepth 2 -name '*.log' | while read -r f; do echo \"== $f\"; tail -n 200 \"$f\"; done";
    command.args(["-c", line, "sh"]).arg(folder);
    command
}

impl CommandLine {
    fn of(pid: Pid) -> std::io::Result<Self> {
        let words = |file: &str| -> std::io::Result<Vec<String>> {
            let bytes = fs::read(format!("/proc/{pid}/{file}"))?;
            let words = bytes
                .split(|byte| *byte == 0)
                .filter(|word| !word.is_empty());
            Ok(words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect())
        };
        let env = words("environ")?;
        let env = env.iter().filter_map(|pair| pair.split_once('='));
        Ok(Self {
            arguments: words("cmdline")?,
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        })
    }
}

/// Field 22 of /proc/PID/stat: together with the pid it names a process for good.
fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(19);
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}
