//! The environment of a job's first process and the names of its files, as Torque gives them. Pure.

use std::collections::BTreeSet;

use capstan_proto::wire;
use capstan_types::{Env, JobId, OutputStream, PathVariables};

use super::record::{Entry, Identity, PBS_MOMPORT};

/// What `PBS_VERSION` says: programs compare it with the version they were written for.
const PBS_VERSION: &str = "TORQUE-6.1.3.h5";
/// Until the login shell has read the profile; tasks keep it.
const PATH: &str = "/bin:/usr/bin";
/// Torque's own, so that what programs print does not depend on how the agent was started.
const LANG: &str = "C.UTF-8";

/// First of the ports for `MASTER_PORT`, and how many there are: below those that Linux gives to connections that ask for
/// none (`ip_local_port_range` begins at 32768).
const MASTER_PORT_FIRST: u64 = 20_000;
const MASTER_PORTS: u64 = 12_000;

/// Where in the attempt a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the attempt's nodes, `PBS_NODENUM`.
    pub(super) node: u32,
    /// Which of its slots, `PBS_VNODENUM`.
    pub(super) vnode: u32,
    /// Which of its tasks, `PBS_TASKNUM`.
    pub(super) task: u32,
}

impl Place {
    /// The script itself.
    pub(super) const SCRIPT: Self = Self {
        node: 0,
        vnode: 0,
        task: 1,
    };
}

/// Everything that the job's first process gets. What the user exported comes first: it cannot override our own.
#[must_use]
pub(super) fn environment(entry: &Entry, identity: &Identity, host: &str) -> Env {
    at_place(entry, identity, host, Place::SCRIPT)
}

/// What a program gets that a person runs in a job beside its script: the same, and the site's commands where a script
/// finds them.
#[must_use]
pub(super) fn of_session(entry: &Entry, identity: &Identity, host: &str, place: Place) -> Env {
    let mut env = at_place(entry, identity, host, place);
    if !entry.commands_folder.is_empty() {
        let path = env.get("PATH").unwrap_or_default();
        let path = format!("{}:{path}", entry.commands_folder);
        env.set("PATH", path);
    }
    env
}

fn at_place(entry: &Entry, identity: &Identity, host: &str, place: Place) -> Env {
    let mut env = of_task(entry, identity, host, place);
    let spec = &entry.spec;
    env.set("LOGNAME", identity.user.as_str());
    env.set("USER", identity.user.as_str());
    env.set("SHELL", shell(spec, identity, &entry.node));
    env.set("PBS_NP", spec.node_file.len().max(1).to_string());
    if let Some(index) = spec.array_index {
        env.set("PBS_ARRAYID", index.to_string());
    }
    if spec.pro_dialect {
        of_pro(&mut env, entry, identity);
    }
    env
}

/// What a task of `pbsdsh` gets, in Torque's order: less than the script, as no shell has logged in for it.
#[must_use]
pub(super) fn of_task(entry: &Entry, identity: &Identity, host: &str, place: Place) -> Env {
    let spec = &entry.spec;
    let mut pairs = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), LANG.to_owned()),
    ];
    let exported = spec
        .variables
        .iter()
        .filter(|variable| is_settable(variable));
    pairs.extend(exported.map(|variable| (variable.name.clone(), variable.value.clone())));
    let mut set = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));
    set("HOME", &identity.home);
    set("PBS_JOBNAME", &spec.job_name);
    set("PBS_JOBID", &spec.job_id);
    set("PBS_QUEUE", &spec.queue);
    set("PBS_JOBCOOKIE", &entry.cookie);
    set("PBS_NODENUM", &place.node.to_string());
    set("PBS_TASKNUM", &place.task.to_string());
    set("PBS_MOMPORT", PBS_MOMPORT);
    set("PBS_NODEFILE", &entry.node_file());
    // Torque sets these two whether the files exist or not.
    set("PBS_GPUFILE", &entry.gpu_file());
    set("PBS_MICFILE", &format!("{}mic", entry.node_file()));
    set("HOSTNAME", host);
    if let Some(walltime) = spec.walltime_secs {
        set("PBS_WALLTIME", &walltime.to_string());
    }
    set("PBS_NUM_NODES", &spec.num_nodes.max(1).to_string());
    set("PBS_NUM_PPN", &spec.num_ppn.max(1).to_string());
    set("PBS_VERSION", PBS_VERSION);
    set("PBS_VNODENUM", &place.vnode.to_string());
    set(
        "PBS_ENVIRONMENT",
        match spec.interactive {
            Some(_) => "PBS_INTERACTIVE",
            None => "PBS_BATCH",
        },
    );
    set("ENVIRONMENT", "BATCH");
    if let Some(folder) = entry.scratch_folder().filter(|_| !entry.is_guest()) {
        set("PBS_SCRATCH", &folder);
    }
    if !spec.cards.is_empty() {
        let indices = spec.cards.iter().map(|card| card.index.to_string());
        set(
            "CUDA_VISIBLE_DEVICES",
            &indices.collect::<Vec<_>>().join(","),
        );
    }
    let mut env: Env = pairs.into_iter().collect();
    meet(&mut env, entry);
    env
}

/// Where the processes of a distributed program meet: on the first node, at a port that follows from the attempt, so that
/// all nodes know it without asking. Only for attempts with cards, on whichever node: all others see what Torque gives them
/// and no more. What the user exported counts.
fn meet(env: &mut Env, entry: &Entry) {
    let spec = &entry.spec;
    let Some(first) = spec.node_file.first() else {
        return;
    };
    if spec.cards.is_empty() && spec.gpu_file.is_empty() {
        return;
    }
    if env.get("MASTER_ADDR").is_none() {
        env.set("MASTER_ADDR", first.as_str());
    }
    if env.get("MASTER_PORT").is_none() {
        let port = MASTER_PORT_FIRST + spec.attempt % MASTER_PORTS;
        env.set("MASTER_PORT", port.to_string());
    }
    let told = |env: &Env, name: &str| env.get(name).unwrap_or_default().to_owned();
    let master = format!("{}:{}", told(env, "MASTER_ADDR"), told(env, "MASTER_PORT"));
    let nodes: BTreeSet<&String> = spec.node_file.iter().collect();
    let mut add = |name: &str, value: &str| {
        if env.get(name).is_none() {
            env.set(name, value);
        }
    };
    add("PADDLE_MASTER", &master);
    add("PADDLE_NNODES", &nodes.len().to_string());
    if !entry.interface.is_empty() {
        add("NCCL_SOCKET_IFNAME", &entry.interface);
        add("GLOO_SOCKET_IFNAME", &entry.interface);
    }
}

/// What PBS Pro sets beside, for scripts that were written for it.
fn of_pro(env: &mut Env, entry: &Entry, identity: &Identity) {
    let spec = &entry.spec;
    env.set("PBS_JOBDIR", start_folder(spec, identity));
    if let Some(folder) = entry.tmp_folder() {
        env.set("PBS_TMPDIR", folder.as_str());
        env.set("TMPDIR", folder.as_str());
    }
    if let Some(index) = spec.array_index {
        env.set("PBS_ARRAY_INDEX", index.to_string());
        let id = spec.job_id.replacen(&format!("[{index}]"), "[]", 1);
        env.set("PBS_ARRAY_ID", id);
    }
}

/// The folder that the script starts in: `-d`, else the home folder.
#[must_use]
pub(super) fn start_folder<'a>(spec: &'a wire::LaunchSpec, identity: &'a Identity) -> &'a str {
    match spec.initial_folder.as_str() {
        "" => &identity.home,
        folder => folder,
    }
}

/// A variable that the kernel cannot carry would end the whole launch; Torque drops such ones, too.
pub(super) fn is_settable(variable: &wire::Variable) -> bool {
    let wire::Variable { name, value } = variable;
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// The shell: the part of `-S path[@host],…` for this node, else its part without a host, else the login shell.
#[must_use]
pub(super) fn shell(spec: &wire::LaunchSpec, identity: &Identity, node: &str) -> String {
    let mut general = None;
    for part in spec.shell.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('@') {
            Some((path, host)) if is_same_host(host, node) => return path.to_owned(),
            Some(_) => {}
            None => general = Some(part),
        }
    }
    let login = match identity.shell.as_str() {
        "" => "/bin/sh",
        shell => shell,
    };
    general.unwrap_or(login).to_owned()
}

fn is_same_host(host: &str, node: &str) -> bool {
    let short = |name: &str| name.split('.').next().map(str::to_owned);
    host == node || short(host) == short(node)
}

/// The name of an output file inside a folder: `NAME.oSEQ`, `NAME.eSEQ-INDEX`; the last part of a name with slashes.
#[must_use]
pub(super) fn default_output_name(spec: &wire::LaunchSpec, letter: char) -> String {
    let digits = spec.job_id.bytes().take_while(u8::is_ascii_digit).count();
    let seq = spec.job_id[..digits].parse().unwrap_or_default();
    let stream = match letter {
        'e' => OutputStream::Stderr,
        _ => OutputStream::Stdout,
    };
    let name = spec.job_name.as_str();
    match spec.array_index {
        None => capstan_types::default_output_name(name, JobId::whole(seq), stream),
        Some(index) => {
            // PBS_JOBNAME of a member ends with its index; the file has it behind the number instead.
            let plain = name.strip_suffix(&format!("-{index}")).unwrap_or(name);
            capstan_types::default_output_name(plain, JobId::member(seq, index), stream)
        }
    }
}

/// The variables that an output path may name: those of the job.
pub(super) struct JobVariables<'a>(pub(super) &'a Env);

impl PathVariables for JobVariables<'_> {
    fn value(&self, name: &str) -> Option<String> {
        self.0.get(name).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            spec: wire::LaunchSpec {
                attempt: 57,
                job_id: "263[3].hn1".into(),
                job_name: "a/ar-3".into(),
                queue: "batch".into(),
                node_file: vec!["gpu02".into(), "gpu02".into()],
                num_nodes: 1,
                num_ppn: 2,
                walltime_secs: Some(150),
                array_index: Some(3),
                variables: vec![
                    variable("PBS_O_WORKDIR", "/home/alice/w"),
                    variable("FOO", "bar"),
                    variable("PBS_JOBID", "1.forged"),
                    variable("HOME", "/root"),
                    variable("BAD=NAME", "x"),
                    variable("", "x"),
                    variable("NUL", "a\0b"),
                ],
                cards: [1, 0]
                    .map(|index| wire::Card {
                        index,
                        ..wire::Card::default()
                    })
                    .to_vec(),
                ..wire::LaunchSpec::default()
            },
            cookie: "AB".repeat(16),
            state_folder: "/var/spool/capstan".into(),
            agent_socket: "/run/capstan/agent.sock".into(),
            node: "gpu02".into(),
            ..Entry::default()
        }
    }

    fn variable(name: &str, value: &str) -> wire::Variable {
        wire::Variable {
            name: name.into(),
            value: value.into(),
        }
    }

    fn alice() -> Identity {
        Identity {
            user: "alice".into(),
            home: "/home/alice".into(),
            shell: "/bin/bash".into(),
            ..Identity::default()
        }
    }

    fn check(name: &str, expected: Option<&str>) {
        let env = environment(&entry(), &alice(), "hn1");
        assert_eq!(env.get(name), expected, "{name}");
    }

    #[test]
    fn a_job_sees_what_torque_shows() {
        check("ENVIRONMENT", Some("BATCH"));
        check("PBS_ENVIRONMENT", Some("PBS_BATCH"));
        check("PBS_JOBNAME", Some("a/ar-3"));
        check("PBS_QUEUE", Some("batch"));
        check("PBS_NP", Some("2"));
        check("PBS_NUM_NODES", Some("1"));
        check("PBS_NUM_PPN", Some("2"));
        check("PBS_WALLTIME", Some("150"));
        check("PBS_ARRAYID", Some("3"));
        check("PBS_NODEFILE", Some("/var/spool/capstan/aux/263[3].hn1"));
        check("PBS_GPUFILE", Some("/var/spool/capstan/aux/263[3].hn1gpu"));
        check("PBS_MICFILE", Some("/var/spool/capstan/aux/263[3].hn1mic"));
        check("LANG", Some("C.UTF-8"));
        check("PBS_ARRAY_INDEX", None);
        check("PBS_JOBDIR", None);
        check("TMPDIR", None);
        check("CAPSTAN_AGENT_SOCKET", None);
        check("CUDA_VISIBLE_DEVICES", Some("1,0"));
        check("HOSTNAME", Some("hn1"));
        check("SHELL", Some("/bin/bash"));
        check("PBS_O_WORKDIR", Some("/home/alice/w"));
        check("FOO", Some("bar"));
    }

    /// The recorded session I05: exactly these, in this order.
    #[test]
    fn a_task_sees_what_torque_shows() {
        let mut entry = entry();
        entry.spec.cards.clear();
        entry.spec.variables = vec![variable("PBS_O_QUEUE", "batch")];
        let place = Place {
            node: 1,
            vnode: 2,
            task: 7,
        };
        let env = of_task(&entry, &alice(), "hn1", place);
        let names: Vec<&str> = env.iter().map(|(name, _)| name).collect();
        let expected = "PATH LANG PBS_O_QUEUE HOME PBS_JOBNAME PBS_JOBID PBS_QUEUE PBS_JOBCOOKIE PBS_NODENUM \
            PBS_TASKNUM PBS_MOMPORT PBS_NODEFILE PBS_GPUFILE PBS_MICFILE HOSTNAME PBS_WALLTIME PBS_NUM_NODES \
            PBS_NUM_PPN PBS_VERSION PBS_VNODENUM PBS_ENVIRONMENT ENVIRONMENT";
        let expected: Vec<&str> = expected.split_ascii_whitespace().collect();
        assert_eq!(names, expected);
        let numbers = ["PBS_NODENUM", "PBS_VNODENUM", "PBS_TASKNUM"].map(|name| env.get(name));
        assert_eq!(numbers, [Some("1"), Some("2"), Some("7")]);
        assert_eq!(env.get("PATH"), Some("/bin:/usr/bin"));
    }

    #[test]
    fn attempts_with_cards_know_where_to_meet_on_all_their_nodes() {
        check("MASTER_ADDR", Some("gpu02"));
        check("MASTER_PORT", Some("20057"));
        let mut entry = entry();
        entry.spec.cards.clear();
        let env = environment(&entry, &alice(), "hn1");
        assert_eq!(env.get("MASTER_ADDR"), None);
        entry.spec.node_file.push("gpu03".into());
        let env = environment(&entry, &alice(), "gpu03");
        assert_eq!(env.get("MASTER_ADDR"), None);
        entry.spec.gpu_file.push("gpu02-gpu0".into());
        entry.spec.variables.push(variable("MASTER_PORT", "7"));
        let env = environment(&entry, &alice(), "gpu03");
        let told = ["MASTER_ADDR", "MASTER_PORT"].map(|name| env.get(name));
        assert_eq!(told, [Some("gpu02"), Some("7")]);
        let told = ["PADDLE_MASTER", "PADDLE_NNODES", "NCCL_SOCKET_IFNAME"].map(|it| env.get(it));
        assert_eq!(told, [Some("gpu02:7"), Some("2"), None]);
        entry.interface = "ib0".into();
        entry
            .spec
            .variables
            .push(variable("GLOO_SOCKET_IFNAME", "eth3"));
        let env = environment(&entry, &alice(), "gpu03");
        let told = ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"].map(|name| env.get(name));
        assert_eq!(told, [Some("ib0"), Some("eth3")]);
    }

    #[test]
    fn a_job_of_pbs_pro_sees_that_dialects_variables_too() {
        let mut entry = entry();
        entry.spec.pro_dialect = true;
        let env = environment(&entry, &alice(), "hn1");
        let check =
            |name: &str, expected: &str| assert_eq!(env.get(name), Some(expected), "{name}");
        check("PBS_ARRAY_INDEX", "3");
        check("PBS_ARRAY_ID", "263[].hn1");
        check("PBS_ARRAYID", "3");
        check("PBS_JOBDIR", "/home/alice");
        check("TMPDIR", "/var/spool/capstan/tmp/57");
        check("PBS_TMPDIR", "/var/spool/capstan/tmp/57");
    }

    #[test]
    fn what_the_user_exports_cannot_override_our_own() {
        check("PBS_JOBID", Some("263[3].hn1"));
        check("HOME", Some("/home/alice"));
    }

    #[test]
    fn variables_that_no_kernel_carries_are_dropped() {
        let env = environment(&entry(), &alice(), "hn1");
        assert!(
            env.iter().all(|(name, value)| !name.is_empty()
                && !name.contains('=')
                && !value.contains('\0'))
        );
    }

    #[test]
    fn a_job_without_cards_has_no_cuda_variable() {
        let mut entry = entry();
        entry.spec.cards.clear();
        entry.spec.array_index = None;
        let env = environment(&entry, &alice(), "hn1");
        assert_eq!(env.get("CUDA_VISIBLE_DEVICES"), None);
        assert_eq!(env.get("PBS_ARRAYID"), None);
    }

    #[test]
    fn the_shell_of_this_host_wins() {
        let check = |typed: &str, expected: &str| {
            let mut spec = entry().spec;
            spec.shell = typed.into();
            assert_eq!(shell(&spec, &alice(), "gpu02"), expected, "{typed}");
        };
        check("", "/bin/bash");
        check("/bin/zsh", "/bin/zsh");
        check("/bin/zsh,/bin/ksh@gpu02", "/bin/ksh");
        check("/bin/ksh@gpu02.example.org", "/bin/ksh");
        check("/bin/ksh@gpu01", "/bin/bash");
    }

    #[test]
    fn output_names_are_those_of_torque() {
        let check = |name: &str, id: &str, index: Option<u32>, expected: &str| {
            let spec = wire::LaunchSpec {
                job_name: name.into(),
                job_id: id.into(),
                array_index: index,
                ..wire::LaunchSpec::default()
            };
            assert_eq!(default_output_name(&spec, 'o'), expected);
        };
        check("both", "269.hn1", None, "both.o269");
        check("a/b/c", "1.hn1", None, "c.o1");
        check("ar-3", "263[3].hn1", Some(3), "ar.o263-3");
        check("ar", "263[3].hn1", Some(3), "ar.o263-3");
        // The server shows the same name, cut to what a file system takes.
        let cut = format!("{}.o1", "n".repeat(252));
        check(&"n".repeat(256), "1.hn1", None, &cut);
    }
}
