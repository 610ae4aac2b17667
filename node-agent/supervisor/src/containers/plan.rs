//! From a request to a container: checks what was asked, looks at the user's files with the user's rights, and
//! decides everything about the container that does not need the engine.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use capstan_proto::wire;
use capstan_types::CardId;

use super::engine::{Bind, CgroupDriver, EngineFacts, TerminalSize};
use super::environment;
use super::identity::Person;
use super::mounts::{self, Mounts, Site};
use super::options::{self, AskedBind, Options};
use super::reach::{Kind, Rights, reach};
use super::refusal::Refused;
use super::script::{self, Places, Program};
use super::settings::{CardsInContainers, ContainerSettings};
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
    run: Run,
    proc_folder: String,
    data_folder: String,
    options: Options,
    current_folder: String,
    caller: BTreeMap<String, String>,
    window: Option<TerminalSize>,
    /// Names the container, together with the attempt; made up by the client.
    pub(super) key: String,
}

#[derive(Debug)]
enum Run {
    Line(String),
    Script(String),
}

impl Asked {
    /// Checks the form of a request.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub(super) fn from_wire(request: wire::ContainerRequest) -> Result<Self, Refused> {
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
        } = request;
        let run = match (command_line, script) {
            (Some(line), None) => Run::Line(line),
            (None, Some(script)) => Run::Script(script),
            (Some(_), Some(_)) => {
                return Err(Refused::Request {
                    what: "-c and -s exclude each other",
                });
            }
            (None, None) => {
                return Err(Refused::Request {
                    what: "one of -c and -s is needed",
                });
            }
        };
        let texts = [&proc_folder, &data_folder, &current_folder];
        if texts
            .iter()
            .any(|text| text.len() > TEXT_BYTES_MAX || text.contains('\0'))
        {
            return Err(Refused::Request {
                what: "a path is too long or has a NUL in it",
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
        let options = options::parse(&engine_options)?;
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

    fn binds(&self) -> Vec<AskedBind> {
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

/// A window size that makes sense.
#[must_use]
pub(super) fn terminal_size(size: wire::WindowSize) -> Option<TerminalSize> {
    let wire::WindowSize { rows, columns } = size;
    Some(TerminalSize {
        rows: u16::try_from(rows).ok().filter(|&n| n > 0)?,
        columns: u16::try_from(columns).ok().filter(|&n| n > 0)?,
    })
}

/// What the user's own files say; still without the engine's word.
#[derive(Debug)]
pub(super) struct Looked {
    /// With everything opened.
    pub(super) mounts: Mounts,
    /// What runs.
    pub(super) program: Program,
    /// Where it starts.
    pub(super) workdir: PathBuf,
    /// Name, home, groups.
    pub(super) person: Person,
}

/// The user's side of an attempt.
#[must_use]
pub(super) fn site(
    settings: &ContainerSettings,
    facts: &EngineFacts,
    context: &AttemptContext,
) -> Site {
    let mut taken: Vec<PathBuf> = ["/etc/passwd", "/etc/group", "/etc/localtime"]
        .map(PathBuf::from)
        .into();
    taken.push(context.node_file.clone());
    taken.extend(context.gpu_file.clone());
    let engine = Some(facts.root.clone()).filter(|root| root.is_absolute());
    Site {
        volumes: settings.volumes.clone(),
        user: context.spec.user.clone(),
        rights: Rights {
            uid: context.uid,
            gid: context.gid,
            groups: context.groups.clone(),
        },
        home: context.home.clone(),
        forbidden: engine
            .into_iter()
            .chain([settings.state_dir.clone()])
            .collect(),
        taken,
    }
}

/// Decides mounts, program and working folder. To be run with the user's rights.
///
/// # Errors
/// The first thing that cannot be.
pub(super) fn look(
    asked: &Asked,
    site: &Site,
    context: &AttemptContext,
) -> Result<Looked, Refused> {
    if !asked.proc_folder.is_empty() && !asked.proc_folder.starts_with('/') {
        return Err(Refused::Request {
            what: "-P must be an absolute path",
        });
    }
    if !asked.data_folder.is_empty() && !asked.data_folder.starts_with('/') {
        return Err(Refused::Request {
            what: "-D must be an absolute path",
        });
    }
    let mounts = mounts::decide(site, &asked.binds())?;
    let program = match &asked.run {
        Run::Line(line) => script::of_command_line(line)?,
        Run::Script(script) => {
            let places = Places {
                proc_folder: absolute(&asked.proc_folder),
                home: &site.home,
                current: absolute(&asked.current_folder),
            };
            script::of_script(script, &places, &mounts, &site.rights)?
        }
    };
    let workdir = workdir(asked.options.workdir.as_deref(), &mounts, context)?;
    Ok(Looked {
        mounts,
        program,
        workdir,
        person: person(context),
    })
}

fn absolute(text: &str) -> Option<&Path> {
    Some(Path::new(text)).filter(|path| path.is_absolute())
}

fn workdir(
    asked: Option<&str>,
    mounts: &Mounts,
    context: &AttemptContext,
) -> Result<PathBuf, Refused> {
    let is_there = |folder: &Path| {
        let outside = mounts.outside(folder);
        outside.is_some_and(|path| reach(&path).is_ok_and(|seen| seen.facts.kind == Kind::Folder))
    };
    if let Some(asked) = asked {
        let path: PathBuf = Path::new(asked).components().collect();
        let fail = |problem| Refused::Workdir {
            path: path.clone(),
            problem,
        };
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(fail("write it without '..'"));
        }
        if mounts.outside(&path).is_none() {
            return Err(fail("it lies in no mounted folder"));
        }
        // The engine would make a missing one, as root, in the user's own folder.
        return match is_there(&path) {
            true => Ok(path),
            false => Err(fail("there is no such folder, or you may not enter it")),
        };
    }
    let submitted_from = context.environment.get("PBS_O_WORKDIR").map(Path::new);
    let candidates = submitted_from.into_iter().chain([context.home.as_path()]);
    let chosen = candidates
        .filter(|path| path.is_absolute())
        .find(|path| is_there(path));
    Ok(chosen.unwrap_or(Path::new("/")).to_owned())
}

fn person(context: &AttemptContext) -> Person {
    let mut groups = BTreeMap::new();
    for &id in context.groups.iter().chain([&context.gid]) {
        let known = nix::unistd::Group::from_gid(id.into()).ok().flatten();
        let name = known.map_or_else(|| format!("group{id}"), |group| group.name);
        groups.insert(id, name);
    }
    // A colon or a line break would begin another field or entry.
    let plain = |text: &str| text.replace([':', '\n'], "_");
    Person {
        name: plain(&context.spec.user),
        uid: context.uid,
        gid: context.gid,
        home: plain(&context.home.to_string_lossy()),
        shell: plain(&context.login_shell.to_string_lossy()),
        groups,
    }
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
    context: &AttemptContext,
    cards: &[CardId],
) -> (Vec<String>, Vec<String>) {
    environment::of(&environment::Sources {
        attempt: &context.environment,
        person: (
            &context.spec.user,
            &context.home.to_string_lossy(),
            &context.login_shell.to_string_lossy(),
        ),
        cards,
        asked: &asked.options.environment,
        caller: &asked.caller,
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

/// Whether `name` can be an image: `[HOST[:PORT]/]PATH[:TAG][@sha256:HEX]`. The name becomes part of a request to the
/// engine, so nothing else may pass.
#[must_use]
pub(super) fn is_image_name(name: &str) -> bool {
    let plain = |text: &str, extra: &str| {
        !text.is_empty()
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
            && !text.contains("..")
    };
    if name.len() > 255 {
        return false;
    }
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    let digest_is_good = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let last_slash = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last_slash..].find(':') {
        Some(colon) => (
            &name[..last_slash + colon],
            Some(&name[last_slash + colon + 1..]),
        ),
        None => (name, None),
    };
    let tag_is_good =
        tag.is_none_or(|tag| tag.len() <= 128 && plain(tag.trim_start_matches('_'), "_.-"));
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or("");
    let (host, port) = first.split_once(':').unwrap_or((first, "0"));
    digest_is_good
        && tag_is_good
        && plain(host, "_.-")
        && port.bytes().all(|b| b.is_ascii_digit())
        && !port.is_empty()
        && (path.contains('/') || !first.contains(':'))
        && parts.all(|part| plain(part, "_.-"))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
