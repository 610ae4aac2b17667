//! A container as the engine wants it described, and its labels.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bollard::models::{
    ContainerCreateBody, ContainerSummary, ContainerSummaryStateEnum, DeviceMapping, DeviceRequest,
    HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use capstan_supervisor::containers::{
    Cards, ContainerId, ContainerSpec, Grants, OwnedContainer, Owner, Ulimit,
};
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
    let own = [
        (AGENT, agent.to_string()),
        (ATTEMPT, attempt.0.to_string()),
        (JOB, job.clone()),
        (USER, user.clone()),
        (TERMINAL, has_terminal.to_string()),
    ];
    // Ours last: nobody's own take their place.
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let labels = spec.wishes.labels.iter().cloned().chain(own);
    ContainerCreateBody {
        hostname: spec.wishes.hostname.clone(),
        entrypoint: spec.wishes.entrypoint.clone(),
        stop_signal: spec.wishes.stop_signal.clone(),
        // It would run in the container beside the user's program, and nobody would ask for its result.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
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
        labels: Some(labels.collect()),
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
    let tmpfs = spec
        .wishes
        .tmpfs
        .iter()
        .map(|folder| (folder.target.clone(), folder.settings.clone()));
    let mut host = HostConfig {
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
        readonly_rootfs: spec.wishes.read_only.then_some(true),
        tmpfs: some(tmpfs.collect()),
        ulimits: some(spec.wishes.ulimits.iter().map(ulimit).collect()),
        extra_hosts: some(spec.wishes.hosts.clone()),
        dns: some(spec.wishes.dns.clone()),
        network_mode: spec.wishes.network.clone(),
        nano_cpus: spec
            .wishes
            .nano_cpus
            .and_then(|nano| i64::try_from(nano).ok()),
        ..Default::default()
    };
    grant(&mut host, &spec.grants);
    host
}

/// None for an empty list: the engine then does what it does when nobody asks.
fn some<T: IntoIterator + Default + PartialEq>(all: T) -> Option<T> {
    (all != T::default()).then_some(all)
}

fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    let number = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1));
    ResourcesUlimits {
        name: Some(limit.name.clone()),
        soft: Some(number(limit.soft)),
        hard: Some(number(limit.hard)),
    }
}

/// What the site excepts for this user.
fn grant(host: &mut HostConfig, grants: &Grants) {
    let mode = |is_host: bool| is_host.then(|| "host".to_owned());
    let Grants {
        privileged,
        capabilities,
        devices,
        pid_host,
        uts_host,
        userns_host,
        cgroupns_host,
        ipc_host,
        security,
        runtime,
        sysctls,
    } = grants;
    host.privileged = privileged.then_some(true);
    host.cap_add = some(capabilities.clone());
    let device = |(outside, inside, rights): &(String, String, String)| DeviceMapping {
        path_on_host: Some(outside.clone()),
        path_in_container: Some(inside.clone()),
        cgroup_permissions: Some(rights.clone()),
    };
    host.devices = some(devices.iter().map(device).collect());
    host.pid_mode = mode(*pid_host);
    host.uts_mode = mode(*uts_host);
    host.userns_mode = mode(*userns_host);
    host.cgroupns_mode = cgroupns_host.then_some(HostConfigCgroupnsModeEnum::HOST);
    if *ipc_host {
        host.ipc_mode = mode(true);
    }
    host.security_opt
        .get_or_insert_default()
        .extend(security.iter().cloned());
    host.runtime.clone_from(runtime);
    host.sysctls = some(sysctls.iter().cloned().collect());
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

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_supervisor::containers::{Bind, TerminalSize, testing};

    fn spec() -> ContainerSpec {
        let mut spec = testing::spec(&AgentId::from("a"), "x", &["true"]);
        spec.groups = vec![65534, 7];
        spec.binds = vec![Bind {
            source: "/s".into(),
            target: "/t".into(),
            read_only: true,
        }];
        spec
    }

    #[test]
    fn a_container_has_no_rights_that_nobody_gave() {
        let body = body(&spec());
        assert_eq!(body.user.as_deref(), Some("65534:65534"));
        let host = body.host_config.expect("host");
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(
            host.security_opt,
            Some(vec!["no-new-privileges".to_owned()])
        );
        assert_eq!(host.group_add, Some(vec!["7".to_owned()]));
        assert_eq!(
            (host.privileged, host.cap_add, host.devices, host.binds),
            (None, None, None, None)
        );
        assert_eq!(
            (
                host.pid_mode,
                host.uts_mode,
                host.userns_mode,
                host.network_mode
            ),
            (None, None, None, None)
        );
        assert_eq!(
            (host.ipc_mode.as_deref(), host.restart_policy),
            (Some("private"), None)
        );
        assert_eq!(host.device_requests, None);
        let mount = &host.mounts.expect("mounts")[0];
        assert_eq!(
            (
                mount.read_only,
                mount.source.as_deref(),
                mount.target.as_deref()
            ),
            (Some(true), Some("/s"), Some("/t"))
        );
    }

    #[test]
    fn cards_are_asked_for_by_uuid_and_no_other_way() {
        let card = vec![capstan_types::CardId::from("GPU-a")];
        let nvidia = cards(&Cards::Nvidia(card.clone())).expect("request");
        assert_eq!(
            (nvidia.driver.as_deref(), nvidia.count),
            (Some("nvidia"), None)
        );
        assert_eq!(nvidia.device_ids, Some(vec!["GPU-a".to_owned()]));
        let cdi = cards(&Cards::Cdi(card)).expect("request");
        assert_eq!(
            (cdi.driver.as_deref(), cdi.device_ids),
            (Some("cdi"), Some(vec!["nvidia.com/gpu=GPU-a".to_owned()]))
        );
        assert_eq!(cards(&Cards::ByEnvironment), None);
    }

    #[test]
    fn a_container_is_known_again_by_its_labels() {
        let mut spec = spec();
        spec.terminal = Some(TerminalSize {
            rows: 1,
            columns: 1,
        });
        let summary = ContainerSummary {
            id: Some("c".to_owned()),
            names: Some(vec![format!("/{}", spec.name)]),
            labels: body(&spec).labels,
            state: Some(ContainerSummaryStateEnum::CREATED),
            created: Some(5),
            ..ContainerSummary::default()
        };
        let seen = owned(summary.clone()).expect("ours");
        assert_eq!((seen.owner, seen.name), (spec.owner, spec.name));
        assert!(seen.terminal && seen.never_started);
        assert_eq!(
            seen.created,
            SystemTime::UNIX_EPOCH + Duration::from_secs(5)
        );
        let foreign = ContainerSummary {
            labels: Some(HashMap::new()),
            ..summary
        };
        assert!(owned(foreign).is_none());
    }
}
