//! What of a node will be free when: the ends of what is lent by walltime, and claims on its future. A job that is to
//! run from one time to another finds on a node the least that is free of it in between.

use capstan_types::{JobId, Timestamp};

use super::request::Each;
use super::windows::{Guest, Guests};

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
    /// For whom it is taken.
    pub(super) closed_to: Guests,
}

/// To whom something is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimant {
    /// A waiting job with a reservation.
    Job(JobId),
    /// Those for whom a window is, by its number.
    Window(usize),
}

/// From one time to another, the second not included, for a job that some windows may be open to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) guest: Guest,
}

impl Span {
    pub(super) fn of(from: Timestamp, secs: u64) -> Self {
        let until = from.plus_secs(secs);
        Self {
            from,
            until,
            guest: Guest::STRANGER,
        }
    }

    /// The same for a job to which other windows are open.
    pub(super) const fn of_guest(self, guest: Guest) -> Self {
        Self { guest, ..self }
    }

    fn meets(self, claim: &Claim) -> bool {
        claim.from < self.until && self.from < claim.until && claim.closed_to.include(self.guest)
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

    /// Says that so much comes back earlier than was said.
    pub(super) fn hasten(&mut self, each: Each, (from, to): (Timestamp, Timestamp)) {
        let found = self.ends.iter().position(|end| *end == (from, each));
        if let Some(at) = found {
            self.ends.remove(at);
            self.returns(to, each);
        }
    }

    pub(super) fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    pub(super) fn has_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Says that somebody inside a window uses so much of what it takes, from now to then: to others that is lent, and
    /// taken again by the window when it comes back.
    pub(super) fn use_window(
        &mut self,
        window: usize,
        each: Each,
        (now, then): (Timestamp, Timestamp),
    ) {
        let is_it = |claim: &&mut Claim| {
            claim.by == Claimant::Window(window) && claim.from <= now && now < claim.until
        };
        let Some(claim) = self.claims.iter_mut().find(is_it) else {
            return;
        };
        let used = each.least(claim.each);
        claim.each = claim.each.minus(used);
        if then < claim.until {
            let again = Claim {
                from: then,
                each: used,
                ..*claim
            };
            self.claims.push(again);
        }
    }

    /// What a window takes now and nobody inside it uses.
    pub(super) fn left_of_window(&self, window: usize, now: Timestamp) -> Each {
        let own = self.claims.iter().filter(|claim| {
            claim.by == Claimant::Window(window) && claim.from <= now && now < claim.until
        });
        own.fold(Each::default(), |sum, claim| sum.and(claim.each))
    }

    /// Windows that meet `span` and are closed to its job, and when they begin.
    pub(super) fn windows_met(&self, span: Span) -> impl Iterator<Item = (Timestamp, usize)> {
        let met = self.claims.iter().filter(move |claim| span.meets(claim));
        met.filter_map(|claim| match claim.by {
            Claimant::Window(window) => Some((claim.from, window)),
            Claimant::Job(_) => None,
        })
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
        self.room_if(free, span, &[])
    }

    /// The same if these ends had come already.
    pub(super) fn room_if(&self, free: Each, span: Span, early: &[(Timestamp, Each)]) -> Each {
        let met = || self.claims.iter().filter(|claim| span.meets(claim));
        let begins = met()
            .map(|claim| claim.from)
            .filter(|from| *from > span.from);
        let left_at = |from| self.left_at(free, Span { from, ..span }, early);
        begins.fold(left_at(span.from), |least, at| least.least(left_at(at)))
    }

    /// What is free when `span` begins and not promised.
    fn left_at(&self, free: Each, span: Span, early: &[(Timestamp, Each)]) -> Each {
        let at = span.from;
        let not_yet = early.iter().filter(|(end, _)| *end > at);
        let free = not_yet.fold(free, |free, (_, each)| free.and(*each));
        let claims = self.claims.iter();
        let active = claims.filter(|claim| claim.from <= at && span.meets(claim));
        active.fold(self.free_at(free, at), |left, claim| left.minus(claim.each))
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
            closed_to: Guests::ALL,
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
        assert!(timeline().meets_claims(span));
        assert!(!timeline().meets_claims(Span::of(Timestamp(0), 10)));
    }
}
