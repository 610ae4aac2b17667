//! The door, served on a Unix socket and called as an ordinary user, with the engine in memory behind it.

use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::{ContainerRequest, ContainerResume, Done};
use capstan_types::AttemptId;

use super::super::engine::ContainerSpec;
use super::super::guests::CONNECTIONS_PER_USER_MAX;
use super::super::registry::CONTAINERS_PER_ATTEMPT_MAX;
use super::super::session::STDIN_WINDOW;
use super::super::testing::{Call, FakeEngine, Heard, TestSite, UID, connect_as, request};
use crate::ports::Containers;

const IMAGE: &str = "busybox:1";

fn engine() -> FakeEngine {
    FakeEngine::with_image(IMAGE, &[("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n")])
}

async fn run(site: &TestSite, request: ContainerRequest) -> Heard {
    Call::open(&site.socket(), UID, Input::Request(request))
        .await
        .end()
        .await
}

/// Waits until `seen` of the engine's containers.
async fn wait_until(what: &str, engine: &FakeEngine, seen: impl Fn(&[ContainerSpec]) -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !seen(&engine.specs()) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: {:?}",
            engine.specs()
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_container_is_the_users_in_all_it_is() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "/bin/sh -c 'echo hi; sleep 9'", "")),
    )
    .await;
    call.until(|heard| heard.stdout == "hi\n").await;
    let spec = engine.specs().remove(0);
    assert_eq!(spec.user, (UID, UID));
    assert_eq!(spec.workdir, site.path("home/ann"));
    assert_eq!(spec.shm_bytes, 512 << 20, "half of the job's memory");
    assert_eq!(spec.memory_bytes, Some(1 << 30), "no cgroup bounds it");
    assert!(spec.init && !spec.interactive && spec.terminal.is_none());
    assert_eq!(spec.owner.attempt, AttemptId(7));
    for line in [
        "PBS_JOBID=7.test",
        "USER=ann",
        "CUDA_VISIBLE_DEVICES=0",
        "NVIDIA_VISIBLE_DEVICES=GPU-11111111-2222-3333-4444-555555555555",
    ] {
        assert!(spec.environment.iter().any(|seen| seen == line), "{line}");
    }
    let bind = |target: &str| {
        spec.binds
            .iter()
            .find(|bind| bind.target == std::path::Path::new(target))
    };
    let home = bind(&site.text("home/ann")).expect("home is mounted");
    assert!(!home.read_only);
    assert!(
        home.source.starts_with(site.path("stage")),
        "pinned, not by its name"
    );
    assert!(bind(&site.text("pub")).is_some_and(|public| public.read_only));
    assert!(bind(&site.text("aux/nodes")).is_some_and(|nodes| nodes.read_only));
    assert!(
        bind(&site.text("data/ann")).is_none(),
        "data only on request"
    );
    let passwd =
        std::fs::read_to_string(&bind("/etc/passwd").expect("passwd").source).expect("file");
    assert_eq!(
        passwd,
        format!(
            "root:x:0:0:root:/:/bin/sh\nann:x:{UID}:{UID}::{}:/bin/sh\n",
            site.text("home/ann")
        )
    );
}

#[tokio::test]
async fn output_and_exit_code_come_through_and_nothing_is_left() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let heard = run(&site, request(IMAGE, "echo out; echo err >&2; exit 3", "")).await;
    assert_eq!(
        (heard.stdout.as_str(), heard.stderr.as_str(), heard.code),
        ("out\n", "err\n", Some(3))
    );
    assert_eq!(
        run(&site, request(IMAGE, "/no/such/program", ""))
            .await
            .code,
        Some(127)
    );
    assert_eq!(
        run(&site, request(IMAGE, "/etc/passwd", "")).await.code,
        Some(126)
    );
    wait_until("all removed", &engine, <[_]>::is_empty).await;
    assert!(
        std::fs::read_dir(site.path("stage"))
            .expect("stage")
            .flatten()
            .all(|stage| {
                std::fs::read_dir(stage.path())
                    .expect("stage")
                    .next()
                    .is_none()
            })
    );
}

#[tokio::test]
async fn only_the_user_of_a_live_attempt_gets_in() {
    let Some(mut site) = TestSite::make() else {
        return;
    };
    let engine = engine();
    let (_keeper, served) = site.serve(engine.clone());
    for stranger in [0, UID + 1] {
        let call = Call::open(
            &site.socket(),
            stranger,
            Input::Request(request(IMAGE, "echo", "")),
        )
        .await;
        let refused = call.end().await.refused.expect("refused");
        assert_eq!(refused.exit_code, 125);
        assert!(
            refused.message.contains("is not the user of this job"),
            "{}",
            refused.message
        );
    }
    served.abort();
    site.context = None;
    let (_keeper, _served) = site.serve(engine);
    let refused = run(&site, request(IMAGE, "echo", ""))
        .await
        .refused
        .expect("refused");
    assert!(
        refused.message.contains("runs in no job"),
        "{}",
        refused.message
    );
    assert!(refused.hint.contains("qsub"));
}

#[tokio::test]
async fn refusals_name_the_reason_and_start_nothing() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let refused = |options: &str| {
        let request = request(IMAGE, "echo", options);
        async { run(&site, request).await.refused.expect("refused").message }
    };
    assert!(refused("--privileged").await.contains("root on this node"));
    assert!(refused("-v /etc:/x").await.contains("system folder"));
    assert!(refused("-w /nowhere").await.contains("no mounted folder"));
    assert!(
        refused(&format!("-w {}/no", site.text("home/ann")))
            .await
            .contains("no such folder")
    );
    let missing = run(&site, request("nowhere:5000/no", "echo", "")).await;
    assert!(missing.notices[0].contains("not on this node"));
    assert_eq!(missing.refused.expect("refused").exit_code, 125);
    let bad = run(&site, request("../../containers/json?x=", "echo", "")).await;
    assert!(
        bad.refused
            .expect("refused")
            .message
            .contains("no image name")
    );
    assert_eq!(engine.specs(), []);
}

#[tokio::test]
async fn an_image_that_only_its_registry_has_is_fetched() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    engine.offer("bit:5000/deepo");
    let (_keeper, _served) = site.serve(engine);
    let heard = run(&site, request("bit:5000/deepo", "echo hi", "")).await;
    assert_eq!((heard.stdout.as_str(), heard.code), ("hi\n", Some(0)));
    assert!(heard.notices[0].contains("registry"));
}

#[tokio::test]
async fn a_container_ends_with_its_client() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "sleep 1000", "")),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    assert_eq!(engine.specs().len(), 1);
    drop(call);
    wait_until("removed", &engine, <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_container_ends_with_its_attempt_and_no_other_starts() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "sleep 1000", "")),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    assert_eq!(
        keeper.attempts_with_containers().await.expect("list"),
        [AttemptId(7)]
    );
    keeper.end_attempt(AttemptId(7)).await.expect("ended");
    assert_eq!(engine.specs(), []);
    assert_eq!(call.end().await.code, Some(137));
    assert_eq!(keeper.attempts_with_containers().await.expect("list"), []);
    let refused = run(&site, request(IMAGE, "echo", ""))
        .await
        .refused
        .expect("refused");
    assert!(refused.message.contains("ending"));
}

#[tokio::test]
async fn the_end_of_an_attempt_without_containers_does_not_ask_the_engine() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (keeper, _served) = site.serve(engine.clone());
    engine.go_away(true);
    keeper.end_attempt(AttemptId(7)).await.expect("ended");
    assert_eq!(engine.calls(), 0);
}

#[tokio::test]
async fn a_container_outlives_its_agent_and_its_client_comes_back() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (keeper, served) = site.serve(engine.clone());
    let asked = request(IMAGE, "/bin/sh -c 'echo one; cat; echo two; exit 5'", "-i");
    let mut call = Call::open(&site.socket(), UID, Input::Request(asked)).await;
    call.until(|heard| heard.stdout == "one\n").await;
    let container = call.heard.started.clone().expect("started").container;
    keeper.let_go();
    call.until(|heard| heard.broken).await;
    served.abort();
    drop((keeper, call));
    assert_eq!(engine.specs().len(), 1, "it runs on");

    let (keeper, _served) = site.serve(engine.clone());
    let resume = |container: String| {
        Input::Resume(ContainerResume {
            container,
            stdout_bytes: 2,
            ..ContainerResume::default()
        })
    };
    let refused = Call::open(&site.socket(), UID, resume("fake99".into()))
        .await
        .end()
        .await
        .refused;
    assert!(refused.expect("refused").message.contains("no container"));
    let heard = Call::open(&site.socket(), UID, resume(container)).await;
    let mut heard = heard;
    heard.until(|heard| heard.stdout == "e\n").await;
    assert_eq!(
        keeper.attempts_with_containers().await.expect("list"),
        [AttemptId(7)],
        "known after the restart"
    );
    keeper.end_attempt(AttemptId(7)).await.expect("ended");
    assert_eq!(engine.specs(), []);
}

#[tokio::test]
async fn a_request_that_is_repeated_finds_its_container() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (keeper, served) = site.serve(engine.clone());
    let asked = request(IMAGE, "/bin/sh -c 'echo one; sleep 1000'", "");
    let mut call = Call::open(&site.socket(), UID, Input::Request(asked.clone())).await;
    call.until(|heard| heard.stdout == "one\n").await;
    keeper.let_go();
    served.abort();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(&site.socket(), UID, Input::Request(asked)).await;
    call.until(|heard| heard.stdout == "one\n").await;
    assert_eq!(engine.specs().len(), 1);
}

#[tokio::test]
async fn an_engine_that_restarts_gives_the_real_code_in_the_end() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "/bin/sh -c 'echo one; sleep 1000'", "")),
    )
    .await;
    call.until(|heard| heard.stdout == "one\n").await;
    engine.go_away(false);
    call.until(|heard| !heard.notices.is_empty()).await;
    engine.come_back();
    let heard = call.end().await;
    assert_eq!((heard.stdout.as_str(), heard.code), ("one\n", Some(137)));
    assert!(
        heard.notices[0].contains("went away"),
        "{:?}",
        heard.notices
    );
    wait_until("removed", &engine, <[_]>::is_empty).await;

    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "/bin/sh -c 'echo one; sleep 1000'", "")),
    )
    .await;
    call.until(|heard| heard.stdout == "one\n").await;
    engine.go_away(true);
    call.until(|heard| !heard.notices.is_empty()).await;
    engine.come_back();
    call.until(|heard| heard.notices.len() > 1).await;
    call.say(Input::Signal(15)).await;
    assert_eq!(call.end().await.code, Some(143), "it went on");
}

#[tokio::test]
async fn an_engine_that_is_down_is_named() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    engine.go_away(true);
    let refused = run(&site, request(IMAGE, "echo", ""))
        .await
        .refused
        .expect("refused");
    assert_eq!(refused.exit_code, 125);
    assert!(
        refused.message.contains("does not answer"),
        "{}",
        refused.message
    );
    assert!(refused.hint.contains("dockerd"));
    engine.come_back();
    assert_eq!(run(&site, request(IMAGE, "echo", "")).await.code, Some(0));
}

#[tokio::test]
async fn stdin_flows_at_the_containers_pace_and_ends() {
    let Some(site) = TestSite::make() else { return };
    let (_keeper, _served) = site.serve(engine());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "/bin/cat", "-i")),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    let piece = "x".repeat(STDIN_WINDOW as usize / 4);
    for nth in 1..=12 {
        call.say(Input::Stdin(piece.clone().into_bytes())).await;
        call.until(|heard| heard.stdout.len() == nth * piece.len())
            .await;
    }
    call.say(Input::StdinClosed(Done {})).await;
    assert_eq!(call.end().await.code, Some(0));
}

#[tokio::test]
async fn a_signal_passes_stdin_that_nobody_reads() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "sleep 1000", "-i")),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    for _ in 0..8 {
        call.say(Input::Stdin(vec![b'x'; STDIN_WINDOW as usize / 8]))
            .await;
    }
    call.say(Input::Signal(15)).await;
    assert_eq!(call.end().await.code, Some(143));

    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(request(IMAGE, "sleep 1000", "-i")),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    // Four pieces fit into the pipe of the engine in memory.
    for _ in 0..13 {
        call.say(Input::Stdin(vec![b'x'; STDIN_WINDOW as usize / 8]))
            .await;
    }
    call.until(|heard| heard.broken).await;
    wait_until("the one that floods is ended", &engine, <[_]>::is_empty).await;
}

#[tokio::test]
async fn one_attempt_runs_a_bounded_number_of_containers() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let mut calls = Vec::new();
    for _ in 0..CONTAINERS_PER_ATTEMPT_MAX {
        let mut call = Call::open(
            &site.socket(),
            UID,
            Input::Request(request(IMAGE, "sleep 1000", "")),
        )
        .await;
        call.until(|heard| heard.started.is_some()).await;
        calls.push(call);
    }
    let refused = run(&site, request(IMAGE, "echo", ""))
        .await
        .refused
        .expect("refused");
    assert!(refused.message.contains("which is the limit"));
    drop(calls);
    wait_until("removed", &engine, <[_]>::is_empty).await;
    assert_eq!(run(&site, request(IMAGE, "echo", "")).await.code, Some(0));
}

#[tokio::test]
async fn scripts_run_with_what_they_lack() {
    let Some(site) = TestSite::make() else { return };
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let script = |path: String, folder: &str| ContainerRequest {
        command_line: None,
        script: Some(path),
        proc_folder: folder.to_owned(),
        ..request(IMAGE, "", "")
    };
    site.make_file("home/ann/run.sh", "echo\r\n", 0o644);
    let mut call = Call::open(
        &site.socket(),
        UID,
        Input::Request(script("run.sh".into(), "")),
    )
    .await;
    call.until(|heard| !heard.notices.is_empty()).await;
    let notice = &call.heard.notices[0];
    for what in ["no execute bit", "no interpreter line", "CRLF", "/bin/sh"] {
        assert!(notice.contains(what), "{notice}");
    }
    drop(call);
    let heard = run(&site, script("nowhere.sh".into(), "")).await;
    let refused = heard.refused.expect("refused");
    assert_eq!(refused.exit_code, 127);
    assert!(
        refused.message.contains(&site.text("home/ann/nowhere.sh")),
        "{}",
        refused.message
    );
    site.make_file("data/ann/job.sh", "#!/bin/sh\n", 0o755);
    let refused = run(&site, script(site.text("data/ann/job.sh"), ""))
        .await
        .refused
        .expect("refused");
    assert!(
        refused
            .message
            .contains("no folder that the container sees")
    );
    let heard = run(&site, script("job.sh".into(), &site.text("data/ann"))).await;
    assert_eq!(
        (heard.code, heard.notices.len()),
        (Some(127), 0),
        "run directly; the fake has no such program"
    );
}

#[tokio::test]
async fn nobody_fills_the_door() {
    let Some(site) = TestSite::make() else { return };
    let (_keeper, _served) = site.serve(engine());
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_PER_USER_MAX {
        idle.push(
            tokio::net::UnixStream::from_std(connect_as(UID, &site.socket())).expect("stream"),
        );
    }
    let more = tokio::net::UnixStream::from_std(connect_as(UID, &site.socket())).expect("stream");
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        more.readable().await.expect("readable");
        more.try_read(&mut [0])
    });
    // Either way of being closed: an orderly end, or a reset because we had said something.
    assert!(matches!(
        closed.await.expect("closed at once"),
        Ok(0) | Err(_)
    ));
    let other = Call::open(
        &site.socket(),
        UID + 1,
        Input::Request(request(IMAGE, "echo", "")),
    )
    .await;
    assert!(other.end().await.refused.is_some(), "others are served");
    drop(idle);
    wait_for_room(&site).await;
}

/// Waits until the user may connect again: the door learns of a closed connection a moment later.
async fn wait_for_room(site: &TestSite) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let stream =
            tokio::net::UnixStream::from_std(connect_as(UID, &site.socket())).expect("stream");
        let closed = tokio::time::timeout(Duration::from_millis(200), async {
            stream.readable().await.expect("readable");
            matches!(stream.try_read(&mut [0; 64]), Ok(0) | Err(_))
        });
        match closed.await {
            Ok(true) => assert!(tokio::time::Instant::now() < deadline, "still full"),
            Ok(false) | Err(_) => return,
        }
    }
}

/// Only the node's own problems put a job back: what its user did wrong ends it.
#[tokio::test]
async fn why_a_job_in_an_image_did_not_begin_is_noted_when_it_is_its_nodes_fault() {
    let Some(mut site) = TestSite::make() else {
        return;
    };
    let mut context = site.context.take().expect("it has one");
    let spec = Arc::make_mut(&mut context.spec);
    spec.image = IMAGE.to_owned();
    spec.script = b"#!/bin/sh\nexit 0\n".to_vec();
    site.context = Some(context);
    let engine = engine();
    let (_keeper, _served) = site.serve(engine.clone());
    let job = ContainerRequest {
        command_line: None,
        job_script: true,
        ..request(IMAGE, "", "")
    };
    let noted = || std::mem::take(&mut *site.beginnings.lock().unwrap());
    run(&site, job.clone()).await;
    assert_eq!(noted(), [(AttemptId(7), None)]);
    let wrong = ContainerRequest {
        engine_options: "--memory=1x".to_owned(),
        ..job.clone()
    };
    let refused = run(&site, wrong).await.refused.expect("it is refused");
    assert_eq!(refused.exit_code, 125, "{refused:?}");
    assert!(noted().iter().all(|(_, problem)| problem.is_none()));
    engine.go_away(true);
    let refused = run(&site, job).await.refused.expect("it is refused");
    assert_eq!(refused.exit_code, 125, "{refused:?}");
    assert_eq!(noted(), [(AttemptId(7), Some(refused.message))]);
    run(&site, request(IMAGE, "/bin/sh -c true", "")).await;
    assert!(site.beginnings.lock().unwrap().is_empty(), "only of jobs");
}
