//! Listings of jobs, as a stream of batches: each is made when the client takes it, so that a long listing holds up
//! nobody. Full attributes read payloads from the disk, and are made on a thread for that.

use std::pin::Pin;
use std::sync::Arc;

use capstan_core::{Job, Payload};
use capstan_proto::wire::{self, stat_jobs_request::Detail};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::identity::Person;
use super::refusal::edge_status;
use super::{Door, is_manager};
use crate::clock;
use crate::engine::payload_id;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use crate::view::Scene;
use crate::view::attributes::attributes;
use crate::view::rows::row;
use crate::view::selection::{Item, select};

/// Rows of one batch.
const ROWS_PER_BATCH: usize = 1000;
/// Jobs of one batch with all their attributes.
const JOBS_PER_BATCH: usize = 100;
/// Batches that may wait for the client.
const BATCHES_AHEAD: usize = 2;

/// Batches of jobs.
pub(crate) type JobStream =
    Pin<Box<dyn Stream<Item = Result<wire::StatJobsReply, Status>> + Send + 'static>>;

/// The jobs that `request` is about.
///
/// # Errors
/// When it is about none that there are.
pub(super) fn jobs(
    door: &Arc<Door>,
    caller: &Arc<Person>,
    request: wire::StatJobsRequest,
) -> Result<JobStream, Status> {
    let snapshot = door.latest.get();
    let items = select(&snapshot, &request).map_err(edge_status)?;
    let listing = Listing {
        snapshot,
        telemetry: door.telemetry.clone(),
    };
    Ok(match request.detail() {
        Detail::Row => Box::pin(rows(listing, items, false)),
        Detail::Wide => Box::pin(rows(listing, items, true)),
        Detail::Full => Box::pin(full(listing, items, door.clone(), caller.clone())),
    })
}

struct Listing {
    snapshot: Arc<Snapshot>,
    telemetry: Arc<Telemetry>,
}

impl Listing {
    fn scene(&self) -> Scene<'_> {
        Scene {
            snapshot: &self.snapshot,
            telemetry: &self.telemetry,
            now: clock::wall(),
        }
    }
}

fn rows(
    listing: Listing,
    items: Vec<Item>,
    is_wide: bool,
) -> impl Stream<Item = Result<wire::StatJobsReply, Status>> + Send + 'static {
    let mut next = 0;
    futures_util::stream::iter(std::iter::from_fn(move || {
        let batch = &items[next..items.len().min(next + ROWS_PER_BATCH)];
        if batch.is_empty() {
            return None;
        }
        next += batch.len();
        let scene = listing.scene();
        let rows = batch.iter().map(|item| row(scene, &item.job(), is_wide));
        Some(Ok(wire::StatJobsReply {
            rows: rows.collect(),
            jobs: Vec::new(),
        }))
    }))
}

fn full(
    listing: Listing,
    items: Vec<Item>,
    door: Arc<Door>,
    caller: Arc<Person>,
) -> impl Stream<Item = Result<wire::StatJobsReply, Status>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    // Ends when all is sent, or at the first batch that nobody takes any more.
    tokio::task::spawn_blocking(move || {
        let sees_all = is_manager(&listing.snapshot, &caller);
        for batch in items.chunks(JOBS_PER_BATCH) {
            let scene = listing.scene();
            let jobs = batch.iter().map(|item| {
                let job = item.job();
                let may_see = sees_all || *job.spec.owner.user == *caller.user;
                let payload = may_see.then(|| payload(&door, &job)).flatten();
                attributes(
                    scene,
                    &job,
                    payload.as_ref().map(|payload| &payload.variables),
                )
            });
            let reply = wire::StatJobsReply {
                rows: Vec::new(),
                jobs: jobs.collect(),
            };
            if sender.blocking_send(Ok(reply)).is_err() {
                break;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// The payload; without it a listing is still worth having.
fn payload(door: &Door, job: &Job) -> Option<Arc<Payload>> {
    let read = door.payloads.payload(payload_id(job.id));
    read.unwrap_or_else(|error| {
        tracing::error!(job = %job.id, %error, "the variables of a job cannot be read");
        None
    })
}
