//! From a draft to the request that goes to the server: paths made absolute, variables gathered in Torque's order.

use capstan_proto::wire::{Attribute, SubmitRequest, Variable};

use crate::command::{Environment, Failure};

use super::draft::Draft;
use super::options::{illegal, misuse};
use super::script::Script;

/// From where a job is submitted.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// This host's name.
    pub(crate) host: String,
    /// The current folder as the user sees it (through symbolic links).
    pub(crate) folder: String,
}

impl Place {
    /// `path` seen from the current folder.
    pub(crate) fn absolute(&self, path: &str) -> String {
        join(&self.folder, path)
    }
}

/// Checks what can only be judged when all options are known.
///
/// # Errors
/// Mixes of resources that Torque refuses, an idle limit without an array, an interactive job.
pub(crate) fn check_whole(draft: &Draft, has_terminal: bool) -> Result<(), Failure> {
    let asks = |name: &str| draft.resources.iter().any(|(key, _)| key == name);
    let mixed = [("nodes", "size"), ("nodes", "ncpus"), ("size", "ncpus")];
    if mixed.iter().any(|(one, other)| asks(one) && asks(other)) {
        return Err(Failure::new(
            4,
            "qsub: Jobs may not mix -l nodes with -l size or -l ncpus",
        ));
    }
    let is_array = draft.get("job_array_request").is_some();
    if draft.get("idle_slot_limit").is_some() && !is_array {
        let text = "qsub: the idle array slot limit (-i) can only be applied to array jobs (-t)";
        return Err(Failure::new(4, text));
    }
    if draft.is_interactive && is_array {
        return Err(Failure::new(
            2,
            "qsub: interactive job can not be job array.",
        ));
    }
    if draft.is_interactive && !has_terminal {
        let text = "qsub:\tstandard input and output must be a terminal for \n\tinteractive job submission";
        return Err(Failure::new(1, text));
    }
    if draft.is_interactive {
        return Err(Failure::new(
            1,
            "qsub: interactive jobs (-I) are not supported yet: submit a script instead",
        ));
    }
    if draft.forwards_x11 {
        return Err(Failure::new(
            1,
            "qsub: X11 forwarding (-X) is not supported yet: submit without it",
        ));
    }
    Ok(())
}

/// Makes the request. `args` is the command line as typed.
///
/// # Errors
/// A path or a script name that cannot be used.
pub(crate) fn build(
    mut draft: Draft,
    script: Script,
    place: &Place,
    env: &Environment,
    args: &[String],
) -> Result<SubmitRequest, Failure> {
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
        work_folder: &work_folder,
        home: env.get("HOME"),
    };
    output_paths(&mut draft, &origin)?;
    draft.set("submit_args", args.join(" "));
    draft.set("submit_host", place.host.clone());
    draft.set("init_work_dir", work_folder.clone());

    let folders = Folders {
        initial: initial_folder,
        work: work_folder,
    };
    let variables = variables(&mut draft, folders, &place.host, env);
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
        destination: draft.destination,
    })
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
    if let Some(path) = stdout {
        draft.set("Output_Path", path);
    }
    if let Some(path) = stderr {
        draft.set("Error_Path", path);
    }
    Ok(())
}

/// `[host:]path`; without a host this one, and the path seen from the work folder.
fn output_path(typed: &str, origin: &Origin<'_>) -> Option<String> {
    let typed = typed.trim();
    let is_host = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    match typed.split_once(':') {
        Some(("", _)) | Some((_, "")) => None,
        Some((host, _)) if is_host(host) => Some(typed.to_owned()),
        _ if typed.is_empty() => None,
        _ => Some(format!(
            "{}:{}",
            origin.host,
            join(origin.work_folder, &origin.expanded(typed))
        )),
    }
}

/// Where output paths begin.
struct Origin<'a> {
    host: &'a str,
    work_folder: &'a str,
    home: Option<&'a str>,
}

impl Origin<'_> {
    /// A path that begins with a variable known to be a folder, with the folder in its place. Torque would take
    /// `$HOME/x` for a relative path and write to `/work/folder//home/alice/x`. Other variables are the node's.
    fn expanded(&self, path: &str) -> String {
        let folders = [
            ("HOME", self.home),
            ("PBS_O_HOME", self.home),
            ("PBS_O_WORKDIR", Some(self.work_folder)),
        ];
        let rest = |name: &str| {
            let rest = path.strip_prefix(&format!("${name}"));
            let rest = rest.or_else(|| path.strip_prefix(&format!("${{{name}}}")));
            rest.filter(|rest| rest.starts_with('/'))
        };
        let found = folders
            .iter()
            .find_map(|(name, folder)| Some((rest(name)?, (*folder)?)));
        match found {
            Some((rest, folder)) => format!("{}{rest}", folder.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }
}

fn join(folder: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", folder.trim_end_matches('/')),
    }
}

/// `Variable_List`: what the client knows, `-v`, `-V`, then the place of submission. The server adds `PBS_O_QUEUE` in
/// front and `PBS_O_SERVER` behind. The first of two with one name counts.
fn variables(draft: &mut Draft, folders: Folders, host: &str, env: &Environment) -> Vec<Variable> {
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
    list.push(named("PBS_O_HOST", host));
    list
}

/// Checks the folders of `-d` and `-w`, which must exist here.
///
/// # Errors
/// One of them is no folder.
pub(crate) fn check_folders(
    draft: &Draft,
    place: &Place,
    is_folder: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let is_missing = |folder: &&String| !is_folder(&place.absolute(folder));
    if draft
        .initial_folder
        .as_ref()
        .is_some_and(|folder| is_missing(&folder))
    {
        return Err(misuse("qsub: illegal -d value"));
    }
    match draft.work_folder.as_ref().filter(is_missing) {
        Some(folder) => {
            let what =
                format!("qsub: Requested working directory '{folder}' is not a valid directory");
            Err(Failure::new(
                3,
                format!("{what}\nPlease specify a valid working directory."),
            ))
        }
        None => Ok(()),
    }
}
