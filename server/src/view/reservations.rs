//! Reservations, as `pbs_rstat` shows them.

use capstan_core::{Reservation, ReservationKind};
use capstan_proto::{Refusal, wire};
use capstan_types::{Pbse, ReservationId};

use super::Scene;
use super::queues::line;

/// The reservation of this id, or all, oldest first.
///
/// # Errors
/// A reservation that is not there.
pub(crate) fn reservations(
    scene: Scene<'_>,
    wanted: Option<ReservationId>,
) -> Result<wire::StatReservationsReply, Refusal> {
    let state = &scene.snapshot.state;
    if let Some(id) = wanted.filter(|id| state.reservation(*id).is_none()) {
        let detail = format!("unknown reservation {id}");
        return Err(Refusal::new(Pbse::Ivalreq, detail));
    }
    let all = state.reservations();
    let all = all.filter(|made| wanted.is_none_or(|id| made.id == id));
    Ok(wire::StatReservationsReply {
        reservations: all.map(|made| row(scene, made)).collect(),
    })
}

fn row(scene: Scene<'_>, made: &Reservation) -> wire::ReservationRow {
    let server = &scene.snapshot.settings().server;
    let span = made.next(scene.now).or(made.spans.last().copied());
    let (start, end) = span.map_or((0, 0), |span| (span.from.secs(), span.until.secs()));
    let queue = if made.has_queue() {
        made.id.queue().to_string()
    } else {
        String::new()
    };
    wire::ReservationRow {
        id: made.id.on(server),
        name: made.name.to_string(),
        queue,
        owner: format!("{}@{}", made.owner, made.host),
        state: state(scene, made).to_owned(),
        start_secs: start,
        end_secs: end,
        attributes: attributes(scene, made, (start, end)),
    }
}

/// PBS Pro's words. A node that is down or offline makes a reservation for jobs degraded.
fn state(scene: Scene<'_>, made: &Reservation) -> &'static str {
    let nodes = &scene.snapshot.state;
    let is_there = |share: &capstan_core::ReservedShare| {
        nodes.node(&share.node).is_some_and(|node| node.is_usable())
    };
    let is_degraded = made.has_queue() && !made.shares.iter().all(is_there);
    match made.current(scene.now) {
        _ if is_degraded => "RESV_DEGRADED",
        Some(_) => "RESV_RUNNING",
        None => "RESV_CONFIRMED",
    }
}

fn attributes(
    scene: Scene<'_>,
    made: &Reservation,
    (start, end): (u64, u64),
) -> Vec<wire::Attribute> {
    let kind = match &made.kind {
        ReservationKind::Jobs => "jobs",
        ReservationKind::Maintenance => "maintenance",
        ReservationKind::Dedicated(_) => "dedicated",
    };
    let name = if made.name.is_empty() {
        "NULL"
    } else {
        &*made.name
    };
    let mut lines = vec![
        line("Reserve_Name", "", name),
        line("Reserve_Owner", "", format!("{}@{}", made.owner, made.host)),
        line("reserve_type", "", kind),
        line("reserve_state", "", state(scene, made)),
        line("reserve_start", "", start),
        line("reserve_end", "", end),
        line("reserve_duration", "", end.saturating_sub(start)),
    ];
    match &made.kind {
        ReservationKind::Jobs => lines.push(line("queue", "", made.id.queue())),
        ReservationKind::Maintenance => {}
        ReservationKind::Dedicated(queues) => {
            let names: Vec<&str> = queues.iter().map(|queue| queue.as_str()).collect();
            lines.push(line("dedicated_queues", "", names.join(",")));
        }
    }
    for (resource, value) in made.asked.iter() {
        lines.push(line("Resource_List", resource, value));
    }
    lines.push(line("resv_nodes", "", nodes(made)));
    if !made.rule.is_empty() {
        lines.push(line("reserve_rrule", "", &made.rule));
        let left = made.spans.len() as u64;
        lines.push(line("reserve_count", "", left + u64::from(made.past)));
        lines.push(line("reserve_index", "", u64::from(made.past) + 1));
    }
    if made.has_queue() {
        let mut users = vec![format!("{}@*", made.owner)];
        users.extend(made.users.iter().map(ToString::to_string));
        lines.push(line("Authorized_Users", "", users.join(",")));
        if !made.groups.is_empty() {
            lines.push(line("Authorized_Groups", "", made.groups.join(",")));
        }
    }
    lines.push(line("ctime", "", made.created.secs()));
    lines
}

/// `(a:ncpus=2:ngpus=1)+(b)`; a whole node has nothing behind its name.
fn nodes(made: &Reservation) -> String {
    let shares = made.shares.iter().map(|share| {
        let mut text = format!("({}", share.node);
        if !share.is_whole {
            text += &format!(":ncpus={}", share.slots);
            if share.cards > 0 {
                text += &format!(":ngpus={}", share.cards);
            }
            if share.memory_bytes > 0 {
                text += &format!(":mem={}kb", share.memory_bytes >> 10);
            }
        }
        text + ")"
    });
    shares.collect::<Vec<_>>().join("+")
}
