//! Windows: times in which something of the nodes is not for everybody, because it is reserved, worked on or dedicated
//! to some queues; and gates: queues whose jobs start only at some times. Made of the state once a plan, and empty, at
//! no cost, where a site has neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{Hours, NodeName, QueueName, Reason, Span, Timestamp, Zone};

use super::request::Each;
use crate::{Node, Reservation, ReservationKind, ReservedShare, Settings, State};

/// All windows and gates that count from now on.
pub(super) struct Windows<'a> {
    now: Timestamp,
    /// What is reserved, in the order of ids.
    all: Vec<Window<'a>>,
    /// Windows with a part of a node: (window, what of the node), by node.
    by_node: BTreeMap<&'a NodeName, Vec<(usize, &'a ReservedShare)>>,
    /// Which queues are treated alike; queues that are not in it are in group 0.
    groups: BTreeMap<&'a QueueName, usize>,
    gates: BTreeMap<&'a QueueName, Gate<'a>>,
    zone: Option<&'a Zone>,
}

/// A reservation that is not over.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) reservation: &'a Arc<Reservation>,
}

/// When jobs of a queue may start.
enum Gate<'a> {
    /// While its reservation lasts, and so that they end before it does.
    Reservation(&'a Arc<Reservation>),
    /// In its active hours; with the flag so that they end in them.
    Hours(Hours, bool),
}

/// Something taken of a node for a while.
#[derive(Clone, Copy)]
pub(super) struct Taken<'a> {
    pub(super) span: Span,
    pub(super) each: Each,
    pub(super) by: &'a Arc<Reservation>,
}

impl<'a> Windows<'a> {
    pub(super) fn of(state: &'a State, now: Timestamp) -> Self {
        let mut windows = Self {
            now,
            all: Vec::new(),
            by_node: BTreeMap::new(),
            groups: BTreeMap::new(),
            gates: BTreeMap::new(),
            zone: state.settings().map(|settings| &settings.zone),
        };
        let live = state.reservations();
        for reservation in live.filter(|made| made.next(now).is_some()) {
            let number = windows.all.len();
            windows.all.push(Window { reservation });
            for share in &reservation.shares {
                let on_node = windows.by_node.entry(&share.node).or_default();
                on_node.push((number, share));
            }
        }
        if let Some(settings) = state.settings() {
            windows.open_gates(state, settings);
            windows.group_queues(settings);
        }
        windows
    }

    fn open_gates(&mut self, state: &'a State, settings: &'a Settings) {
        for queue in settings.queues.values() {
            if let Some(own) = state.reservation_of_queue(&queue.name) {
                self.gates.insert(&queue.name, Gate::Reservation(own));
            } else if let Some(text) = queue.active_hours() {
                // It was read when it was set.
                if let Ok(hours) = Hours::parse(text) {
                    let finish = queue.is("finish_in_hours");
                    self.gates.insert(&queue.name, Gate::Hours(hours, finish));
                }
            }
        }
    }

    /// Queues for which the same windows are open are one group: 0 is those for which none is.
    fn group_queues(&mut self, settings: &'a Settings) {
        if self.all.is_empty() {
            return;
        }
        let mut known: Vec<Vec<usize>> = vec![Vec::new()];
        for queue in settings.queues.keys() {
            let open = self.all.iter().enumerate();
            let open = open.filter(|(_, window)| !window.reservation.is_closed_to(queue));
            let open: Vec<usize> = open.map(|(at, _)| at).collect();
            let group = known.iter().position(|other| *other == open);
            let group = group.unwrap_or_else(|| {
                known.push(open);
                known.len() - 1
            });
            if group > 0 {
                self.groups.insert(queue, group);
            }
        }
    }

    /// Whether there is nothing to look at on any node.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Which windows are open to jobs of `queue`: queues of one group find the same room. 0 for most.
    pub(super) fn group(&self, queue: &QueueName) -> usize {
        match self.groups.is_empty() {
            true => 0,
            false => self.groups.get(queue).copied().unwrap_or(0),
        }
    }

    /// The reservation whose jobs are in `queue`.
    pub(super) fn reservation_of(&self, queue: &QueueName) -> Option<&'a Arc<Reservation>> {
        match self.gates.get(queue)? {
            Gate::Reservation(own) => Some(own),
            Gate::Hours(..) => None,
        }
    }

    /// Why no job of `queue` that may run for `walltime_secs` starts now, wherever it would; `None` when it may.
    pub(super) fn gate(&self, queue: &QueueName, walltime_secs: u64) -> Option<Reason> {
        if self.gates.is_empty() {
            return None;
        }
        let now = self.now;
        let end = now.plus_secs(walltime_secs);
        match self.gates.get(queue)? {
            Gate::Reservation(own) => match own.next(now) {
                Some(span) if span.from > now => Some(Reason::ReservationBegins {
                    reservation: own.id,
                    starts: span.from,
                }),
                Some(span) if end > span.until => Some(Reason::ReservationEnds {
                    reservation: own.id,
                    ends: span.until,
                    again: own.next(span.until).map(|next| next.from),
                    fits_secs: span.until.secs_since(now),
                }),
                Some(_) => None,
                None => Some(Reason::ReservationFull(own.id)),
            },
            Gate::Hours(hours, finish) => {
                let zone = self.zone?;
                match hours.open_until(zone, now) {
                    None => Some(Reason::QueueClosed {
                        queue: queue.clone(),
                        opens: hours.next_opening(zone, now),
                    }),
                    Some(closes) if *finish && end > closes => Some(Reason::QueueCloses {
                        queue: queue.clone(),
                        closes,
                        fits_secs: closes.secs_since(now),
                    }),
                    Some(_) => None,
                }
            }
        }
    }

    /// What is taken of `node` before `until`, as jobs of `group` find it, window by window. What a window of jobs takes
    /// is all that is set aside, whether its jobs use it or not.
    pub(super) fn taken(
        &self,
        node: &'a Node,
        group: usize,
        until: Timestamp,
    ) -> impl Iterator<Item = Taken<'a>> {
        let on_node = self.by_node.get(&node.name);
        let shares = on_node.into_iter().flatten();
        let closed = shares.filter(move |(at, _)| !self.is_open_to(*at, group));
        let from = self.now;
        closed.flat_map(move |(at, share)| {
            let by = self.all[*at].reservation;
            let each = set_aside(node, share);
            by.meeting(Span { from, until })
                .map(move |span| Taken { span, each, by })
        })
    }

    /// Nodes with windows.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &'a NodeName> {
        self.by_node.keys().copied()
    }

    /// What `reservation` has of `node`.
    pub(super) fn share(&self, reservation: &Reservation, node: &Node) -> Option<Each> {
        let shares = self.by_node.get(&node.name)?.iter();
        let own = shares.filter(|(at, _)| self.all[*at].reservation.id == reservation.id);
        let each = own.map(|(_, share)| set_aside(node, share));
        each.reduce(Each::and)
    }

    fn is_open_to(&self, window: usize, group: usize) -> bool {
        let mut of_group = self.groups.iter().filter(|(_, own)| **own == group);
        let reservation = self.all[window].reservation;
        // All queues of a group are treated alike; those of group 0 are strangers to all windows.
        group > 0
            && of_group
                .next()
                .is_some_and(|(queue, _)| !reservation.is_closed_to(queue))
    }
}

/// What a reservation takes of a node.
pub(super) fn set_aside(node: &Node, share: &ReservedShare) -> Each {
    match share.is_whole {
        true => Each::whole(node),
        false => Each {
            slots: share.slots,
            cards: share.cards,
            memory_bytes: share.memory_bytes,
            ..Each::default()
        },
    }
}

/// For whom jobs make room: what `Reason::Window` says of a window that keeps a job from starting.
pub(super) fn reason(taken: &Taken<'_>, now: Timestamp, fits_now: bool) -> Reason {
    Reason::Window {
        reservation: taken.by.id,
        name: taken.by.name.clone(),
        starts: taken.span.from,
        fits_secs: if fits_now {
            taken.span.from.secs_since(now)
        } else {
            0
        },
    }
}

/// Whether the window is one in which nobody may run.
pub(super) fn is_for_nobody(reservation: &Reservation) -> bool {
    match reservation.kind {
        ReservationKind::Maintenance => true,
        ReservationKind::Jobs | ReservationKind::Dedicated(_) => false,
    }
}
