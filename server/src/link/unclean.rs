//! Which cards of a node may not be lent, by its last heartbeat and what the state says of them. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use capstan_core::Node;
use capstan_types::CardId;

use super::reading::Heard;
use crate::telemetry::{NodeTelemetry, Unfit, UnfitKind};

/// The new list of unclean cards, when it differs from the state's. A card that the heartbeat does not mention stays
/// as it is: a driver that does not answer has cleaned nothing. With `may_clear` false cards are only added.
pub(super) fn changed(node: &Node, heard: &Heard, may_clear: bool) -> Option<Vec<CardId>> {
    let known: BTreeSet<&CardId> = node.unclean.iter().collect();
    let seen_clean = |card: &CardId| {
        may_clear && heard.telemetry.cards.contains_key(card) && !heard.foreign.contains(card)
    };
    let is_own = |card: &CardId| node.inventory.cards.iter().any(|own| own.uuid == *card);
    let stay = known.iter().copied().filter(|card| !seen_clean(card));
    let added = heard.foreign.iter().filter(|card| is_own(card));
    let wanted: BTreeSet<&CardId> = stay.chain(added).collect();
    (wanted != known).then(|| wanted.into_iter().cloned().collect())
}

/// Cards that have failed since the last heartbeat (or, when there is none in memory, that count as failed now).
pub(super) fn failed(
    before: Option<&NodeTelemetry>,
    now: &NodeTelemetry,
) -> Vec<(CardId, Box<str>)> {
    let is_drained = |card: &&Arc<Unfit>| card.kind == UnfitKind::Drained;
    let drained = now.cards.iter().filter_map(|(id, card)| {
        let unfit = card.unfit.as_ref().filter(is_drained)?;
        let old = before.and_then(|before| before.cards.get(id)?.unfit.as_ref());
        (old.filter(is_drained) != Some(unfit)).then(|| (id.clone(), unfit.reason.clone()))
    });
    drained.collect()
}

#[cfg(test)]
mod tests {
    use capstan_core::{Card, Inventory, Link};
    use capstan_types::Timestamp;

    use super::*;
    use crate::telemetry::CardTelemetry;

    fn ids(cards: &[&str]) -> Vec<CardId> {
        cards.iter().map(|card| CardId::from(*card)).collect()
    }

    /// A node with cards a, b, c: what the state holds unclean, what the heartbeat mentions, what of it is foreign.
    fn check(
        state: &[&str],
        seen: &[&str],
        foreign: &[&str],
        may_clear: bool,
        expected: Option<&[&str]>,
    ) {
        let cards = ids(&["a", "b", "c"])
            .into_iter()
            .zip(0..)
            .map(|(uuid, index)| Card {
                uuid,
                index,
                model: "".into(),
                memory_bytes: 0,
                pci_address: "".into(),
                driver: "".into(),
                traits: capstan_core::CardTraits::default(),
            });
        let node = Node {
            name: "node01".into(),
            agent: "a1".into(),
            inventory: Inventory {
                cards: cards.collect(),
                ..Inventory::default()
            },
            slots: 1,
            properties: Vec::new(),
            link: Link::Up(Timestamp(0)),
            is_offline: false,
            note: "".into(),
            unclean: ids(state),
            strays: Vec::new(),
            ordinal: 1,
            is_unwell: false,
            preparing: Vec::new(),
        };
        let seen = ids(seen)
            .into_iter()
            .map(|card| (card, CardTelemetry::default()));
        let heard = Heard {
            telemetry: NodeTelemetry {
                cards: seen.collect(),
                ..NodeTelemetry::default()
            },
            foreign: ids(foreign),
            inventory: None,
        };
        assert_eq!(changed(&node, &heard, may_clear), expected.map(ids));
    }

    #[test]
    fn cards_are_added_when_somebody_is_on_them_and_cleared_when_nobody_is() {
        check(&[], &["a", "b", "c"], &[], true, None);
        check(&[], &["a", "b", "c"], &["b"], true, Some(&["b"]));
        check(&["b"], &["a", "b", "c"], &["b"], true, None);
        check(&["b"], &["a", "b", "c"], &[], true, Some(&[]));
        check(&["c", "a"], &["a", "b", "c"], &["a", "c"], true, None);
        check(&["b"], &["a", "b", "c"], &["c"], true, Some(&["c"]));
    }

    #[test]
    fn a_failure_is_told_once_and_dirt_is_none() {
        let with = |kind: Option<UnfitKind>| {
            let unfit = kind.map(|kind| {
                Arc::new(Unfit {
                    kind,
                    reason: "XID 79".into(),
                    since: Timestamp(1),
                })
            });
            let card = CardTelemetry {
                unfit,
                ..CardTelemetry::default()
            };
            NodeTelemetry {
                cards: [(CardId::from("a"), card)].into(),
                ..NodeTelemetry::default()
            }
        };
        let drained = with(Some(UnfitKind::Drained));
        let told = [(CardId::from("a"), "XID 79".into())];
        assert_eq!(failed(None, &drained), told);
        assert_eq!(failed(Some(&with(None)), &drained), told);
        assert_eq!(failed(Some(&with(Some(UnfitKind::Dirty))), &drained), told);
        assert_eq!(failed(Some(&drained), &drained), []);
        for kind in [UnfitKind::Dirty, UnfitKind::Quarantined] {
            assert_eq!(failed(None, &with(Some(kind))), []);
        }
    }

    #[test]
    fn a_card_that_is_not_mentioned_stays_as_it_is() {
        check(&["b"], &[], &[], true, None);
        check(&["b"], &["a"], &["a"], true, Some(&["a", "b"]));
    }

    #[test]
    fn an_old_look_clears_nothing_and_foreign_hardware_is_nothing() {
        check(&["b"], &["a", "b", "c"], &[], false, None);
        check(&["b"], &["a", "b", "c"], &["a"], false, Some(&["a", "b"]));
        check(&[], &["x"], &["x"], true, None);
    }
}
