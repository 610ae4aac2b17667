//! From a draft to the request that goes to the server: paths made absolute, variables gathered in Torque's order.

use capstan_proto::wire::{Attribute, SubmitRequest, Variable};

use crate::command::{Environment, Failure};
use crate::torque_cfg::SiteFile;

use super::draft::Draft;
use super::options::illegal;
use super::paths::{Origin, join, output_path};
use super::script::Script;
use super::whole::Surroundings;

/// From where a job is submitted.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// This host's name.
    pub(crate) host: String,
    /// The current folder as the user sees it (through symbolic links).
    pub(crate) folder: String,
}

impl Place {
    /// The host as the site wants it known: `QSUBHOST` in its place, `HOST_NAME_SUFFIX` behind it.
    pub(crate) fn named_by(mut self, site: &SiteFile) -> Self {
        if let Some(host) = site.get("QSUBHOST") {
            host.clone_into(&mut self.host);
        }
        if let Some(suffix) = site.get("HOST_NAME_SUFFIX") {
            self.host.push_str(suffix);
        }
        self
    }

    /// `path` seen from the current folder.
    pub(crate) fn absolute(&self, path: &str) -> String {
        join(&self.folder, path)
    }
}

/// Makes the request. `args` is the command line as typed.
///
/// # Errors
/// A path or a script name that cannot be used.
pub(crate) fn build(
    mut draft: Draft,
    script: Script,
    around: &Surroundings<'_>,
    args: &[String],
) -> Result<SubmitRequest, Failure> {
    let place = around.place;
    if draft.is_interactive {
        draft.set("interactive", "True");
        if !script.bytes.is_empty() {
            let command = String::from_utf8_lossy(&script.bytes).into_owned();
            draft.set("inter_cmd", command.replace(char::is_control, " "));
        }
    }
    if draft.get("Job_Name").is_none() {
        let name = script.name()?.to_owned();
        draft.set("Job_Name", name);
    }
    let initial_folder = draft
        .initial_folder
        .take()
        .map(|folder| place.absolute(&folder));
    // Torque's qsub changes into the folder of -d, so that it is the current one for all that follows.
    let current = initial_folder
        .clone()
        .unwrap_or_else(|| place.folder.clone());
    let work_folder = match draft.work_folder.take() {
        Some(folder) => place.absolute(&folder),
        None => current,
    };
    let origin = Origin {
        host: &place.host,
        folder: &work_folder,
        home: around.env.get("HOME"),
    };
    output_paths(&mut draft, &origin)?;
    if around.site.get("QSUBSENDGROUPLIST").is_some()
        && draft.get("group_list").is_none()
        && let Some(group) = login_group()
    {
        draft.set("group_list", group);
    }
    draft.set("submit_args", args.join(" "));
    draft.set("submit_host", place.host.clone());
    draft.set("init_work_dir", work_folder.clone());
    if !draft.tasks.is_empty() {
        let tasks = draft.tasks.join(" -L ");
        draft.set("L_Request", tasks);
    }
    if let Some(job) = draft.proxy_job.take() {
        draft.set("job_id", job);
    }

    let folders = Folders {
        initial: initial_folder,
        work: work_folder,
    };
    let variables = variables(&mut draft, folders, around);
    let attribute = |name: String, resource: String, value: String| Attribute {
        name,
        resource,
        value,
    };
    let plain = draft
        .attributes
        .into_iter()
        .map(|(name, value)| attribute(name, String::new(), value));
    let resources = draft
        .resources
        .into_iter()
        .map(|(name, value)| attribute("Resource_List".to_owned(), name, value));
    Ok(SubmitRequest {
        script: script.bytes,
        attributes: plain.chain(resources).collect(),
        variables,
        destination: draft.destination.trim_start().to_owned(),
    })
}

fn login_group() -> Option<String> {
    let group = nix::unistd::Group::from_gid(nix::unistd::getgid());
    group.ok().flatten().map(|group| group.name)
}

struct Folders {
    initial: Option<String>,
    work: String,
}

/// `Output_Path` and `Error_Path`, when they are asked for; joined streams show one path, as in Torque.
fn output_paths(draft: &mut Draft, origin: &Origin<'_>) -> Result<(), Failure> {
    let path = |option: char, typed: Option<String>| match typed {
        Some(typed) => output_path(&typed, origin).map(Some).ok_or(illegal(option)),
        None => Ok(None),
    };
    let mut stdout = path('o', draft.stdout.take())?;
    let mut stderr = path('e', draft.stderr.take())?;
    match draft.get("Join_Path") {
        Some("oe") if stdout.is_some() => stderr.clone_from(&stdout),
        Some("eo") if stderr.is_some() => stdout.clone_from(&stderr),
        _ => {}
    }
    // What would be removed in the end is not kept in the first place.
    for (letter, path) in [('o', &mut stdout), ('e', &mut stderr)] {
        if draft.removes.contains(letter) {
            *path = Some(format!("{}:/dev/null", origin.host));
        }
    }
    if let Some(path) = stdout {
        draft.set("Output_Path", path);
    }
    if let Some(path) = stderr {
        draft.set("Error_Path", path);
    }
    Ok(())
}

/// `Variable_List`: what the client knows, `-v`, `-V`, then the place of submission. The server adds `PBS_O_QUEUE` in
/// front and `PBS_O_SERVER` behind. The first of two with one name counts.
fn variables(draft: &mut Draft, folders: Folders, around: &Surroundings<'_>) -> Vec<Variable> {
    let env: &Environment = around.env;
    const FROM_ENVIRONMENT: &[&str] = &["LOGNAME", "PATH", "MAIL", "SHELL", "TZ", "LANG"];
    let named = |name: &str, value: &str| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
    };

    let mut list = vec![named("PBS_O_HOME", env.get("HOME").unwrap_or("/"))];
    for name in FROM_ENVIRONMENT {
        if let Some(value) = env.get(name) {
            list.push(Variable {
                name: format!("PBS_O_{name}"),
                value: value.to_owned(),
            });
        }
    }
    let exports = std::mem::take(&mut draft.exports);
    if draft.exports_all {
        let is_new =
            |name: &str| !name.starts_with("PBS_O_") && !exports.iter().any(|(key, _)| key == name);
        let inherited: Vec<Variable> = env
            .0
            .iter()
            .filter(|(name, _)| is_new(name))
            .map(|(name, value)| named(name, value))
            .collect();
        list.extend(
            exports
                .into_iter()
                .map(|(name, value)| Variable { name, value }),
        );
        list.extend(inherited);
    } else {
        list.extend(
            exports
                .into_iter()
                .map(|(name, value)| Variable { name, value }),
        );
    }
    if let Some(folder) = &folders.initial {
        list.push(named("PBS_O_INITDIR", folder));
    }
    if let Some(folder) = draft.root_folder.take() {
        list.push(Variable {
            name: "PBS_O_ROOTDIR".to_owned(),
            value: folder,
        });
    }
    list.push(Variable {
        name: "PBS_O_WORKDIR".to_owned(),
        value: folders.work,
    });
    list.push(named("PBS_O_HOST", &around.place.host));
    if around.site.get("QSUBSENDUID").is_some() {
        let uid = nix::unistd::getuid().to_string();
        list.push(named("PBS_O_UID", &uid));
    }
    list
}
