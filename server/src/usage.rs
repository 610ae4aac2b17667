//! What an attempt used on all its nodes: sums of what each of them saw, but for the time, which is that of the node of its
//! script, and the load of cards, which is the mean over all cards. Peaks are added as well, although they need not have
//! been at one time: they bound what was used from above. Pure.

use capstan_core::{Measured, Run, Series, Usage};

use crate::telemetry::Telemetry;

/// What one node saw, and how many cards of it the attempt has.
type Seen = (u64, Usage);

/// `own`, which the node of the script saw, with what was seen on the others.
pub(crate) fn on_all_nodes(telemetry: &Telemetry, run: &Run, own: Usage) -> Usage {
    let sisters = run.shares.iter().skip(1);
    let sisters = sisters.filter_map(|share| {
        let usage = telemetry.usage(&share.node, run.attempt)?;
        Some((share.cards.len() as u64, usage))
    });
    let own_cards = run.shares.first().map_or(0, |share| share.cards.len());
    let (_, whole) = sisters.fold((own_cards as u64, own), with);
    whole
}

fn with((cards, whole): Seen, (more_cards, more): Seen) -> Seen {
    let measured = match (whole.measured, more.measured) {
        (Some(one), Some(other)) => Some(both((cards, one), (more_cards, other))),
        (one, other) => one.or(other),
    };
    let usage = Usage {
        cput_secs: whole.cput_secs.saturating_add(more.cput_secs),
        mem_kb: whole.mem_kb.saturating_add(more.mem_kb),
        vmem_kb: whole.vmem_kb.saturating_add(more.vmem_kb),
        walltime_secs: whole.walltime_secs,
        measured,
    };
    (cards + more_cards, usage)
}

fn both((cards, one): (u64, Measured), (more_cards, other): (u64, Measured)) -> Measured {
    let sum = |one: Series, other: Series| Series {
        mean: one.mean.saturating_add(other.mean),
        peak: one.peak.saturating_add(other.peak),
        last: one.last.saturating_add(other.last),
    };
    // What was not seen weighs nothing.
    let seen = |measured: &Measured, cards: u64| if measured.is_load_unknown { 0 } else { cards };
    let (cards, more_cards) = (seen(&one, cards), seen(&other, more_cards));
    let of_cards = |one: u32, other: u32| {
        let weighed = u64::from(one) * cards + u64::from(other) * more_cards;
        let mean = weighed.checked_div(cards + more_cards).unwrap_or(0);
        u32::try_from(mean).unwrap_or(u32::MAX)
    };
    Measured {
        is_load_unknown: one.is_load_unknown && other.is_load_unknown,
        samples: one.samples.saturating_add(other.samples),
        cpu_percent: sum(one.cpu_percent, other.cpu_percent),
        memory_mib: sum(one.memory_mib, other.memory_mib),
        card_percent: Series {
            mean: of_cards(one.card_percent.mean, other.card_percent.mean),
            // Of some card at some time, as on one node.
            peak: one.card_percent.peak.max(other.card_percent.peak),
            last: of_cards(one.card_percent.last, other.card_percent.last),
        },
        card_memory_mib: sum(one.card_memory_mib, other.card_memory_mib),
        power_watts: sum(one.power_watts, other.power_watts),
        read_kb: one.read_kb.saturating_add(other.read_kb),
        written_kb: one.written_kb.saturating_add(other.written_kb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::NodeTelemetry;
    use crate::testing::run;
    use capstan_types::NodeName;

    fn usage(cput_secs: u64, load: u32) -> Usage {
        let all = |value| Series {
            mean: value,
            peak: value,
            last: value,
        };
        Usage {
            cput_secs,
            mem_kb: 100,
            vmem_kb: 0,
            walltime_secs: 60,
            measured: Some(Measured {
                samples: 2,
                card_percent: all(load),
                cpu_percent: all(150),
                ..Measured::default()
            }),
        }
    }

    #[test]
    fn nodes_are_summed_up_and_loads_of_cards_are_averaged_over_cards() {
        let places: [(&str, &[u16], &[u32]); 3] = [
            ("gpu01", &[0], &[0]),
            ("gpu02", &[0], &[0, 1, 2]),
            ("gpu03", &[0], &[0]),
        ];
        let run = run(&places, 0, 1);
        let telemetry = Telemetry::default();
        let seen = NodeTelemetry {
            attempts: [(run.attempt, usage(30, 80))].into(),
            ..NodeTelemetry::default()
        };
        telemetry.put(&NodeName::from("gpu02"), seen);
        let whole = on_all_nodes(&telemetry, &run, usage(12, 40));
        assert_eq!(
            (whole.cput_secs, whole.mem_kb, whole.walltime_secs),
            (42, 200, 60)
        );
        let measured = whole.measured.unwrap();
        assert_eq!(
            (measured.card_percent.mean, measured.card_percent.peak),
            (70, 80)
        );
        assert_eq!((measured.cpu_percent.last, measured.samples), (300, 4));
        let alone = on_all_nodes(&Telemetry::default(), &run, usage(12, 40));
        assert_eq!(alone, usage(12, 40));
    }
}
