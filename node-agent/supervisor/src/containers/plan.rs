//! From a request to a container: checks the form of what was asked, and decides everything about the container that
//! needs neither the user's files nor the engine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use capstan_proto::wire;
use capstan_types::{CardId, is_image_name};

use super::engine::{Bind, CgroupDriver, EngineFacts, TerminalSize};
use super::environment;
use super::exceptions::Allowed;
use super::looking::Looked;
use super::options::{self, AskedBind, Options};
use super::refusal::Refused;
use super::settings::CardsInContainers;
use crate::ports::AttemptContext;

/// Processes and threads of one container at most: far above what a data loader makes, far below the kernel's own
/// limit, so that a fork bomb ends in its container.
pub(super) const PIDS_MAX: u32 = 32 * 1024;
/// `/dev/shm` is never smaller: docker's own default.
const SHM_BYTES_MIN: u64 = 64 << 20;
/// `/dev/shm` by default is the job's memory divided by this.
const SHM_SHARE: u64 = 2;
/// Text fields of a request.
const TEXT_BYTES_MAX: usize = 4096;
/// Key of a request.
const KEY_BYTES_MAX: usize = 32;

/// A request whose form is right.
#[derive(Debug)]
pub(super) struct Asked {
    /// A valid image name.
    pub(super) image: String,
    pub(super) run: Run,
    pub(super) proc_folder: String,
    pub(super) data_folder: String,
    pub(super) options: Options,
    pub(super) current_folder: String,
    caller: BTreeMap<String, String>,
    window: Option<TerminalSize>,
    /// Names the container, together with the attempt; made up by the client.
    pub(super) key: String,
}

#[derive(Debug)]
pub(super) enum Run {
    Line(String),
    Script(String),
    /// The job's own script: the job is this container.
    Job,
}

impl Asked {
    /// Checks the form of a request.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub(super) fn from_wire(
        request: wire::ContainerRequest,
        allowed: &Allowed,
    ) -> Result<Self, Refused> {
        let wire::ContainerRequest {
            image,
            command_line,
            script,
            proc_folder,
            data_folder,
            engine_options,
            current_folder,
            environment,
            terminal,
            key,
            job_script,
        } = request;
        let run = run(command_line, script, job_script)?;
        let texts = [&proc_folder, &data_folder, &current_folder];
        if texts
            .iter()
            .any(|text| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control))
        {
            return Err(Refused::Request {
                what: "a path is too long or has a NUL, a line break or another control character in it",
            });
        }
        if key.is_empty()
            || key.len() > KEY_BYTES_MAX
            || !key.bytes().all(|b| b.is_ascii_hexdigit())
        {
            return Err(Refused::Request {
                what: "the request has no key of hex digits",
            });
        }
        if !is_image_name(&image) {
            return Err(Refused::ImageName { image });
        }
        let options = options::parse(&engine_options, allowed)?;
        let caller = environment
            .into_iter()
            .map(|wire::Variable { name, value }| (name, value));
        Ok(Self {
            image,
            run,
            proc_folder,
            data_folder,
            options,
            current_folder,
            caller: caller.filter(|(_, value)| !value.contains('\0')).collect(),
            window: terminal.and_then(terminal_size),
            key,
        })
    }

    /// Whether it is the job's own script that runs.
    #[must_use]
    pub(super) fn is_job(&self) -> bool {
        matches!(self.run, Run::Job)
    }

    /// What the name of the container ends with.
    #[must_use]
    pub(super) fn name(&self) -> String {
        let asked = self.options.name.as_deref();
        asked.map_or_else(|| self.key.clone(), |name| format!("{}-{name}", self.key))
    }

    /// What only an exception of the site allows.
    #[must_use]
    pub(super) fn grants(&self) -> &super::engine::Grants {
        &self.options.grants
    }

    /// Mounts as asked, the more particular wish last.
    #[must_use]
    pub(super) fn binds(&self) -> Vec<AskedBind> {
        let folders = [&self.data_folder, &self.proc_folder]
            .into_iter()
            .filter(|folder| !folder.is_empty());
        let same_path = folders.map(|folder| AskedBind {
            source: folder.clone(),
            target: folder.clone(),
            read_only: false,
        });
        // The same folder by -D and by -v with `:ro` is read-only: the more particular wish stands last.
        same_path
            .chain(self.options.binds.iter().cloned())
            .collect()
    }
}

fn run(line: Option<String>, script: Option<String>, job: bool) -> Result<Run, Refused> {
    let what = match (line, script, job) {
        (None, None, true) => return Ok(Run::Job),
        (Some(line), None, false) => return Ok(Run::Line(line)),
        (None, Some(script), false) => return Ok(Run::Script(script)),
        (None, None, false) => "one of -c and -s is needed",
        (Some(_), Some(_), _) => "-c and -s exclude each other",
        (Some(_), None, true) | (None, Some(_), true) => "the job's own script excludes -c and -s",
    };
    Err(Refused::Request { what })
}

/// A window size that makes sense.
#[must_use]
pub(super) fn terminal_size(size: wire::WindowSize) -> Option<TerminalSize> {
    let wire::WindowSize { rows, columns } = size;
    Some(TerminalSize {
        rows: u16::try_from(rows).ok().filter(|&n| n > 0)?,
        columns: u16::try_from(columns).ok().filter(|&n| n > 0)?,
    })
}

/// Binds that every container gets beside its mounts, where they exist on this host.
#[must_use]
pub(super) fn fixed_binds(context: &AttemptContext, identity: &[PathBuf; 2]) -> Vec<Bind> {
    let [passwd, group] = identity;
    let mut binds = vec![
        (passwd.clone(), "/etc/passwd".into()),
        (group.clone(), "/etc/group".into()),
    ];
    if let Ok(zone) = std::fs::canonicalize("/etc/localtime") {
        binds.push((zone, "/etc/localtime".into()));
    }
    for file in [Some(&context.node_file), context.gpu_file.as_ref()]
        .into_iter()
        .flatten()
    {
        if file.is_file() {
            binds.push((file.clone(), file.clone()));
        }
    }
    let binds = binds.into_iter().map(|(source, target)| Bind {
        source,
        target,
        read_only: true,
    });
    binds.collect()
}

/// The variables of the container, and notices about them.
#[must_use]
pub(super) fn environment(
    asked: &Asked,
    looked: &Looked,
    context: &AttemptContext,
    cards: &[CardId],
) -> (Vec<String>, Vec<String>) {
    // As with docker, what is said on the line wins over what is said in a file.
    let said: Vec<_> = looked
        .variables
        .iter()
        .chain(&asked.options.environment)
        .cloned()
        .collect();
    environment::of(&environment::Sources {
        attempt: &context.environment,
        person: (
            &context.spec.user,
            &context.home.to_string_lossy(),
            &context.login_shell.to_string_lossy(),
        ),
        cards,
        asked: &said,
        caller: &asked.caller,
        cores: context.spec.cores,
        is_job: asked.is_job(),
    })
}

/// `/dev/shm`: what was asked, else a share of the job's memory; and a notice about `--ipc=host`.
#[must_use]
pub(super) fn shm(
    asked: &Asked,
    job_memory: Option<u64>,
    host_memory: u64,
) -> (u64, Option<String>) {
    let memory = job_memory.unwrap_or(host_memory).min(host_memory);
    let bytes = asked
        .options
        .shm_bytes
        .unwrap_or((memory / SHM_SHARE).max(SHM_BYTES_MIN));
    let notice = asked.options.ipc_host.then(|| {
        let mib = bytes >> 20;
        format!(
            "--ipc=host is answered by a private /dev/shm of {mib} MiB: others' memory stays theirs"
        )
    });
    (bytes, notice)
}

/// Memory of this host in bytes.
#[must_use]
pub(super) fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// Whether stdin is forwarded, the terminal if there is one, and a notice.
#[must_use]
pub(super) fn streams(asked: &Asked) -> (bool, Option<TerminalSize>, Option<String>) {
    let Options {
        interactive,
        terminal,
        ..
    } = asked.options;
    // A job at a terminal is a shell at that terminal.
    if let (Run::Job, Some(window)) = (&asked.run, asked.window) {
        return (true, Some(window), None);
    }
    let usual = TerminalSize {
        rows: 24,
        columns: 80,
    };
    match (terminal, asked.window) {
        (false, _) => (interactive, None, None),
        (true, Some(window)) => (interactive, Some(window), None),
        // As docker has it: a terminal for the program's eyes only.
        (true, None) if !interactive => (false, Some(usual), None),
        (true, None) => {
            let notice = "-t is left out: stdin is no terminal here".to_owned();
            (true, None, Some(notice))
        }
    }
}

/// Cgroup parent as the engine wants it, if it can take one.
#[must_use]
pub(super) fn cgroup_parent(context: &AttemptContext, driver: CgroupDriver) -> Option<String> {
    let parent = context.cgroup.clone()?;
    match driver {
        CgroupDriver::Cgroupfs => Some(parent),
        // systemd owns the tree: only a slice can be a parent.
        CgroupDriver::Systemd => {
            Some(parent).filter(|parent| parent.ends_with(".slice") && !parent.contains('/'))
        }
        CgroupDriver::Nobody => None,
    }
}

/// How `cards` reach the container on this engine.
#[must_use]
pub(super) fn cards(
    cards: Vec<CardId>,
    setting: CardsInContainers,
    facts: &EngineFacts,
) -> super::engine::Cards {
    use super::engine::Cards;
    let has_nvidia_runtime = facts
        .runtimes
        .iter()
        .any(|runtime| runtime.starts_with("nvidia"));
    if cards.is_empty() {
        return Cards::ByEnvironment;
    }
    match setting {
        CardsInContainers::Environment => Cards::ByEnvironment,
        CardsInContainers::Nvidia => Cards::Nvidia(cards),
        CardsInContainers::Cdi => Cards::Cdi(cards),
        CardsInContainers::Auto if facts.has_cdi && !has_nvidia_runtime => Cards::Cdi(cards),
        // An engine does not say whether it has the hook: the start tells.
        CardsInContainers::Auto => Cards::Nvidia(cards),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
