//! One scheduling cycle, made again.

use capstan_core::{Event, Placement, Plan, Preemption, State, plan};
use capstan_store::Record;
use capstan_types::{ServerName, Timestamp};

/// What a stored cycle ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// The time it was planned for.
    pub(super) at: Timestamp,
    pub(super) placements: &'a [Placement],
    pub(super) preemptions: &'a [Preemption],
    /// Whether that time was stored with it, or is that of its storing, which is a little later.
    pub(super) is_exact: bool,
}

/// What `record` ordered, if a scheduling cycle made it.
pub(super) fn order_of(record: &Record) -> Option<Order<'_>> {
    if let Event::Planned(order) = &record.event {
        return Some(Order {
            at: order.at,
            placements: &order.placements,
            preemptions: &order.preemptions,
            is_exact: true,
        });
    }
    if let Event::Placed(placements) = &record.event {
        return Some(Order {
            at: record.at,
            placements,
            preemptions: &[],
            is_exact: false,
        });
    }
    None
}

/// How the decision compares with what was stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    /// It is what this record says, byte for byte.
    Same { record: u64 },
    /// It is not.
    Differs {
        record: u64,
        placements: Vec<Placement>,
        preemptions: Vec<Preemption>,
        /// Whether the plan's own time is known.
        is_exact: bool,
    },
    /// It placed nothing, and so there was nothing to store.
    Nothing,
    /// It would have placed something, and nothing was stored: no cycle was made then.
    Unstored,
}

/// A cycle.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    /// The time it is made for.
    pub(super) at: Timestamp,
    /// The last record in the state that it is made of.
    pub(super) after: u64,
    pub(super) plan: Plan,
    pub(super) stored: Stored,
    /// For ids.
    pub(super) server: Option<ServerName>,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) nodes_up: usize,
}

impl Cycle {
    /// The cycle that `record` stored, made again of the state before it.
    pub(super) fn stored(state: &State, number: u64, record: &Record) -> Self {
        let order = order_of(record);
        let at = order.map_or(record.at, |order| order.at);
        let made = plan(state, at);
        let placements = order.map_or(&[][..], |order| order.placements);
        let preemptions = order.map_or(&[][..], |order| order.preemptions);
        let is_same = made.placements == placements && made.preemptions == preemptions;
        let stored = match is_same {
            true => Stored::Same { record: number },
            false => Stored::Differs {
                record: number,
                placements: placements.to_vec(),
                preemptions: preemptions.to_vec(),
                is_exact: order.is_some_and(|order| order.is_exact),
            },
        };
        Self::of(state, (at, number - 1), made, stored)
    }

    /// The cycle of a time at which none was stored; `following` is the record that came next, if that is one.
    pub(super) fn at(
        state: &State,
        after: u64,
        at: Timestamp,
        following: Option<&(u64, Record)>,
    ) -> Self {
        let made = plan(state, at);
        let is_idle = made.placements.is_empty() && made.preemptions.is_empty();
        match following {
            // It was being decided: what is shown is that one.
            Some((number, record)) if !is_idle => Self::stored(state, *number, record),
            Some(_) | None => {
                let stored = match is_idle {
                    true => Stored::Nothing,
                    false => Stored::Unstored,
                };
                Self::of(state, (at, after), made, stored)
            }
        }
    }

    fn of(state: &State, (at, after): (Timestamp, u64), plan: Plan, stored: Stored) -> Self {
        Self {
            at,
            after,
            plan,
            stored,
            server: state.settings().map(|settings| settings.server.clone()),
            waiting: state.pending().count(),
            running: state.running().count(),
            nodes_up: state.nodes().filter(|node| node.is_usable()).count(),
        }
    }
}
