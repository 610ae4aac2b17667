//! Programs that are run in a container beside its own (`docker exec`). The engine gives them the container's user, groups,
//! capabilities and filters; we add none.

use std::path::Path;

use bollard::models::ExecConfig;
use bollard::query_parameters as query;
use capstan_supervisor::containers::{
    ContainerId, EngineError, EnterSpec, Entered, EnteredState, TerminalSize,
};

use crate::attach;
use crate::docker::DockerEngine;
use crate::said;

pub(crate) async fn create(
    engine: &DockerEngine,
    id: &ContainerId,
    spec: &EnterSpec,
) -> Result<String, EngineError> {
    let docker = engine.docker().await?;
    let has_terminal = spec.terminal.is_some();
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(has_terminal),
        env: Some(spec.environment.clone()),
        cmd: Some(spec.command.clone()),
        privileged: Some(false),
        ..ExecConfig::default()
    };
    let created = engine
        .limits
        .answer(docker.create_exec(&id.0, config))
        .await;
    Ok(created.map_err(|error| engine.about(id, error))?.id)
}

pub(crate) async fn enter(
    engine: &DockerEngine,
    socket: &Path,
    exec: &str,
    terminal: Option<TerminalSize>,
) -> Result<Entered, EngineError> {
    let docker = engine.docker().await?;
    let has_terminal = terminal.is_some();
    let path = format!("/v{}/exec/{exec}/start", docker.client_version());
    let body = format!("{{\"Detach\":false,\"Tty\":{has_terminal}}}");
    let raw = engine.limits.stream(attach::start(socket, &path, &body));
    let raw = raw.await.map_err(|error| engine.no_stream(error))?;
    let handed = raw.hand_over();
    let (stream, first) = handed.map_err(|error| said::no_stream(socket, error.into()))?;
    if let Some(size) = terminal {
        // It may have ended already; then nobody needs the size.
        drop(resize(engine, exec, size).await);
    }
    Ok(Entered { stream, first })
}

pub(crate) async fn resize(
    engine: &DockerEngine,
    exec: &str,
    size: TerminalSize,
) -> Result<(), EngineError> {
    let docker = engine.docker().await?;
    let options = query::ResizeExecOptionsBuilder::new()
        .h(size.rows.into())
        .w(size.columns.into())
        .build();
    let resized = engine
        .limits
        .answer(docker.resize_exec(exec, options))
        .await;
    resized.map_err(|error| engine.said(error))
}

pub(crate) async fn state(engine: &DockerEngine, exec: &str) -> Result<EnteredState, EngineError> {
    let docker = engine.docker().await?;
    let seen = engine.limits.answer(docker.inspect_exec(exec)).await;
    let seen = seen.map_err(|error| engine.said(error))?;
    let is_running = seen.running.unwrap_or(false);
    let exit = seen.exit_code.filter(|_| !is_running);
    let pid = seen.pid.and_then(|pid| i32::try_from(pid).ok());
    Ok(EnteredState {
        exit: exit.map(|code| code as i32),
        pid: pid.filter(|pid| *pid > 0),
        container: ContainerId(seen.container_id.unwrap_or_default()),
    })
}
