//! What the user's own folders and files say about a container that is asked for: mounts, program, working folder and
//! variables, looked at with the user's rights; and what of it is within the user's bounds.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::bounds::{self, Bounded, Bounds};
use super::engine::{EngineFacts, Tmpfs};
use super::identity::Person;
use super::mounts::{self, Mounts, Site};
use super::options;
use super::plan::{Asked, Run};
use super::reach::{Kind, Rights, reach};
use super::refusal::Refused;
use super::script::{self, Places, Program};
use super::settings::ContainerSettings;
use crate::ports::AttemptContext;

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
    /// What the options leave within the user's bounds.
    pub(super) bounded: Bounded,
    /// Variables of `--env-file`.
    pub(super) variables: Vec<(String, Option<String>)>,
}

/// The job's and its user's bounds; `limits` is the text of the caller's `/proc/PID/limits`.
#[must_use]
pub(super) fn bounds(
    settings: &ContainerSettings,
    context: &AttemptContext,
    limits: &str,
) -> Bounds {
    Bounds {
        user: context.spec.user.clone(),
        uid: context.uid,
        gid: context.gid,
        groups: context.groups.clone(),
        cores: context.spec.cores,
        memory_bytes: context.spec.memory_bytes,
        networks: settings.networks.clone(),
        limits: bounds::hard_limits(limits),
    }
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
    (site, bounds): (&Site, &Bounds),
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
    let bounded = bounds::bound(&asked.options, bounds)?;
    let mounts = mounts::decide(site, &asked.binds())?;
    for Tmpfs { target, .. } in &bounded.wishes.tmpfs {
        mounts::check_target(site, &mounts, target)?;
    }
    let program = match &asked.run {
        Run::Job => script::of_job(&context.spec)?,
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
    let folder = asked.options.workdir.as_deref();
    let (workdir, is_elsewhere) = workdir(folder, asked.is_job(), &mounts, context)?;
    let mut looked = Looked {
        variables: environment_files(asked)?,
        mounts,
        program,
        workdir,
        person: person(context, bounded.gid),
        bounded,
    };
    if let Some(folder) = is_elsewhere {
        let said = format!(
            "{} is not mounted here: the work begins in {}",
            folder.display(),
            looked.workdir.display()
        );
        looked.mounts.notices.push(said);
    }
    Ok(looked)
}

/// Largest file of `--env-file`.
const ENVIRONMENT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The variables in the files of `--env-file`, read with the user's rights.
fn environment_files(asked: &Asked) -> Result<Vec<(String, Option<String>)>, Refused> {
    let mut variables = Vec::new();
    for name in &asked.options.environment_files {
        let path = match absolute(name) {
            Some(path) => path.to_owned(),
            None => Path::new(&asked.current_folder).join(name),
        };
        let unreachable = |source| Refused::Unreachable {
            path: path.clone(),
            source,
        };
        let fail = |problem| Refused::OptionValue {
            option: "env-file",
            value: name.clone(),
            problem,
        };
        let reached = reach(&path).map_err(unreachable)?;
        if reached.facts.kind != Kind::File {
            return Err(fail("it is not a plain file"));
        }
        let bytes = reached
            .read(ENVIRONMENT_FILE_BYTES_MAX + 1)
            .map_err(unreachable)?;
        if bytes.len() as u64 > ENVIRONMENT_FILE_BYTES_MAX {
            return Err(fail("it is larger than 64 KiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| fail("it is no text"))?;
        if text.contains('\0') {
            return Err(fail("it contains a NUL"));
        }
        for line in text.lines().map(str::trim_start) {
            if !line.is_empty() && !line.starts_with('#') {
                let read = options::read_variable(line).map_err(fail)?;
                variables.push(read);
            }
        }
    }
    Ok(variables)
}

fn absolute(text: &str) -> Option<&Path> {
    Some(Path::new(text)).filter(|path| path.is_absolute())
}

/// The folder to begin in, and the one where it was wished to when that is not mounted.
fn workdir(
    asked: Option<&str>,
    is_job: bool,
    mounts: &Mounts,
    context: &AttemptContext,
) -> Result<(PathBuf, Option<PathBuf>), Refused> {
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
            true => Ok((path, None)),
            false => Err(fail("there is no such folder, or you may not enter it")),
        };
    }
    // A job begins where it was told to: `-d`, else the home folder.
    let wished = match is_job {
        true => Some(context.spec.initial_folder.as_str()).filter(|folder| !folder.is_empty()),
        false => context.environment.get("PBS_O_WORKDIR"),
    };
    let candidates = wished
        .map(Path::new)
        .into_iter()
        .chain([context.home.as_path()]);
    let chosen = candidates
        .filter(|path| path.is_absolute())
        .find(|path| is_there(path));
    let chosen = chosen.unwrap_or(Path::new("/")).to_owned();
    let elsewhere = wished
        .map(PathBuf::from)
        .filter(|wished| is_job && *wished != chosen);
    Ok((chosen, elsewhere))
}

fn person(context: &AttemptContext, gid: u32) -> Person {
    let mut groups = BTreeMap::new();
    for &id in context.groups.iter().chain([&context.gid, &gid]) {
        let known = nix::unistd::Group::from_gid(id.into()).ok().flatten();
        let name = known.map_or_else(|| format!("group{id}"), |group| group.name);
        groups.insert(id, name);
    }
    // A colon or a line break would begin another field or entry.
    let plain = |text: &str| text.replace([':', '\n'], "_");
    Person {
        name: plain(&context.spec.user),
        uid: context.uid,
        gid,
        home: plain(&context.home.to_string_lossy()),
        shell: plain(&context.login_shell.to_string_lossy()),
        groups,
    }
}
