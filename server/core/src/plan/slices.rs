//! The fair slice of cores and memory that each card of a node keeps, so that no free card is stranded by work that
//! needs none: what a job takes beyond the slices of its own cards has to come from what is no card's slice.
//!
//! It is counted like any other resource of the node: a node has so much to spare, and a job with more than its slices
//! uses up some of it. A request that no node could ever give on these terms, however idle, is exempt.

use super::request::Each;

/// What one card of a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    slots: u32,
    memory_bytes: u64,
}

impl Slice {
    /// The slice of each card of a node that has so much; `None` for a node without cards, where there is none to keep.
    pub(super) fn of(whole: Each) -> Option<Self> {
        Some(Self {
            slots: whole.slots.checked_div(whole.cards)?,
            memory_bytes: whole.memory_bytes / u64::from(whole.cards),
        })
    }

    /// What a node with so much has to spare beside the slices of its cards.
    pub(super) fn spare(self, whole: Each) -> (i64, i64) {
        let slots = u64::from(whole.slots) - u64::from(self.slots) * u64::from(whole.cards);
        let memory = whole.memory_bytes - self.memory_bytes * u64::from(whole.cards);
        (signed(slots), signed(memory))
    }

    /// What of `free` a request with so many cards may use.
    pub(super) fn usable(self, free: Each, cards: u32) -> Each {
        let own = |slice: u64| slice.saturating_mul(u64::from(cards));
        let beside = |spare: i64| u64::try_from(spare).unwrap_or(0);
        let slots = own(u64::from(self.slots)).saturating_add(beside(free.spare_slots));
        let memory = own(self.memory_bytes).saturating_add(beside(free.spare_memory));
        Each {
            slots: free.slots.min(u32::try_from(slots).unwrap_or(u32::MAX)),
            memory_bytes: free.memory_bytes.min(memory),
            ..free
        }
    }

    /// How often what is to spare allows `each` when it has so many thousandths of cards.
    pub(super) fn how_often(self, each: Each, thousandths: u64, free: Each) -> u32 {
        let (slots, memory) = self.surplus(each, thousandths);
        let often = |spare: i64, surplus: i64| match spare.checked_div(surplus) {
            Some(often) => u32::try_from(often.max(0)).unwrap_or(u32::MAX),
            None => u32::MAX,
        };
        often(free.spare_slots, slots).min(often(free.spare_memory, memory))
    }

    /// What `each` uses up of it when it has so many thousandths of cards.
    pub(super) fn surplus(self, each: Each, thousandths: u64) -> (i64, i64) {
        let own = |slice: u64| u128::from(slice) * u128::from(thousandths) / 1000;
        let beyond = |taken: u64, slice: u64| {
            let beyond = u128::from(taken).saturating_sub(own(slice));
            i64::try_from(beyond).unwrap_or(i64::MAX)
        };
        (
            beyond(u64::from(each.slots), u64::from(self.slots)),
            beyond(each.memory_bytes, self.memory_bytes),
        )
    }
}

/// The same, with what it uses up of what is no card's slice.
pub(super) fn with_surplus(each: Each, surplus: Option<(i64, i64)>) -> Each {
    let (spare_slots, spare_memory) = surplus.unwrap_or_default();
    Each {
        spare_slots,
        spare_memory,
        ..each
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_slices_is_surplus() {
        let whole = Each {
            slots: 70,
            cards: 8,
            memory_bytes: 800,
            ..Each::default()
        };
        let slice = Slice::of(whole).unwrap();
        assert_eq!(slice.spare(whole), (6, 0));
        let surplus = |slots, memory_bytes, thousandths| {
            let each = Each {
                slots,
                memory_bytes,
                ..Each::default()
            };
            slice.surplus(each, thousandths)
        };
        assert_eq!(surplus(8, 100, 1000), (0, 0));
        assert_eq!(surplus(9, 150, 1000), (1, 50));
        assert_eq!(surplus(3, 0, 0), (3, 0));
        assert_eq!(surplus(4, 20, 250), (2, 0));
        assert_eq!(Slice::of(Each { cards: 0, ..whole }), None);
    }
}
