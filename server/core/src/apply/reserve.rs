//! `pbs_rsub` and `pbs_rdel`: reservations are made, taken back, and end with time. A reservation for jobs has a queue of
//! its name, whose access lists say who may use it; the queue and the jobs in it go with the reservation.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_types::{
    AttributeValue, JobId, NodeName, QueueName, Recurrence, ReservationId, ReservationLetter, Span,
    Timestamp,
};

use super::draft::Draft;
use super::{Reply, asked, attempt, delete};
use crate::plan::{expected_end, set_nodes_aside};
use crate::{
    Caller, CancelOrder, DeleteOrder, Effect, Job, JobEvent, JobSpec, JobState, Queue, Rejection,
    Reservation, ReservationKind, ReserveOrder, ReserveProblem, ReserveWish, ReservedShare,
    Settings, StopOrder,
};

pub(super) fn reserve(draft: &mut Draft, order: &ReserveOrder) -> Result<(), Rejection> {
    let spans = check(draft, order)?;
    let (kind, mut spec) = (kind(draft, &order.wish)?, JobSpec::default());
    let shares = match &order.wish {
        ReserveWish::Jobs(wish) => {
            spec = JobSpec::clone(wish);
            asked::fill_in(&mut spec, &capstan_types::ResourceList::default())?;
            asked::check_nodes(&draft.state, &spec, None)?;
            set_nodes_aside(&draft.state, &spec, &spans, draft.now).map_err(|misfit| {
                ReserveProblem::NotFree {
                    wanted: misfit.wanted,
                    free: misfit.free,
                    fits_at: misfit.fits_at,
                }
            })?
        }
        ReserveWish::Maintenance { hosts } | ReserveWish::Dedicated { hosts, .. } => {
            let shares = whole(draft, hosts)?;
            if !order.is_forced {
                check_conflicts(draft, &shares, &spans, &kind)?;
            }
            shares
        }
    };
    let letter = kind.letter(spans.len() > 1);
    let id = free_id(draft, letter);
    let made = Reservation {
        id,
        name: order.name.clone(),
        owner: order.by.user.clone(),
        host: order.by.host.clone(),
        kind,
        users: order.users.clone(),
        groups: order.groups.clone(),
        asked: spec.resources,
        shares,
        spans,
        past: 0,
        rule: order.rule.clone(),
        created: draft.now,
    };
    if made.has_queue() {
        open_queue(draft, &made);
    }
    draft.put_reservation(Arc::new(made));
    draft.reply = Reply::Reserved(id);
    Ok(())
}

/// The next number, unless the site has a queue that is called so.
fn free_id(draft: &mut Draft, letter: ReservationLetter) -> ReservationId {
    loop {
        let seq = draft.take_seq();
        let id = ReservationId { seq, letter };
        let settings = draft.state.settings();
        if !settings.is_some_and(|settings| settings.queues.contains_key(&id.queue())) {
            return id;
        }
    }
}

/// Who may, how many, and when; returns the times in order.
fn check(draft: &Draft, order: &ReserveOrder) -> Result<Vec<Span>, ReserveProblem> {
    let by = &order.by;
    let is_operator = draft.is_operator(by.uid, &by.user);
    let settings = draft.state.settings();
    let may_users = settings.is_some_and(|settings| settings.is("reservations_by_users"));
    let is_for_jobs = matches!(order.wish, ReserveWish::Jobs(_));
    let may = is_operator || (may_users && is_for_jobs && !order.is_forced);
    if !may {
        return Err(ReserveProblem::NotAllowed);
    }
    let own = draft.state.reservations();
    let own = own.filter(|made| made.owner == by.user).count();
    let max = Reservation::OWN_MAX;
    if !is_operator && own >= max {
        return Err(ReserveProblem::TooMany { max });
    }
    let max = Reservation::COUNT_MAX;
    if draft.state.reservations().count() >= max {
        return Err(ReserveProblem::TooMany { max });
    }
    let mut spans = order.spans.clone();
    spans.sort_unstable();
    let is_piece = |span: &Span| span.from < span.until;
    let are_apart = spans.windows(2).all(|pair| pair[0].until <= pair[1].from);
    if spans.is_empty() || !spans.iter().all(is_piece) {
        return Err(ReserveProblem::NoTime);
    }
    if !are_apart {
        return Err(ReserveProblem::OverlapsItself);
    }
    if spans.len() > Recurrence::OCCURRENCES_MAX {
        return Err(ReserveProblem::TooOften {
            max: Recurrence::OCCURRENCES_MAX,
        });
    }
    // Of a course that began last week the rest is reserved.
    spans.retain(|span| span.until > draft.now);
    match spans.is_empty() {
        true => Err(ReserveProblem::Past),
        false => Ok(spans),
    }
}

fn kind(draft: &Draft, wish: &ReserveWish) -> Result<ReservationKind, ReserveProblem> {
    Ok(match wish {
        ReserveWish::Jobs(_) => ReservationKind::Jobs,
        ReserveWish::Maintenance { .. } => ReservationKind::Maintenance,
        ReserveWish::Dedicated { queues, .. } => {
            let settings = draft.state.settings();
            let is_there = |queue: &&QueueName| {
                settings.is_some_and(|settings| settings.queues.contains_key(*queue))
            };
            if let Some(queue) = queues.iter().find(|queue| !is_there(queue)) {
                return Err(ReserveProblem::UnknownQueue(queue.clone()));
            }
            ReservationKind::Dedicated(queues.clone())
        }
    })
}

/// The nodes that are named, by `:PROPERTY` or all for none, each as a whole; in the order of names.
fn whole(draft: &Draft, hosts: &[Box<str>]) -> Result<Vec<ReservedShare>, ReserveProblem> {
    let mut names: BTreeSet<&NodeName> = BTreeSet::new();
    for host in hosts {
        let before = names.len();
        match host.strip_prefix(':') {
            Some(property) => {
                let nodes = draft.state.nodes();
                let found = nodes.filter(|node| node.has_property(property));
                names.extend(found.map(|node| &node.name));
            }
            None => names.extend(
                draft
                    .state
                    .node(&NodeName::from(&**host))
                    .map(|node| &node.name),
            ),
        }
        let is_known = names.len() > before || names.contains(&NodeName::from(&**host));
        if !is_known {
            return Err(ReserveProblem::UnknownHost(host.clone()));
        }
    }
    let nodes = draft.state.nodes();
    let meant = nodes.filter(|node| hosts.is_empty() || names.contains(&node.name));
    let shares = meant.map(|node| ReservedShare {
        node: node.name.clone(),
        is_whole: true,
        slots: u32::from(node.slots),
        cards: u32::try_from(node.inventory.cards.len()).unwrap_or(u32::MAX),
        memory_bytes: node.inventory.memory_bytes,
    });
    Ok(shares.collect())
}

/// Refuses a time in which something else is on the nodes already.
fn check_conflicts(
    draft: &Draft,
    shares: &[ReservedShare],
    spans: &[Span],
    kind: &ReservationKind,
) -> Result<(), ReserveProblem> {
    let is_on = |node: &NodeName| shares.iter().any(|share| share.node == *node);
    for other in draft.state.reservations() {
        let meets = spans
            .iter()
            .any(|span| other.meeting(*span).next().is_some());
        let shared = other.shares.iter().find(|share| is_on(&share.node));
        if let (true, Some(share)) = (meets, shared) {
            return Err(ReserveProblem::Overlaps {
                other: other.id,
                node: share.node.clone(),
            });
        }
    }
    let Some(first) = spans.first() else {
        return Ok(());
    };
    let is_welcome = |job: &Job| match kind {
        ReservationKind::Dedicated(queues) => queues.contains(&job.queue),
        ReservationKind::Jobs | ReservationKind::Maintenance => false,
    };
    let mut in_the_way: Option<(Timestamp, JobId, NodeName)> = None;
    let mut jobs = 0_u32;
    for (_, job) in draft.state.running().filter(|(_, job)| !is_welcome(job)) {
        let end = expected_end(job, draft.now);
        let run = job.state.run().into_iter();
        let mut nodes = run.flat_map(|run| run.shares.iter().map(|share| &share.node));
        let Some(node) = nodes.find(|node| is_on(node)).filter(|_| end > first.from) else {
            continue;
        };
        jobs += 1;
        if in_the_way.as_ref().is_none_or(|(last, ..)| *last < end) {
            in_the_way = Some((end, job.id, node.clone()));
        }
    }
    match in_the_way {
        Some((until, job, node)) => Err(ReserveProblem::JobsRun {
            jobs,
            job,
            node,
            until,
        }),
        None => Ok(()),
    }
}

/// The queue of a reservation's jobs: for its owner and for those whom it names.
fn open_queue(draft: &mut Draft, made: &Reservation) {
    change_settings(draft, |settings, now| {
        let name = made.id.queue();
        let mut queue = Queue::created(name.clone(), settings.next_ordinal(), now);
        for (attribute, value) in [
            ("queue_type", "Execution"),
            ("enabled", "True"),
            ("started", "True"),
            ("acl_user_enable", "True"),
        ] {
            queue.set(attribute, value);
        }
        let mut users = vec![format!("{}@*", made.owner).into_boxed_str()];
        users.extend(made.users.iter().cloned());
        users.dedup();
        let users = Some(AttributeValue::List(users));
        queue.attributes.put("acl_users", users);
        if !made.groups.is_empty() {
            queue.set("acl_group_enable", "True");
            queue.set("acl_group_sloppy", "True");
            queue.set("acl_logic_or", "True");
            let groups = AttributeValue::List(made.groups.clone());
            queue.attributes.put("acl_groups", Some(groups));
        }
        settings.queues.insert(name, queue);
    });
}

fn change_settings(draft: &mut Draft, change: impl FnOnce(&mut Settings, Timestamp)) {
    if let Some(settings) = draft.state.settings() {
        let mut settings = Settings::clone(settings);
        change(&mut settings, draft.now);
        draft.put_settings(Arc::new(settings));
    }
}

pub(super) fn cancel(draft: &mut Draft, order: &CancelOrder) -> Result<(), Rejection> {
    let id = order.reservation;
    let made = draft.state.reservation(id).cloned();
    let made = made.ok_or(ReserveProblem::Unknown(id))?;
    if made.owner != order.by.user && !draft.is_operator(order.by.uid, &order.by.user) {
        return Err(ReserveProblem::NotOwner(id).into());
    }
    remove(draft, &made)
}

/// Times that are over are taken out, and their jobs stopped; a reservation without any is gone.
pub(super) fn pass(draft: &mut Draft) -> Result<(), Rejection> {
    let now = draft.now;
    let is_due = |made: &&Arc<Reservation>| {
        let first = made.spans.first();
        first.is_none_or(|span| span.until <= now)
    };
    let due: Vec<_> = draft.state.reservations().filter(is_due).cloned().collect();
    for made in due {
        let mut left = Reservation::clone(&made);
        left.spans.retain(|span| span.until > now);
        let over = made.spans.len() - left.spans.len();
        left.past = left.past.saturating_add(over as u32);
        if left.spans.is_empty() {
            remove(draft, &made)?;
        } else {
            draft.put_reservation(Arc::new(left));
            stop_jobs(draft, &made)?;
        }
    }
    Ok(())
}

/// The reservation with its queue, and the jobs that are in it.
fn remove(draft: &mut Draft, made: &Reservation) -> Result<(), Rejection> {
    draft.remove_reservation(made.id);
    if !made.has_queue() {
        return Ok(());
    }
    let queue = made.id.queue();
    if draft.state.live_in_queue(&queue, None) > 0 {
        let jobs = draft.state.jobs();
        let live = jobs.filter(|job| job.queue == queue && !job.has_ended());
        // Members go with their array.
        let mut ids: BTreeSet<JobId> = live.map(|job| job.id).collect();
        let all = ids.clone();
        ids.retain(|id| {
            let array = JobId::array(id.seq);
            *id == array || !all.contains(&array)
        });
        let by = server(draft);
        for job in ids {
            let order = DeleteOrder {
                job,
                by: by.clone(),
                grace_secs: None,
                purge: false,
                message: format!("reservation {} is over", made.id).into(),
            };
            delete::delete(draft, &order)?;
        }
    }
    change_settings(draft, |settings, _| {
        settings.queues.remove(&queue);
    });
    Ok(())
}

/// Jobs of a time that is over are stopped; those that may run twice are put back for the next time.
fn stop_jobs(draft: &mut Draft, made: &Reservation) -> Result<(), Rejection> {
    let queue = made.id.queue();
    let running = draft.state.running();
    let own = running.filter(|(_, job)| {
        let is_live = matches!(job.state, JobState::Starting(_) | JobState::Running(_));
        job.queue == queue && is_live
    });
    let own: Vec<Arc<Job>> = own.map(|(_, job)| job.clone()).collect();
    for job in own {
        let Some(run) = job.state.run().cloned() else {
            continue;
        };
        let grace_secs = attempt::grace_secs(draft, &job);
        let stop = StopOrder {
            at: draft.now,
            grace_secs,
            requeue: job.spec.is_rerunnable,
            by: format!("reservation {}", made.id).into(),
            for_job: None,
        };
        draft.advance(Job::clone(&job), JobEvent::StopOrdered(stop))?;
        let node = run.shares.first().map(|share| share.node.clone());
        draft.effects.extend(node.map(|node| Effect::StopAttempt {
            node,
            attempt: run.attempt,
            grace_secs,
        }));
    }
    Ok(())
}

/// The server itself, where an order wants to know who gave it.
fn server(draft: &Draft) -> Caller {
    let settings = draft.state.settings();
    Caller {
        user: "root".into(),
        uid: 0,
        host: settings.map_or_else(|| "localhost".into(), |settings| settings.host.clone()),
    }
}
