//! Lending: what a request takes of a node, and which cards and slots it gets of it, whole or shared.

use capstan_types::{CardWish, Timestamp};

use super::cluster::{Cluster, When};
use super::kinds::{self, Mask};
use super::lots::Lots;
use super::request::Each;
use super::slices::with_surplus;
use super::stock::one_card;
use super::timeline::Span;
use super::windows::Guest;
use crate::{Card, NodeShare, ShareCard};

/// A card that is lent to jobs that said shared.
#[derive(Clone)]
pub(super) struct SharedCard {
    /// Its place in the inventory.
    pub(super) at: usize,
    /// Thousandths that are lent.
    pub(super) taken: u16,
    /// When the last of those jobs gives its part back.
    pub(super) until: Timestamp,
}

/// Cards to be lent of one node.
#[derive(Clone, Copy)]
pub(super) struct CardOrder {
    pub(super) cards: u32,
    /// Of these kinds.
    pub(super) mask: Mask,
    pub(super) wish: CardWish,
}

impl Cluster<'_> {
    /// Lends `each` of an open node on which it fits, with these cards. It comes back at `until`.
    pub(super) fn lend(
        &mut self,
        place: usize,
        each: Each,
        orders: &[CardOrder],
        until: Timestamp,
    ) -> NodeShare {
        let joined = self.join(place, orders, until);
        let seat = &mut self.seats[place];
        let class = &mut self.classes[seat.class];
        class.remove(seat.free, place);
        seat.free = seat.free.minus(each);
        class.insert(seat.free, place);
        let (state, node, own_kinds) = (self.state, seat.node, &class.kinds);
        let is_plain = self.in_order;
        let lots = seat
            .lots
            .get_or_insert_with(|| Lots::of(node, own_kinds, state, is_plain));
        let taken = lots.take_cards(each.cards, each.kinds);
        let slots = lots.take_slots(each.slots, node, &taken);
        let mut cards = joined;
        let mut back = each;
        for card in taken {
            let own = &node.inventory.cards[card.at];
            // Jobs that said shared and jobs that did not are not one: a request is all of one or all of the other.
            let wish = orders.iter().find(|order| order.wish.is_shared);
            let share = wish.map_or(CardWish::WHOLE, |order| {
                order.wish.share_of(own.memory_bytes)
            });
            if share < CardWish::WHOLE {
                back = back.minus(one_card(own_kinds, own));
                seat.shared.push(SharedCard {
                    at: card.at,
                    taken: share,
                    until,
                });
                if self.has_timelines {
                    seat.timeline.returns(until, one_card(own_kinds, own));
                }
            }
            cards.push(lent(own, share));
        }
        match self.has_timelines {
            true => seat.timeline.returns(until, back),
            false => self.lent.push((place, until, back)),
        }
        cards.sort_by_key(|card| card.index);
        NodeShare {
            node: node.name.clone(),
            slots,
            cards,
            memory_bytes: each.memory_bytes,
        }
    }

    /// Lends parts of cards that are shared already.
    fn join(&mut self, place: usize, orders: &[CardOrder], until: Timestamp) -> Vec<ShareCard> {
        let mut joined = Vec::new();
        for order in orders.iter().filter(|order| order.wish.is_shared) {
            let span = Span {
                from: self.now,
                until,
                guest: Guest::STRANGER,
            };
            for nth in self.joinable(place, order, span) {
                let seat = &mut self.seats[place];
                let shared = &mut seat.shared[nth];
                let own = &seat.node.inventory.cards[shared.at];
                let share = order.wish.share_of(own.memory_bytes);
                shared.taken += share;
                if until > shared.until {
                    if self.has_timelines {
                        let card = one_card(&self.classes[seat.class].kinds, own);
                        seat.timeline.postpone(shared.until, until, card);
                    }
                    shared.until = until;
                }
                joined.push(lent(own, share));
            }
        }
        joined
    }

    /// The shared cards of a node that a job of this span could be lent a part of, fullest first: as many as it wants. A
    /// card that it would keep longer than those who have it now must be promised to nobody then.
    fn joinable(&self, place: usize, order: &CardOrder, span: Span) -> Vec<usize> {
        let seat = &self.seats[place];
        let is_promised = |shared: &SharedCard| {
            let longer = Span {
                from: shared.until,
                ..span
            };
            span.until > shared.until && seat.timeline.meets_claims(longer)
        };
        let with_room = self.with_room(place, order);
        let mut fitting: Vec<usize> = with_room
            .filter(|nth| !is_promised(&seat.shared[*nth]))
            .collect();
        fitting.sort_by_key(|nth| {
            let shared = &seat.shared[*nth];
            (std::cmp::Reverse(shared.taken), shared.at)
        });
        fitting.truncate(order.cards as usize);
        fitting
    }

    /// The shared cards of a node on which a part like these fits, whatever is promised.
    pub(super) fn with_room(&self, place: usize, order: &CardOrder) -> impl Iterator<Item = usize> {
        let seat = &self.seats[place];
        let all = &self.classes[seat.class].kinds;
        let fits = move |shared: &SharedCard| {
            let own = &seat.node.inventory.cards[shared.at];
            let share = order.wish.share_of(own.memory_bytes);
            kinds::has(order.mask, all.place(own))
                && shared.taken + share <= CardWish::WHOLE
                && !seat.node.unclean.contains(&own.uuid)
        };
        let shared = seat.shared.iter().enumerate();
        shared
            .filter(move |(_, shared)| fits(shared))
            .map(|(nth, _)| nth)
    }

    /// What of the node a request takes that wants `each` of it with these cards; `None` when it has not so much, or not
    /// of the right kind, or not without slices of cards that are not its own (unless it `is_exempt`).
    pub(super) fn offer(
        &self,
        place: usize,
        (each, order, is_exempt): (Each, &CardOrder, bool),
        room: Each,
        when: When<'_>,
    ) -> Option<Each> {
        let seat = &self.seats[place];
        let class = &self.classes[seat.class];
        let mut each = each;
        let thousandths = super::shape::thousandths(each.cards, &order.wish);
        if order.wish.is_shared
            && each.cards > 0
            && let When::Now(span) = when
        {
            let joined = self.joinable(place, order, span).len();
            each.cards -= u32::try_from(joined).unwrap_or(each.cards).min(each.cards);
        }
        if class.kinds.is_mixed() && each.cards > 0 {
            each.kinds = kinds::choose(each.cards, order.mask, room.kinds)?;
        }
        let surplus = seat.slice.map(|slice| slice.surplus(each, thousandths));
        let asked = match is_exempt {
            true => each,
            false => with_surplus(each, surplus),
        };
        asked.fits_in(room).then(|| with_surplus(each, surplus))
    }
}

fn lent(card: &Card, share: u16) -> ShareCard {
    ShareCard {
        uuid: card.uuid.clone(),
        index: card.index,
        share,
    }
}
