//! Why a waiting job does not run. The decision that left it waiting makes the value; people read it as the job's
//! comment: Torque's own sentence first, because tools match it, then what exactly is missing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Holds, JobId, NodeName, QueueName, ReservationId, RunLimit, Seconds, Timestamp};

/// One cause for which a job waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No node, or too few, have so many free cards.
    NotEnoughCards {
        /// Cards wanted on each node of a part of the request.
        wanted: u32,
        /// Nodes wanted by that part.
        nodes: u32,
        /// Free cards on the suitable node that has most.
        free_most: u32,
        /// That node; `None` when no suitable node is up.
        on: Option<NodeName>,
    },
    /// No node, or too few, have so many free slots.
    NotEnoughSlots {
        /// Slots wanted on each node of a part of the request.
        wanted: u32,
        /// Nodes wanted by that part.
        nodes: u32,
        /// Free slots on the suitable node that has most.
        free_most: u32,
        /// That node; `None` when no suitable node is up.
        on: Option<NodeName>,
    },
    /// All nodes together have not so many free slots (`procs=`).
    NotEnoughSlotsInAll {
        /// Slots wanted, on whatever nodes.
        wanted: u32,
        /// Free slots of all suitable nodes.
        free: u32,
    },
    /// No node, or too few, have so much free memory.
    NotEnoughMemory {
        /// Bytes wanted on each node of a part of the request.
        wanted_bytes: u64,
        /// Nodes wanted by that part.
        nodes: u32,
        /// Free bytes on the suitable node that has most.
        free_most_bytes: u64,
        /// That node; `None` when no suitable node is up.
        on: Option<NodeName>,
    },
    /// Some nodes could take a share of the job now, but fewer than it wants.
    NotEnoughNodes {
        /// Nodes wanted, over all parts of the request.
        wanted: u32,
        /// Nodes that could take a share.
        free: u32,
    },
    /// No agent is connected at all.
    NoNodeUp,
    /// Enough nodes are suitable, but too few of them are up.
    NodesDown {
        /// Nodes wanted, over all parts of the request.
        wanted: u32,
        /// Suitable nodes that are up.
        up: u32,
    },
    /// The job names this node, and it is down.
    NodeDown(NodeName),
    /// The job names this node, and an operator took it offline.
    NodeOffline(NodeName),
    /// No node has this property, or bears this name, any more.
    NoNodeLike(Box<str>),
    /// Cards of this node are free but were not seen clean yet.
    CardsNotClean {
        /// The node.
        on: NodeName,
        /// How many of its cards.
        cards: u32,
    },
    /// Its nodes are kept for an earlier job.
    BehindJob(JobId),
    /// Its queue is stopped.
    QueueStopped(QueueName),
    /// It is held.
    Held(Holds),
    /// Its time has not come (`qsub -a`).
    WaitingUntil(Timestamp),
    /// It depends on a job whose end, or start, has not come.
    DependsOn(JobId),
    /// So many members of its array run already, as many as `-t LIST%SLOTS` allows.
    ArraySlotLimit(u32),
    /// As much is used as a limit allows.
    RunLimit(Arc<RunLimit>),
    /// It would still run when a reservation of others, maintenance or dedicated time begins on nodes that it needs.
    Window {
        /// Which.
        reservation: ReservationId,
        /// Its name; may be empty.
        name: Box<str>,
        /// When it begins on the nodes that are free longest.
        starts: Timestamp,
        /// The longest walltime with which the job would end before, seconds; 0 when no walltime would do now.
        fits_secs: u64,
    },
    /// Its reservation begins later.
    ReservationBegins {
        /// Which.
        reservation: ReservationId,
        /// When.
        starts: Timestamp,
    },
    /// Its reservation ends before it would.
    ReservationEnds {
        /// Which.
        reservation: ReservationId,
        /// When.
        ends: Timestamp,
        /// When it begins again, if it does.
        again: Option<Timestamp>,
        /// The longest walltime with which the job would end before, seconds.
        fits_secs: u64,
    },
    /// Other jobs use what its reservation has, or it asks for more than that.
    ReservationFull(ReservationId),
    /// Its queue starts jobs in its active hours only.
    QueueClosed {
        /// The queue.
        queue: QueueName,
        /// When it opens.
        opens: Timestamp,
    },
    /// It would not end in the active hours of its queue, which wants that.
    QueueCloses {
        /// The queue.
        queue: QueueName,
        /// When it closes.
        closes: Timestamp,
        /// The longest walltime with which the job would end before, seconds.
        fits_secs: u64,
    },
    /// It waits in a routing queue of which no destination takes it now.
    NoDestination(QueueName),
    /// Running jobs have been told to stop, to make room for it.
    Preempting {
        /// One of them: of those that have longest to stop, the first by id.
        job: JobId,
        /// How many others.
        others: u32,
        /// When it was told.
        since: Timestamp,
        /// So long it has to stop by itself, seconds.
        grace_secs: u32,
    },
    /// The image of its container is on its way to the node on which it is to start. It holds nothing meanwhile.
    ImageComes {
        /// As the job names it.
        image: Box<str>,
        /// That node.
        on: NodeName,
    },
    /// The image of its container could not be had.
    ImageRefused {
        /// As the job names it.
        image: Box<str>,
        /// Where.
        on: NodeName,
        /// Why, in one sentence.
        problem: Box<str>,
        /// When it is tried there again.
        again: Timestamp,
    },
    /// Nothing could run in its image: the container engine of the node that it could have does not answer.
    EngineAway {
        /// That node.
        on: NodeName,
        /// What its agent says.
        problem: Box<str>,
    },
}

impl Reason {
    /// The sentence of Torque's scheduler, without the full stop that some have.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        match self {
            Self::NotEnoughCards { .. }
            | Self::NotEnoughSlots { .. }
            | Self::NotEnoughSlotsInAll { .. }
            | Self::NotEnoughMemory { .. }
            | Self::NotEnoughNodes { .. }
            | Self::NoNodeUp
            | Self::NodesDown { .. }
            | Self::NodeDown(_)
            | Self::NodeOffline(_)
            | Self::NoNodeLike(_)
            | Self::CardsNotClean { .. }
            | Self::BehindJob(_) => {
                "Not Running: Not enough of the right type of nodes are available"
            }
            Self::QueueStopped(_) => "Not Running: Queue not started.",
            Self::Held(_) => "Not Running: Job is held",
            Self::WaitingUntil(_) => "Not Running: Job waits for its execution time",
            Self::DependsOn(_) => "Not Running: Job waits for another job",
            Self::ArraySlotLimit(_) => "Not Running: Array slot limit has been reached",
            Self::RunLimit(limit) => limit.headline(),
            Self::Window { .. } => "Not Running: Job would conflict with a reservation",
            Self::ReservationBegins { .. } => "Not Running: Reservation has not begun",
            Self::ReservationEnds { .. } => "Not Running: Job would run beyond its reservation",
            Self::ReservationFull(_) => "Not Running: Reservation has not enough free",
            Self::QueueClosed { .. } => "Not Running: Queue is outside its active hours",
            Self::QueueCloses { .. } => {
                "Not Running: Job would run beyond the active hours of its queue"
            }
            Self::NoDestination(_) => "Not Running: No destination of the routing queue takes it",
            Self::Preempting { .. } => "Not Running: Other jobs are being stopped for it",
            Self::ImageComes { .. } => "Not Running: Job waits for the image of its container",
            Self::ImageRefused { .. } => "Not Running: The image of its container cannot be had",
            Self::EngineAway { .. } => "Not Running: No container engine answers for it",
        }
    }

    /// What `comment` says: nothing for what other attributes say (holds, times, dependencies), Torque's sentence alone
    /// where its scheduler has one, because programs compare the whole, and ours where it has none.
    #[must_use]
    pub fn comment(&self) -> Option<String> {
        match self {
            Self::Held(_)
            | Self::WaitingUntil(_)
            | Self::DependsOn(_)
            | Self::ArraySlotLimit(_) => None,
            Self::BehindJob(_)
            | Self::NoDestination(_)
            | Self::Window { .. }
            | Self::ReservationBegins { .. }
            | Self::ReservationEnds { .. }
            | Self::ReservationFull(_)
            | Self::QueueClosed { .. }
            | Self::QueueCloses { .. }
            | Self::Preempting { .. }
            | Self::ImageComes { .. }
            | Self::ImageRefused { .. }
            | Self::EngineAway { .. } => Some(self.to_string()),
            Self::NotEnoughCards { .. }
            | Self::NotEnoughSlots { .. }
            | Self::NotEnoughSlotsInAll { .. }
            | Self::NotEnoughMemory { .. }
            | Self::NotEnoughNodes { .. }
            | Self::NoNodeUp
            | Self::NodesDown { .. }
            | Self::NodeDown(_)
            | Self::NodeOffline(_)
            | Self::NoNodeLike(_)
            | Self::CardsNotClean { .. }
            | Self::QueueStopped(_) => Some(self.headline().to_owned()),
            Self::RunLimit(limit) if limit.is_torques() => Some(self.headline().to_owned()),
            Self::RunLimit(_) => Some(self.to_string()),
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each reason: what is parted here would have to be put together in the head"
    )]
    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnoughCards {
                wanted,
                nodes,
                free_most,
                on,
            } => lack(f, &cards(*wanted), *nodes, &most(on, free_most)),
            Self::NotEnoughSlots {
                wanted,
                nodes,
                free_most,
                on,
            } => lack(f, &slots(*wanted), *nodes, &most(on, free_most)),
            Self::NotEnoughSlotsInAll { wanted, free } => {
                write!(f, "wants {} in all, {free} free", slots(*wanted))
            }
            Self::NotEnoughMemory {
                wanted_bytes,
                nodes,
                free_most_bytes,
                on,
            } => {
                let free = Memory(*free_most_bytes);
                lack(f, &Memory(*wanted_bytes), *nodes, &most(on, &free))
            }
            Self::NotEnoughNodes { wanted, free } => {
                write!(f, "wants {}, {free} could take it now", nodes(*wanted))
            }
            Self::NoNodeUp => f.write_str("no node is up"),
            Self::NodesDown { wanted, up } => {
                write!(f, "wants {}, {up} of the right type up", nodes(*wanted))
            }
            Self::NodeDown(node) => write!(f, "{node} is down"),
            Self::NodeOffline(node) => write!(f, "{node} is offline"),
            Self::NoNodeLike(name) => write!(f, "no node is named or has the property {name}"),
            Self::CardsNotClean { on, cards: count } => {
                write!(f, "{} of {on} still in use by ended jobs", cards(*count))
            }
            Self::BehindJob(job) => write!(f, "its nodes are kept for job {job}"),
            Self::QueueStopped(queue) => write!(f, "queue {queue} is stopped"),
            Self::Held(kinds) => write!(f, "hold types {kinds}"),
            Self::WaitingUntil(time) => write!(f, "not before {time}"),
            Self::DependsOn(job) => write!(f, "depends on job {job}"),
            Self::ArraySlotLimit(limit) => {
                write!(f, "{} may run at once", Many(*limit, "member"))
            }
            Self::RunLimit(limit) => write!(f, "{limit}"),
            Self::NoDestination(queue) => write!(f, "queue {queue} tries again from time to time"),
            Self::Window {
                reservation,
                name,
                starts,
                fits_secs,
            } => {
                let name = if name.is_empty() { "" } else { &**name };
                let blank = if name.is_empty() { "" } else { " " };
                write!(f, "{reservation}{blank}{name} begins at {starts}")?;
                shorter(f, *fits_secs)
            }
            Self::ReservationBegins {
                reservation,
                starts,
            } => write!(f, "{reservation} begins at {starts}"),
            Self::ReservationEnds {
                reservation,
                ends,
                again,
                fits_secs,
            } => {
                write!(f, "{reservation} ends at {ends}")?;
                if let Some(again) = again {
                    write!(f, " and begins again at {again}")?;
                }
                shorter(f, *fits_secs)
            }
            Self::ReservationFull(reservation) => {
                write!(f, "{reservation} has not enough free for it")
            }
            Self::QueueClosed { queue, opens } => write!(f, "queue {queue} opens at {opens}"),
            Self::QueueCloses {
                queue,
                closes,
                fits_secs,
            } => {
                write!(f, "queue {queue} closes at {closes}")?;
                shorter(f, *fits_secs)
            }
            Self::ImageComes { image, on } => write!(f, "image {image} is being pulled on {on}"),
            Self::ImageRefused {
                image,
                on,
                problem,
                again,
            } => write!(
                f,
                "image {image} could not be pulled on {on}: {problem}; tried again at {again}"
            ),
            Self::EngineAway { on, problem } => {
                write!(f, "the container engine of {on} does not answer: {problem}")
            }
            Self::Preempting {
                job,
                others,
                since,
                grace_secs,
            } => {
                write!(f, "waits for job {job} ")?;
                if *others > 0 {
                    write!(f, "and {} ", Many(*others, "other"))?;
                }
                write!(f, "to stop, preempted at {since}, grace {grace_secs} s")
            }
        }
    }
}

/// What walltime would do, when any would.
fn shorter(f: &mut fmt::Formatter<'_>, fits_secs: u64) -> fmt::Result {
    match fits_secs {
        0 => Ok(()),
        secs => write!(f, "; walltime<={} would start now", Seconds(secs)),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.headline())?;
        self.detail(f)?;
        f.write_str(")")
    }
}

fn lack(f: &mut fmt::Formatter<'_>, wanted: &dyn fmt::Display, on: u32, most: &str) -> fmt::Result {
    write!(f, "wants {wanted} on {}; {most}", nodes(on))
}

fn most(on: &Option<NodeName>, free: &dyn fmt::Display) -> String {
    match on {
        Some(node) => format!("{node} has {free} free"),
        None => "no such node is up".to_owned(),
    }
}

const fn cards(count: u32) -> Many {
    Many(count, "card")
}

const fn slots(count: u32) -> Many {
    Many(count, "slot")
}

const fn nodes(count: u32) -> Many {
    Many(count, "node")
}

/// A count and its noun.
struct Many(u32, &'static str);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// Bytes.
struct Memory(u64);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}mb of memory", self.0 >> 20)
    }
}

#[cfg(test)]
mod tests;
