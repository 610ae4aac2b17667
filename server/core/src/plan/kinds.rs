//! The cards of a node by kind, so that a job gets only cards that are what it asks for. Nearly all nodes have cards of
//! one kind; of the others, each kind is counted for itself.

use capstan_types::{CardKind, CardWish, Version, alternatives, is_model};

use crate::{Card, Node};

/// So many kinds of one node are told apart. All further ones are taken for one kind, which is what a job asks for only
/// if all of them are.
pub(super) const KINDS_MAX: usize = 4;

/// A set of the kinds of a node: bit 0 is the first one.
pub(super) type Mask = u8;

/// How many cards there are of each kind of a node; all 0 where there is but one kind.
pub(super) type Counts = [u16; KINDS_MAX];

/// The kinds of a node, least capable first, and how many cards there are of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kinds<'a>(Vec<(Kind<'a>, u16)>);

/// What is told apart, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'a> {
    memory_bytes: u64,
    compute: Version,
    cuda: Version,
    model: &'a str,
}

impl<'a> Kind<'a> {
    fn of(card: &'a Card) -> Self {
        Self {
            memory_bytes: card.memory_bytes,
            compute: card.traits.compute,
            cuda: card.traits.cuda,
            model: &card.model,
        }
    }

    const fn as_asked(&self) -> CardKind<'a> {
        CardKind {
            model: self.model,
            memory_bytes: self.memory_bytes,
            cuda: self.cuda,
            compute: self.compute,
        }
    }
}

impl<'a> Kinds<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        let mut list: Vec<(Kind<'a>, u16)> = Vec::new();
        for card in &node.inventory.cards {
            let kind = Kind::of(card);
            match list.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => list.push((kind, 1)),
            }
        }
        list.sort_unstable();
        Self(list)
    }

    /// Whether there is more than one kind.
    pub(super) const fn is_mixed(&self) -> bool {
        self.0.len() > 1
    }

    /// The place of a card's kind.
    pub(super) fn place(&self, card: &Card) -> usize {
        let kind = Kind::of(card);
        let found = self.0.iter().position(|(known, _)| *known == kind);
        found.unwrap_or(0).min(KINDS_MAX - 1)
    }

    /// How many there are of each, where it matters.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        if self.is_mixed() {
            for (at, (_, count)) in self.0.iter().enumerate() {
                let count_of_kind = &mut counts[at.min(KINDS_MAX - 1)];
                *count_of_kind = count_of_kind.saturating_add(*count);
            }
        }
        counts
    }

    /// Which kinds are so.
    fn which(&self, is_so: impl Fn(&CardKind<'_>) -> bool) -> Mask {
        let mut mask = 0;
        for (at, (kind, _)) in self.0.iter().enumerate() {
            let bit = 1 << at.min(KINDS_MAX - 1);
            match is_so(&kind.as_asked()) {
                true if at < KINDS_MAX => mask |= bit,
                true => {}
                false => mask &= !bit,
            }
        }
        mask
    }

    /// The kinds of cards that are what `wish` and all of `words` say, on a node with `properties`; `None` when the node
    /// itself is not what they say. A word that is a property of the node says nothing of its cards.
    pub(super) fn suiting<'w>(
        &self,
        wish: &CardWish,
        words: impl Iterator<Item = &'w str>,
        properties: &[Box<str>],
    ) -> Option<Mask> {
        let wants_any = CardWish {
            is_shared: false,
            ..*wish
        }
        .is_any();
        let mut mask = self.which(|kind| wish.is_met_by(kind));
        let mut is_choosy = !wants_any;
        let has = |wanted: &str| properties.iter().any(|own| **own == *wanted);
        for word in words {
            if alternatives(word).any(has) {
                continue;
            }
            is_choosy = true;
            mask &= self.which(|kind| alternatives(word).any(|word| is_model(kind.model, word)));
            if mask == 0 {
                return None;
            }
        }
        (mask != 0 || !is_choosy).then_some(mask)
    }

    /// How many cards there are of the kinds of `mask`.
    pub(super) fn count(&self, mask: Mask) -> u32 {
        let of_mask = self.0.iter().enumerate();
        let of_mask = of_mask.filter(|(at, _)| has(mask, (*at).min(KINDS_MAX - 1)));
        of_mask.map(|(_, (_, count))| u32::from(*count)).sum()
    }
}

/// Whether the kind is in the set.
pub(super) const fn has(mask: Mask, kind: usize) -> bool {
    mask >> kind & 1 == 1
}

/// `cards` of the kinds of `mask`, of what is free: all of one kind if one has so many, the least capable such; else of
/// several, least capable first. `None` when there are not so many.
pub(super) fn choose(cards: u32, mask: Mask, free: Counts) -> Option<Counts> {
    let mut chosen = Counts::default();
    let suiting = || (0..KINDS_MAX).filter(|kind| has(mask, *kind));
    if let Some(kind) = suiting().find(|kind| u32::from(free[*kind]) >= cards) {
        chosen[kind] = u16::try_from(cards).ok()?;
        return Some(chosen);
    }
    let mut missing = cards;
    for kind in suiting() {
        let taken = missing.min(u32::from(free[kind]));
        chosen[kind] = u16::try_from(taken).ok()?;
        missing -= taken;
    }
    (missing == 0).then_some(chosen)
}

/// How many cards of the kinds of `mask` are among these.
pub(super) fn count_of(mask: Mask, counts: Counts) -> u32 {
    let of_mask = counts.iter().enumerate();
    let of_mask = of_mask.filter(|(kind, _)| has(mask, *kind));
    of_mask.map(|(_, count)| u32::from(*count)).sum()
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn cards_are_of_one_kind_where_one_has_enough_and_the_least_capable_first() {
        let check = |cards, mask, free, expected| {
            assert_eq!(choose(cards, mask, free), expected, "{cards} of {free:?}");
        };
        check(1, 0b11, [2, 2, 0, 0], Some([1, 0, 0, 0]));
        check(2, 0b11, [1, 2, 0, 0], Some([0, 2, 0, 0]));
        check(3, 0b11, [1, 2, 0, 0], Some([1, 2, 0, 0]));
        check(1, 0b10, [2, 2, 0, 0], Some([0, 1, 0, 0]));
        check(3, 0b10, [2, 2, 0, 0], None);
        check(0, 0b00, [2, 2, 0, 0], Some([0, 0, 0, 0]));
    }
}
