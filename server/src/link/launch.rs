//! What an agent is told to run: a job and its payload as a launch specification. Pure.

use capstan_core::{Job, JobSpec, Node, NodeShare, Payload, Run, State};
use capstan_proto::wire;
use capstan_types::{JobPart, JoinPath, NodeName, NodeSpec};

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
        kill_delay_secs: job.spec.kill_delay_secs.unwrap_or(settings.kill_delay_secs),
        node_file: node_file(run),
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
    })
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
        stdout: stdout_path(job).into_owned(),
        stderr: stderr_path(job).into_owned(),
        join: join.into(),
        keep: job.spec.keep.to_string(),
    }
}

/// One line per slot, in the order of `exec_host`.
fn node_file(run: &Run) -> Vec<String> {
    let shares = run.shares.iter();
    let lines = shares.flat_map(|share| share.slots.iter().map(|_| share.node.to_string()));
    lines.collect()
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
