//! `qdel`.

use capstan_core::{DeleteOrder, Event};
use capstan_proto::Refusal;
use capstan_proto::wire;
use capstan_types::Pbse;
use tonic::{Response, Status};
use tracing::Instrument;

use super::identity::Person;
use super::refusal::edge_status;
use super::{Door, is_operator, orders};
use crate::view;

/// Deletes a job; a reason may be given by operators only.
pub(super) async fn delete_job(
    door: &Door,
    person: &Person,
    request: wire::DeleteJobRequest,
) -> Result<Response<wire::Done>, Status> {
    let wire::DeleteJobRequest {
        job_id,
        grace_secs,
        message,
        purge,
    } = request;
    let snapshot = door.latest.get();
    if !message.is_empty() && !is_operator(&snapshot, person) {
        let detail = "must have operator or manager privilege to use -m parameter";
        return Err(edge_status(Refusal::new(Pbse::Perm, detail)));
    }
    let job = view::selection::job_id(&snapshot, &job_id).map_err(edge_status)?;
    let by = person.as_caller();
    let order = DeleteOrder {
        job,
        by: by.clone(),
        grace_secs,
        purge,
        message: orders::tidy(&message),
    };
    let span = tracing::info_span!("rpc", call = "delete_job", %job, user = &*by.user);
    let deleting = door.order(Event::Delete(order), &by);
    deleting.instrument(span).await
}
