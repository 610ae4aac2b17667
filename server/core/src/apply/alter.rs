//! `qalter`: what may be changed when, by whom, and what follows from it.
//!
//! As in Torque: of a waiting job nearly everything, of a running one what does not bind its start. Limits of a running
//! job may be lowered by its owner and raised by operators only, whom the limits of queues do not bind either.

use std::sync::Arc;

use capstan_types::{JobPart, OutputStream, default_output_name, resource};

use super::delete::members;
use super::draft::Draft;
use super::submit::fill_in;
use super::{Reply, array, asked, dependencies, hold, limits, prepare};
use crate::{
    AlterOrder, Altered, Effect, Holds, Job, JobEvent, JobSpec, JobState, OrderProblem, Rejection,
};

/// What an agent is told for a limit that was taken away: a hundred years.
const UNLIMITED_SECS: u64 = 100 * 365 * 86_400;

pub(super) fn alter(draft: &mut Draft, order: &AlterOrder) -> Result<(), Rejection> {
    let job = draft.live_job(order.job, &order.by)?;
    let has_variables = order.altered.contains(&Altered::Variables);
    let is_part = order.members.is_some() || matches!(job.id.part, JobPart::Member(_));
    if has_variables && is_part {
        return Err(Rejection::Order(OrderProblem::SharedVariables(order.job)));
    }
    match job.id.part {
        JobPart::Array => alter_array(draft, &job, order)?,
        JobPart::Whole | JobPart::Member(_) => {
            let new = altered(draft, order, &job)?;
            keep(draft, order, new, &job)?;
        }
    }
    if has_variables {
        draft.put_payload(job.id, order.wish.payload.clone());
    }
    Ok(())
}

/// All members that can be altered are; the answer says when some were not.
fn alter_array(draft: &mut Draft, array: &Arc<Job>, order: &AlterOrder) -> Result<(), Rejection> {
    if order.altered.contains(&Altered::SlotLimit) {
        limit_slots(draft, array, order.slot_limit)?;
    }
    if order.altered.iter().all(|item| *item == Altered::SlotLimit) {
        return Ok(());
    }
    let array = draft.job(array.id)?;
    let targets = match &order.members {
        None => std::iter::once(array.clone())
            .chain(members(draft, array.id))
            .collect(),
        Some(indices) => named_members(draft, &array, |index| indices.contains(index)),
    };
    let (mut done, mut refused) = (0, 0);
    for job in targets {
        let new = match &job.state {
            JobState::Exiting(..) => Err(Rejection::Order(OrderProblem::Exiting(job.id))),
            JobState::Pending
            | JobState::Starting(_)
            | JobState::Running(_)
            | JobState::Ended(_) => altered(draft, order, &job),
        };
        match new {
            Ok(new) => {
                keep(draft, order, new, &job)?;
                done += 1;
            }
            Err(_) => refused += 1,
        }
    }
    match (done, refused) {
        (_, 0) => {}
        (0, _) => return Err(Rejection::Order(OrderProblem::MembersUnchanged(array.id))),
        (_, _) => draft.reply = Reply::SomeUnchanged,
    }
    Ok(())
}

/// Members that have not ended, with and without a record.
fn named_members(draft: &Draft, array: &Job, is_named: impl Fn(u32) -> bool) -> Vec<Arc<Job>> {
    let waiting = array.array.iter().flat_map(|state| state.waiting.iter());
    let waiting = waiting.filter(|index| is_named(*index));
    let mut found: Vec<Arc<Job>> = waiting
        .map(|index| Arc::new(array.as_member(index)))
        .collect();
    found.extend(
        members(draft, array.id)
            .into_iter()
            .filter(|member| match member.id.part {
                JobPart::Member(index) => is_named(index),
                JobPart::Whole | JobPart::Array => false,
            }),
    );
    found
}

/// Members that run already go on, however low the new limit is. Nobody gets past the server's limit.
fn limit_slots(draft: &mut Draft, array: &Arc<Job>, limit: Option<u32>) -> Result<(), Rejection> {
    let most = draft.state.settings();
    let most = most.and_then(|settings| settings.max_slot_limit());
    let limit = match (limit, most) {
        (Some(limit), Some(most)) => Some(limit.min(most)),
        (one, other) => one.or(other),
    };
    let all = std::iter::once(array.clone()).chain(members(draft, array.id));
    for job in all.collect::<Vec<_>>() {
        // A member that ends may have changed the array's record since.
        let mut job = Job::clone(&*draft.job(job.id)?);
        let spec = Arc::make_mut(&mut job.spec);
        if let Some(request) = spec.array.as_mut() {
            request.slot_limit = limit;
        }
        draft.put(job)?;
    }
    array::settle_slots(draft, array.id);
    Ok(())
}

fn keep(draft: &mut Draft, order: &AlterOrder, new: Job, old: &Arc<Job>) -> Result<(), Rejection> {
    let is_limited_anew = LIMITS
        .iter()
        .any(|name| new.spec.resources.get(name) != old.spec.resources.get(name));
    match old.state.run() {
        Some(run) if is_limited_anew => {
            let attempt = run.attempt;
            let job = draft.advance(new, JobEvent::Altered(attempt))?;
            tell_limits(draft, &job);
        }
        Some(_) | None => {
            draft.put(new)?;
        }
    }
    if order.altered.contains(&Altered::Depends) {
        dependencies::bind_again(draft, old.id, &order.wish)?;
    }
    dependencies::check_set(draft, old.id)
}

/// The limits that an agent enforces and that may change while it does.
const LIMITS: [&str; 3] = ["walltime", "cput", "mem"];

/// Tells the script's node what limits hold for the job's attempt.
pub(super) fn tell_limits(draft: &mut Draft, job: &Job) {
    let Some(run) = job.state.run() else {
        return;
    };
    let Some(share) = run.shares.first() else {
        return;
    };
    let secs = |name: &str| {
        let asked = job.spec.resources.seconds(name).map(|span| span.0);
        Some(asked.unwrap_or(UNLIMITED_SECS))
    };
    let memory = job.spec.memory_bytes.filter(|bytes| *bytes > 0);
    draft.effects.push(Effect::AdjustAttempt {
        node: share.node.clone(),
        attempt: run.attempt,
        walltime_secs: secs("walltime"),
        cput_secs: secs("cput"),
        memory_bytes: memory.map(|bytes| bytes.div_ceil(run.shares.len().max(1) as u64)),
    });
}

/// The job as it is to be.
fn altered(draft: &Draft, order: &AlterOrder, job: &Arc<Job>) -> Result<Job, Rejection> {
    if job.state.run().is_some() {
        check_running(draft, order, job)?;
    }
    let mut new = Job::clone(job);
    let mut spec = JobSpec::clone(&job.spec);
    for item in &order.altered {
        alter_job(draft, order, &mut new, item)?;
        alter_spec(order, job, &mut spec, item);
    }
    alter_resources(draft, order, job, &mut spec)?;
    let is_image = |item: &Altered| matches!(item, Altered::Shown(name) if **name == *"image");
    if order.altered.iter().any(is_image) {
        prepare::rename(&draft.state, &job.queue, &mut spec)?;
    }
    new.spec = Arc::new(spec);
    if matches!(new.state, JobState::Pending) {
        new.eligible = match (job.is_eligible(draft.now), new.is_eligible(draft.now)) {
            (_, false) => None,
            (true, true) => job.eligible,
            (false, true) => Some(draft.now),
        };
    }
    Ok(new)
}

/// What is not part of the specification.
fn alter_job(
    draft: &Draft,
    order: &AlterOrder,
    new: &mut Job,
    item: &Altered,
) -> Result<(), Rejection> {
    let wish = &*order.wish;
    match item {
        Altered::Priority => new.priority = wish.priority,
        Altered::Holds => {
            let changed = difference(new.holds, wish.holds);
            draft.require_holds(changed, order.by.uid, &order.by.user)?;
            hold::set(new, wish.holds);
        }
        Altered::NotBefore => new.not_before = wish.not_before.filter(|time| *time > draft.now),
        Altered::Depends => {
            dependencies::retie(draft, new, wish)?;
        }
        Altered::Comment => {
            draft.require_operator(&order.by)?;
            let comment = Some(order.comment.clone());
            new.comment = comment.filter(|comment| !comment.is_empty());
        }
        Altered::Name
        | Altered::Resource(_)
        | Altered::Stdout
        | Altered::Stderr
        | Altered::Join
        | Altered::Keep
        | Altered::Rerunnable
        | Altered::Shell
        | Altered::Umask
        | Altered::Arguments
        | Altered::KillDelay
        | Altered::Group
        | Altered::Variables
        | Altered::SlotLimit
        | Altered::Shown(_) => {}
    }
    Ok(())
}

/// What is part of the specification, but for the resources, which depend on each other.
fn alter_spec(order: &AlterOrder, job: &Job, spec: &mut JobSpec, item: &Altered) {
    let wish = &order.wish.spec;
    match item {
        Altered::Name => {
            keep_paths(job, spec);
            spec.name = wish.name.clone();
        }
        Altered::Stdout => spec.stdout_path = wish.stdout_path.clone(),
        Altered::Stderr => spec.stderr_path = wish.stderr_path.clone(),
        Altered::Join => spec.join = wish.join,
        Altered::Keep => spec.keep = wish.keep.clone(),
        Altered::Rerunnable => spec.is_rerunnable = wish.is_rerunnable,
        Altered::Shell => spec.shell = wish.shell.clone(),
        Altered::Umask => spec.umask = wish.umask,
        Altered::Arguments => spec.script_arguments = wish.script_arguments.clone(),
        Altered::KillDelay => spec.kill_delay_secs = wish.kill_delay_secs,
        Altered::Group => {
            spec.owner.group = wish.owner.group.clone();
            show(spec, wish, "group_list");
        }
        Altered::Shown(name) => show(spec, wish, name),
        Altered::Variables => spec.has_own_variables = true,
        Altered::Priority
        | Altered::Holds
        | Altered::NotBefore
        | Altered::Depends
        | Altered::Resource(_)
        | Altered::Comment
        | Altered::SlotLimit => {}
    }
}

/// In Torque the output's default names are made of the name at submission, for good. Those of an array are its
/// members' own, and follow the name.
fn keep_paths(job: &Job, spec: &mut JobSpec) {
    if job.id.part != JobPart::Whole {
        return;
    }
    let folder = spec.work_folder.trim_end_matches('/');
    let default = |stream| {
        format!(
            "{folder}/{}",
            default_output_name(&spec.name, job.id, stream)
        )
    };
    let (stdout, stderr) = (default(OutputStream::Stdout), default(OutputStream::Stderr));
    if spec.stdout_path.is_empty() {
        spec.stdout_path = stdout.into();
    }
    if spec.stderr_path.is_empty() {
        spec.stderr_path = stderr.into();
    }
}

fn show(spec: &mut JobSpec, wish: &JobSpec, name: &str) {
    let wished = wish.shown.iter().find(|(known, _)| **known == *name);
    let at = spec.shown.iter().position(|(known, _)| **known == *name);
    match (at, wished) {
        (Some(at), Some((_, value))) => spec.shown[at].1 = value.clone(),
        (None, Some(entry)) => spec.shown.push(entry.clone()),
        (Some(at), None) => {
            spec.shown.remove(at);
        }
        (None, None) => {}
    }
}

/// Resources that were asked for stay, defaults come anew; operators may go over the queue's limits.
fn alter_resources(
    draft: &Draft,
    order: &AlterOrder,
    job: &Job,
    spec: &mut JobSpec,
) -> Result<(), Rejection> {
    let names: Vec<&str> = resources(order).collect();
    if names.is_empty() {
        return Ok(());
    }
    let wish = &order.wish.spec.resources;
    let settings = draft.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(&job.queue));
    if job.state.run().is_none() {
        strip_defaults(spec);
    }
    for name in &names {
        let default = queue.and_then(|queue| queue.resources_default().get(name));
        let fallback = default.filter(|_| job.state.run().is_some());
        match wish.get(name).or(fallback) {
            Some(value) => {
                let set = spec.resources.set(name, value);
                set.map_err(|error| Rejection::NeverFits(error.to_string().into()))?;
            }
            None => {
                spec.resources.remove(name);
            }
        }
        spec.defaulted.retain(|known| **known != **name);
    }
    // Chunks and their places are read already: what is shown of them is made of that.
    if names.contains(&"select") {
        spec.select.clone_from(&order.wish.spec.select);
    }
    if names.contains(&"place") {
        spec.placing.clone_from(&order.wish.spec.placing);
    }
    spec.memory_bytes = spec.resources.size("mem").map(|size| size.bytes());
    if let (Some(queue), None) = (queue, job.state.run()) {
        let settings = settings.map(AsRef::as_ref);
        fill_in(spec, &asked::defaults(settings, queue))?;
        asked::require_features(spec, queue);
    }
    if draft.is_operator(order.by.uid, &order.by.user) {
        return Ok(());
    }
    if let Some(queue) = queue {
        let settings = settings.map(AsRef::as_ref);
        let checked = limits::check_resources(settings, queue, &spec.resources);
        let checked = checked.and_then(|()| limits::check_ever(settings, queue, spec));
        checked.map_err(|why| limits::refusal(queue, spec, why))?;
    }
    match job.state.run() {
        Some(_) => Ok(()),
        None => asked::check_nodes(&draft.state, spec, Some(&job.queue)),
    }
}

/// Leaves what the owner asked for.
pub(super) fn strip_defaults(spec: &mut JobSpec) {
    for name in std::mem::take(&mut spec.defaulted) {
        spec.resources.remove(&name);
    }
}

fn resources(order: &AlterOrder) -> impl Iterator<Item = &str> {
    order.altered.iter().filter_map(|item| match item {
        Altered::Resource(name) => Some(&**name),
        Altered::Name
        | Altered::Priority
        | Altered::Holds
        | Altered::NotBefore
        | Altered::Depends
        | Altered::Stdout
        | Altered::Stderr
        | Altered::Join
        | Altered::Keep
        | Altered::Rerunnable
        | Altered::Shell
        | Altered::Umask
        | Altered::Arguments
        | Altered::KillDelay
        | Altered::Group
        | Altered::Variables
        | Altered::Comment
        | Altered::SlotLimit
        | Altered::Shown(_) => None,
    })
}

/// What binds the start of a job is fixed once it runs; its limits go down, and up only by an operator's word.
fn check_running(draft: &Draft, order: &AlterOrder, job: &Job) -> Result<(), Rejection> {
    let fixed = order
        .altered
        .iter()
        .find(|item| !item.is_free_while_running());
    if let Some(item) = fixed {
        return Err(Rejection::Order(OrderProblem::FixedWhileRunning(
            item.name(),
        )));
    }
    if draft.is_operator(order.by.uid, &order.by.user) {
        return Ok(());
    }
    let wish = &order.wish.spec.resources;
    let raised =
        resources(order).find(
            |name| match (job.spec.resources.get(name), wish.get(name)) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(old), Some(new)) => limits::compare(name, new, old).is_gt(),
            },
        );
    match raised {
        Some(name) => Err(Rejection::Order(OrderProblem::MayNotRaise(name.into()))),
        None => Ok(()),
    }
}

/// Those that are in one of the two only.
fn difference(old: Holds, new: Holds) -> Holds {
    old.without(new).with(new.without(old))
}

impl Altered {
    /// PBS's name of the attribute.
    #[must_use]
    pub fn name(&self) -> Box<str> {
        match self {
            Self::Name => "Job_Name".into(),
            Self::Priority => "Priority".into(),
            Self::Holds => "Hold_Types".into(),
            Self::NotBefore => "Execution_Time".into(),
            Self::Depends => "depend".into(),
            Self::Resource(name) => format!("Resource_List.{name}").into(),
            Self::Stdout => "Output_Path".into(),
            Self::Stderr => "Error_Path".into(),
            Self::Join => "Join_Path".into(),
            Self::Keep => "Keep_Files".into(),
            Self::Rerunnable => "Rerunable".into(),
            Self::Shell => "Shell_Path_List".into(),
            Self::Umask => "umask".into(),
            Self::Arguments => "job_arguments".into(),
            Self::KillDelay => "user_kill_delay".into(),
            Self::Group => "group_list".into(),
            Self::Variables => "Variable_List".into(),
            Self::Comment => "comment".into(),
            Self::SlotLimit => "job_array_request".into(),
            Self::Shown(name) => name.clone(),
        }
    }

    /// Whether it may be altered while the job runs, by Torque's own table (`ATR_DFLAG_ALTRUN`).
    fn is_free_while_running(&self) -> bool {
        const SHOWN: [&str; 4] = ["Checkpoint", "Mail_Points", "Mail_Users", "fault_tolerant"];
        match self {
            Self::Name
            | Self::Priority
            | Self::Holds
            | Self::NotBefore
            | Self::Stdout
            | Self::Stderr
            | Self::Rerunnable
            | Self::Shell
            | Self::Variables
            | Self::Comment
            | Self::SlotLimit => true,
            Self::Resource(name) => resource(name).is_some_and(|known| known.is_alterable_running),
            Self::Shown(name) => SHOWN.contains(&&**name),
            Self::Depends
            | Self::Join
            | Self::Keep
            | Self::Umask
            | Self::Arguments
            | Self::KillDelay
            | Self::Group => false,
        }
    }
}
