//! `qselect`: which jobs meet all criteria. Answered from one snapshot, in batches that are made as the client takes
//! them. Arrays are chosen member by member, never as a whole.

use std::pin::Pin;
use std::sync::Arc;

use capstan_proto::wire;
use tokio_stream::Stream;
use tonic::Status;

use super::Door;
use super::identity::Person;
use super::listing::viewer;
use super::refusal::edge_status;
use crate::clock;
use crate::snapshot::Snapshot;
use crate::view::criteria::Criteria;
use crate::view::selection::{Item, every, wanted_queue};

/// Ids of one batch.
const IDS_PER_BATCH: usize = 2000;

/// Batches of ids.
pub(crate) type IdStream =
    Pin<Box<dyn Stream<Item = Result<wire::SelectJobsReply, Status>> + Send + 'static>>;

/// The jobs that meet the request, in id order.
///
/// # Errors
/// Criteria that cannot be read, a queue that is not there.
pub(super) fn select_jobs(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::SelectJobsRequest,
) -> Result<IdStream, Status> {
    let wire::SelectJobsRequest {
        criteria,
        destination,
        exec_only,
    } = request;
    let snapshot = door.latest.get();
    let criteria = Criteria::read(criteria).map_err(edge_status)?;
    let queue = wanted_queue(&snapshot, &destination).map_err(edge_status)?;
    let mut items = every(&snapshot, viewer(&snapshot, person), exec_only);
    if let Some(queue) = queue {
        items.retain(|item| item.record().queue == queue);
    }
    Ok(Box::pin(tokio_stream::iter(batches(
        snapshot, criteria, items,
    ))))
}

fn batches(
    snapshot: Arc<Snapshot>,
    criteria: Criteria,
    items: Vec<Item>,
) -> impl Iterator<Item = Result<wire::SelectJobsReply, Status>> + Send + 'static {
    let now = clock::wall();
    let mut rest = items.into_iter();
    std::iter::from_fn(move || {
        let server = &snapshot.settings().server;
        let meant = rest.by_ref().filter_map(|item| {
            let job = item.job();
            criteria.are_met_by(&job, now).then(|| job.id.on(server))
        });
        let job_ids: Vec<String> = meant.take(IDS_PER_BATCH).collect();
        (!job_ids.is_empty()).then_some(Ok(wire::SelectJobsReply { job_ids }))
    })
}
