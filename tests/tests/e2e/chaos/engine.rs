//! A dockerd of the chaos run's own, which may be killed: all it has lies in one folder and one network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capstan_tests::{engine, wait_until};

pub(super) struct OwnEngine {
    folder: PathBuf,
    process: Child,
}

impl OwnEngine {
    pub(super) fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
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
            .unwrap();
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
                "capstan-chaos",
                "--containerd-plugins-namespace",
                "capstan-chaos-plugins",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    pub(super) fn socket(folder: &Path) -> PathBuf {
        folder.join("docker.sock")
    }

    fn host(&self) -> String {
        format!("unix://{}", Self::socket(&self.folder).display())
    }

    /// What a docker command prints; `None` when it fails.
    pub(super) fn docker(&self, words: &[&str]) -> Option<String> {
        engine::docker(&[&["-H", &self.host()], words].concat())
    }

    fn wait(&self) {
        wait_until("the run's own dockerd answers", || {
            self.docker(&["version"]).ok_or_else(|| {
                fs::read_to_string(self.folder.join("dockerd.log"))
                    .unwrap_or_default()
                    .lines()
                    .last()
                    .map(str::to_owned)
            })
        });
    }

    /// Kills it without warning and starts it again.
    pub(super) fn kill_and_start(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::spawn(&self.folder);
        self.wait();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.process.wait().ok();
        // It mounts its data on itself and leaves that so.
        let data = self.folder.join("data");
        Command::new("umount").arg("-l").arg(data).output().ok();
    }
}
