//! A container as the engine wants it described, and its labels.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, DeviceRequest, HostConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
};
use capstan_supervisor::containers::{Cards, ContainerId, ContainerSpec, OwnedContainer, Owner};
use capstan_types::{AgentId, AttemptId};

const AGENT: &str = "capstan.agent";
const ATTEMPT: &str = "capstan.attempt";
const JOB: &str = "capstan.job";
const USER: &str = "capstan.user";
const TERMINAL: &str = "capstan.terminal";

/// The label that finds an agent's containers.
pub(crate) fn label_of(agent: &AgentId) -> String {
    format!("{AGENT}={agent}")
}

pub(crate) fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let (uid, gid) = spec.user;
    let has_terminal = spec.terminal.is_some();
    let Owner {
        agent,
        attempt,
        job,
        user,
    } = &spec.owner;
    let labels = [
        (AGENT, agent.to_string()),
        (ATTEMPT, attempt.0.to_string()),
        (JOB, job.clone()),
        (USER, user.clone()),
        (TERMINAL, has_terminal.to_string()),
    ];
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: Some(spec.command.clone()).filter(|command| !command.is_empty()),
        env: Some(spec.environment.clone()),
        working_dir: Some(spec.workdir.to_string_lossy().into_owned()),
        user: Some(format!("{uid}:{gid}")),
        attach_stdin: Some(spec.interactive),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(spec.interactive),
        // The end of our stdin is the end of the program's.
        stdin_once: Some(spec.interactive),
        tty: Some(has_terminal),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(host(spec)),
        ..Default::default()
    }
}

fn host(spec: &ContainerSpec) -> HostConfig {
    let mounts = spec.binds.iter().map(|bind| Mount {
        target: Some(bind.target.to_string_lossy().into_owned()),
        source: Some(bind.source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(bind.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..Default::default()
        }),
        ..Default::default()
    });
    let groups = spec.groups.iter().filter(|&&group| group != spec.user.1);
    HostConfig {
        mounts: Some(mounts.collect()),
        group_add: Some(groups.map(u32::to_string).collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        ipc_mode: Some("private".to_owned()),
        shm_size: i64::try_from(spec.shm_bytes).ok(),
        pids_limit: Some(spec.pids_max.into()),
        memory: spec
            .memory_bytes
            .and_then(|bytes| i64::try_from(bytes).ok()),
        cgroup_parent: spec.cgroup_parent.clone(),
        init: Some(spec.init),
        // Engines before API 1.42 have no size until the first resize, right after the start.
        console_size: spec
            .terminal
            .map(|size| vec![size.rows.into(), size.columns.into()]),
        device_requests: cards(&spec.cards).map(|request| vec![request]),
        ..Default::default()
    }
}

fn cards(cards: &Cards) -> Option<DeviceRequest> {
    match cards {
        Cards::ByEnvironment => None,
        Cards::Nvidia(cards) => Some(DeviceRequest {
            driver: Some("nvidia".to_owned()),
            device_ids: Some(cards.iter().map(ToString::to_string).collect()),
            // What the hook mounts of the driver: programs that compute need no more.
            capabilities: Some(vec![
                ["gpu", "compute", "utility"].map(str::to_owned).into(),
            ]),
            ..Default::default()
        }),
        Cards::Cdi(cards) => Some(DeviceRequest {
            driver: Some("cdi".to_owned()),
            device_ids: Some(
                cards
                    .iter()
                    .map(|card| format!("nvidia.com/gpu={card}"))
                    .collect(),
            ),
            ..Default::default()
        }),
    }
}

/// A container from the engine's list; none when its labels are not all ours.
pub(crate) fn owned(summary: ContainerSummary) -> Option<OwnedContainer> {
    let labels: HashMap<String, String> = summary.labels?;
    let owner = Owner {
        agent: AgentId::from(labels.get(AGENT)?.as_str()),
        attempt: AttemptId(labels.get(ATTEMPT)?.parse().ok()?),
        job: labels.get(JOB)?.clone(),
        user: labels.get(USER)?.clone(),
    };
    let name = summary
        .names
        .and_then(|names| names.into_iter().next())
        .unwrap_or_default();
    Some(OwnedContainer {
        id: ContainerId(summary.id?),
        name: name.trim_start_matches('/').to_owned(),
        owner,
        terminal: labels
            .get(TERMINAL)
            .is_some_and(|terminal| terminal == "true"),
        created: SystemTime::UNIX_EPOCH
            + Duration::from_secs(
                summary
                    .created
                    .and_then(|at| at.try_into().ok())
                    .unwrap_or(0),
            ),
        never_started: summary.state == Some(ContainerSummaryStateEnum::CREATED),
    })
}
