//! The rules that every engine keeps, as one suite. It runs busybox programs in an image named [`IMAGE`] and leaves
//! nothing behind when it succeeds.

use std::time::Duration;

use capstan_types::{AgentId, AttemptId};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::super::engine::{
    Attached, Cards, ContainerEngine, ContainerSpec, EngineError, Grants, Output, Owner, Seen,
    Signal, TerminalSize, Wishes,
};

/// The image that the suite uses: busybox at `/bin`, an `/etc/passwd` with root in it.
pub const IMAGE: &str = "capstan-contract:1";

const PATIENCE: Duration = Duration::from_secs(60);

/// A container of `agent` that runs `command`, as plain as can be.
#[must_use]
pub fn spec(agent: &AgentId, name: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: format!("contract-{agent}-{name}"),
        image: IMAGE.to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: Vec::new(),
        workdir: "/".into(),
        user: (65534, 65534),
        groups: vec![65534],
        binds: Vec::new(),
        cards: Cards::ByEnvironment,
        shm_bytes: 64 << 20,
        cgroup_parent: None,
        memory_bytes: None,
        pids_max: 100,
        init: false,
        interactive: false,
        terminal: None,
        wishes: Wishes::default(),
        grants: Grants::default(),
        owner: Owner {
            agent: agent.clone(),
            attempt: AttemptId(7),
            job: "7.contract".to_owned(),
            user: "nobody".to_owned(),
        },
    }
}

/// Checks all rules.
///
/// # Panics
/// At the first rule that is broken.
pub async fn check_engine(engine: &impl ContainerEngine, agent: &AgentId) {
    let suite = async {
        facts_and_images(engine).await;
        codes_and_streams(engine, agent).await;
        refused_starts_leave_nothing(engine, agent).await;
        stdin_ends_where_it_ends(engine, agent).await;
        a_terminal_has_a_size(engine, agent).await;
        a_name_is_started_once(engine, agent).await;
        a_stream_is_taken_up_again(engine, agent).await;
        removal_is_for_good(engine, agent).await;
        assert_eq!(
            engine.owned(agent).await.expect("list"),
            [],
            "nothing is left"
        );
    };
    tokio::time::timeout(PATIENCE, suite)
        .await
        .expect("the suite ends in time");
}

async fn collect(attached: Attached) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = attached.output;
    while let Some(piece) = output.next().await {
        match piece.expect("output") {
            Output::Stdout(bytes) => out.extend_from_slice(&bytes),
            Output::Stderr(bytes) => err.extend_from_slice(&bytes),
        }
    }
    (
        String::from_utf8(out).expect("text"),
        String::from_utf8(err).expect("text"),
    )
}

async fn facts_and_images(engine: &impl ContainerEngine) {
    assert!(!engine.facts().await.expect("facts").version.is_empty());
    let image = engine.image(IMAGE).await.expect("image");
    let missing = engine.image("capstan-no-such-image:1").await;
    assert!(
        matches!(missing, Err(EngineError::ImageMissing { .. })),
        "{missing:?}"
    );
    let passwd = engine
        .file_of_image(&image, "/etc/passwd", 4096)
        .await
        .expect("file");
    assert!(passwd.is_some_and(|bytes| bytes.starts_with(b"root:")));
    assert_eq!(
        engine
            .file_of_image(&image, "/no/such/file", 4096)
            .await
            .expect("answer"),
        None
    );
}

async fn codes_and_streams(engine: &impl ContainerEngine, agent: &AgentId) {
    let spec = spec(
        agent,
        "streams",
        &["/bin/sh", "-c", "echo to out; echo to err >&2; exit 3"],
    );
    let attached = engine.ensure_started(&spec).await.expect("started");
    let id = attached.id.clone();
    assert_eq!(
        collect(attached).await,
        ("to out\n".to_owned(), "to err\n".to_owned())
    );
    assert_eq!(engine.wait(&id).await.expect("code"), 3);
    assert_eq!(engine.wait(&id).await.expect("the same code again"), 3);
    engine
        .signal(&id, Signal(libc::SIGTERM))
        .await
        .expect("an ended container needs no signal");
    engine.ensure_removed(&id).await.expect("removed");
}

async fn refused_starts_leave_nothing(engine: &impl ContainerEngine, agent: &AgentId) {
    let refused = engine
        .ensure_started(&spec(agent, "missing", &["/no/such/program"]))
        .await;
    assert!(matches!(
        refused.err(),
        Some(EngineError::ProgramNotFound { .. })
    ));
    let refused = engine
        .ensure_started(&spec(agent, "plain", &["/etc/passwd"]))
        .await;
    assert!(matches!(
        refused.err(),
        Some(EngineError::ProgramNotExecutable { .. })
    ));
    let mut no_image = spec(agent, "image", &["/bin/echo"]);
    no_image.image = "capstan-no-such-image:1".to_owned();
    let refused = engine.ensure_started(&no_image).await;
    assert!(matches!(
        refused.err(),
        Some(EngineError::ImageMissing { .. })
    ));
    assert_eq!(
        engine.owned(agent).await.expect("list"),
        [],
        "a refused start leaves nothing"
    );
}

async fn stdin_ends_where_it_ends(engine: &impl ContainerEngine, agent: &AgentId) {
    let mut spec = spec(agent, "stdin", &["/bin/cat"]);
    spec.interactive = true;
    let mut attached = engine.ensure_started(&spec).await.expect("started");
    let id = attached.id.clone();
    let mut input = attached.input.take().expect("it takes input");
    let text = "0123456789abcdef\n".repeat(20_000);
    let write = async {
        input.write_all(text.as_bytes()).await.expect("written");
        input.shutdown().await.expect("closed");
    };
    let ((), (out, _)) = tokio::join!(write, collect(attached));
    assert_eq!(out.len(), text.len());
    assert_eq!(out, text);
    assert_eq!(engine.wait(&id).await.expect("code"), 0);
    engine.ensure_removed(&id).await.expect("removed");
}

async fn a_terminal_has_a_size(engine: &impl ContainerEngine, agent: &AgentId) {
    // It waits for a key, so that the size is set before it is asked for.
    let mut spec = spec(agent, "terminal", &["/bin/sh", "-c", "read x; stty size"]);
    if engine.facts().await.expect("facts").version == "0.fake" {
        spec.command = vec!["/bin/stty".into(), "size".into()];
    }
    spec.interactive = true;
    spec.terminal = Some(TerminalSize {
        rows: 50,
        columns: 132,
    });
    let mut attached = engine.ensure_started(&spec).await.expect("started");
    let id = attached.id.clone();
    if let Some(input) = attached.input.as_mut() {
        drop(input.write_all(b"\r").await);
    }
    let (out, err) = collect(attached).await;
    assert!(out.contains("50 132"), "{out:?}");
    assert_eq!(err, "");
    engine
        .resize(
            &id,
            TerminalSize {
                rows: 1,
                columns: 1,
            },
        )
        .await
        .expect("an ended container has no size");
    engine.ensure_removed(&id).await.expect("removed");
}

async fn a_name_is_started_once(engine: &impl ContainerEngine, agent: &AgentId) {
    let spec = spec(agent, "once", &["/bin/sh", "-c", "echo once; exit 0"]);
    let first = engine.ensure_started(&spec).await.expect("started");
    let id = first.id.clone();
    assert_eq!(engine.wait(&id).await.expect("code"), 0);
    let second = engine.ensure_started(&spec).await.expect("found");
    assert_eq!(second.id, id);
    assert_eq!(
        collect(second).await.0,
        "once\n",
        "all of its output, and only once"
    );
    let owned = engine.owned(agent).await.expect("list");
    assert_eq!(owned.len(), 1);
    assert_eq!((&owned[0].owner, &owned[0].name), (&spec.owner, &spec.name));
    assert!(!owned[0].never_started && !owned[0].terminal);
    assert_eq!(
        engine
            .owned(&AgentId::from("somebody-else"))
            .await
            .expect("list"),
        []
    );
    engine.ensure_removed(&id).await.expect("removed");
}

async fn a_stream_is_taken_up_again(engine: &impl ContainerEngine, agent: &AgentId) {
    let spec = spec(
        agent,
        "resume",
        &["/bin/sh", "-c", "echo one; echo two; sleep 1000"],
    );
    let mut attached = engine.ensure_started(&spec).await.expect("started");
    let id = attached.id.clone();
    let mut seen = Seen::default();
    while seen.stdout < 5 {
        match attached.output.next().await.expect("more").expect("output") {
            Output::Stdout(bytes) => seen.stdout += bytes.len() as u64,
            Output::Stderr(bytes) => panic!("{bytes:?}"),
        }
    }
    drop(attached);
    let owned = engine.owned(agent).await.expect("list").remove(0);
    let again = engine
        .resume(
            &owned,
            Seen {
                stdout: 4,
                stderr: 0,
            },
        )
        .await
        .expect("resumed");
    engine
        .signal(&id, Signal(libc::SIGKILL))
        .await
        .expect("signal");
    let (out, _) = collect(again).await;
    assert!(
        "two\n".starts_with(&out),
        "{out:?} begins behind what was seen"
    );
    assert_eq!(engine.wait(&id).await.expect("code"), 137);
    engine.ensure_removed(&id).await.expect("removed");
}

async fn removal_is_for_good(engine: &impl ContainerEngine, agent: &AgentId) {
    let attached = engine
        .ensure_started(&spec(agent, "removed", &["/bin/sleep", "1000"]))
        .await
        .expect("started");
    let id = attached.id.clone();
    engine
        .ensure_removed(&id)
        .await
        .expect("removed while it runs");
    engine
        .ensure_removed(&id)
        .await
        .expect("removed is removed");
    assert!(matches!(
        engine.wait(&id).await,
        Err(EngineError::NoContainer { .. })
    ));
    engine
        .signal(&id, Signal(libc::SIGTERM))
        .await
        .expect("a removed container needs no signal");
    collect(attached).await;
}

#[cfg(test)]
mod tests {
    use super::super::FakeEngine;
    use super::*;

    #[tokio::test]
    async fn the_engine_in_memory_keeps_the_contract() {
        let engine =
            FakeEngine::with_image(IMAGE, &[("/etc/passwd", "root:x:0:0:root:/:/bin/sh\n")]);
        check_engine(&engine, &AgentId::from("contract-agent")).await;
    }
}
