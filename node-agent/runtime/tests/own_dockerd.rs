//! What needs a dockerd of the test's own: one whose PATH has a stub of the NVIDIA hook, and one that is restarted
//! under a running container. It runs in a network namespace of its own, so that it leaves this host's alone.

mod dockerd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use capstan_proto::wire::container_input::Input;
use capstan_runtime::DockerEngine;
use capstan_supervisor::containers::testing::{Call, Heard, TestSite, UID, request};
use capstan_supervisor::containers::{CardsInContainers, ContainerEngine};
use capstan_supervisor::ports::Containers;
use capstan_types::AttemptId;

const IMAGE: &str = "capstan-own:1";
const CARD: &str = "GPU-11111111-2222-3333-4444-555555555555";

/// A dockerd with all it has under one folder.
struct OwnDockerd {
    folder: PathBuf,
    process: Child,
}

impl OwnDockerd {
    fn start(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        fs::create_dir_all(folder.join("bin")).expect("folder");
        // A killed dockerd takes its containerd along, which stays a zombie where nobody reaps, and would be waited for.
        fs::remove_file(folder.join("exec/containerd/containerd.pid")).ok();
        let path = format!(
            "{}:{}",
            at("bin"),
            std::env::var("PATH").unwrap_or_default()
        );
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("log");
        let process = Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
                "--pidfile",
                &at("pid"),
            ])
            .args([
                "-H",
                &format!("unix://{}", at("docker.sock")),
                "--iptables=false",
                "--ip6tables=false",
            ])
            .args([
                "--containerd-namespace",
                "capstan-test",
                "--containerd-plugins-namespace",
                "capstan-test-plugins",
            ])
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let own = Self {
            folder: folder.to_owned(),
            process,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !own.docker(&["version"]).status.success() {
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{:?}", log().lines().last());
            std::thread::sleep(Duration::from_millis(50));
        }
        own
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    fn docker(&self, words: &[&str]) -> std::process::Output {
        let host = format!("unix://{}", self.socket().display());
        Command::new("docker")
            .arg("-H")
            .arg(host)
            .args(words)
            .output()
            .expect("docker runs")
    }

    fn stop(&mut self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("signal");
        self.process.wait().expect("it ends");
    }
}

impl Drop for OwnDockerd {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop(nix::sys::signal::Signal::SIGTERM);
        }
        // It leaves its own folder mounted on itself, and a killed one its containers.
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let ours: Vec<_> = places
            .filter(|place| Path::new(place).starts_with(&self.folder))
            .collect();
        for place in ours.iter().rev() {
            Command::new("umount").args(["-l", place]).status().ok();
        }
    }
}

/// A place for dockerd's own files: overlayfs cannot stand on overlayfs, and a socket path must be short.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("capstan-dockerd-")
        .tempdir_in("/var/tmp")
        .expect("folder")
}

fn make_hook(folder: &Path) {
    fs::create_dir_all(folder.join("bin")).expect("folder");
    let hook = folder.join("bin/nvidia-container-runtime-hook");
    // It is given the state of the container, whose bundle has the whole configuration.
    let seen = folder.join("seen");
    let text = format!(
        "#!/bin/sh\nstate=$(cat)\nbundle=$(echo \"$state\" | sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/')\n\
         grep -o 'NVIDIA_VISIBLE_DEVICES=[^\"]*' \"$bundle/config.json\" >> {}\nexit 0\n",
        seen.display()
    );
    fs::write(&hook, text).expect("hook");
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("mode");
}

async fn run(site: &TestSite, line: &str, options: &str) -> Heard {
    Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, line, options)),
    )
    .await
    .end()
    .await
}

#[tokio::test]
async fn the_nvidia_hook_sees_exactly_the_granted_cards() {
    let (Some(_), Some(mut site)) = (dockerd::socket(), TestSite::make()) else {
        return;
    };
    let folder = folder();
    make_hook(folder.path());
    let own = OwnDockerd::start(folder.path());
    dockerd::make_image_at(&own.socket(), IMAGE, "ENV NVIDIA_VISIBLE_DEVICES=all");
    site.cards = CardsInContainers::Auto;
    let (keeper, _served) = site.serve(DockerEngine::at(own.socket()));
    let heard = run(
        &site,
        "env",
        "-e NVIDIA_VISIBLE_DEVICES=all -e CUDA_VISIBLE_DEVICES=0,1,2,3",
    )
    .await;
    assert_eq!(heard.code, Some(0), "{heard:?}");
    assert_eq!(heard.notices.len(), 2, "{heard:?}");
    let visible = format!("NVIDIA_VISIBLE_DEVICES={CARD}");
    assert!(
        heard
            .stdout
            .lines()
            .filter(|line| line.starts_with("NVIDIA_VISIBLE"))
            .all(|line| line == visible)
    );
    assert!(
        heard
            .stdout
            .lines()
            .any(|line| line == "CUDA_VISIBLE_DEVICES=0")
    );
    let seen = fs::read_to_string(folder.path().join("seen")).expect("the hook ran");
    assert!(
        !seen.is_empty() && seen.lines().all(|line| line == visible),
        "{seen}"
    );
    keeper.end_attempt(AttemptId(7)).await.expect("ended");

    // An attempt without cards.
    fs::remove_file(folder.path().join("seen")).expect("file");
    let context = site.context.as_mut().expect("context");
    context.attempt = AttemptId(8);
    let mut spec = (*context.spec).clone();
    spec.cards.clear();
    context.spec = spec.into();
    let (keeper, _served) = site.serve(DockerEngine::at(own.socket()));
    let heard = run(&site, "env", "").await;
    assert!(
        heard
            .stdout
            .lines()
            .any(|line| line == "NVIDIA_VISIBLE_DEVICES=void"),
        "{heard:?}"
    );
    assert!(!folder.path().join("seen").exists(), "no card, no hook");
    keeper.end_attempt(AttemptId(8)).await.expect("ended");
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so aloud")]
async fn without_the_hook_cards_are_refused_and_nothing_is_left() {
    let (Some(socket), Some(mut site)) = (dockerd::socket(), TestSite::make()) else {
        return;
    };
    dockerd::make_image(IMAGE);
    let engine = DockerEngine::at(&socket);
    if engine
        .facts()
        .await
        .expect("facts")
        .runtimes
        .iter()
        .any(|runtime| runtime.starts_with("nvidia"))
    {
        println!("skipped: this host has the NVIDIA runtime");
        return;
    }
    site.cards = CardsInContainers::Nvidia;
    let (keeper, _served) = site.serve(DockerEngine::at(&socket));
    let refused = run(&site, "env", "").await.refused.expect("refused");
    assert_eq!(refused.exit_code, 125);
    assert!(
        refused.message.contains("cannot give cards"),
        "{}",
        refused.message
    );
    assert_eq!(
        engine.owned(&site.settings().agent).await.expect("list"),
        []
    );
    keeper.end_attempt(AttemptId(7)).await.expect("ended");
}

#[tokio::test]
async fn an_engine_that_restarts_under_a_container_leaves_none_behind() {
    let (Some(_), Some(mut site)) = (dockerd::socket(), TestSite::make()) else {
        return;
    };
    let folder = folder();
    site.cards = CardsInContainers::Environment;
    for (signal, attempt) in [
        (nix::sys::signal::Signal::SIGTERM, 7),
        (nix::sys::signal::Signal::SIGKILL, 8),
    ] {
        let mut own = OwnDockerd::start(folder.path());
        dockerd::make_image_at(&own.socket(), IMAGE, "ENV A=b");
        site.context.as_mut().expect("context").attempt = AttemptId(attempt);
        let (keeper, _served) = site.serve(DockerEngine::at(own.socket()));
        let line = "trap 'echo told; exit 9' TERM; echo one; while :; do sleep 0.05; done";
        let mut call = Call::open(
            &site.socket(),
            UID,
            Input::Request(request(IMAGE, line, "")),
        )
        .await;
        call.until(|heard| heard.stdout == "one\n").await;
        let (stopped, ()) = tokio::join!(
            tokio::task::spawn_blocking(move || {
                own.stop(signal);
                own
            }),
            async {
                call.until(|heard| heard.code.is_some() || !heard.notices.is_empty())
                    .await;
            },
        );
        let folder = folder.path().to_owned();
        drop(stopped.expect("stopped"));
        let own = tokio::task::spawn_blocking(move || OwnDockerd::start(&folder))
            .await
            .expect("started");
        let heard = call.end().await;
        assert!(heard.code.is_some_and(|code| code != 0), "{heard:?}");
        assert!(
            heard
                .notices
                .iter()
                .any(|notice| notice.contains("container engine")),
            "{heard:?}"
        );
        assert!(heard.stdout.starts_with("one\n"), "{heard:?}");
        keeper.end_attempt(AttemptId(attempt)).await.expect("ended");
        let left = DockerEngine::at(own.socket())
            .owned(&site.settings().agent)
            .await
            .expect("list");
        assert_eq!(left, []);
    }
}
