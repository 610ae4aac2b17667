//! Which queue a job ends up in: a routing queue hands it on, at once, to the first of its destinations that takes it.

use capstan_types::QueueName;

use super::limits::Entry;
use crate::{Queue, Rejection, Settings};

/// A job that is handed on more often than this is going in a circle.
const HOPS_MAX: usize = 10;

/// Tries `queue`, and where it is a routing queue its destinations one after another; returns the execution queue that
/// takes the job, and what `enter` made of it there. `enter` refuses for what a queue has against the job.
///
/// # Errors
/// What the queue itself has against it, or that none of its destinations takes it.
pub(super) fn enter<'a, T>(
    settings: &'a Settings,
    queue: &'a Queue,
    entry: Entry,
    enter: &mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
) -> Result<(&'a Queue, T), Rejection> {
    let mut walk = Walk {
        settings,
        enter,
        tried: Vec::new(),
    };
    walk.hop(queue, entry, HOPS_MAX)
}

/// The way of one job through routing queues.
struct Walk<'a, 'f, T> {
    settings: &'a Settings,
    enter: &'f mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
    /// Routing queues that the job has come to. Where queues route to each other, there are more ways than anybody has
    /// the time to walk, and a queue that had no destination for the job has none the second time.
    tried: Vec<&'a QueueName>,
}

impl<'a, T> Walk<'a, '_, T> {
    fn hop(
        &mut self,
        queue: &'a Queue,
        entry: Entry,
        hops_left: usize,
    ) -> Result<(&'a Queue, T), Rejection> {
        let entered = (self.enter)(queue, entry)?;
        if !queue.is_routing() {
            return Ok((queue, entered));
        }
        self.tried.push(&queue.name);
        for destination in queue.route_destinations() {
            let next = local_queue(self.settings, destination);
            let next = next.filter(|next| hops_left > 0 && !self.tried.contains(&&next.name));
            let taken = next.map(|next| self.hop(next, Entry::Routed, hops_left - 1));
            if let Some(Ok(taken)) = taken {
                return Ok(taken);
            }
        }
        Err(Rejection::NoDestination(queue.name.clone()))
    }
}

/// The queue of this server that a destination means: `queue` or `queue@server`.
fn local_queue<'a>(settings: &'a Settings, destination: &str) -> Option<&'a Queue> {
    let (name, server) = destination.split_once('@').unwrap_or((destination, ""));
    let is_here = ["", settings.server.as_str(), &settings.host].contains(&server);
    settings.queues.get(name).filter(|_| is_here)
}
