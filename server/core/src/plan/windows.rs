//! Windows: times in which something of the nodes is not for everybody, because it is reserved, worked on or dedicated
//! to some queues; and gates: queues whose jobs start only at some times. Made of the state once a plan, and empty, at
//! no cost, where a site has neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{Hours, NodeName, QueueName, Reason, Span, Timestamp, Zone};

use super::request::Each;
use crate::{Job, Reservation, ReservedShare, Settings, State};

/// All windows and gates that count from now on.
#[derive(Clone)]
pub(super) struct Windows<'a> {
    now: Timestamp,
    /// Reservations that are not over, in the order of ids.
    all: Vec<&'a Arc<Reservation>>,
    /// What is set aside of each node, by which of the reservations.
    by_node: BTreeMap<&'a NodeName, Vec<(usize, &'a ReservedShare)>>,
    /// Queues to which any window is open, and which guests their jobs are.
    guests: BTreeMap<&'a QueueName, Guest>,
    /// For each window the guests to whom it is closed.
    closed_to: Vec<Guests>,
    gates: BTreeMap<&'a QueueName, Gate<'a>>,
    zone: Option<&'a Zone>,
}

/// Which windows are open to a job: jobs that are the same guest find the same room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Guest(u8);

impl Guest {
    /// To whom no window is open: most jobs.
    pub(super) const STRANGER: Self = Self(0);
    /// To whom all are open: whoever wants to know what windows are in the way.
    pub(super) const EVERYWHERE: Self = Self(63);
    /// Further queues to which windows are open are treated as strangers.
    const NUMBER_MAX: u8 = 62;
}

/// Some guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guests(u64);

impl Guests {
    /// Everybody: what is promised to a waiting job is closed to all others.
    pub(super) const ALL: Self = Self(u64::MAX);

    /// Whether `guest` is one of them.
    pub(super) const fn include(self, guest: Guest) -> bool {
        self.0 & (1 << guest.0) != 0
    }

    fn without(self, guest: Guest) -> Self {
        Self(self.0 & !(1 << guest.0))
    }
}

/// When jobs of a queue may start.
#[derive(Clone)]
enum Gate<'a> {
    /// While its reservation lasts, and so that they end before it does.
    Reservation(&'a Arc<Reservation>),
    /// In its active hours; with the flag so that they end in them.
    Hours(Hours, bool),
}

/// Something taken of a node for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) span: Span,
    pub(super) each: Each,
    /// The window, by its number.
    pub(super) window: usize,
}

impl<'a> Windows<'a> {
    pub(super) fn of(state: &'a State, now: Timestamp) -> Self {
        let mut windows = Self {
            now,
            all: Vec::new(),
            by_node: BTreeMap::new(),
            guests: BTreeMap::new(),
            closed_to: Vec::new(),
            gates: BTreeMap::new(),
            zone: state.settings().map(|settings| &settings.zone),
        };
        let live = state.reservations();
        for reservation in live.filter(|made| made.next(now).is_some()) {
            let number = windows.all.len();
            windows.all.push(reservation);
            for share in &reservation.shares {
                let on_node = windows.by_node.entry(&share.node).or_default();
                on_node.push((number, share));
            }
        }
        if let Some(settings) = state.settings() {
            windows.open_gates(state, settings);
            windows.let_guests_in(settings);
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

    fn let_guests_in(&mut self, settings: &'a Settings) {
        let everybody = Guests::ALL.without(Guest::EVERYWHERE);
        self.closed_to = vec![everybody; self.all.len()];
        if self.all.is_empty() {
            return;
        }
        let mut known: Vec<(Vec<usize>, Guest)> = Vec::new();
        for queue in settings.queues.keys() {
            let open = self.all.iter().enumerate();
            let open = open.filter(|(_, made)| !made.is_closed_to(queue));
            let open: Vec<usize> = open.map(|(at, _)| at).collect();
            if open.is_empty() {
                continue;
            }
            let found = known.iter().find(|(others, _)| *others == open);
            let guest = found.map(|(_, guest)| *guest).or_else(|| {
                let number = u8::try_from(known.len() + 1).ok()?;
                (number <= Guest::NUMBER_MAX).then_some(Guest(number))
            });
            let Some(guest) = guest else { break };
            for window in &open {
                self.closed_to[*window] = self.closed_to[*window].without(guest);
            }
            self.guests.insert(queue, guest);
            known.push((open, guest));
        }
    }

    /// Whether there is nothing to look at on any node.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether any queue is that of a reservation.
    pub(super) fn has_reservations(&self) -> bool {
        let mut gates = self.gates.values();
        gates.any(|gate| matches!(gate, Gate::Reservation(_)))
    }

    /// Which windows are open to jobs of `queue`.
    pub(super) fn guest(&self, queue: &QueueName) -> Guest {
        match self.guests.is_empty() {
            true => Guest::STRANGER,
            false => self.guests.get(queue).copied().unwrap_or_default(),
        }
    }

    /// To whom a window is closed.
    pub(super) fn closed_to(&self, window: usize) -> Guests {
        self.closed_to[window]
    }

    /// The reservation of a window.
    pub(super) fn reservation(&self, window: usize) -> &'a Reservation {
        self.all[window]
    }

    /// The window of the reservation whose jobs are in `queue`.
    pub(super) fn own(&self, queue: &QueueName) -> Option<usize> {
        match self.gates.get(queue)? {
            Gate::Reservation(own) => self.all.iter().position(|made| made.id == own.id),
            Gate::Hours(..) => None,
        }
    }

    /// Why no job of `queue` that may run for `walltime_secs` starts now, wherever it would; `None` when it may. A job of
    /// a reservation that says no walltime may run until the end of it.
    pub(super) fn gate(&self, queue: &QueueName, walltime_secs: Option<u64>) -> Option<Reason> {
        if self.gates.is_empty() {
            return None;
        }
        let now = self.now;
        let end = walltime_secs.map(|secs| now.plus_secs(secs));
        match self.gates.get(queue)? {
            Gate::Reservation(own) => match own.next(now) {
                Some(span) if span.from > now => Some(Reason::ReservationBegins {
                    reservation: own.id,
                    starts: span.from,
                }),
                Some(span) if end.is_some_and(|end| end > span.until) => {
                    Some(Reason::ReservationEnds {
                        reservation: own.id,
                        ends: span.until,
                        again: own.next(span.until).map(|next| next.from),
                        fits_secs: span.until.secs_since(now),
                    })
                }
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
                    Some(closes) if *finish && end.is_none_or(|end| end > closes) => {
                        Some(Reason::QueueCloses {
                            queue: queue.clone(),
                            closes,
                            fits_secs: closes.secs_since(now),
                        })
                    }
                    Some(_) => None,
                }
            }
        }
    }

    /// When jobs that start now in `queue` are over at the latest: with their reservation.
    pub(super) fn own_end(&self, queue: &QueueName) -> Option<Timestamp> {
        let window = self.own(queue)?;
        let span = self.all[window].current(self.now)?;
        Some(span.until)
    }

    /// Nodes with windows.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &'a NodeName> {
        self.by_node.keys().copied()
    }

    /// What is set aside of `node` from now until `until`, window by window, in full whether somebody uses it or not.
    /// `each` says how much a share is.
    pub(super) fn taken(
        &self,
        node: &NodeName,
        until: Timestamp,
        each: impl Fn(&ReservedShare) -> Each,
    ) -> Vec<Taken> {
        let now = self.now;
        let span = Span { from: now, until };
        let shares = self.by_node.get(node).into_iter().flatten();
        let taken = shares.flat_map(|(window, share)| {
            let (window, each) = (*window, each(share));
            let spans = self.all[window].meeting(span);
            spans.map(move |span| Taken { span, each, window })
        });
        taken.collect()
    }

    /// What `window` has of `node`, share by share.
    pub(super) fn shares(
        &self,
        window: usize,
        node: &NodeName,
    ) -> impl Iterator<Item = &'a ReservedShare> {
        let shares = self.by_node.get(node).into_iter().flatten();
        shares
            .filter(move |(of, _)| *of == window)
            .map(|(_, share)| *share)
    }

    /// The window that is the job's own now, if it is in one.
    pub(super) fn inside(&self, job: &Job) -> Option<usize> {
        if self.gates.is_empty() {
            return None;
        }
        let window = self.own(&job.queue)?;
        self.all[window].current(self.now).map(|_| window)
    }

    /// When the next window begins or ends, or the next queue opens: what is decided may then be decided otherwise.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        let spans = self.all.iter().filter_map(|made| made.next(self.now));
        let ends = spans.flat_map(|span| [span.from, span.until]);
        let openings = self.gates.values().filter_map(|gate| match gate {
            Gate::Reservation(_) => None,
            Gate::Hours(hours, _) => Some(hours.next_opening(self.zone?, self.now)),
        });
        let changes = ends.chain(openings).filter(|at| *at > self.now);
        changes.filter(|at| *at < Timestamp(u64::MAX)).min()
    }
}
