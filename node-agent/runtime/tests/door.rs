//! Containers of real Docker through the agent's door, called as an ordinary user.

mod dockerd;

use std::time::Duration;

use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::{ContainerRequest, ContainerResume, Done, WindowSize};
use capstan_runtime::DockerEngine;
use capstan_supervisor::containers::testing::{Call, GROUP, Heard, TestSite, UID, request};
use capstan_supervisor::containers::{ContainerEngine, Keeper};
use capstan_supervisor::ports::Containers;
use capstan_types::AttemptId;

const IMAGE: &str = "capstan-contract:1";

struct World {
    site: TestSite,
    engine: fn() -> DockerEngine,
}

fn world() -> Option<World> {
    dockerd::socket()?;
    dockerd::make_image(IMAGE);
    let engine = || DockerEngine::at("/var/run/docker.sock");
    Some(World {
        site: TestSite::make()?,
        engine,
    })
}

impl World {
    async fn open(&self, request: ContainerRequest) -> Call {
        Call::open(&self.site.socket(), UID, Input::Request(request)).await
    }

    async fn run(&self, line: &str, options: &str) -> Heard {
        let heard = self.open(request(IMAGE, line, options)).await.end().await;
        assert!(heard.refused.is_none(), "{heard:?}");
        heard
    }

    async fn is_empty(&self, keeper: &Keeper<DockerEngine>) {
        let agent = self.site.settings().agent;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let left = (self.engine)().owned(&agent).await.expect("list");
            if left.is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "left: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        keeper.end_attempt(AttemptId(7)).await.expect("ended");
    }
}

#[tokio::test]
async fn the_user_is_somebody_inside_and_may_do_little() {
    let Some(world) = world() else { return };
    let (keeper, _served) = world.site.serve((world.engine)());
    let home = world.site.text("home/ann");
    let heard = world
        .run("whoami; id -u; id -g; id -G; pwd; echo $HOME $USER $CUDA_VISIBLE_DEVICES; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; cat /proc/1/comm", "")
        .await;
    let lines: Vec<_> = heard.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["ann", &UID.to_string(), &UID.to_string()],
        "{heard:?}"
    );
    assert!(lines[3].contains(&GROUP.to_string()));
    assert_eq!(lines[4], home);
    assert_eq!(lines[5], format!("{home} ann 0"));
    assert_eq!(
        lines[6..9],
        [
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1"
        ]
    );
    assert_eq!(lines[9], "docker-init");
    let (public, nodes) = (world.site.text("pub"), world.site.text("aux/nodes"));
    let heard = world
        .run(&format!("cat {public}/set/a {nodes}; touch {public}/x; touch {home}/made; df -k /dev/shm | tail -1"), "--shm-size 100m")
        .await;
    assert!(heard.stdout.starts_with("public\nnode01\n"), "{heard:?}");
    assert!(heard.stdout.contains("102400"), "{heard:?}");
    assert!(heard.stderr.contains("Read-only file system"), "{heard:?}");
    let made = std::fs::metadata(world.site.path("home/ann/made")).expect("made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), UID);
    world.is_empty(&keeper).await;
}

#[tokio::test]
async fn mounts_variables_and_folders_are_as_asked() {
    let Some(world) = world() else { return };
    let (keeper, _served) = world.site.serve((world.engine)());
    let data = world.site.text("data/ann");
    world.site.make_file("data/ann/file", "mine\n", 0o644);
    let heard = world
        .run(
            "cat /data/lib/file; echo $A; pwd",
            &format!("-v {data}:/data/lib:ro -w /data/lib -e 'A=b c'"),
        )
        .await;
    assert_eq!(heard.stdout, "mine\nb c\n/data/lib\n");
    assert_eq!(
        world.run(&format!("ls {data}"), "").await.code,
        Some(1),
        "data only on request"
    );
    assert_eq!(world.run("exit 42", "").await.code, Some(42));
    assert_eq!(world.run("no-such-program", "").await.code, Some(127));
    assert_eq!(world.run("/etc/passwd", "").await.code, Some(126));
    assert_eq!(world.run("kill -9 $$", "").await.code, Some(137));
    world.is_empty(&keeper).await;
}

#[tokio::test]
async fn scripts_run_whatever_they_lack() {
    let Some(world) = world() else { return };
    let (keeper, _served) = world.site.serve((world.engine)());
    let script = |name: &str| ContainerRequest {
        command_line: None,
        script: Some(name.to_owned()),
        ..request(IMAGE, "", "")
    };
    for (name, text, mode) in [
        ("good.sh", "#!/bin/sh\necho $0\n", 0o755),
        ("plain.sh", "#!/bin/sh\necho $0\n", 0o644),
        ("bare", "echo $0\n", 0o755),
        ("crlf.sh", "#!/bin/sh\r\necho $0\r\n", 0o755),
    ] {
        world
            .site
            .make_file(&format!("home/ann/{name}"), text, mode);
        let heard = world.open(script(name)).await.end().await;
        assert_eq!(
            heard.stdout,
            format!("{}\n", world.site.text(&format!("home/ann/{name}"))),
            "{heard:?}"
        );
        assert_eq!(
            heard.notices.len(),
            usize::from(name != "good.sh"),
            "{heard:?}"
        );
        assert_eq!(
            std::fs::read_to_string(world.site.path(&format!("home/ann/{name}"))).expect("file"),
            text
        );
    }
    world.is_empty(&keeper).await;
}

#[tokio::test]
async fn streams_terminal_and_signals_pass_through() {
    let Some(world) = world() else { return };
    let (keeper, _served) = world.site.serve((world.engine)());
    let mut call = world.open(request(IMAGE, "wc -c", "-i")).await;
    call.until(|heard| heard.started.is_some()).await;
    for _ in 0..4 {
        call.say(Input::Stdin(vec![b'x'; 32 * 1024])).await;
    }
    call.say(Input::StdinClosed(Done {})).await;
    assert_eq!(call.end().await.stdout, "131072\n");

    let mut asked = request(
        IMAGE,
        "read x; stty size; echo got $x; printf '\\001\\000prompt'; read y",
        "-it",
    );
    asked.terminal = Some(WindowSize {
        rows: 50,
        columns: 132,
    });
    let mut call = world.open(asked).await;
    call.until(|heard| heard.started.is_some()).await;
    call.say(Input::Stdin(b"a\r".to_vec())).await;
    call.until(|heard| heard.stdout.contains("prompt")).await;
    assert!(
        call.heard.stdout.contains("50 132\r\ngot a\r\n"),
        "{:?}",
        call.heard
    );
    call.say(Input::Resize(WindowSize {
        rows: 20,
        columns: 40,
    }))
    .await;
    call.say(Input::Stdin(b"\r".to_vec())).await;
    assert_eq!(call.end().await.code, Some(0));

    let mut call = world
        .open(request(
            IMAGE,
            "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.05; done",
            "",
        ))
        .await;
    call.until(|heard| heard.stdout == "ready\n").await;
    call.say(Input::Signal(15)).await;
    let heard = call.end().await;
    assert_eq!(
        (heard.stdout.as_str(), heard.code),
        ("ready\ntold\n", Some(9))
    );
    world.is_empty(&keeper).await;
}

#[tokio::test]
async fn a_container_ends_with_its_client_and_outlives_its_agent() {
    let Some(world) = world() else { return };
    let (keeper, served) = world.site.serve((world.engine)());
    let mut call = world.open(request(IMAGE, "sleep 1000", "")).await;
    call.until(|heard| heard.started.is_some()).await;
    drop(call);
    world.is_empty(&keeper).await;

    let mut site = world;
    let context = site.site.context.as_mut().expect("context");
    context.attempt = AttemptId(8);
    drop((keeper, served));
    let (keeper, served) = site.site.serve((site.engine)());
    let line = "echo one; echo err >&2; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 5";
    let mut call = site.open(request(IMAGE, line, "")).await;
    call.until(|heard| heard.stdout == "one\n" && heard.stderr == "err\n")
        .await;
    let container = call.heard.started.clone().expect("started").container;
    keeper.let_go();
    call.until(|heard| heard.broken).await;
    served.abort();
    drop((keeper, call));
    site.site.make_file("home/ann/go", "", 0o644);
    let (keeper, _served) = site.site.serve((site.engine)());
    let resume = Input::Resume(ContainerResume {
        container,
        stdout_bytes: 4,
        stderr_bytes: 4,
        terminal: None,
    });
    let heard = Call::open(&site.site.socket(), UID, resume)
        .await
        .end()
        .await;
    assert_eq!(
        (heard.stdout.as_str(), heard.stderr.as_str(), heard.code),
        ("two\n", "", Some(5))
    );
    keeper.end_attempt(AttemptId(8)).await.expect("ended");
    site.is_empty(&keeper).await;
}

#[tokio::test]
async fn an_attempts_cgroup_holds_its_containers_and_goes_with_it() {
    let Some(mut world) = world() else { return };
    let parent = format!("/capstan-test-{}/att-7", std::process::id());
    world.site.context.as_mut().expect("context").cgroup = Some(parent.clone());
    let (keeper, _served) = world.site.serve((world.engine)());
    let heard = world.run("cat /proc/self/cgroup; sleep 0", "").await;
    // Inside, the path may be hidden by a cgroup namespace; the parent on the host says it.
    assert_eq!(heard.code, Some(0));
    let there = || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
            .expect("cgroups")
            .flatten();
        hierarchies
            .filter(|entry| entry.path().join(&parent[1..]).exists())
            .count()
    };
    assert!(there() > 0 || std::path::Path::new(&format!("/sys/fs/cgroup{parent}")).exists());
    world.is_empty(&keeper).await;
    assert_eq!(there(), 0);
    for entry in std::fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
    {
        std::fs::remove_dir(
            entry
                .path()
                .join(parent[1..].split('/').next().expect("name")),
        )
        .ok();
    }
}
