//! Jobs that run in an image start only on nodes that hold it. Where one lacks, it is fetched before the job has anything
//! of the node: whoever is behind may use the cards meanwhile, as far as nobody's promise is in the way. Jobs without an
//! image never come here.

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::{JobId, NodeName, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use super::Plan;
use super::cluster::{Cluster, When};
use super::desk::Desk;
use super::fit::{Shape, fit, pick};
use super::inside::fit_inside;
use super::timeline::Span;
use crate::{Node, NodeShare, Preparation, Preparing};

/// Jobs of one plan for which images are looked after; those behind them have their turn in the next plans.
const PREPARED_MAX: usize = 256;
/// Images that one node fetches at once.
const COMING_MAX: usize = 8;
/// Of them for one user: a registry that drips holds up no other user's jobs.
const COMING_PER_USER_MAX: usize = 4;
/// Least time after which an image is reckoned to be there, seconds. One that has been on its way for longer is reckoned
/// to need as long again.
const COMES_SECS: u64 = 60;
/// Images for jobs that nodes are promised to are fetched so long before, seconds: earlier they might be gone again.
const AHEAD_SECS: u64 = 1800;

/// An image to be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareOrder {
    /// Where.
    pub node: capstan_types::NodeName,
    /// As the job names it.
    pub image: Box<str>,
    /// The job for which it is.
    pub job: JobId,
}

/// How far the image is on a node, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    There,
    Coming,
    Missing,
    /// It could not be had there a short time ago.
    Barred,
    /// The node's engine does not answer: nothing runs in an image there.
    Away,
}

/// What may keep a job from nodes that it could have otherwise, the least first.
const LACKING: [Stage; 4] = [Stage::Coming, Stage::Missing, Stage::Barred, Stage::Away];

/// The image of a shape.
#[derive(Clone, Debug)]
pub(super) struct Images {
    /// By place.
    stages: Vec<Stage>,
    /// Nodes of this stage and better ones are open.
    admitted: Stage,
    /// When it will be there, as far as that can be said, and on which nodes: of a request that would fit but for its image.
    comes: Option<(Timestamp, Stage)>,
}

/// A job that may be waiting for its image alone.
#[derive(Clone, Debug)]
pub(super) struct Lacking {
    job: JobId,
    shape: usize,
    walltime_secs: u64,
    /// The nodes that it is to get, when that is known.
    places: Vec<usize>,
}

impl Images {
    pub(super) fn of(image: &str, uid: u32, cluster: &Cluster<'_>) -> Self {
        Self::at_time(cluster.now, (image, uid), cluster)
    }

    fn at_time(now: Timestamp, (image, uid): (&str, u32), cluster: &Cluster<'_>) -> Self {
        // Most nodes of a site have the same short names.
        let mut meant: Option<(&[_], String)> = None;
        let stages = cluster.seats.iter().map(|seat| {
            let aliases = &seat.node.inventory.aliases[..];
            let name = match meant.take().filter(|(of, _)| *of == aliases) {
                Some((_, name)) => name,
                None => seat.node.image_meant(image),
            };
            let found = stage(seat.node, (image, &name), uid, now);
            meant = Some((aliases, name));
            found
        });
        Self {
            stages: stages.collect(),
            admitted: Stage::There,
            comes: None,
        }
    }

    fn at(&self, place: usize) -> Stage {
        self.stages.get(place).copied().unwrap_or(Stage::There)
    }
}

/// `image` as it is typed, and as the node calls it.
fn stage(node: &Node, (image, name): (&str, &str), uid: u32, now: Timestamp) -> Stage {
    let inventory = &node.inventory;
    if inventory.engine.is_empty() && !inventory.engine_problem.is_empty() {
        return Stage::Away;
    }
    // An agent that says nothing of its engine says so when the job starts.
    if inventory.engine.is_empty() || node.lists_image(name) {
        return Stage::There;
    }
    match node.preparation(image, uid).map(|known| &known.stage) {
        None => Stage::Missing,
        Some(Preparing::Coming { .. }) => Stage::Coming,
        Some(Preparing::There { since }) => match since.plus_secs(Preparation::THERE_SECS) > now {
            true => Stage::There,
            false => Stage::Missing,
        },
        Some(Preparing::Failed { until, .. }) => match *until > now {
            true => Stage::Barred,
            false => Stage::Missing,
        },
    }
}

impl Shape<'_> {
    /// Looks anew where its image is, at another time than the cluster's.
    pub(super) fn look_for_images(&mut self, cluster: &Cluster<'_>, now: Timestamp) {
        let image = self.key.needs;
        self.images = image.map(|image| Images::at_time(now, (image, self.key.uid), cluster));
    }

    /// Whether the image is no reason against a node.
    pub(super) fn admits(&self, place: usize, when: When<'_>) -> bool {
        match when {
            When::Now(_) => self.admits_now(place),
            When::Later(_) => self.images.as_ref().is_none_or(|images| {
                let worst = images.comes.map_or(Stage::Barred, |(_, stage)| stage);
                images.at(place) <= worst
            }),
        }
    }

    /// When the image will be there, of a request that would fit but for that.
    pub(super) fn image_comes(&self) -> Option<Timestamp> {
        let comes = self.images.as_ref().and_then(|images| images.comes);
        comes.map(|(at, _)| at)
    }

    /// The same of now.
    pub(super) fn admits_now(&self, place: usize) -> bool {
        let images = self.images.as_ref();
        images.is_none_or(|images| images.at(place) <= images.admitted)
    }

    fn admit(&mut self, stage: Stage) {
        if let Some(images) = &mut self.images {
            images.admitted = stage;
        }
    }

    /// Runs `look` as if no image lacked anywhere.
    pub(super) fn whatever_image<T>(&mut self, look: impl FnOnce(&Self) -> T) -> T {
        self.admit(Stage::Away);
        let seen = look(self);
        self.admit(Stage::There);
        seen
    }
}

/// What a job is told that would start now but for its image; `None` when it would not.
pub(super) fn lacks_image(
    cluster: &mut Cluster<'_>,
    shape: &mut Shape<'_>,
    span: Span,
) -> Option<Reason> {
    let image = shape.key.needs?;
    let mut found = None;
    for admitted in LACKING {
        shape.admit(admitted);
        if let Some(picks) = pick(cluster, shape, When::Now(span)) {
            let images = shape.images.as_ref()?;
            let worst = picks.iter().max_by_key(|pick| images.at(pick.place))?;
            found = Some((admitted, worst.place));
            break;
        }
    }
    shape.admit(Stage::There);
    let (stage, place) = found?;
    told(cluster, shape, (image, stage), place)
}

/// What is said of an image that lacks at `place`, where it is no further than `stage`.
fn told(
    cluster: &Cluster<'_>,
    shape: &mut Shape<'_>,
    (image, stage): (&str, Stage),
    place: usize,
) -> Option<Reason> {
    let (now, node) = (cluster.now, cluster.seats[place].node);
    if stage == Stage::Away {
        return Some(Reason::EngineAway {
            on: node.name.clone(),
            problem: node.inventory.engine_problem.clone(),
        });
    }
    let known = node.preparation(image, shape.key.uid);
    if let (Stage::Barred, Some(Preparing::Failed { until, problem })) =
        (stage, known.map(|known| &known.stage))
    {
        return Some(Reason::ImageRefused {
            image: image.into(),
            on: node.name.clone(),
            problem: problem.clone(),
            again: *until,
        });
    }
    let elapsed = match known.map(|known| &known.stage) {
        Some(Preparing::Coming { since }) => now.secs_since(*since),
        Some(Preparing::There { .. } | Preparing::Failed { .. }) | None => 0,
    };
    if let Some(images) = &mut shape.images {
        images.comes = Some((now.plus_secs(elapsed.max(COMES_SECS)), stage));
    }
    Some(Reason::ImageComes {
        image: image.into(),
        on: node.name.clone(),
    })
}

/// What fits now, on nodes that hold the image if it can be, and on which nodes it lacks.
pub(super) fn fit_best(
    cluster: &mut Cluster<'_>,
    shape: &mut Shape<'_>,
    span: Span,
) -> Option<(Vec<NodeShare>, Vec<NodeName>)> {
    for admitted in [Stage::There, Stage::Coming, Stage::Missing, Stage::Barred] {
        shape.admit(admitted);
        let shares = fit(cluster, shape, span);
        shape.admit(Stage::There);
        if let Some(shares) = shares {
            let lacks = |name: &&NodeName| {
                let (place, images) = (cluster.find(name.as_str()), &shape.images);
                let stage = place.zip(images.as_ref()).map(|(at, images)| images.at(at));
                stage.is_some_and(|stage| stage > Stage::There)
            };
            let names = shares.iter().map(|share| &share.node);
            let lacking = names.filter(lacks).cloned().collect();
            return Some((shares, lacking));
        }
        shape.images.as_ref()?;
    }
    None
}

/// Whether a reason is about an image, or about what would run it.
pub(super) const fn is_of_image(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::ImageComes { .. } | Reason::ImageRefused { .. } | Reason::EngineAway { .. }
    )
}

impl Desk<'_> {
    /// Remembers a job that may be waiting for its image alone; false when there are enough of them.
    pub(super) fn lacks(&mut self, job: JobId, shape: usize, walltime_secs: u64) -> bool {
        let has_room = self.lacking.len() < PREPARED_MAX;
        if has_room {
            self.lacking.push(Lacking {
                job,
                shape,
                walltime_secs,
                places: Vec::new(),
            });
        }
        has_room
    }

    /// The same of a job of a reservation, of what that has.
    pub(super) fn lacks_inside(
        &mut self,
        (job, walltime_secs): (JobId, u64),
        (number, window): (usize, usize),
        until: Timestamp,
    ) -> Option<Reason> {
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[number]);
        let image = shape.key.needs?;
        for admitted in LACKING {
            shape.admit(admitted);
            let shares = fit_inside(cluster, &self.windows, (shape, window), until);
            shape.admit(Stage::There);
            let Some(shares) = shares else {
                continue;
            };
            let names = shares.iter().map(|share| share.node.as_str());
            let places: Vec<usize> = names.filter_map(|name| cluster.find(name)).collect();
            let images = shape.images.as_ref()?;
            let worst = places
                .iter()
                .copied()
                .max_by_key(|place| images.at(*place))?;
            let reason = told(cluster, shape, (image, admitted), worst);
            if self.lacking.len() < PREPARED_MAX && admitted < Stage::Barred {
                self.lacking.push(Lacking {
                    job,
                    shape: number,
                    walltime_secs,
                    places,
                });
            }
            return reason;
        }
        None
    }

    /// Whether any job of this plan runs in an image.
    pub(super) fn needs_images(&self) -> bool {
        self.shapes.iter().any(|shape| shape.images.is_some())
    }

    /// When all have been served: on which nodes images are fetched, for those that what is left would do for, and for
    /// those to whom nodes are promised soon.
    pub(super) fn prepare(&mut self, plan: &mut Plan) {
        if self.lacking.is_empty() {
            return;
        }
        let mut known = BTreeSet::new();
        let mut told: BTreeMap<JobId, usize> = BTreeMap::new();
        for lacking in std::mem::take(&mut self.lacking) {
            let places = self.places_for(&lacking);
            let shape = &self.shapes[lacking.shape];
            let (Some(images), Some(image)) = (&shape.images, shape.key.needs) else {
                continue;
            };
            let worst = places.iter().max_by_key(|place| images.at(**place));
            let (uid, missing): (u32, Vec<usize>) = {
                let missing = |place: &usize| images.at(*place) == Stage::Missing;
                (
                    shape.key.uid,
                    places.iter().copied().filter(missing).collect(),
                )
            };
            if let Some(worst) = worst.filter(|place| images.at(**place) > Stage::There) {
                for known_as in [lacking.job, whole(lacking.job)] {
                    told.entry(known_as).or_insert(*worst);
                }
            }
            for place in missing {
                let node = self.cluster.seats[place].node;
                let coming = node.preparing.iter().filter(|one| one.is_coming());
                let beside = known.iter().filter(|(at, _, _)| *at == place);
                let whose = coming
                    .map(|one| one.uid)
                    .chain(beside.map(|(_, _, uid)| *uid));
                let (all, own) = whose.fold((0, 0), |(all, own), by| {
                    (all + 1, own + usize::from(by == uid))
                });
                let is_full = all >= COMING_MAX || own >= COMING_PER_USER_MAX;
                if is_full || !known.insert((place, image, uid)) {
                    continue;
                }
                plan.preparations.push(PrepareOrder {
                    node: node.name.clone(),
                    image: image.into(),
                    job: lacking.job,
                });
                self.note_coming(place, image, uid);
            }
        }
        for (job, reason) in &mut plan.reasons {
            if let (Reason::ImageComes { on, .. }, Some(place)) = (reason, told.get(job)) {
                *on = self.cluster.seats[*place].node.name.clone();
            }
        }
    }

    /// The nodes that the job is reckoned to get: those that are promised to it, else what is left.
    fn places_for(&mut self, lacking: &Lacking) -> Vec<usize> {
        if !lacking.places.is_empty() {
            return lacking.places.clone();
        }
        let cluster = &mut self.cluster;
        let mut bookings = self.bookings.iter();
        if let Some(booking) = bookings.find(|booking| booking.job == lacking.job) {
            let is_soon = booking.span.from <= cluster.now.plus_secs(AHEAD_SECS);
            let nodes = booking.nodes.iter().filter(|_| is_soon);
            return nodes.map(|(place, _)| *place).collect();
        }
        let shape = &mut self.shapes[lacking.shape];
        let span = cluster.span(lacking.walltime_secs);
        let span = span.of_guest(shape.key.guest);
        // There last: whoever was served later may have left such a node.
        for admitted in [Stage::Coming, Stage::Missing] {
            shape.admit(admitted);
            let shares = fit(cluster, shape, span);
            shape.admit(Stage::There);
            if let Some(shares) = shares {
                let names = shares.iter().map(|share| share.node.as_str());
                return names.filter_map(|name| cluster.find(name)).collect();
            }
        }
        Vec::new()
    }

    fn note_coming(&mut self, place: usize, image: &str, uid: u32) {
        let alike = |shape: &&mut Shape<'_>| shape.key.needs == Some(image) && shape.key.uid == uid;
        for shape in self.shapes.iter_mut().filter(alike) {
            let stages = shape.images.iter_mut();
            for stage in stages.filter_map(|images| images.stages.get_mut(place)) {
                *stage = Stage::Coming;
            }
        }
    }

    /// When an image is tried again on a node where it could not be had.
    pub(super) fn tries_image_again(&self) -> Option<Timestamp> {
        let now = self.cluster.now;
        let needing = self.shapes.iter().filter(|shape| shape.images.is_some());
        let known = needing.flat_map(|shape| {
            let seats = self.cluster.seats.iter();
            seats.filter_map(|seat| seat.node.preparation(shape.key.needs?, shape.key.uid))
        });
        let again = known.filter_map(|known| match known.stage {
            Preparing::Failed { until, .. } => Some(until),
            Preparing::Coming { .. } | Preparing::There { .. } => None,
        });
        again.filter(|until| *until > now).min()
    }
}

/// By what a plan's reasons are known: an array stands for its members.
fn whole(job: JobId) -> JobId {
    match job.part {
        capstan_types::JobPart::Member(_) => JobId::array(job.seq),
        capstan_types::JobPart::Whole | capstan_types::JobPart::Array => job,
    }
}
