//! What prologues and epilogues are told of a job, as Torque tells it: their arguments and their variables. Pure but for
//! the names of host and group.

use std::ffi::CString;

use capstan_proto::wire;
use capstan_types::Seconds;
use nix::unistd::{Gid, Group};

use crate::attempts::environment::environment;
use crate::attempts::record::{Entry, Identity};

/// What of the job's environment they see.
const VARIABLES: [&str; 10] = [
    "PBS_NODEFILE",
    "PBS_NP",
    "PBS_NUM_NODES",
    "PBS_NUM_PPN",
    "PBS_O_WORKDIR",
    "PBS_JOBID",
    "PBS_GPUFILE",
    "PBS_SCRATCH",
    "CUDA_VISIBLE_DEVICES",
    "HOSTNAME",
];

/// What an epilogue is told of how it went.
pub(in crate::attempts) struct Outcome<'a> {
    pub(in crate::attempts) session: u32,
    pub(in crate::attempts) usage: &'a wire::Usage,
    pub(in crate::attempts) exit_status: i32,
}

/// Torque's eight arguments of prologues.
pub(super) fn prologue(entry: &Entry, identity: &Identity) -> Vec<String> {
    let spec = &entry.spec;
    let mut words: Vec<String> = who(entry, identity).into();
    words.push(spec.resource_list.clone());
    words.push(spec.queue.clone());
    words.push(spec.account.clone());
    words.push(entry.script_file());
    words
}

/// Those of `presetup.prologue`: a ninth one says which nodes the job has.
pub(super) fn presetup(entry: &Entry, identity: &Identity) -> Vec<String> {
    let mut words = prologue(entry, identity);
    words.push(nodes(entry).join(","));
    words
}

/// Torque's eleven arguments of epilogues.
pub(super) fn epilogue(entry: &Entry, identity: &Identity, outcome: &Outcome<'_>) -> Vec<String> {
    let spec = &entry.spec;
    let mut words: Vec<String> = who(entry, identity).into();
    words.push(outcome.session.to_string());
    words.push(spec.resource_list.clone());
    words.push(used(outcome.usage));
    words.push(spec.queue.clone());
    words.push(spec.account.clone());
    words.push(outcome.exit_status.to_string());
    words.push(entry.script_file());
    words
}

/// As Torque gives it, and what the job sees of cards and scratch space. `node`: which of the job's nodes this is.
pub(super) fn variables(
    entry: &Entry,
    identity: &Identity,
    node: u32,
) -> Result<Vec<CString>, std::ffi::NulError> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let env = environment(entry, identity, &host.to_string_lossy());
    let asked = entry.spec.resource_list.rsplit_once("neednodes=");
    let first = nodes(entry).into_iter().next();
    let number = node.to_string();
    let own = [
        ("PATH", "/bin:/usr/bin"),
        ("PBS_MSHOST", first.unwrap_or(entry.node.as_str())),
        ("PBS_RESOURCE_NODES", asked.map_or("", |(_, nodes)| nodes)),
        ("PBS_NODENUM", number.as_str()),
    ];
    let jobs = VARIABLES
        .into_iter()
        .filter_map(|name| Some((name, env.get(name)?)));
    own.into_iter()
        .chain(jobs)
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect()
}

/// The job's nodes in the order of its allocation, each once.
fn nodes(entry: &Entry) -> Vec<&str> {
    let mut nodes: Vec<&str> = Vec::new();
    for node in &entry.spec.node_file {
        if !nodes.contains(&node.as_str()) {
            nodes.push(node);
        }
    }
    nodes
}

fn who(entry: &Entry, identity: &Identity) -> [String; 4] {
    let spec = &entry.spec;
    let gid = identity.gid;
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let group = group.map_or_else(|| gid.to_string(), |group| group.name);
    [
        spec.job_id.clone(),
        identity.user.clone(),
        group,
        spec.job_name.clone(),
    ]
}

/// `cput=00:00:00,vmem=0kb,walltime=00:00:00,mem=0kb,energy_used=0`.
fn used(usage: &wire::Usage) -> String {
    format!(
        "cput={},vmem={}kb,walltime={},mem={}kb,energy_used=0",
        Seconds(usage.cput_secs),
        usage.vmem_kb,
        Seconds(usage.walltime_secs),
        usage.mem_kb,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_told_as_torque_tells_it() {
        let usage = wire::Usage {
            cput_secs: 61,
            mem_kb: 7,
            vmem_kb: 8,
            walltime_secs: 3600,
            ..wire::Usage::default()
        };
        let expected = "cput=00:01:01,vmem=8kb,walltime=01:00:00,mem=7kb,energy_used=0";
        assert_eq!(used(&usage), expected);
    }

    fn entry() -> Entry {
        let mut entry = Entry {
            node: "gpu02".into(),
            ..Entry::default()
        };
        entry.spec.node_file = ["gpu01", "gpu01", "gpu02"].map(str::to_owned).into();
        entry
    }

    #[test]
    fn a_presetup_prologue_is_told_each_node_once() {
        let words = presetup(&entry(), &Identity::default());
        assert_eq!(words.len(), 9);
        assert_eq!(words[8], "gpu01,gpu02");
    }

    #[test]
    fn a_sister_is_told_which_node_it_is_and_which_is_the_first() {
        let told = variables(&entry(), &Identity::default(), 1).unwrap();
        let told: Vec<&str> = told.iter().filter_map(|it| it.to_str().ok()).collect();
        assert!(told.contains(&"PBS_MSHOST=gpu01"), "{told:?}");
        assert!(told.contains(&"PBS_NODENUM=1"), "{told:?}");
    }
}
