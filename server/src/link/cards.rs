//! What an agent says of cards and of what attempts made of them, from the wire's words to ours, with bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_core::{Measured, Series};
use capstan_proto::wire;
use capstan_types::{CardId, Timestamp};

use super::reading::{CARDS_MAX, Unheard, field, name, text};
use crate::telemetry::{CardDetail, CardTelemetry, Unfit, UnfitKind};

/// What each card does, and which of them may not be lent.
pub(super) fn card_uses(
    cards: Vec<wire::CardUse>,
) -> Result<(BTreeMap<CardId, CardTelemetry>, Vec<CardId>), Unheard> {
    if cards.len() > CARDS_MAX {
        return Err(field("cards", "too long"));
    }
    let mut seen = BTreeMap::new();
    let mut not_clean = Vec::new();
    for card in cards {
        let wire::CardUse {
            uuid,
            utilization_percent,
            memory_used_bytes,
            temperature_celsius,
            power_milliwatts,
            foreign_process,
            detail,
            dirt,
            trouble,
        } = card;
        let uuid = CardId::from(name("uuid of a card", uuid)?);
        let unfit = unfit(trouble, dirt);
        if foreign_process || unfit.is_some() {
            not_clean.push(uuid.clone());
        }
        let card = CardTelemetry {
            utilization_percent,
            memory_used_bytes,
            temperature_celsius,
            power_milliwatts,
            detail: detail.map(card_detail).unwrap_or_default(),
            unfit: unfit.map(Arc::new),
        };
        seen.insert(uuid, card);
    }
    Ok((seen, not_clean))
}

fn unfit(trouble: Option<wire::CardTrouble>, dirt: String) -> Option<Unfit> {
    use wire::card_trouble::Kind;
    let trouble = trouble.unwrap_or_default();
    let kind = match trouble.kind() {
        Kind::None if dirt.is_empty() => return None,
        Kind::None => UnfitKind::Dirty,
        Kind::Quarantined => UnfitKind::Quarantined,
        Kind::Drained => UnfitKind::Drained,
    };
    let reason = match kind {
        UnfitKind::Dirty => dirt,
        UnfitKind::Quarantined | UnfitKind::Drained => trouble.reason,
    };
    Some(Unfit {
        kind,
        reason: text(reason),
        since: Timestamp(trouble.since_ms),
    })
}

fn card_detail(detail: wire::CardDetail) -> CardDetail {
    let wire::CardDetail {
        memory_utilization_percent,
        fan_percent,
        compute_mode,
        display,
        ecc,
        single_bit_errors,
        double_bit_errors,
        pci_device_id,
    } = detail;
    CardDetail {
        memory_utilization_percent,
        fan_percent,
        compute_mode,
        display,
        ecc,
        single_bit_errors,
        double_bit_errors,
        pci_device_id,
    }
}

/// What samples said, in the units in which it is kept.
pub(super) fn measured(measures: wire::Measures) -> Measured {
    let wire::Measures {
        samples,
        cpu_percent,
        memory_kb,
        card_percent,
        card_memory_kb,
        power_milliwatts,
        read_kb,
        written_kb,
    } = measures;
    let series = |series: Option<wire::Series>, unit: u64| {
        let wire::Series { mean, peak, last } = series.unwrap_or_default();
        let number = |value: u64| u32::try_from(value / unit).unwrap_or(u32::MAX);
        Series {
            mean: number(mean),
            peak: number(peak),
            last: number(last),
        }
    };
    Measured {
        is_load_unknown: card_percent.is_none(),
        samples,
        cpu_percent: series(cpu_percent, 1),
        memory_mib: series(memory_kb, 1024),
        card_percent: series(card_percent, 1),
        card_memory_mib: series(card_memory_kb, 1024),
        power_watts: series(power_milliwatts, 1000),
        read_kb,
        written_kb,
    }
}
