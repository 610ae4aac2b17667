//! A job of the trace as its user would have submitted it here.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_core::{Holds, JobSpec, Owner, Payload, Settings, Submission};
use capstan_types::{NodeSpec, Place, QueueName, ResourceList, Seconds, Select};

use crate::site::SERVER;
use crate::trace::{Ask, TraceJob};
use crate::{Cluster, accounting};

/// uid of the first user; each user has an own one.
const FIRST_UID: u32 = 10_000;

/// What all jobs of a simulation share.
pub(super) struct Entrance<'a> {
    cluster: &'a Cluster,
    queues: Vec<QueueName>,
    uids: BTreeMap<Arc<str>, u32>,
    payload: Arc<Payload>,
}

impl<'a> Entrance<'a> {
    pub(super) fn new(cluster: &'a Cluster, settings: Option<&Arc<Settings>>) -> Self {
        let queues = settings.map(|settings| settings.queues.keys().cloned().collect());
        Self {
            cluster,
            queues: queues.unwrap_or_default(),
            uids: BTreeMap::new(),
            payload: Arc::default(),
        }
    }

    fn uid(&mut self, user: &Arc<str>) -> u32 {
        let next = FIRST_UID + u32::try_from(self.uids.len()).unwrap_or(0);
        *self.uids.entry(user.clone()).or_insert(next)
    }

    /// The job's own queue where the server has it; else the default one.
    fn queue(&self, job: &TraceJob) -> Option<QueueName> {
        let wished = job.queue.as_ref()?;
        let mut queues = self.queues.iter();
        queues.find(|queue| queue.as_str() == &**wished).cloned()
    }

    /// Nodes and cards on each that a job asks for, as far as that can be said in two numbers: of different chunks, all
    /// nodes and the most cards.
    pub(super) fn gang(&self, job: &TraceJob) -> (u32, u32) {
        match &job.ask {
            Ask::Slots(slots) => self.cluster.gang(*slots),
            Ask::Resources(asked) => {
                let nodes = accounting::resources(asked).nodes();
                let chunks = nodes.map(|nodes| nodes.chunks).unwrap_or_default();
                let each = chunks.iter().map(|chunk| chunk.gpus).max();
                let nodes = NodeSpec::of(chunks).node_count();
                (nodes, each.unwrap_or(0))
            }
        }
    }
}

/// What `qsub` would have handed to the server.
pub(super) fn submission(job: &TraceJob, entrance: &mut Entrance<'_>) -> Submission {
    let (resources, select) = request(job, entrance);
    let place = resources
        .get("place")
        .and_then(|text| Place::parse(text).ok());
    let spec = JobSpec {
        name: (&*job.name).into(),
        owner: Owner {
            user: (&*job.user).into(),
            uid: entrance.uid(&job.user),
            group: (&*job.group).into(),
            host: SERVER.into(),
            groups: Vec::new(),
        },
        resources,
        placing: select.as_ref().map(|_| place.unwrap_or_default()),
        select,
        is_rerunnable: true,
        ..JobSpec::default()
    };
    Submission {
        spec,
        payload: entrance.payload.clone(),
        queue: entrance.queue(job),
        priority: 0,
        holds: Holds::default(),
        not_before: None,
        depends: Vec::new(),
        ties: Vec::new(),
    }
}

fn request(job: &TraceJob, entrance: &Entrance<'_>) -> (ResourceList, Option<Select>) {
    let (mut resources, select) = match &job.ask {
        Ask::Slots(slots) => {
            let (nodes, each) = entrance.cluster.gang(*slots);
            let text = match entrance.cluster.counts_cards() {
                true => format!("{nodes}:ppn={each}:gpus={each}"),
                false => format!("{nodes}:ppn={each}"),
            };
            let mut resources = ResourceList::default();
            // The core says what is wrong with it, if anything.
            resources.set("nodes", &text).ok();
            (resources, None)
        }
        Ask::Resources(asked) => {
            let resources = accounting::resources(asked);
            let select = resources
                .get("select")
                .and_then(|text| Select::parse(text).ok());
            (resources, select)
        }
    };
    let walltime = Seconds(job.walltime_secs).to_string();
    resources.set("walltime", &walltime).ok();
    (resources, select)
}
