//! `qselect`: which jobs meet all criteria.

use std::pin::Pin;
use std::sync::Arc;

use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;
use tokio_stream::Stream;
use tonic::Status;

use super::Door;
use super::identity::Person;
use super::refusal::edge_status;

/// Batches of ids.
pub(crate) type IdStream =
    Pin<Box<dyn Stream<Item = Result<wire::SelectJobsReply, Status>> + Send + 'static>>;

pub(super) fn select_jobs(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::SelectJobsRequest,
) -> Result<IdStream, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "select_jobs"
    );
    Err(edge_status(Refusal::new(
        Pbse::NotImplemented,
        "select_jobs",
    )))
}
