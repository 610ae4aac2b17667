//! What an agent is told to run: a job and its payload as a launch specification. Pure.

use capstan_core::{Job, JobSpec, Node, NodeShare, Payload, Run, Settings, State};
use capstan_proto::wire;
use capstan_types::{JobPart, JoinPath, NodeName, NodeSpec, StagedFile, WarningSignal};

use crate::view::paths::{stderr_path, stdout_path};
use crate::view::words::{job_name, variable_list};

/// Bits that files of jobs are made without, when the job does not say.
const UMASK: u32 = 0o077;

/// The launch specification of `job`'s attempt on `node`; `None` when it has no attempt there.
pub(crate) fn spec(
    state: &State,
    job: &Job,
    node: &NodeName,
    payload: &Payload,
) -> Option<wire::LaunchSpec> {
    let settings = state.settings()?;
    let run = job.state.run()?;
    let share = run.shares.iter().find(|share| share.node == *node)?;
    let asked = &job.spec.resources;
    let bytes = |name: &str| asked.size(name).map(|size| size.bytes());
    let seconds = |name: &str| asked.seconds(name).map(|seconds| seconds.0);
    let variables = variable_list(job, &settings.server, &payload.variables);
    let variables = variables.map(|(name, value)| wire::Variable {
        name: name.into_owned(),
        value: value.into_owned(),
    });
    Some(wire::LaunchSpec {
        attempt: run.attempt.0,
        job_id: job.id.on(&settings.server),
        job_name: job_name(job).into_owned(),
        queue: job.queue.to_string(),
        server: settings.server.to_string(),
        user: job.spec.owner.user.to_string(),
        uid: job.spec.owner.uid,
        group: group(&job.spec),
        script: payload.script.clone(),
        variables: variables.collect(),
        initial_folder: job.spec.initial_folder.to_string(),
        shell: job.spec.shell.to_string(),
        output: Some(output(job)),
        umask: job.spec.umask.unwrap_or(UMASK),
        walltime_secs: seconds("walltime"),
        kill_delay_secs: (job.spec.kill_delay_secs)
            .unwrap_or_else(|| settings.kill_delay_secs(job.queue.as_str())),
        node_file: node_file(run, settings.attributes.text("node_suffix")),
        gpu_file: gpu_file(run),
        cards: cards(share, state.node(node).map(AsRef::as_ref)),
        num_nodes: node_count(&job.spec, run),
        num_ppn: first_ppn(&job.spec),
        cores: share.slots.len() as u32,
        memory_bytes: Some(share.memory_bytes).filter(|bytes| *bytes > 0),
        script_arguments: job.spec.script_arguments.to_string(),
        array_index: match job.id.part {
            JobPart::Member(index) => Some(index),
            JobPart::Whole | JobPart::Array => None,
        },
        cput_secs: seconds("cput"),
        file_bytes: bytes("file"),
        vmem_bytes: bytes("vmem"),
        pmem_bytes: bytes("pmem"),
        pcput_secs: seconds("pcput"),
        pvmem_bytes: bytes("pvmem"),
        nice: asked
            .get("nice")
            .and_then(|value| value.to_string().parse().ok()),
        stage_in: staged(&job.spec.stagein),
        stage_out: staged(&job.spec.stageout),
        pro_dialect: job.spec.select.is_some(),
        ..surroundings(state, settings, job, share)
    })
}

/// What the node needs for its own part around the job: the warning, prologues, the cores, the image, the footer.
fn surroundings(
    state: &State,
    settings: &Settings,
    job: &Job,
    share: &NodeShare,
) -> wire::LaunchSpec {
    let node = state.node(&share.node);
    let asked = |name: &str| job.spec.resources.get(name).map(ToString::to_string);
    wire::LaunchSpec {
        warning: warning(settings, job),
        account: shown(job, "Account_Name").to_owned(),
        resource_list: resource_list(job),
        job_type: job.spec.job_type.to_string(),
        prologue: asked("prologue").unwrap_or_default(),
        epilogue: asked("epilogue").unwrap_or_default(),
        slots: share.slots.iter().map(|slot| u32::from(*slot)).collect(),
        node_slots: node.map_or(0, |node| node.slots.into()),
        node_cards: node.map_or(0, |node| node.inventory.cards.len() as u32),
        footer: settings.tells("job_footer") && !job.spec.is_interactive(),
        image: settings
            .image_of(&job.queue, &job.spec)
            .unwrap_or_default()
            .to_owned(),
        cards_in_containers_only: settings.requires_containers(&job.queue),
        gang_ends: shown(job, "gang") == "end",
        scratch_bytes: job.spec.resources.size("scratch").map(|size| size.bytes()),
        interactive: interactive(settings, job),
        ..wire::LaunchSpec::default()
    }
}

fn interactive(settings: &Settings, job: &Job) -> Option<wire::Interactive> {
    if !job.spec.is_interactive() {
        return None;
    }
    let times = settings.session_times(&job.queue);
    Some(wire::Interactive {
        keep_secs: times.keep_secs,
        idle_secs: times.idle_secs,
    })
}

/// The job's own, else its queue's, else the server's; a value that was valid when it was set.
fn warning(settings: &Settings, job: &Job) -> Option<wire::Warning> {
    let queue = settings.queues.get(&job.queue);
    let of_queue = queue.and_then(|queue| queue.attributes.text("warning_signal"));
    let default = of_queue.or_else(|| settings.attributes.text("warning_signal"));
    let text = Some(shown(job, "signal")).filter(|text| !text.is_empty());
    let warning = WarningSignal::parse(text.or(default)?).ok()?;
    Some(wire::Warning {
        signal: warning.number,
        secs: warning.secs,
    })
}

/// `nodes=gpu01:ppn=2,walltime=00:01:00,…,neednodes=gpu01:ppn=2`, as prologues get it.
fn resource_list(job: &Job) -> String {
    let resources = job
        .spec
        .resources
        .iter()
        .filter(|(name, _)| *name != "nodect");
    let mut list: Vec<String> = resources
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if let Some(nodes) = job.spec.resources.get("nodes") {
        list.push(format!("neednodes={nodes}"));
    }
    list.join(",")
}

fn shown<'a>(job: &'a Job, name: &str) -> &'a str {
    let found = job.spec.shown.iter().find(|(known, _)| **known == *name);
    found.map_or("", |(_, value)| value)
}

/// By name only when the job asked for one: the login group may have another name on the node.
fn group(spec: &JobSpec) -> String {
    let is_asked = spec.shown.iter().any(|(name, _)| **name == *"group_list");
    match is_asked {
        true => spec.owner.group.to_string(),
        false => String::new(),
    }
}

fn output(job: &Job) -> wire::OutputFiles {
    let join = match job.spec.join {
        JoinPath::Separate => wire::output_files::Join::Separate,
        JoinPath::IntoStdout => wire::output_files::Join::IntoStdout,
        JoinPath::IntoStderr => wire::output_files::Join::IntoStderr,
    };
    wire::OutputFiles {
        stdout: stdout_path(job),
        stderr: stderr_path(job),
        join: join.into(),
        keep: job.spec.keep.to_string(),
    }
}

fn staged(files: &[StagedFile]) -> Vec<wire::StagedFile> {
    let files = files.iter().map(|file| wire::StagedFile {
        local: file.local.to_string(),
        host: file.host.to_string(),
        remote: file.remote.to_string(),
    });
    files.collect()
}

/// One line per slot, in the order of `exec_host`.
/// With `node_suffix` behind each name, when the site has one.
fn node_file(run: &Run, suffix: Option<&str>) -> Vec<String> {
    let suffix = suffix.unwrap_or("");
    let shares = run.shares.iter();
    let lines = shares.flat_map(|share| share.slots.iter().map(|_| &share.node));
    lines.map(|node| format!("{node}{suffix}")).collect()
}

/// `gpu01-gpu1` per card.
fn gpu_file(run: &Run) -> Vec<String> {
    let shares = run.shares.iter();
    let lines = shares.flat_map(|share| {
        let cards = share.cards.iter();
        cards.map(|card| format!("{}-gpu{}", share.node, card.index))
    });
    lines.collect()
}

fn cards(share: &NodeShare, node: Option<&Node>) -> Vec<wire::Card> {
    let known = |uuid| node?.inventory.cards.iter().find(|card| card.uuid == uuid);
    let cards = share.cards.iter().map(|lent| {
        let known = known(lent.uuid.clone());
        wire::Card {
            uuid: lent.uuid.to_string(),
            index: lent.index,
            model: known.map(|card| card.model.to_string()).unwrap_or_default(),
            memory_bytes: known.map(|card| card.memory_bytes).unwrap_or_default(),
            pci_address: known
                .map(|card| card.pci_address.to_string())
                .unwrap_or_default(),
            driver: known
                .map(|card| card.driver.to_string())
                .unwrap_or_default(),
            // What it can and is near to decided where the job goes; the job itself asks the card.
            ..wire::Card::default()
        }
    });
    cards.collect()
}

/// `PBS_NUM_NODES`: nodes as asked for, which counts one node twice when it was named twice.
fn node_count(spec: &JobSpec, run: &Run) -> u32 {
    let asked = spec.nodes.as_ref().map(NodeSpec::node_count);
    asked.unwrap_or(run.shares.len() as u32)
}

/// `PBS_NUM_PPN`: the first `ppn` of the request, 1 if there is none.
fn first_ppn(spec: &JobSpec) -> u32 {
    let first = spec.nodes.as_ref().and_then(|nodes| nodes.chunks.first());
    first.map_or(1, |chunk| chunk.ppn)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capstan_core::{JobSpec, JobState};
    use capstan_types::{Env, JobId};

    use super::*;
    use crate::testing::{job, run, state};

    fn launched(id: JobId, change: impl FnOnce(&mut JobSpec), node: &str) -> wire::LaunchSpec {
        let asked = [
            ("nodes", "2:ppn=2:gpus=1"),
            ("walltime", "90"),
            ("vmem", "1gb"),
        ];
        let mut job = job(id, "dir/ar", &asked);
        change(Arc::make_mut(&mut job.spec));
        let places: [(&str, &[u16], &[u32]); 2] =
            [("gpu02", &[0, 1], &[1]), ("gpu01", &[2, 3], &[0])];
        job.state = JobState::Starting(run(&places, 0, 1));
        let variables = [
            ("A", "1"),
            ("PBS_O_QUEUE", "forged"),
            ("PBS_ARRAYID", "forged"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let payload = Payload {
            script: b"true\n".to_vec(),
            variables: variables.into_iter().collect::<Env>(),
        };
        spec(&state([]), &job, &node.into(), &payload).unwrap()
    }

    /// Sessions D02 and D04: files in the order of exec_host, cards of this node only.
    #[test]
    fn every_node_is_listed_slot_by_slot_and_card_by_card() {
        let spec = launched(JobId::whole(7), |_| {}, "gpu02");
        assert_eq!(spec.node_file, ["gpu02", "gpu02", "gpu01", "gpu01"]);
        assert_eq!(spec.gpu_file, ["gpu02-gpu1", "gpu01-gpu0"]);
        let cards: Vec<&str> = spec.cards.iter().map(|card| card.uuid.as_str()).collect();
        assert_eq!(cards, ["GPU-gpu02-1"]);
        assert_eq!((spec.num_nodes, spec.num_ppn, spec.cores), (2, 2, 2));
        assert_eq!(
            (spec.walltime_secs, spec.vmem_bytes),
            (Some(90), Some(1 << 30))
        );
        assert_eq!((spec.umask, spec.kill_delay_secs), (0o077, 2));
        assert_eq!(
            spec.group, "",
            "the login group, whatever it is called there"
        );
    }

    #[test]
    fn a_member_has_its_index_in_names_and_variables_that_nobody_can_forge() {
        let spec = launched(JobId::member(7, 3), |_| {}, "gpu01");
        assert_eq!(
            (spec.job_id.as_str(), spec.job_name.as_str()),
            ("7[3].hn1", "dir/ar-3")
        );
        assert_eq!(spec.array_index, Some(3));
        let output = spec.output.unwrap();
        assert_eq!(output.stdout, "hn1:/home/alice/ar.o7-3");
        let variables: Vec<_> = spec
            .variables
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        assert_eq!(
            variables,
            [
                "PBS_ARRAYID=3",
                "PBS_O_QUEUE=batch",
                "A=1",
                "PBS_O_SERVER=hn1"
            ]
        );
    }

    #[test]
    fn what_was_asked_for_goes_along() {
        let change = |spec: &mut JobSpec| {
            spec.umask = Some(0o22);
            spec.kill_delay_secs = Some(9);
            spec.join = JoinPath::IntoStdout;
            spec.owner.group = "physics".into();
            spec.shown.push(("group_list".into(), "physics".into()));
            spec.stdout_path = "/x/$PBS_JOBID".into();
        };
        let spec = launched(JobId::whole(7), change, "gpu01");
        assert_eq!((spec.umask, spec.kill_delay_secs), (0o22, 9));
        assert_eq!(spec.group, "physics");
        let output = spec.output.unwrap();
        assert_eq!(output.join(), wire::output_files::Join::IntoStdout);
        assert_eq!(output.stdout, "hn1:/x/$PBS_JOBID");
    }
}
