//! Listings of jobs, as a stream of batches: each is made when the client takes it, so that a long listing holds up
//! nobody. Full attributes read payloads from the disk, and are made on a thread for that.

use std::pin::Pin;
use std::sync::Arc;

use capstan_core::{Job, Payload};
use capstan_proto::wire::{self, stat_jobs_request::Detail};
use futures_util::{Stream, TryStreamExt};
use tonic::Status;

use super::identity::Person;
use super::refusal::edge_status;
use super::{Door, is_manager, is_operator};
use crate::clock;
use crate::engine::payload_id;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use crate::view::attributes::attributes;
use crate::view::images::Looker;
use crate::view::rows::row;
use crate::view::selection::{Item, Viewer, select};
use crate::view::{self, Scene};

/// Rows of one batch.
const ROWS_PER_BATCH: usize = 1000;
/// Jobs of one batch with all their attributes.
const JOBS_PER_BATCH: usize = 100;

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
    let viewer = viewer(&snapshot, caller);
    let items = select(&snapshot, viewer, &request).map_err(edge_status)?;
    let listing = Listing {
        snapshot,
        telemetry: door.telemetry.clone(),
    };
    let head = head(&listing.snapshot);
    let batches: JobStream = match request.detail() {
        Detail::Row => Box::pin(rows(listing, items, false)),
        Detail::Wide => Box::pin(rows(listing, items, true)),
        Detail::Full => Box::pin(full(listing, items, door.clone(), caller.clone())),
    };
    let mut head = Some(head);
    Ok(Box::pin(batches.map_ok(move |mut batch| {
        batch.head = head.take();
        batch
    })))
}

/// What stands above a listing: it spares the client a question about the whole server.
fn head(snapshot: &Snapshot) -> wire::ListingHead {
    let settings = snapshot.settings();
    let comment = settings.attributes.text("comment");
    wire::ListingHead {
        server: settings.server.to_string(),
        comment: comment.unwrap_or_default().to_owned(),
        dialect: settings.dialect.name().to_owned(),
    }
}

/// What `person` may see.
pub(super) fn viewer<'a>(snapshot: &Snapshot, person: &'a Person) -> Viewer<'a> {
    Viewer {
        user: &person.user,
        sees_all: is_operator(snapshot, person),
    }
}

/// The images that `person` may know of.
pub(super) fn images(scene: Scene<'_>, person: &Person, part: &str) -> wire::StatImagesReply {
    let looker = Looker {
        uid: person.uid,
        sees_all: is_operator(scene.snapshot, person),
    };
    view::images::images(scene, looker, part)
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
            ..wire::StatJobsReply::default()
        }))
    }))
}

/// Each batch is made on a thread for that, and none is held while the client takes its time.
fn full(
    listing: Listing,
    items: Vec<Item>,
    door: Arc<Door>,
    caller: Arc<Person>,
) -> impl Stream<Item = Result<wire::StatJobsReply, Status>> + Send + 'static {
    let full = Arc::new(Full {
        sees_all: is_manager(&listing.snapshot, &caller),
        listing,
        items,
        door,
        caller,
    });
    futures_util::stream::unfold(0, move |next| {
        let full = full.clone();
        async move {
            if next >= full.items.len() {
                return None;
            }
            let made = tokio::task::spawn_blocking(move || full.batch(next)).await;
            let made = made.map_err(|error| Status::internal(error.to_string()));
            Some((made, next + JOBS_PER_BATCH))
        }
    })
}

struct Full {
    listing: Listing,
    items: Vec<Item>,
    door: Arc<Door>,
    caller: Arc<Person>,
    sees_all: bool,
}

impl Full {
    /// The jobs from number `first` on. Reads payloads: blocks.
    fn batch(&self, first: usize) -> wire::StatJobsReply {
        let scene = self.listing.scene();
        let items = self.items.iter().skip(first).take(JOBS_PER_BATCH);
        let jobs = items.map(|item| {
            let job = item.job();
            let may_see = self.sees_all || *job.spec.owner.user == *self.caller.user;
            let payload = may_see.then(|| payload(&self.door, &job)).flatten();
            attributes(
                scene,
                &job,
                payload.as_ref().map(|payload| &payload.variables),
            )
        });
        wire::StatJobsReply {
            jobs: jobs.collect(),
            ..wire::StatJobsReply::default()
        }
    }
}

/// The payload; without it a listing is still worth having.
fn payload(door: &Door, job: &Job) -> Option<Arc<Payload>> {
    let read = door.payloads.payload(payload_id(job.id));
    read.unwrap_or_else(|error| {
        tracing::error!(job = %job.id, %error, "the variables of a job cannot be read");
        None
    })
}
