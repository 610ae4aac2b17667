//! What of a node will be free when: the ends of what is lent by walltime, and claims on its future. A job that is to
//! run from one time to another finds on a node the least that is free of it in between.

use capstan_types::{JobId, Timestamp};

use super::request::Each;

/// The future of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// What is lent comes back at these times, in order.
    ends: Vec<(Timestamp, Each)>,
    /// What is promised of it, in the order in which it was.
    claims: Vec<Claim>,
}

/// Something of a node that is promised from one time to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) from: Timestamp,
    /// Not included.
    pub(super) until: Timestamp,
    pub(super) each: Each,
    /// To whom.
    pub(super) by: Claimant,
}

/// To whom something is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimant {
    /// A waiting job with a reservation.
    Job(JobId),
}

/// From one time to another, the second not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Span {
    pub(super) fn of(from: Timestamp, secs: u64) -> Self {
        let until = from.plus_secs(secs);
        Self { from, until }
    }

    fn meets(self, claim: &Claim) -> bool {
        claim.from < self.until && self.from < claim.until
    }
}

impl Timeline {
    /// Says that so much comes back then.
    pub(super) fn returns(&mut self, at: Timestamp, each: Each) {
        let place = self.ends.partition_point(|(end, _)| *end <= at);
        self.ends.insert(place, (at, each));
    }

    /// Says that of what was to come back at `then`, so much comes back later.
    pub(super) fn postpone(&mut self, then: Timestamp, later: Timestamp, each: Each) {
        let mut at_then = self.ends.iter_mut().filter(|(at, _)| *at == then);
        if let Some((_, back)) = at_then.find(|(_, back)| each.fits_in(*back)) {
            *back = back.minus(each);
            self.returns(later, each);
        }
    }

    /// Whether anything is promised in `span`.
    pub(super) fn meets_claims(&self, span: Span) -> bool {
        self.claims.iter().any(|claim| span.meets(claim))
    }

    /// Says that so much comes back then; to be put in order by [`Self::sort`].
    pub(super) fn returns_unsorted(&mut self, at: Timestamp, each: Each) {
        self.ends.push((at, each));
    }

    pub(super) fn sort(&mut self) {
        self.ends.sort_by_key(|(at, _)| *at);
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    pub(super) fn has_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// When something comes back.
    pub(super) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.ends.iter().map(|(at, _)| *at)
    }

    /// When a claim is over.
    pub(super) fn claim_ends(&self) -> impl Iterator<Item = Timestamp> {
        self.claims.iter().map(|claim| claim.until)
    }

    /// What is free at `at` when `free` is now, whatever is promised.
    pub(super) fn free_at(&self, free: Each, at: Timestamp) -> Each {
        let back = self.ends.iter().take_while(|(end, _)| *end <= at);
        back.fold(free, |free, (_, each)| free.and(*each))
    }

    /// The least that is free in all of `span` when `free` is now. What is free falls only where a claim begins.
    pub(super) fn room(&self, free: Each, span: Span) -> Each {
        let met = || self.claims.iter().filter(|claim| span.meets(claim));
        let begins = met()
            .map(|claim| claim.from)
            .filter(|from| *from > span.from);
        let first = self.left_at(free, span.from);
        begins.fold(first, |least, at| least.least(self.left_at(free, at)))
    }

    /// What is free then and not promised.
    fn left_at(&self, free: Each, at: Timestamp) -> Each {
        let claims = self.claims.iter();
        let active = claims.filter(|claim| claim.from <= at && at < claim.until);
        active.fold(self.free_at(free, at), |left, claim| left.minus(claim.each))
    }

    /// The first to whom it is promised, of those whose claims meet `span`.
    pub(super) fn claimant(&self, span: Span) -> Option<Claimant> {
        let met = self.claims.iter().find(|claim| span.meets(claim));
        met.map(|claim| claim.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn cards(cards: u32) -> Each {
        Each {
            slots: 0,
            cards,
            memory_bytes: 0,
            kinds: [0; 4],
            spare_slots: 0,
            spare_memory: 0,
        }
    }

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.returns(Timestamp(10_000), cards(4));
        timeline.returns(Timestamp(5_000), cards(2));
        timeline.claim(Claim {
            from: Timestamp(10_000),
            until: Timestamp(20_000),
            each: cards(7),
            by: Claimant::Job(JobId::whole(1)),
        });
        timeline
    }

    #[track_caller]
    fn room(from: u64, secs: u64, expected: u32) {
        let span = Span::of(Timestamp(from), secs);
        assert_eq!(timeline().room(cards(2), span).cards, expected);
    }

    #[test]
    fn what_is_lent_comes_back_at_its_walltime() {
        room(0, 1, 2);
        room(5_000, 5, 4);
        room(20_000, 1_000_000, 8);
    }

    #[test]
    fn the_least_of_a_span_counts_and_a_claim_begins_when_it_begins() {
        room(0, 10, 2);
        room(0, 11, 1);
        room(19_999, 1, 1);
        let span = Span::of(Timestamp(0), 11);
        let claimant = timeline().claimant(span);
        assert_eq!(claimant, Some(Claimant::Job(JobId::whole(1))));
        assert_eq!(timeline().claimant(Span::of(Timestamp(0), 10)), None);
    }
}
