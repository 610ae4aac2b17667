//! `pbs_rsub`, `pbs_rstat` and `pbs_rdel`: what is asked is read into the core's words, with every time that comes again
//! made explicit, because the core knows no calendar.

use std::sync::Arc;

use capstan_core::{CancelOrder, Event, Reply, ReserveOrder, ReserveProblem, ReserveWish};
use capstan_proto::{Refusal, wire};
use capstan_types::{Pbse, QueueName, Recurrence, ReservationId, Span, Timestamp};
use tonic::{Code, Response, Status};
use tracing::Instrument;
use wire::reserve_request::Kind;

use super::identity::{self, Person, membership};
use super::refusal::edge_status;
use super::submission::{self, Rules};
use super::{Door, is_manager, is_operator};
use crate::snapshot::Snapshot;

/// Most names of one list.
const NAMES_MAX: usize = 1024;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Longest rule, bytes.
const RULE_BYTES_MAX: usize = 1024;

pub(super) async fn reserve(
    door: &Door,
    person: &Arc<Person>,
    request: wire::ReserveRequest,
) -> Result<Response<wire::ReserveReply>, Status> {
    let snapshot = door.latest.get();
    let order = read(&snapshot, person, request).map_err(edge_status)?;
    let by = person.as_caller();
    let occurrences = u32::try_from(order.spans.len()).unwrap_or(u32::MAX);
    let span = tracing::info_span!("rpc", call = "reserve", user = &*by.user);
    let decided = door.decide(Event::Reserve(Box::new(order)), &by);
    match decided.instrument(span).await? {
        Reply::Reserved(id) => Ok(Response::new(wire::ReserveReply {
            reservation_id: id.on(&snapshot.settings().server),
            occurrences,
        })),
        Reply::Done | Reply::SomeUnchanged | Reply::Submitted(_) => {
            Err(Status::internal("a reservation was answered without an id"))
        }
    }
}

pub(super) async fn cancel(
    door: &Door,
    person: &Arc<Person>,
    request: wire::CancelReservationRequest,
) -> Result<Response<wire::Done>, Status> {
    let wire::CancelReservationRequest { reservation } = request;
    let reservation = id(&reservation).map_err(edge_status)?;
    let by = person.as_caller();
    let span =
        tracing::info_span!("rpc", call = "cancel_reservation", %reservation, user = &*by.user);
    let order = CancelOrder {
        reservation,
        by: by.clone(),
    };
    let done = door.order(Event::CancelReservation(order), &by);
    done.instrument(span).await
}

/// The id that was typed.
///
/// # Errors
/// When it is none.
pub(crate) fn id(typed: &str) -> Result<ReservationId, Refusal> {
    let read = typed.parse::<ReservationId>();
    read.map_err(|_| Refusal::new(Pbse::Ivalreq, "this is no reservation"))
}

fn read(
    snapshot: &Snapshot,
    person: &Person,
    request: wire::ReserveRequest,
) -> Result<ReserveOrder, Refusal> {
    let kind = request.kind();
    let wire::ReserveRequest {
        name,
        kind: _,
        resources,
        hosts,
        queues,
        users,
        groups,
        start_secs,
        end_secs,
        rule,
        force,
    } = request;
    let spans = spans(snapshot, (start_secs, end_secs), &rule)?;
    let hosts = names("hosts", hosts)?;
    let queues = names("queues", queues)?;
    let wish = match kind {
        Kind::Jobs => ReserveWish::Jobs(Box::new(spec(snapshot, person, resources)?)),
        Kind::Maintenance => ReserveWish::Maintenance { hosts },
        Kind::Dedicated => ReserveWish::Dedicated {
            queues: queues.iter().map(|name| QueueName::from(&**name)).collect(),
            hosts,
        },
    };
    Ok(ReserveOrder {
        by: person.as_caller(),
        name: names("name", vec![name])?
            .into_iter()
            .next()
            .unwrap_or_default(),
        wish,
        users: names("users", users)?,
        groups: names("groups", groups)?,
        spans,
        rule: rule.into(),
        is_forced: force,
    })
}

/// Every time once.
fn spans(snapshot: &Snapshot, (start, end): (u64, u64), rule: &str) -> Result<Vec<Span>, Refusal> {
    let first = Span {
        from: Timestamp(start.saturating_mul(1000)),
        until: Timestamp(end.saturating_mul(1000)),
    };
    if rule.len() > RULE_BYTES_MAX {
        return Err(Refusal::new(Pbse::Ivalreq, "the rule is too long"));
    }
    if rule.is_empty() {
        return Ok(vec![first]);
    }
    let rule = Recurrence::parse(rule);
    let rule = rule.map_err(|error| Refusal::new(Pbse::Ivalreq, error.to_string()))?;
    Ok(rule.expand(&snapshot.settings().zone, first))
}

/// Names that can stand in listings and logs.
fn names(what: &str, names: Vec<String>) -> Result<Vec<Box<str>>, Refusal> {
    if names.len() > NAMES_MAX {
        return Err(Refusal::new(Pbse::Ivalreq, format!("too many {what}")));
    }
    let names = names.into_iter().map(|name| {
        let is_plain = |c: char| !c.is_control() && c != ',';
        let is_fit = name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain);
        match is_fit {
            true => Ok(name.into_boxed_str()),
            false => Err(Refusal::new(
                Pbse::Ivalreq,
                format!("{what} has no such names"),
            )),
        }
    });
    names.collect()
}

/// What is set aside is asked for as a job asks for it.
fn spec(
    snapshot: &Snapshot,
    person: &Person,
    resources: Vec<wire::Attribute>,
) -> Result<capstan_core::JobSpec, Refusal> {
    let attributes = resources.into_iter().map(|resource| wire::Attribute {
        name: "Resource_List".to_owned(),
        ..resource
    });
    let request = wire::SubmitRequest {
        attributes: attributes.collect(),
        ..wire::SubmitRequest::default()
    };
    let settings = snapshot.settings();
    let rules = Rules {
        server: &settings.server,
        root_may_submit: true,
        is_operator: is_operator(snapshot, person),
        is_manager: is_manager(snapshot, person),
        dialect: settings.dialect,
        membership: &membership,
        person: &|user| identity::named(user, &person.host),
    };
    Ok(submission::read(request, person, &rules)?.spec)
}

/// A refusal of the core in PBS's words.
pub(super) fn words(problem: &ReserveProblem) -> (Code, Pbse, String) {
    use ReserveProblem as R;
    let (code, error) = match problem {
        R::NotAllowed | R::NotOwner(_) => (Code::PermissionDenied, Pbse::Perm),
        R::TooMany { .. } => (Code::ResourceExhausted, Pbse::Exlimit),
        R::NoTime | R::Past | R::OverlapsItself | R::TooOften { .. } => {
            (Code::InvalidArgument, Pbse::Ivalreq)
        }
        R::UnknownHost(_) => (Code::NotFound, Pbse::Unknode),
        R::UnknownQueue(_) => (Code::NotFound, Pbse::Unkque),
        R::NotFree { .. } | R::JobsRun { .. } | R::Overlaps { .. } => {
            (Code::FailedPrecondition, Pbse::Excqresc)
        }
        R::Unknown(_) => (Code::NotFound, Pbse::Ivalreq),
    };
    (code, error, problem.to_string())
}
