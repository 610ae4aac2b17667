//! `-W depend`: what of it is open, what is met already, what can never be, and what it means for the jobs it names.
//!
//! A condition on a job that has ended is met or refused here. Torque refuses those that are met already and waits for
//! ever for those that cannot be; people expect the opposite (recorded session H03).

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_types::{Condition, JobId};

use super::circles::refuse_circles;
use super::dependants::{members_verdict, verdict};
use super::draft::{Draft, News};
use crate::plan::misfit;
use crate::{Job, JobState, MembersWait, Owner, Rejection, Submission, Sync, Tie, Ties};

/// What a job will wait for, and what others will for its sake.
pub(super) struct Bonds {
    pub(super) waits_for: Vec<(Condition, JobId)>,
    pub(super) ties: Ties,
    /// Jobs that will wait for this one.
    pub(super) before: Vec<(Condition, JobId)>,
}

/// Reads a request of `owner` for job `own` (not there yet, for a new one). Nothing is changed yet.
pub(super) fn read(
    draft: &Draft,
    own: Option<JobId>,
    owner: &Owner,
    depends: &[(Condition, JobId)],
    ties: &[Tie],
) -> Result<Bonds, Rejection> {
    let mut bonds = Bonds {
        waits_for: open_dependencies(draft, depends)?,
        ties: Ties {
            since: draft.now,
            ..Ties::default()
        },
        before: Vec::new(),
    };
    for tie in ties {
        read_tie(draft, own, owner, tie, &mut bonds)?;
    }
    refuse_circles(draft, own, &bonds)?;
    Ok(bonds)
}

/// The conditions that are not met yet, each once, in the order given.
pub(super) fn open_dependencies(
    draft: &Draft,
    depends: &[(Condition, JobId)],
) -> Result<Vec<(Condition, JobId)>, Rejection> {
    let mut open = Vec::new();
    let mut seen = BTreeSet::new();
    for &(condition, on) in depends {
        if !seen.insert((condition, on)) {
            continue;
        }
        let Some(parent) = draft.state.resolve(on) else {
            return Err(Rejection::BadDependency(condition, on));
        };
        match News::of(&parent).and_then(|news| verdict(condition, news)) {
            Some(true) => {}
            Some(false) => return Err(dead(condition, &parent)),
            None => open.push((condition, on)),
        }
    }
    Ok(open)
}

/// Says why what `parent` is waited for will never come.
fn dead(condition: Condition, parent: &Job) -> Rejection {
    let exit_status = match &parent.state {
        crate::JobState::Ended(ended) => ended.exit_status,
        crate::JobState::Pending
        | crate::JobState::Starting(_)
        | crate::JobState::Running(_)
        | crate::JobState::Exiting(..) => None,
    };
    Rejection::DeadDependency {
        condition,
        on: parent.id,
        exit_status,
    }
}

fn read_tie(
    draft: &Draft,
    own: Option<JobId>,
    owner: &Owner,
    tie: &Tie,
    bonds: &mut Bonds,
) -> Result<(), Rejection> {
    match *tie {
        Tie::On(count) => bonds.ties.on = count,
        Tie::Members(wait) => {
            let bad = Rejection::BadDependency(wait.condition, wait.array);
            let Some(array) = draft.state.job(wait.array) else {
                return Err(bad);
            };
            match members_verdict(array, wait) {
                Some(true) => {}
                Some(false) => return Err(dead(wait.condition, array)),
                None if bonds.ties.members.contains(&wait) => {}
                None => bonds.ties.members.push(wait),
            }
        }
        Tie::Before(condition, target) => {
            let job = draft.state.resolve(target);
            let job = job.filter(|job| is_untouched(job) && own != Some(target));
            let job = job.ok_or(Rejection::BadDependency(condition, target))?;
            // Taken as Torque takes it (recorded session F03), but without effect: else everybody could hold everybody's
            // jobs, and have them deleted by a job that ends the other way.
            let is_theirs = may_bind(draft, owner, &job);
            if is_theirs && !bonds.before.contains(&(condition, target)) {
                bonds.before.push((condition, target));
            }
        }
        Tie::SyncCount(wanted) => {
            let joined = joined(draft, own);
            bonds.ties.sync = (wanted > 0).then_some(Sync::Count { wanted, joined });
        }
        Tie::SyncWith(master) => {
            let job = draft.state.job(master);
            let is_open = job.is_some_and(|job| {
                let is_set = matches!(job.ties.sync, Some(Sync::Count { .. }));
                is_set && is_untouched(job) && may_bind(draft, owner, job)
            });
            if !is_open || own == Some(master) {
                return Err(Rejection::BadDependency(Condition::After, master));
            }
            bonds.ties.sync = Some(Sync::With(master));
        }
    }
    Ok(())
}

/// Whether jobs of `owner` may change what `other` waits for.
fn may_bind(draft: &Draft, owner: &Owner, other: &Job) -> bool {
    other.spec.owner.user == owner.user || draft.is_operator(owner.uid, &owner.user)
}

/// Whether nothing of it has run yet, so that it can still be made to wait.
fn is_untouched(job: &Job) -> bool {
    let has_members_running = job.array.as_ref().is_some_and(|array| array.running > 0);
    matches!(job.state, crate::JobState::Pending) && !has_members_running
}

/// Those that joined the set of `own` before its count was altered.
fn joined(draft: &Draft, own: Option<JobId>) -> Vec<JobId> {
    let job = own.and_then(|own| draft.state.job(own));
    match job.map(|job| &job.ties.sync) {
        Some(Some(Sync::Count { joined, .. })) => joined.clone(),
        Some(Some(Sync::With(_)) | None) | None => Vec::new(),
    }
}

/// Makes the others wait that `bonds` names, and completes the set that `id` joins. `id` is stored already.
pub(super) fn bind_others(draft: &mut Draft, id: JobId, bonds: &Bonds) -> Result<(), Rejection> {
    for &(condition, target) in &bonds.before {
        let mut job = Job::clone(&*draft.job(target)?);
        if job.waits_for.contains(&(condition, id)) {
            continue;
        }
        job.waits_for.push((condition, id));
        job.ties.on = job.ties.on.saturating_sub(1);
        job.eligible = None;
        draft.put(job)?;
    }
    match bonds.ties.sync {
        Some(Sync::With(master)) => join(draft, master, id),
        Some(Sync::Count { .. }) => complete_set(draft, id),
        None => Ok(()),
    }
}

fn join(draft: &mut Draft, master: JobId, id: JobId) -> Result<(), Rejection> {
    let mut job = Job::clone(&*draft.job(master)?);
    if let Some(Sync::Count { joined, .. }) = &mut job.ties.sync
        && !joined.contains(&id)
    {
        joined.push(id);
        draft.put(job)?;
    }
    complete_set(draft, master)
}

/// Lets all jobs of the set go, once it is complete.
fn complete_set(draft: &mut Draft, master: JobId) -> Result<(), Rejection> {
    let job = draft.job(master)?;
    let Some(Sync::Count { wanted, joined }) = &job.ties.sync else {
        return Ok(());
    };
    if joined.len() < *wanted as usize {
        return Ok(());
    }
    let all = std::iter::once(master).chain(joined.iter().copied());
    let members = all.filter_map(|id| draft.state.resolve(id));
    let members: Vec<_> = members.filter(|job| !job.has_ended()).collect();
    let set: Vec<JobId> = members.iter().map(|member| member.id).collect();
    refuse_misfits(draft, &members)?;
    for member in members {
        let mut member = Job::clone(&member);
        member.ties.sync = None;
        member.ties.set.clone_from(&set);
        if member.is_eligible(draft.now) {
            member.eligible = Some(draft.now);
        }
        draft.put(member)?;
    }
    Ok(())
}

/// Refuses what makes the complete set of the stored job `id` one that never starts.
///
/// # Errors
/// When no nodes that ever joined could run its waiting jobs together, however idle.
pub(super) fn check_set(draft: &Draft, id: JobId) -> Result<(), Rejection> {
    let job = draft.job(id)?;
    if job.ties.set.is_empty() || !matches!(job.state, JobState::Pending) {
        return Ok(());
    }
    let members = job.ties.set.iter();
    let members = members.filter_map(|id| draft.state.resolve(*id));
    let is_mutual = |member: &Arc<Job>| {
        matches!(member.state, JobState::Pending) && member.ties.set.contains(&id)
    };
    let members: Vec<_> = members.filter(is_mutual).collect();
    refuse_misfits(draft, &members)
}

fn refuse_misfits(draft: &Draft, set: &[Arc<Job>]) -> Result<(), Rejection> {
    let Some(misfit) = misfit(&draft.state, set, draft.now) else {
        return Ok(());
    };
    let others = set.len() - 1;
    Err(Rejection::NeverFits(
        format!("no nodes are left for job {misfit} when the {others} other jobs of its synccount set start with it")
            .into(),
    ))
}

/// Replaces what the waiting job `job` waits for (`qalter -W depend`); jobs that wait for it go on doing so. When it is
/// stored, [`bind_again`] does the rest.
///
/// # Errors
/// As at submission, and what would make it wait for itself.
pub(super) fn retie(draft: &Draft, job: &mut Job, wish: &Submission) -> Result<(), Rejection> {
    let owner = &job.spec.owner;
    let bonds = read(draft, Some(job.id), owner, &wish.depends, &wish.ties)?;
    job.waits_for = bonds.waits_for;
    job.ties = bonds.ties;
    Ok(())
}

/// Makes the others wait that a new `depend` of the job `id` names.
pub(super) fn bind_again(draft: &mut Draft, id: JobId, wish: &Submission) -> Result<(), Rejection> {
    let job = draft.job(id)?;
    let bonds = read(draft, Some(id), &job.spec.owner, &[], &wish.ties)?;
    bind_others(draft, id, &bonds)
}

/// What `depend` shows of `job`: what it waits for and, mirrored, who waits for it, in the order in which that came to
/// be: `beforeok:344.hn1,afterok:342.hn1`. Empty when there is nothing. An ended job shows what it still waited for.
#[must_use]
pub fn shown(state: &crate::State, job: &Job) -> String {
    let server = state.settings().map(|settings| settings.server.clone());
    let name = |id: JobId| match &server {
        Some(server) => id.on(server),
        None => id.to_string(),
    };
    // (when, entry's word, job or number); a word that comes again at once is not repeated. Of entries of one time those
    // that others made come first.
    let mut entries: Vec<(capstan_types::Timestamp, &'static str, String)> = Vec::new();
    let mut waiting: Vec<JobId> = state.dependants(job.id).collect();
    waiting.dedup();
    for child in waiting.iter().filter_map(|id| state.job(*id)) {
        for (condition, _) in child.waits_for.iter().filter(|(_, on)| *on == job.id) {
            entries.push((child.ties.since, condition.mirrored(), name(child.id)));
        }
        for wait in child
            .ties
            .members
            .iter()
            .filter(|wait| wait.array == job.id)
        {
            let word = wait.condition.mirrored_of_array();
            entries.push((child.ties.since, word, name(child.id)));
        }
    }
    let since = job.ties.since;
    for (condition, on) in &job.waits_for {
        entries.push((since, condition.name(), name(*on)));
    }
    for MembersWait {
        condition,
        array,
        count,
    } in &job.ties.members
    {
        let count = count.map_or_else(String::new, |count| format!("[{count}]"));
        entries.push((since, condition.name_of_array(), name(*array) + &count));
    }
    if job.ties.on > 0 {
        entries.push((since, "on", job.ties.on.to_string()));
    }
    match &job.ties.sync {
        Some(Sync::Count { wanted, joined }) => {
            let joined = joined.iter().map(|id| format!(":{}", name(*id)));
            entries.push((
                since,
                "synccount",
                format!("{wanted}{}", joined.collect::<String>()),
            ));
        }
        Some(Sync::With(master)) => entries.push((since, "syncwith", name(*master))),
        None => {}
    }
    entries.sort_by_key(|(since, _, _)| *since);
    let mut text = String::new();
    let mut last = "";
    for (_, word, value) in entries {
        if word != last {
            let comma = if text.is_empty() { "" } else { "," };
            text.extend([comma, word]);
            last = word;
        }
        text.extend([":", &*value]);
    }
    text
}
