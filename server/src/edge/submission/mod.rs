//! From a request on the wire to a submission that the core can decide: every attribute read by its grammar, every
//! refusal in Torque's words. Pure and total: any request gives a submission or a refusal.

mod alteration;
mod apply;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_core::{Holds, JobSpec, Owner, Payload, Submission, Tie};
use capstan_proto::{Refusal, wire};
use capstan_types::{
    Condition, Dialect, Env, JobId, NodeSpec, Pbse, QueueName, STDIN_JOB_NAME, ServerName,
    Timestamp,
};

use super::identity::{Membership, Person};
use crate::view::paths::split_host;
pub(crate) use alteration::{Alteration, alteration};

/// Most attributes of one request.
const ATTRIBUTES_MAX: usize = 1000;
/// Longest value of one attribute, bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most variables of one job.
const VARIABLES_MAX: usize = 10_000;
/// Bytes of all variables of one job.
pub(crate) const VARIABLES_BYTES_MAX: usize = 1 << 20;

/// What a submission is judged by.
pub(crate) struct Rules<'a> {
    /// This server.
    pub(crate) server: &'a ServerName,
    /// Whether root may submit.
    pub(crate) root_may_submit: bool,
    /// Whether the caller is an operator.
    pub(crate) is_operator: bool,
    /// Whether the caller is a manager.
    pub(crate) is_manager: bool,
    /// What counts where Torque and PBS Pro contradict each other.
    pub(crate) dialect: Dialect,
    /// Whether a user is in a group.
    pub(crate) membership: &'a dyn Fn(&str, &str) -> Membership,
    /// The user of this name, if there is one.
    pub(crate) person: &'a dyn Fn(&str) -> Option<Person>,
}

/// A submission under way.
pub(crate) struct Draft<'a> {
    caller: &'a Person,
    rules: &'a Rules<'a>,
    spec: JobSpec,
    priority: i32,
    holds: Holds,
    not_before: Option<Timestamp>,
    depends: Vec<(Condition, JobId)>,
    ties: Vec<Tie>,
    idle_limit: Option<u32>,
}

/// Reads a submission.
///
/// # Errors
/// The first thing in it that cannot be, in Torque's words.
pub(crate) fn read(
    request: wire::SubmitRequest,
    caller: &Person,
    rules: &Rules<'_>,
) -> Result<Submission, Refusal> {
    let wire::SubmitRequest {
        script,
        attributes,
        variables,
        destination,
    } = request;
    if attributes.len() > ATTRIBUTES_MAX {
        let detail = format!("more than {ATTRIBUTES_MAX} attributes");
        return Err(Refusal::new(Pbse::Ivalreq, detail));
    }
    let proxied = proxied(&attributes, caller, rules)?;
    let caller = proxied.as_ref().unwrap_or(caller);
    if caller.uid == 0 && !rules.root_may_submit {
        let detail = "root user root not allowed";
        return Err(Refusal::new(Pbse::Baduser, detail));
    }
    let queue = queue(&destination, rules.server)?;
    let variables = variables_of(variables)?;
    let mut draft = Draft::new(caller, rules);
    for attribute in &attributes {
        draft.apply(attribute)?;
    }
    draft.check_whole()?;
    draft.check_session()?;
    draft.finish(&variables);
    Ok(Submission {
        payload: Arc::new(Payload { script, variables }),
        queue,
        ..draft.into_submission()
    })
}

/// Whom the job is for, when it is for another (`-P user[:group]`): only managers may say so.
fn proxied(
    attributes: &[wire::Attribute],
    caller: &Person,
    rules: &Rules<'_>,
) -> Result<Option<Person>, Refusal> {
    let mut values = attributes.iter().rev();
    let Some(wish) = values.find(|attribute| attribute.name == "proxy_user") else {
        return Ok(None);
    };
    let (user, group) = match wish.value.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wish.value.as_str(), None),
    };
    if !rules.is_manager {
        let detail = format!(
            "User '{}' is attempting to submit a proxy job for user '{user}' but is not a manager",
            caller.user
        );
        return Err(Refusal::new(Pbse::Baduser, detail));
    }
    let unknown = || {
        let detail = format!("User {user} does not exist in server password file");
        Refusal::new(Pbse::Baduser, detail)
    };
    let mut person = (rules.person)(user).ok_or_else(unknown)?;
    person.host = caller.host.clone();
    if let Some(group) = group {
        check_group(rules, user, group)?;
        person.group = group.into();
    }
    Ok(Some(person))
}

/// Whether `user` may run jobs with this group.
fn check_group(rules: &Rules<'_>, user: &str, group: &str) -> Result<(), Refusal> {
    let detail = match (rules.membership)(user, group) {
        Membership::Member => return Ok(()),
        Membership::Stranger => {
            format!("user {user} is not a member of group {group} in server password file")
        }
        Membership::NoGroup => format!("cannot locate group {group} in server group file"),
    };
    Err(Refusal::new(Pbse::Badgrp, detail))
}

/// Whether a request needs a directory of users or groups, whose answer may come from the network.
pub(crate) fn asks_for_groups(request: &wire::SubmitRequest) -> bool {
    let mut names = request
        .attributes
        .iter()
        .map(|attribute| attribute.name.as_str());
    names.any(|name| ["group_list", "proxy_user"].contains(&name))
}

fn fresh_spec(caller: &Person) -> JobSpec {
    JobSpec {
        name: STDIN_JOB_NAME.into(),
        owner: Owner {
            user: caller.user.clone(),
            uid: caller.uid,
            group: caller.group.clone(),
            host: caller.host.clone(),
            groups: Vec::new(),
        },
        is_rerunnable: true,
        ..JobSpec::default()
    }
}

/// The queue in `queue`, `@server`, `queue@server`; none for the default.
pub(crate) fn queue(destination: &str, ours: &ServerName) -> Result<Option<QueueName>, Refusal> {
    let (queue, server) = match destination.split_once('@') {
        Some((queue, server)) => (queue, Some(server)),
        None => (destination, None),
    };
    let short = ours.as_str().split('.').next();
    match server {
        Some(server) if server != ours.as_str() && Some(server) != short => {
            let detail = format!("this is server {ours}, not {server}");
            Err(Refusal::new(Pbse::Badhost, detail))
        }
        Some(_) | None => Ok(Some(queue)
            .filter(|queue| !queue.is_empty())
            .map(QueueName::from)),
    }
}

/// The variables in order; of two with one name the first counts.
pub(crate) fn variables_of(variables: Vec<wire::Variable>) -> Result<Env, Refusal> {
    let refuse = |detail: String| Err(Refusal::new(Pbse::Ivalreq, detail));
    if variables.len() > VARIABLES_MAX {
        return refuse(format!("more than {VARIABLES_MAX} variables"));
    }
    let sizes = variables
        .iter()
        .map(|variable| variable.name.len() + variable.value.len());
    if sizes.sum::<usize>() > VARIABLES_BYTES_MAX {
        return refuse(format!(
            "more than {VARIABLES_BYTES_MAX} bytes of variables"
        ));
    }
    let mut known = BTreeSet::new();
    let mut kept = Vec::with_capacity(variables.len());
    for wire::Variable { name, value } in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Refusal::new(Pbse::Badatval, "Variable_List"));
        }
        if known.insert(name.clone()) {
            kept.push((name, value));
        }
    }
    Ok(kept.into_iter().collect())
}

impl<'a> Draft<'a> {
    fn new(caller: &'a Person, rules: &'a Rules<'a>) -> Self {
        Self {
            caller,
            rules,
            spec: fresh_spec(caller),
            priority: 0,
            holds: Holds::default(),
            not_before: None,
            depends: Vec::new(),
            ties: Vec::new(),
            idle_limit: None,
        }
    }

    /// Without script, variables and queue.
    fn into_submission(self) -> Submission {
        Submission {
            spec: self.spec,
            payload: Arc::default(),
            queue: None,
            priority: self.priority,
            holds: self.holds,
            not_before: self.not_before,
            depends: self.depends,
            ties: self.ties,
        }
    }

    /// Fills in what follows from the rest.
    /// Somebody sits at the terminal of one job, and would not of its second run.
    fn check_session(&mut self) -> Result<(), Refusal> {
        if !self.spec.is_interactive() {
            return Ok(());
        }
        if self.spec.array.is_some() {
            let detail = "interactive job can not be job array";
            return Err(Refusal::new(Pbse::Ivalreq, detail));
        }
        self.spec.is_rerunnable = false;
        Ok(())
    }

    fn finish(&mut self, variables: &Env) {
        // These are shown to others, line by line; variables as such are their owner's.
        let is_shown = |path: &&str| path.starts_with('/') && !path.contains(char::is_control);
        let variable = |name: &str| variables.get(name).filter(is_shown);
        let spec = &mut self.spec;
        if spec.work_folder.is_empty() {
            let folder = variable("PBS_O_WORKDIR").or_else(|| variable("PBS_O_HOME"));
            spec.work_folder = folder.unwrap_or("/").into();
        }
        spec.initial_folder = variable("PBS_O_INITDIR").unwrap_or_default().into();
        spec.root_folder = variable("PBS_O_ROOTDIR").unwrap_or_default().into();
        for path in [&mut spec.stdout_path, &mut spec.stderr_path] {
            // A path may begin with a variable, which the node expands.
            if !path.is_empty() && !path.starts_with(['/', '$']) && split_host(path).is_none() {
                *path = format!("{}/{path}", spec.work_folder.trim_end_matches('/')).into();
            }
        }
        spec.nodes = nodes(spec);
        spec.loose_slots = match spec.nodes {
            Some(_) => None,
            None => spec.resources.count("procs"),
        };
        spec.memory_bytes = spec.resources.size("mem").map(|size| size.bytes());
        if let Some(nodes) = spec.resources.nodes() {
            let set = spec
                .resources
                .set("nodect", &nodes.node_count().to_string());
            set.expect("a number is a count");
        }
    }
}

/// The node request that `nodes=`, else `ncpus=` and `host=`, makes; none when neither was given.
fn nodes(spec: &JobSpec) -> Option<NodeSpec> {
    let asked = &spec.resources;
    if let Some(nodes) = asked.nodes() {
        return Some(nodes);
    }
    let (slots, host) = (asked.count("ncpus"), asked.get("host"));
    let request = match (host, slots) {
        (None, None) => return None,
        (None, Some(slots)) => format!("1:ppn={}", slots.max(1)),
        (Some(host), None) => host.to_owned(),
        (Some(host), Some(slots)) => format!("{host}:ppn={}", slots.max(1)),
    };
    NodeSpec::parse(&request).ok()
}
