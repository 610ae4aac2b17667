//! Which cards are near to one another, and to which memory of the host. Nothing of it can make a card unusable: what a
//! driver does not say is nothing special.

use capstan_supervisor::ports::GpuCard;
use nvml_wrapper::enum_wrappers::device::{P2pCapabilitiesIndex, P2pStatus, TopologyLevel};
use nvml_wrapper::{Device, Nvml};

/// Cards beyond so many are each an island: every pair is asked for.
const CARDS_MAX: usize = 64;
/// Words of a set of memory nodes: 1024 of them.
const NODE_WORDS: usize = 16;
/// NVML_AFFINITY_SCOPE_NODE.
const NODE_SCOPE: u32 = 0;

/// The memory node that the card is near to; `None` when it is near to several, or does not say.
pub(crate) fn numa_node(device: &Device<'_>) -> Option<u32> {
    let words = device.memory_affinity(NODE_WORDS, NODE_SCOPE).ok()?;
    let mut set = words.iter().enumerate().flat_map(|(word, bits)| {
        (0..64)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(move |bit| word as u32 * 64 + bit)
    });
    let first = set.next()?;
    set.next().is_none().then_some(first)
}

/// Numbers the islands of `cards`: over NVLink, direct or through switches, everything on it is one island. Cards that
/// have no NVLink among them are one where no path between them leaves the memory node.
pub(crate) fn number_islands(nvml: &Nvml, cards: &mut [GpuCard]) {
    let devices: Vec<Option<Device<'_>>> = cards
        .iter()
        .take(CARDS_MAX)
        .map(|card| nvml.device_by_index(card.index).ok())
        .collect();
    let pair =
        |one: usize, other: usize| devices.get(one)?.as_ref().zip(devices.get(other)?.as_ref());
    let is_linked = |one: usize, other: usize| {
        pair(one, other).is_some_and(|(one, other)| {
            let status = one.p2p_status(other, P2pCapabilitiesIndex::NvLink);
            matches!(status, Ok(P2pStatus::Ok))
        })
    };
    let linked: Vec<Vec<bool>> = (0..cards.len())
        .map(|one| {
            (0..cards.len())
                .map(|other| other < one && is_linked(one, other))
                .collect()
        })
        .collect();
    let has_link =
        |card: usize| (0..cards.len()).any(|other| linked[card][other] || linked[other][card]);
    let is_near = |one: usize, other: usize| {
        if has_link(one) || has_link(other) {
            return linked[one][other];
        }
        cards[one].numa_node == cards[other].numa_node
            && pair(one, other).is_none_or(|(one, _)| !is_far(nvml, one, cards[other].index))
    };
    let islands = islands(cards.len(), is_near);
    for (card, island) in cards.iter_mut().zip(islands) {
        card.island = island;
    }
}

/// Whether the driver says that the way between two cards leaves the memory node.
fn is_far(nvml: &Nvml, one: &Device<'_>, other: u32) -> bool {
    let Ok(other) = nvml.device_by_index(other) else {
        return false;
    };
    match one.topology_common_ancestor(other) {
        Ok(TopologyLevel::System) => true,
        Ok(
            TopologyLevel::Internal
            | TopologyLevel::Single
            | TopologyLevel::Multiple
            | TopologyLevel::HostBridge
            | TopologyLevel::Node,
        )
        | Err(_) => false,
    }
}

/// The islands of `count` things, numbered by their first; `is_near(one, other)` is asked with `other < one`.
fn islands(count: usize, is_near: impl Fn(usize, usize) -> bool) -> Vec<u32> {
    let mut islands: Vec<usize> = Vec::with_capacity(count);
    for one in 0..count {
        islands.push(one);
        for other in 0..one {
            let (mine, theirs) = (islands[one], islands[other]);
            if mine != theirs && is_near(one, other) {
                let (first, gone) = (mine.min(theirs), mine.max(theirs));
                islands
                    .iter_mut()
                    .filter(|island| **island == gone)
                    .for_each(|island| *island = first);
            }
        }
    }
    let mut first: Vec<usize> = islands.clone();
    first.sort_unstable();
    first.dedup();
    let number = |island: &usize| first.binary_search(island).unwrap_or_default() as u32;
    islands.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::islands;

    #[test]
    fn islands_are_what_hangs_together() {
        let check = |count, pairs: &[(usize, usize)], expected: &[u32]| {
            let seen = islands(count, |one, other| pairs.contains(&(other, one)));
            assert_eq!(seen, expected, "{pairs:?}");
        };
        check(0, &[], &[]);
        check(3, &[], &[0, 1, 2]);
        check(4, &[(0, 1), (2, 3)], &[0, 0, 1, 1]);
        check(4, &[(0, 2), (1, 3)], &[0, 1, 0, 1]);
        check(4, &[(0, 3), (1, 3), (2, 3)], &[0, 0, 0, 0]);
        check(4, &[(1, 2)], &[0, 1, 1, 2]);
    }
}
