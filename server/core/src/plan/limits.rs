//! How many jobs of a queue, of a user, of a group may run at once, by queue and on the whole server.

use std::collections::BTreeMap;

use capstan_types::RunLimit;

use crate::{Job, Queue, State};

/// Jobs that run or start in this plan, counted where a limit looks at them.
pub(super) struct RunLimits<'a> {
    state: &'a State,
    /// Whether there is any limit at all: else nothing is counted.
    is_limited: bool,
    /// By queue, user and group: "" stands for all.
    counts: BTreeMap<Key, u64>,
}

type Key = (Box<str>, Box<str>, Box<str>);

/// What a limit counts.
#[derive(Clone, Copy)]
enum Of {
    All,
    User,
    Group,
}

/// Attributes of queues and the server, and what they limit.
const LIMITS: [(&str, Of, RunLimit, RunLimit); 3] = [
    ("max_running", Of::All, RunLimit::Queue, RunLimit::Server),
    (
        "max_user_run",
        Of::User,
        RunLimit::QueueUser,
        RunLimit::ServerUser,
    ),
    (
        "max_group_run",
        Of::Group,
        RunLimit::QueueGroup,
        RunLimit::ServerGroup,
    ),
];

impl<'a> RunLimits<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let mut limits = Self {
            state,
            is_limited: has_limits(state),
            counts: BTreeMap::new(),
        };
        if limits.is_limited {
            let running: Vec<_> = state.running().map(|(_, job)| job.clone()).collect();
            running.iter().for_each(|job| limits.count(job));
        }
        limits
    }

    /// Takes a job into account that runs or starts now.
    pub(super) fn count(&mut self, job: &Job) {
        if !self.is_limited {
            return;
        }
        for queue in [job.queue.as_str(), ""] {
            for of in [Of::All, Of::User, Of::Group] {
                *self.counts.entry(key(job, queue, of)).or_default() += 1;
            }
        }
    }

    /// The limit that keeps `job` from starting now: those of its queue first.
    pub(super) fn reached(&self, job: &Job) -> Option<RunLimit> {
        if !self.is_limited {
            return None;
        }
        let settings = self.state.settings()?;
        let queue = settings.queues.get(&job.queue);
        LIMITS
            .iter()
            .find_map(|(attribute, of, by_queue, by_server)| {
                let own = queue.and_then(|queue| queue.attributes.limit(attribute));
                let all = settings.attributes.limit(attribute);
                let is_at = |limit: Option<u64>, queue: &str| {
                    let count = self.counts.get(&key(job, queue, *of)).copied();
                    limit.is_some_and(|limit| count.unwrap_or(0) >= limit)
                };
                match (is_at(own, job.queue.as_str()), is_at(all, "")) {
                    (true, _) => Some(*by_queue),
                    (false, true) => Some(*by_server),
                    (false, false) => None,
                }
            })
    }
}

fn has_limits(state: &State) -> bool {
    let Some(settings) = state.settings() else {
        return false;
    };
    let has = |queue: &Queue| {
        LIMITS
            .iter()
            .any(|(attribute, ..)| queue.attributes.limit(attribute).is_some())
    };
    let all = LIMITS
        .iter()
        .any(|(attribute, ..)| settings.attributes.limit(attribute).is_some());
    all || settings.queues.values().any(has)
}

fn key(job: &Job, queue: &str, of: Of) -> Key {
    let owner = &job.spec.owner;
    let (user, group): (&str, &str) = match of {
        Of::All => ("", ""),
        Of::User => (&owner.user, ""),
        Of::Group => ("", &owner.group),
    };
    (queue.into(), user.into(), group.into())
}
