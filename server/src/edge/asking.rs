//! What is asked of a node while its jobs run: signals, messages, output so far, diagnosis, card modes.

use std::pin::Pin;
use std::sync::Arc;

use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;
use tokio_stream::Stream;
use tonic::{Response, Status};

use super::Door;
use super::identity::Person;
use super::refusal::edge_status;

pub(super) async fn signal_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::SignalJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "signal_job"
    );
    Err(edge_status(Refusal::new(
        Pbse::NotImplemented,
        "signal_job",
    )))
}

pub(super) async fn message_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::MessageJobRequest,
) -> Result<Response<wire::Done>, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "message_job"
    );
    Err(edge_status(Refusal::new(
        Pbse::NotImplemented,
        "message_job",
    )))
}

/// What a job has written, as it comes.
pub(crate) type OutputStream =
    Pin<Box<dyn Stream<Item = Result<wire::PeekJobReply, Status>> + Send + 'static>>;

pub(super) async fn peek_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::PeekJobRequest,
) -> Result<OutputStream, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "peek_job"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "peek_job")))
}

pub(super) async fn ask_node(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::AskNodeRequest,
) -> Result<wire::AskNodeReply, Status> {
    tracing::debug!(
        user = &*person.user,
        ?request,
        listing = door.latest.get().settings().server.as_str(),
        "ask_node"
    );
    Err(edge_status(Refusal::new(Pbse::NotImplemented, "ask_node")))
}
