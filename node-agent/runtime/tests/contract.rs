//! Docker keeps the contract that the engine in memory keeps.

mod dockerd;

use capstan_runtime::DockerEngine;
use capstan_supervisor::containers::testing::{IMAGE, check_engine, spec};
use capstan_supervisor::containers::{Bind, ContainerEngine};
use capstan_types::AgentId;

#[tokio::test]
async fn docker_keeps_the_contract() {
    let Some(socket) = dockerd::socket() else {
        return;
    };
    dockerd::make_image(IMAGE);
    let agent = format!("contract-{}", std::process::id());
    check_engine(&DockerEngine::at(socket), &AgentId::from(agent.as_str())).await;
}

#[tokio::test]
async fn a_container_whose_start_was_interrupted_is_made_anew() {
    let Some(socket) = dockerd::socket() else {
        return;
    };
    dockerd::make_image(IMAGE);
    let agent = AgentId::from(format!("interrupted-{}", std::process::id()).as_str());
    let engine = DockerEngine::at(socket);
    let mut spec = spec(&agent, "interrupted", &["/bin/echo", "hi"]);
    let folder = tempfile::tempdir().expect("folder");
    let bind = |source: &std::path::Path| Bind {
        source: source.to_owned(),
        target: "/x".into(),
        read_only: true,
    };
    // As an agent leaves it that is killed between create and start: the source of its mount goes with it.
    spec.binds = vec![bind(&folder.path().join("missing"))];
    std::fs::create_dir(folder.path().join("missing")).expect("folder");
    let labels = [
        "agent",
        "attempt=7",
        "job=7.contract",
        "user=nobody",
        "terminal=false",
    ]
    .map(|label| {
        let label = if label == "agent" {
            format!("agent={agent}")
        } else {
            label.to_owned()
        };
        format!("--label=capstan.{label}")
    });
    let mount = format!(
        "type=bind,source={},target=/x",
        spec.binds[0].source.display()
    );
    let created = std::process::Command::new("docker")
        .args(["create", "--name", &spec.name, "--mount", &mount])
        .args(labels)
        .args([IMAGE, "/bin/echo", "hi"])
        .output()
        .expect("docker runs");
    assert!(created.status.success(), "{created:?}");
    std::fs::remove_dir(folder.path().join("missing")).expect("removed");
    spec.binds = vec![bind(folder.path())];
    let attached = engine.ensure_started(&spec).await.expect("started");
    assert_eq!(engine.wait(&attached.id).await.expect("code"), 0);
    engine.ensure_removed(&attached.id).await.expect("removed");
    assert_eq!(engine.owned(&agent).await.expect("list"), []);
}
