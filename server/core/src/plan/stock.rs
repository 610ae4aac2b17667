//! What is free of a node before anything of it is lent in a plan: all that it has, but what attempts hold, and cards that
//! are not clean.

use crate::{Card, NodeShare, ShareCard};
use capstan_types::Timestamp;

use super::cluster::{Cluster, OVERDUE_SECS, end};
use super::kinds::{Counts, Kinds};
use super::lending::SharedCard;
use super::request::Each;
use super::slices::with_surplus;

impl Cluster<'_> {
    /// Finds out what is free of a node of which these shares are lent.
    pub(super) fn take_stock(&mut self, place: usize, shares: &[&NodeShare]) {
        let node = self.seats[place].node;
        if !node.strays.is_empty() {
            // Nobody knows what they still use.
            self.seats[place].unclean = self.seats[place].whole.cards;
            return;
        }
        let mut taken = Each::default();
        for share in shares {
            taken = taken.and(self.held(place, share));
        }
        let mut cards = shares.iter().flat_map(|share| &share.cards);
        if cards.any(|card| !card.is_whole()) {
            self.note_shared(place);
        }
        let kinds = &self.classes[self.seats[place].class].kinds;
        let is_lent = |card: &Card| {
            let mut cards = shares.iter().flat_map(|share| &share.cards);
            cards.any(|lent| lent.uuid == card.uuid)
        };
        let unclean = node.inventory.cards.iter().filter(|card| {
            !node.unclean.is_empty() && node.unclean.contains(&card.uuid) && !is_lent(card)
        });
        let mut count = 0;
        for card in unclean {
            taken = taken.and(one_card(kinds, card));
            count += 1;
        }
        let seat = &mut self.seats[place];
        for shared in &seat.shared {
            taken = taken.and(one_card(kinds, &node.inventory.cards[shared.at]));
        }
        seat.unclean = count;
        seat.free = seat.whole.minus(taken);
    }

    /// What a share holds of its node for itself: whole cards, and what it takes beyond their slices.
    pub(super) fn held(&self, place: usize, share: &NodeShare) -> Each {
        let seat = &self.seats[place];
        let kinds = &self.classes[seat.class].kinds;
        let mut each = Each {
            cards: 0,
            ..Each::of(share)
        };
        let own = |lent: &ShareCard| {
            let cards = &seat.node.inventory.cards;
            // Cards are in index order, so most are where their index says.
            let there = cards.get(lent.index as usize);
            let there = there.filter(|card| card.uuid == lent.uuid);
            there.or_else(|| cards.iter().find(|card| card.uuid == lent.uuid))
        };
        for card in share.cards.iter().filter(|card| card.is_whole()) {
            // One that is gone since is none of the node's any more.
            if let Some(own) = own(card) {
                each = each.and(one_card(kinds, own));
            }
        }
        let shares = share.cards.iter().map(|card| u64::from(card.share));
        let surplus = seat.slice.map(|slice| slice.surplus(each, shares.sum()));
        with_surplus(each, surplus)
    }

    /// Takes note of the cards of a node that are shared.
    fn note_shared(&mut self, place: usize) {
        let soon = self.now.plus_secs(OVERDUE_SECS);
        let state = self.state;
        let node = self.seats[place].node;
        let shared = &mut self.seats[place].shared;
        for (attempt, share) in state.held_on(&node.name) {
            let until = state.job_of(attempt).map_or(soon, |job| end(job, soon));
            for lent in share.cards.iter().filter(|card| !card.is_whole()) {
                let mut cards = node.inventory.cards.iter();
                let Some(at) = cards.position(|card| card.uuid == lent.uuid) else {
                    continue;
                };
                match shared.iter_mut().find(|shared| shared.at == at) {
                    Some(shared) => {
                        shared.taken = shared.taken.saturating_add(lent.share);
                        shared.until = shared.until.max(until);
                    }
                    None => shared.push(SharedCard {
                        at,
                        taken: lent.share,
                        until,
                    }),
                }
            }
        }
    }

    /// Cards that are shared, and when the last who has a part of them is expected to be done.
    pub(super) fn shared_cards(&self) -> impl Iterator<Item = (usize, Timestamp, Each)> {
        let seats = self.seats.iter().enumerate();
        seats.flat_map(|(place, seat)| {
            let kinds = &self.classes[seat.class].kinds;
            seat.shared.iter().map(move |shared| {
                let card = &seat.node.inventory.cards[shared.at];
                (place, shared.until, one_card(kinds, card))
            })
        })
    }
}

/// A card, and nothing else.
pub(super) fn one_card(kinds: &Kinds<'_>, card: &Card) -> Each {
    let mut counts = Counts::default();
    if kinds.is_mixed() {
        counts[kinds.place(card)] = 1;
    }
    Each {
        cards: 1,
        kinds: counts,
        ..Each::default()
    }
}
