//! A dockerd of a test's own, which may be killed: all it has lies in one folder and one network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{engine, wait_until};

/// The engine; ended when dropped.
pub struct OwnEngine {
    folder: PathBuf,
    process: Child,
}

impl OwnEngine {
    /// Starts it with all that it keeps in `folder`, and makes the image of the tests there.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder can be made");
        let own = Self {
            folder: folder.to_owned(),
            process: Self::spawn(folder),
        };
        own.wait();
        engine::make_image(&format!("docker -H {}", own.host()), engine::IMAGE);
        own
    }

    fn spawn(folder: &Path) -> Child {
        let at = |name: &str| folder.join(name).display().to_string();
        // A killed dockerd takes its containerd along; a zombie of it would be waited for.
        fs::remove_file(folder.join("exec/containerd/containerd.pid")).ok();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("dockerd.log"))
            .expect("the folder is ours");
        Command::new("unshare")
            .args(["--net", "dockerd", "--iptables=false", "--ip6tables=false"])
            .args([
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
                "--pidfile",
                &at("pid"),
            ])
            .args(["-H", &format!("unix://{}", at("docker.sock"))])
            .args([
                "--containerd-namespace",
                "capstan-test",
                "--containerd-plugins-namespace",
                "capstan-test-plugins",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("dockerd is installed")
    }

    /// Where the engine of `folder` listens.
    #[must_use]
    pub fn socket(folder: &Path) -> PathBuf {
        folder.join("docker.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", Self::socket(&self.folder).display())
    }

    /// What a docker command prints; `None` when it fails.
    #[must_use]
    pub fn docker(&self, words: &[&str]) -> Option<String> {
        engine::docker(&[&["-H", &self.host()], words].concat())
    }

    fn wait(&self) {
        wait_until("the test's own dockerd answers", || {
            self.docker(&["version"]).ok_or_else(|| {
                fs::read_to_string(self.folder.join("dockerd.log"))
                    .unwrap_or_default()
                    .lines()
                    .last()
                    .map(str::to_owned)
            })
        });
    }

    /// Kills it without warning.
    ///
    /// # Panics
    /// When it is not there.
    pub fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }

    /// Stops it in mid-sentence: its socket stays, requests are taken and none is answered.
    ///
    /// # Panics
    /// When it is not there.
    pub fn hang(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP)
            .expect("it is ours");
    }

    /// Has it go on where it was.
    ///
    /// # Panics
    /// When it is not there.
    pub fn go_on(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT)
            .expect("it is ours");
    }

    fn signal(&self, signal: nix::sys::signal::Signal) -> nix::Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, signal)
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_again(&mut self) {
        self.process = Self::spawn(&self.folder);
        self.wait();
    }

    /// Holders of containers that a killed dockerd had begun to make: no later one knows them.
    fn kill_orphans(&self) {
        let own = format!("{}/", self.folder.display());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split('\0');
            let is_holder = words
                .next()
                .is_some_and(|name| name.contains("containerd-shim"));
            let pid = process
                .file_name()
                .to_str()
                .and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid.filter(|_| is_holder && words.any(|word| word.starts_with(&own)))
            {
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM).ok();
        self.signal(nix::sys::signal::Signal::SIGCONT).ok();
        self.process.wait().ok();
        self.kill_orphans();
        // It mounts its data on itself and leaves that so.
        let data = self.folder.join("data");
        Command::new("umount").arg("-l").arg(data).output().ok();
    }
}
