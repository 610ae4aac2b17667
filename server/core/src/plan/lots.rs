//! Which cards and which slots of a node exactly: cards of one island where one has enough, so that they reach one
//! another fastest, and slots near to them.

use std::collections::BTreeSet;

use capstan_types::NodeName;

use super::kinds::{Counts, KINDS_MAX, Kinds};
use crate::{Node, State};

/// What exactly is free on a node; made when something of it is lent in a plan.
#[derive(Clone)]
pub(super) struct Lots {
    taken: Vec<bool>,
    /// By index.
    cards: Vec<FreeCard>,
    /// Whether cards and slots are taken just in their order, as Torque does.
    is_plain: bool,
}

/// A card that may be lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeCard {
    /// Its place in the inventory.
    pub(super) at: usize,
    kind: usize,
    island: u16,
    numa_node: Option<u16>,
}

impl Lots {
    pub(super) fn of(node: &Node, kinds: &Kinds<'_>, state: &State, is_plain: bool) -> Self {
        let mut taken = vec![false; usize::from(node.slots)];
        let mut lent = BTreeSet::new();
        let name: &NodeName = &node.name;
        for (_, share) in state.held_on(name) {
            for slot in &share.slots {
                if let Some(slot) = taken.get_mut(usize::from(*slot)) {
                    *slot = true;
                }
            }
            lent.extend(share.cards.iter().map(|card| &card.uuid));
        }
        let cards = node.inventory.cards.iter().enumerate();
        let free = cards
            .filter(|(_, card)| !lent.contains(&card.uuid) && !node.unclean.contains(&card.uuid));
        let free = free.map(|(at, card)| FreeCard {
            at,
            kind: kinds.place(card),
            island: card.traits.island,
            numa_node: card.traits.numa_node,
        });
        Self {
            taken,
            cards: free.collect(),
            is_plain,
        }
    }

    /// So many of each kind; where there is but one kind, `count` of it.
    pub(super) fn take_cards(&mut self, count: u32, of_kinds: Counts) -> Vec<FreeCard> {
        if of_kinds == Counts::default() {
            return self.take_of(count as usize, |_| true);
        }
        let mut all = Vec::new();
        for (kind, count) in of_kinds.iter().enumerate().take(KINDS_MAX) {
            all.extend(self.take_of(usize::from(*count), |card| card.kind == kind));
        }
        all
    }

    fn take_of(&mut self, count: usize, is_right: impl Fn(&FreeCard) -> bool) -> Vec<FreeCard> {
        let right: Vec<FreeCard> = self.cards.iter().copied().filter(is_right).collect();
        let mut chosen = match self.is_plain {
            true => right.into_iter().take(count).collect(),
            false => nearest(&right, count),
        };
        chosen.sort_by_key(|card| card.at);
        self.cards
            .retain(|card| !chosen.iter().any(|taken| taken.at == card.at));
        chosen
    }

    /// The lowest slots, those first whose cores are near to the memory that these cards are near to.
    pub(super) fn take_slots(&mut self, count: u32, node: &Node, cards: &[FreeCard]) -> Vec<u16> {
        let numbers = 0..self.taken.len() as u16;
        let mut free: Vec<u16> = numbers
            .filter(|slot| !self.taken[usize::from(*slot)])
            .collect();
        if !self.is_plain && !cards.is_empty() {
            let near = near_cores(node, cards);
            free.sort_by_key(|slot| (!near.contains(slot), *slot));
        }
        free.truncate(count as usize);
        free.sort_unstable();
        for slot in &free {
            self.taken[usize::from(*slot)] = true;
        }
        free
    }
}

/// The cores near to these cards. A slot stands for the core of its number where there are no more slots than cores.
fn near_cores(node: &Node, cards: &[FreeCard]) -> BTreeSet<u16> {
    if node.slots > node.inventory.cores {
        return BTreeSet::new();
    }
    let numa_nodes = node.inventory.numa_nodes.iter();
    let near = numa_nodes.filter(|numa| cards.iter().any(|card| card.numa_node == Some(numa.id)));
    near.flat_map(|numa| numa.cores.iter().copied()).collect()
}

/// An island: where it is, how many free cards it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Island {
    free: usize,
    numa_node: Option<u16>,
    id: u16,
}

/// `count` of these cards, or all there are: of the island with the fewest free cards that has enough, so that large
/// islands stay whole; else of as few islands as will do, the fullest first and the rest from where it fits best, near to
/// those chosen before others.
fn nearest(cards: &[FreeCard], count: usize) -> Vec<FreeCard> {
    let mut islands: Vec<Island> = Vec::new();
    for card in cards {
        match islands.iter_mut().find(|island| island.id == card.island) {
            Some(island) => island.free += 1,
            None => islands.push(Island {
                free: 1,
                numa_node: card.numa_node,
                id: card.island,
            }),
        }
    }
    islands.sort_by_key(|island| island.id);
    let mut chosen = Vec::with_capacity(count);
    let mut beside = None;
    while chosen.len() < count && !islands.is_empty() {
        let missing = count - chosen.len();
        let is_far = |island: &Island| beside.is_some() && island.numa_node != beside.flatten();
        let enough = islands.iter().filter(|island| island.free >= missing);
        let tightest = enough.min_by_key(|island| (is_far(island), island.free, island.id));
        let fullest = || {
            let key =
                |island: &&Island| (std::cmp::Reverse(island.free), is_far(island), island.id);
            islands.iter().min_by_key(key)
        };
        let Some(next) = tightest.or_else(fullest).copied() else {
            break;
        };
        islands.retain(|island| island.id != next.id);
        beside = beside.or(Some(next.numa_node));
        let of_island = cards.iter().filter(|card| card.island == next.id);
        chosen.extend(of_island.take(missing).copied());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Islands of the cards in index order, as `island` or `island@numa node`.
    fn check(free: &str, count: usize, expected: &[usize]) {
        let card = |(at, text): (usize, &str)| {
            let (island, numa) = text.split_once('@').unwrap_or((text, ""));
            FreeCard {
                at,
                kind: 0,
                island: island.parse().unwrap(),
                numa_node: numa.parse().ok(),
            }
        };
        let cards: Vec<FreeCard> = free.split(' ').enumerate().map(card).collect();
        let mut chosen: Vec<usize> = nearest(&cards, count).iter().map(|card| card.at).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, expected, "{count} of {free}");
    }

    #[test]
    fn cards_come_from_the_smallest_island_that_has_enough() {
        check("0 0 1 1 1", 2, &[0, 1]);
        check("0 0 0 1 1", 2, &[3, 4]);
        check("0 0 0 1 1", 3, &[0, 1, 2]);
        check("0 1 0 1", 2, &[0, 2]);
        check("1 0 0 0", 1, &[0]);
    }

    #[test]
    fn cards_that_fit_no_island_come_from_as_few_as_will_do() {
        check("0 0 0 1 1 2 2 2", 5, &[0, 1, 2, 3, 4]);
        check("0 0 1 2 2 2", 4, &[2, 3, 4, 5]);
        check("0 1 2", 3, &[0, 1, 2]);
        check("0 0", 5, &[0, 1]);
        // The second pair is on the memory node of the first.
        check("0@0 0@0 1@1 1@1 2@0 2@0", 4, &[0, 1, 4, 5]);
    }
}
