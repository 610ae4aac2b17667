//! What people order of jobs: qalter, qmove, qrerun, qrun, qorder, qchkpt.

use std::sync::Arc;

use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;
use tonic::{Response, Status};

use super::Door;
use super::identity::Person;
use super::refusal::edge_status;

pub(super) async fn alter_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::AlterJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "alter_job"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "alter_job")))
}

pub(super) async fn move_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::MoveJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "move_job"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "move_job")))
}

pub(super) async fn rerun_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::RerunJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "rerun_job"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "rerun_job")))
}

pub(super) async fn run_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::RunJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "run_job"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "run_job")))
}

pub(super) async fn order_jobs(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::OrderJobsRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "order_jobs"
    );
    Err(edge_status(Refusal::new(
        Pbse::NotImplemented,
        "order_jobs",
    )))
}

pub(super) async fn checkpoint_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::CheckpointJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "checkpoint_job"
    );
    Err(edge_status(Refusal::new(
        Pbse::NotImplemented,
        "checkpoint_job",
    )))
}
