//! Which queue a job ends up in: a routing queue hands it on, at once, to the first of its destinations that takes it.
//! While the reason is one that passes (the destination is full or not enabled, the routing queue is stopped), the job
//! waits in the routing queue and is tried again.

use capstan_types::QueueName;

use super::limits::Entry;
use crate::{Queue, Rejection, Settings};

/// A job that is handed on more often than this is going in a circle.
const HOPS_MAX: usize = 10;

/// Tries `queue`, and where it is a routing queue its destinations one after another; returns the execution queue that
/// takes the job, or the routing queue where it waits, and what `enter` made of it there. `enter` refuses for what a
/// queue has against the job.
///
/// # Errors
/// What the queue itself has against it, or that none of its destinations will ever take it.
pub(super) fn enter<'a, T>(
    settings: &'a Settings,
    queue: &'a Queue,
    entry: Entry,
    enter: &mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
) -> Result<(&'a Queue, T), Rejection> {
    let entered = enter(queue, entry)?;
    if !queue.is_routing() {
        return Ok((queue, entered));
    }
    if !queue.is_started() {
        return Ok((queue, entered));
    }
    let mut walk = Walk::new(settings, enter);
    match walk.onward(queue, HOPS_MAX) {
        Err(Rejection::NoDestination(_)) if walk.may_change => Ok((queue, entered)),
        onward => onward,
    }
}

/// Tries the destinations of `queue`, a routing queue, for a job that waits there: `None` while none takes it.
pub(super) fn hand_on<'a, T>(
    settings: &'a Settings,
    queue: &'a Queue,
    enter: &mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
) -> Option<(&'a Queue, T)> {
    Walk::new(settings, enter).onward(queue, HOPS_MAX).ok()
}

/// The way of one job through routing queues.
struct Walk<'a, 'f, T> {
    settings: &'a Settings,
    enter: &'f mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
    /// Routing queues that the job has come to. Where queues route to each other, there are more ways than anybody has
    /// the time to walk, and a queue that had no destination for the job has none the second time.
    tried: Vec<&'a QueueName>,
    /// Whether some destination may take it later.
    may_change: bool,
}

impl<'a, 'f, T> Walk<'a, 'f, T> {
    fn new(
        settings: &'a Settings,
        enter: &'f mut dyn FnMut(&'a Queue, Entry) -> Result<T, Rejection>,
    ) -> Self {
        Self {
            settings,
            enter,
            tried: Vec::new(),
            may_change: false,
        }
    }

    fn hop(&mut self, queue: &'a Queue, hops_left: usize) -> Result<(&'a Queue, T), Rejection> {
        let entered = (self.enter)(queue, Entry::Routed)?;
        match (queue.is_routing(), queue.is_started()) {
            (false, _) => Ok((queue, entered)),
            (true, true) => self.onward(queue, hops_left),
            (true, false) => {
                self.may_change = true;
                Err(Rejection::NoDestination(queue.name.clone()))
            }
        }
    }

    fn onward(&mut self, queue: &'a Queue, hops_left: usize) -> Result<(&'a Queue, T), Rejection> {
        self.tried.push(&queue.name);
        for destination in queue.route_destinations() {
            let next = local_queue(self.settings, destination);
            let next = next.filter(|next| hops_left > 0 && !self.tried.contains(&&next.name));
            match next.map(|next| self.hop(next, hops_left - 1)) {
                Some(Ok(taken)) => return Ok(taken),
                Some(Err(Rejection::QueueRefuses { why, .. })) => {
                    self.may_change |= why.passes();
                }
                Some(Err(_)) | None => {}
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
