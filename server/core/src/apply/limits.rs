//! Whether a job may enter a queue: what the queue takes at all, who may use it, how many jobs it holds, how much a job
//! may ask for. In Torque's order, because the first refusal is the one that is told.

use std::cmp::Ordering;

use capstan_types::{
    AccessList, NodeSpec, ResourceKind, ResourceList, RunLimit, Seconds, Size, resource_kind,
};

use crate::model::limit::{cards, limit_for, rules};
use crate::{JobSpec, Owner, Queue, Rejection, Settings, State};

/// How a job comes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It was just submitted there.
    Submitted,
    /// A routing queue hands it on.
    Routed,
    /// Its owner moves it there.
    Moved,
    /// An operator moves it there, past most limits.
    Ordered,
}

/// Why a queue does not take a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefusal {
    /// `disallowed_types = interactive`.
    #[error("it takes no interactive jobs")]
    Interactive,
    /// `disallowed_types = batch`.
    #[error("it takes interactive jobs only")]
    Batch,
    /// `disallowed_types = rerunable`.
    #[error("it takes no jobs that may be rerun")]
    Rerunable,
    /// `disallowed_types = nonrerunable`.
    #[error("it takes only jobs that may be rerun")]
    NonRerunable,
    /// `disallowed_types = fault_tolerant`.
    #[error("it takes no fault-tolerant jobs")]
    FaultTolerant,
    /// `disallowed_types = fault_intolerant`.
    #[error("it takes fault-tolerant jobs only")]
    FaultIntolerant,
    /// `disallowed_types = job_array`.
    #[error("it takes no arrays")]
    JobArray,
    /// `acl_groups`.
    #[error("the group is not in its access list")]
    GroupAcl,
    /// `acl_users`.
    #[error("the user is not in its access list")]
    UserAcl,
    /// Neither `acl_users` nor `acl_groups`, where one is enough.
    #[error("neither the user nor the group is in its access lists")]
    BothAcls,
    /// `acl_hosts`: the host that is not in it.
    #[error("host {0} is not in its access list")]
    HostAcl(Box<str>),
    /// `enabled`.
    #[error("it is not enabled")]
    Disabled,
    /// `max_queuable`.
    #[error("it is full")]
    Full,
    /// `max_user_queuable`.
    #[error("the user has as many jobs in it as one may have")]
    UserFull,
    /// The server's `max_user_queuable`.
    #[error("the user has as many jobs as one may have")]
    UserFullOnServer,
    /// `from_route_only`.
    #[error("it takes routed jobs only")]
    RoutedOnly,
    /// `resources_min`: the resource.
    #[error("the job asks for less {0} than the least")]
    UnderMinimum(Box<str>),
    /// `resources_max`: the resource.
    #[error("the job asks for more {resource} than the most")]
    OverMaximum {
        /// Which resource.
        resource: Box<str>,
        /// The limit is the server's, not the queue's.
        by_server: bool,
    },
    /// `resources_max.nodes`.
    #[error("the job asks for more nodes than the most")]
    OverNodes,
    /// `max_group_queuable`.
    #[error("the group has as many jobs in it as one may have")]
    GroupFull,
    /// The server's `max_group_queuable`.
    #[error("the group has as many jobs as one may have")]
    GroupFullOnServer,
    /// The server's `max_queuable`.
    #[error("the server has as many jobs as it may have")]
    ServerFull,
    /// A limit on what may run at once, under which the job could never run.
    #[error("{}", .0.refusal())]
    OverLimit(Box<RunLimit>),
    /// `containers = required`, without a default image.
    #[error("it takes containers only, and the job names no image")]
    NoImage,
}

impl QueueRefusal {
    /// Whether it may be otherwise in a while, without anybody changing the job: a routing queue tries again then.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self {
            Self::Disabled
            | Self::Full
            | Self::UserFull
            | Self::UserFullOnServer
            | Self::GroupFull
            | Self::GroupFullOnServer
            | Self::ServerFull => true,
            Self::NoImage
            | Self::Interactive
            | Self::Batch
            | Self::Rerunable
            | Self::NonRerunable
            | Self::FaultTolerant
            | Self::FaultIntolerant
            | Self::JobArray
            | Self::GroupAcl
            | Self::UserAcl
            | Self::BothAcls
            | Self::HostAcl(_)
            | Self::RoutedOnly
            | Self::UnderMinimum(_)
            | Self::OverMaximum { .. }
            | Self::OverNodes
            | Self::OverLimit(_) => false,
        }
    }
}

/// A job that wants to enter a queue. Its resources are those of `spec`, without what a queue gave it by default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) spec: &'a JobSpec,
    /// What the job itself asked for.
    pub(super) asked: &'a ResourceList,
}

impl Candidate<'_> {
    fn owner(&self) -> &Owner {
        &self.spec.owner
    }

    /// How many jobs it is: of an array, its members.
    fn jobs(&self) -> u64 {
        let array = self.spec.array.as_ref();
        array.map_or(1, |array| array.indices.len().max(1))
    }

    fn shown(&self, attribute: &str) -> Option<&str> {
        let mut shown = self.spec.shown.iter();
        let found = shown.find(|(name, _)| **name == *attribute);
        found.map(|(_, value)| &**value)
    }

    fn is_interactive(&self) -> bool {
        let value = self.shown("interactive");
        value.is_some_and(|value| !matches!(value, "0" | "False"))
    }

    fn is_fault_tolerant(&self) -> bool {
        self.shown("fault_tolerant") == Some("True")
    }
}

/// Whether `queue` takes the job, as far as the queue and the server's limits are concerned; whether any nodes could
/// run it is another question.
///
/// # Errors
/// The first refusal, in Torque's order.
pub(super) fn check(
    state: &State,
    queue: &Queue,
    candidate: Candidate<'_>,
    entry: Entry,
) -> Result<(), Rejection> {
    let settings = state.settings().map(AsRef::as_ref);
    let checked = checked(state, settings, queue, candidate, entry);
    checked.map_err(|why| refusal(queue, candidate.spec, why))
}

fn checked(
    state: &State,
    settings: Option<&Settings>,
    queue: &Queue,
    candidate: Candidate<'_>,
    entry: Entry,
) -> Result<(), QueueRefusal> {
    let mut group = Ok(());
    if !queue.is_routing() {
        check_type(queue, candidate)?;
        group = check_group(settings, queue, candidate);
    }
    if entry == Entry::Ordered {
        return Ok(());
    }
    if !either_is_enough(settings, queue) {
        group.clone()?;
    }
    if !queue.is_enabled() {
        return Err(QueueRefusal::Disabled);
    }
    check_counts(state, settings, queue, candidate, entry)?;
    if queue.is("from_route_only") && entry != Entry::Routed {
        return Err(QueueRefusal::RoutedOnly);
    }
    check_host(queue, candidate)?;
    match (group, check_user(queue, candidate)) {
        (Err(_), Err(_)) => return Err(QueueRefusal::BothAcls),
        (Ok(()), Err(refused)) if !either_is_enough(settings, queue) => return Err(refused),
        (_, _) => {}
    }
    check_resources(settings, queue, candidate.asked)
}

/// `disallowed_types`, in the order in which they were set.
fn check_type(queue: &Queue, candidate: Candidate<'_>) -> Result<(), QueueRefusal> {
    let is_rerunnable = candidate.spec.is_rerunnable;
    for disallowed in queue.attributes.list("disallowed_types") {
        let (is_it, why) = match &**disallowed {
            "interactive" => (candidate.is_interactive(), QueueRefusal::Interactive),
            "batch" => (!candidate.is_interactive(), QueueRefusal::Batch),
            "rerunable" => (is_rerunnable, QueueRefusal::Rerunable),
            "nonrerunable" => (!is_rerunnable, QueueRefusal::NonRerunable),
            "fault_tolerant" => (candidate.is_fault_tolerant(), QueueRefusal::FaultTolerant),
            "fault_intolerant" => {
                let is_it = !candidate.is_fault_tolerant();
                (is_it, QueueRefusal::FaultIntolerant)
            }
            "job_array" => (candidate.spec.array.is_some(), QueueRefusal::JobArray),
            _ => continue,
        };
        if is_it {
            return Err(why);
        }
    }
    Ok(())
}

/// With `acl_logic_or`, being in one of two access lists is enough.
fn either_is_enough(settings: Option<&Settings>, queue: &Queue) -> bool {
    let own = queue.attributes.boolean("acl_logic_or");
    let is_or = own.or_else(|| settings.map(|settings| settings.is("acl_logic_or")));
    is_or.unwrap_or(false) && queue.is("acl_user_enable") && queue.is("acl_group_enable")
}

fn check_group(
    settings: Option<&Settings>,
    queue: &Queue,
    candidate: Candidate<'_>,
) -> Result<(), QueueRefusal> {
    if !queue.is("acl_group_enable") {
        return Ok(());
    }
    let list = AccessList(queue.attributes.list("acl_groups"));
    let owner = candidate.owner();
    let own = queue.attributes.boolean("acl_group_sloppy");
    let is_sloppy = own.or_else(|| settings.map(|settings| settings.is("acl_group_sloppy")));
    let any = || owner.groups.iter().any(|group| list.allows_group(group));
    let is_in = list.allows_group(&owner.group) || (is_sloppy.unwrap_or(false) && any());
    is_in.then_some(()).ok_or(QueueRefusal::GroupAcl)
}

fn check_user(queue: &Queue, candidate: Candidate<'_>) -> Result<(), QueueRefusal> {
    if !queue.is("acl_user_enable") {
        return Ok(());
    }
    let owner = candidate.owner();
    let list = AccessList(queue.attributes.list("acl_users"));
    let is_in = list.allows_user(&owner.user, &owner.host);
    is_in.then_some(()).ok_or(QueueRefusal::UserAcl)
}

fn check_host(queue: &Queue, candidate: Candidate<'_>) -> Result<(), QueueRefusal> {
    let host = &candidate.owner().host;
    let is_in = !queue.is("acl_host_enable")
        || AccessList(queue.attributes.list("acl_hosts")).allows_host(host);
    is_in
        .then_some(())
        .ok_or_else(|| QueueRefusal::HostAcl(host.clone()))
}

/// How many jobs there may be, in the queue, of the user in the queue, and of the user on the server.
fn check_counts(
    state: &State,
    settings: Option<&Settings>,
    queue: &Queue,
    candidate: Candidate<'_>,
    entry: Entry,
) -> Result<(), QueueRefusal> {
    let (user, group) = (&candidate.owner().user, &candidate.owner().group);
    let is_over = |limit: Option<u64>, count: &dyn Fn() -> u64| {
        limit.is_some_and(|limit| count() + candidate.jobs() > limit)
    };
    if is_over(queue.max_queuable(), &|| {
        state.live_in_queue(&queue.name, None)
    }) {
        return Err(QueueRefusal::Full);
    }
    let own = |name, who| limit_for(&queue.attributes, name, who);
    if is_over(own("max_user_queuable", user), &|| {
        state.live_in_queue(&queue.name, Some(user))
    }) {
        return Err(QueueRefusal::UserFull);
    }
    if is_over(own("max_group_queuable", group), &|| {
        state.live_of_group_in(&queue.name, group)
    }) {
        return Err(QueueRefusal::GroupFull);
    }
    let of_server = |name, who| {
        let limit = settings.and_then(|settings| limit_for(&settings.attributes, name, who));
        limit.filter(|_| entry == Entry::Submitted)
    };
    if is_over(of_server("max_user_queuable", user), &|| {
        state.live_of_user(user)
    }) {
        return Err(QueueRefusal::UserFullOnServer);
    }
    if is_over(of_server("max_group_queuable", group), &|| {
        state.live_of_group(group)
    }) {
        return Err(QueueRefusal::GroupFullOnServer);
    }
    match is_over(of_server("max_queuable", ""), &|| state.live_members()) {
        true => Err(QueueRefusal::ServerFull),
        false => Ok(()),
    }
}

/// Whether the job, with all that it gets by default, could ever run under the limits on what runs at once, and whether
/// it asks for as many cards as a job may, in whatever way it asks for them.
pub(super) fn check_ever(
    settings: Option<&Settings>,
    queue: &Queue,
    spec: &JobSpec,
) -> Result<(), QueueRefusal> {
    check_cards(settings, queue, spec)?;
    let rules = settings.map(|settings| rules(settings, Some(queue)));
    let mut rules = rules.iter().flatten();
    match rules.find_map(|rule| rule.forbids(spec)) {
        Some(limit) => Err(QueueRefusal::OverLimit(Box::new(limit))),
        None => Ok(()),
    }
}

/// `resources_min` and `resources_max` of cards.
fn check_cards(
    settings: Option<&Settings>,
    queue: &Queue,
    spec: &JobSpec,
) -> Result<(), QueueRefusal> {
    let cards = cards(spec);
    let of_server = settings.and_then(|settings| settings.attributes.resources("resources_max"));
    let count = |list: Option<&ResourceList>, name: &str| list?.get(name)?.parse::<u64>().ok();
    for name in CARDS.into_iter().filter(|_| cards > 0) {
        if count(Some(queue.resources_min()), name).is_some_and(|least| cards < least) {
            return Err(QueueRefusal::UnderMinimum(name.into()));
        }
        let own = count(Some(queue.resources_max()), name);
        let most = own.or_else(|| count(of_server, name));
        if most.is_some_and(|most| cards > most) {
            return Err(QueueRefusal::OverMaximum {
                resource: name.into(),
                by_server: own.is_none(),
            });
        }
    }
    Ok(())
}

/// Names under which the cards of a job are limited: Torque's and PBS Pro's.
const CARDS: [&str; 2] = ["gpus", "ngpus"];

/// The refusal of a job by a queue.
pub(super) fn refusal(queue: &Queue, spec: &JobSpec, why: QueueRefusal) -> Rejection {
    Rejection::QueueRefuses {
        queue: queue.name.clone(),
        owner: format!("{}@{}", spec.owner.user, spec.owner.host).into(),
        why,
    }
}

/// `resources_min` and `resources_max`; a job that does not ask for a limited resource passes, as in Torque. Where the
/// queue limits nothing, the server does.
pub(super) fn check_resources(
    settings: Option<&Settings>,
    queue: &Queue,
    asked: &ResourceList,
) -> Result<(), QueueRefusal> {
    for (resource, value) in asked.iter() {
        let least = queue.resources_min().get(resource);
        if least.is_some_and(|least| compare(resource, value, least).is_lt()) {
            return Err(QueueRefusal::UnderMinimum(resource.into()));
        }
    }
    let of_server = settings.and_then(|settings| settings.attributes.resources("resources_max"));
    for (resource, value) in asked.iter() {
        let own = queue.resources_max().get(resource);
        let limit = own.or_else(|| of_server.and_then(|limits| limits.get(resource)));
        let is_over = limit.is_some_and(|limit| compare(resource, value, limit).is_gt());
        match (is_over, resource) {
            (false, _) | (true, "neednodes") => {}
            (true, "nodes") => return Err(QueueRefusal::OverNodes),
            (true, _) => {
                return Err(QueueRefusal::OverMaximum {
                    resource: resource.into(),
                    by_server: own.is_none(),
                });
            }
        }
    }
    Ok(())
}

/// How two values of a resource compare; what has no measure is equal.
pub(super) fn compare(resource: &str, one: &str, other: &str) -> Ordering {
    let measure = |text: &str| match resource_kind(resource)? {
        ResourceKind::Time => Seconds::parse(text).ok().map(|span| i128::from(span.0)),
        ResourceKind::Size => Size::parse(text).ok().map(|size| i128::from(size.bytes())),
        ResourceKind::Count | ResourceKind::Integer => text.parse::<i128>().ok(),
        ResourceKind::Nodes => NodeSpec::parse(text)
            .ok()
            .map(|nodes| i128::from(nodes.node_count())),
        ResourceKind::Boolean | ResourceKind::Text => None,
    };
    match (measure(one), measure(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (None, _) | (_, None) => Ordering::Equal,
    }
}
