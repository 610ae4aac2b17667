//! `qsub`: from a request to a submission that the core can decide, and its decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_core::{Event, Queue, Reply, Submission};
use capstan_proto::wire;
use capstan_types::AccessList;
use tonic::Status;

use super::identity::{self, Membership, Person, membership};
use super::refusal::edge_status;
use super::submission::{self, Rules};
use super::{Door, is_manager, is_operator};
use crate::snapshot::Snapshot;

/// Submits a job; answers with its id.
///
/// # Errors
/// The refusal.
pub(super) async fn submit(
    door: &Door,
    person: Arc<Person>,
    request: wire::SubmitRequest,
) -> Result<wire::SubmitReply, Status> {
    let snapshot = door.latest.get();
    let submission = read(door, &snapshot, &person, request).await?;
    let event = Event::Submit(Box::new(submission));
    match door.decide(event, &person.as_caller()).await? {
        Reply::Submitted(id) => Ok(wire::SubmitReply {
            job_id: id.on(&snapshot.settings().server),
        }),
        Reply::Done | Reply::SomeUnchanged | Reply::Reserved(_) => {
            Err(Status::internal("a submission was answered without an id"))
        }
    }
}

/// What `person` asks for. Names of groups may come from a directory on the network: that is asked off the event loop.
///
/// # Errors
/// The first thing in the request that cannot be.
pub(super) async fn read(
    door: &Door,
    snapshot: &Arc<Snapshot>,
    person: &Arc<Person>,
    request: wire::SubmitRequest,
) -> Result<Submission, Status> {
    let roots = AccessList(snapshot.settings().attributes.list("acl_roots"));
    let root_may_submit = door.root_may_submit || roots.allows_user(&person.user, &person.host);
    let (by, reading) = (person.clone(), snapshot.clone());
    let groups = listed_groups(snapshot);
    let needs_groups = submission::asks_for_groups(&request) || !groups.is_empty();
    let read = move || {
        let rules = Rules {
            server: &reading.settings().server,
            root_may_submit,
            is_operator: is_operator(&reading, &by),
            is_manager: is_manager(&reading, &by),
            dialect: reading.settings().dialect,
            membership: &membership,
            person: &|user| identity::named(user, &by.host),
        };
        let mut submission = submission::read(request, &by, &rules)?;
        let owner = &mut submission.spec.owner;
        let user = owner.user.clone();
        let mut listed: Vec<Box<str>> = groups.into_iter().collect();
        listed.retain(|group| membership(&user, group) == Membership::Member);
        owner.groups = listed;
        Ok(submission)
    };
    let submission = match needs_groups {
        true => {
            let read = tokio::task::spawn_blocking(read).await;
            read.map_err(|error| Status::internal(error.to_string()))?
        }
        false => read(),
    };
    submission.map_err(edge_status)
}

/// Groups by which a queue lets jobs in whose owner is in them beside his own (`acl_group_sloppy`).
fn listed_groups(snapshot: &Snapshot) -> BTreeSet<Box<str>> {
    let settings = snapshot.settings();
    let all = settings.is("acl_group_sloppy");
    let looks = |queue: &&Queue| {
        let own = queue.attributes.boolean("acl_group_sloppy");
        queue.is("acl_group_enable") && own.unwrap_or(all)
    };
    let queues = settings.queues.values().filter(looks);
    let groups = queues.flat_map(|queue| queue.attributes.list("acl_groups"));
    groups
        .map(|group| group.trim_start_matches(['+', '-']).into())
        .collect()
}
