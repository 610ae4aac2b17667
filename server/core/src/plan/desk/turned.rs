//! Why a job leaves the desk without nodes, and who has those that it could use.

use capstan_types::{JobId, Reason};

use crate::plan::cluster::Cluster;
use crate::plan::fit::Shape;
use crate::plan::reserve::{Booking, places};
use crate::plan::timeline::Span;

/// The first job for which nodes are reserved that the shape could use in this span.
pub(super) fn claimant(
    bookings: &[Booking],
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    span: Span,
) -> Option<JobId> {
    if bookings.is_empty() {
        return None;
    }
    let mut could_use = vec![false; cluster.seats.len()];
    for place in places(cluster, shape) {
        could_use[place] = true;
    }
    let meets = |booking: &&Booking| {
        let is_then = booking.span.from < span.until;
        is_then && booking.nodes.iter().any(|(place, _)| could_use[*place])
    };
    bookings.iter().find(meets).map(|booking| booking.job)
}

/// Not placed.
pub(super) struct Turned {
    pub(super) reason: Reason,
    /// Members behind in the same array have the same answer.
    pub(super) is_final: bool,
}

impl Turned {
    pub(super) fn finally(reason: Reason) -> Self {
        Self {
            reason,
            is_final: true,
        }
    }
}
