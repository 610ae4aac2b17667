//! `qmgr` and `qterm`.

use std::sync::Arc;

use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;
use tonic::{Response, Status};

use super::Door;
use super::identity::Person;
use super::refusal::edge_status;

pub(super) async fn manage(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::ManageRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "manage"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "manage")))
}

pub(super) async fn shutdown(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::ShutdownRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "shutdown"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "shutdown")))
}
