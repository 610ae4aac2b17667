//! What samples of a job are called where they are shown: in `qstat -f` and in the accounting log.

use capstan_core::{Measured, Series};

/// Name behind `resources_used.` and value; of a job without cards nothing is said of cards. Each thing by itself, so that
/// programs need not take values apart.
pub(crate) fn measured_words(measured: &Measured, has_cards: bool) -> Vec<(&'static str, String)> {
    let Measured {
        samples: _, // How often was looked is no resource.
        cpu_percent,
        memory_mib,
        card_percent,
        card_memory_mib,
        power_watts,
        read_kb,
        written_kb,
        is_load_unknown,
    } = measured;
    let mut words = Vec::new();
    let mut put = |names: [&'static str; 3], series: &Series, unit: &str| {
        let values = [series.mean, series.peak, series.last];
        words.extend(
            names
                .into_iter()
                .zip(values)
                .map(|(name, value)| (name, format!("{value}{unit}"))),
        );
    };
    if has_cards && !is_load_unknown {
        put(
            ["gpu_util_mean", "gpu_util_peak", "gpu_util_last"],
            card_percent,
            "",
        );
    }
    if has_cards {
        put(
            ["gpu_mem_mean", "gpu_mem_peak", "gpu_mem_last"],
            card_memory_mib,
            "mb",
        );
    }
    if has_cards && !is_load_unknown {
        put(
            ["gpu_power_mean", "gpu_power_peak", "gpu_power_last"],
            power_watts,
            "",
        );
    }
    put(
        ["cpupercent_mean", "cpupercent_peak", "cpupercent_last"],
        cpu_percent,
        "",
    );
    put(["mem_mean", "mem_peak", "mem_last"], memory_mib, "mb");
    words.push(("io_read", format!("{read_kb}kb")));
    words.push(("io_write", format!("{written_kb}kb")));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_cards_says_nothing_of_cards() {
        let measured = Measured {
            samples: 2,
            card_percent: Series {
                mean: 40,
                peak: 97,
                last: 3,
            },
            read_kb: 7,
            ..Measured::default()
        };
        let names = |has_cards| {
            let words = measured_words(&measured, has_cards);
            let words = words.iter().map(|(name, value)| format!("{name}={value}"));
            words.collect::<Vec<_>>().join(" ")
        };
        assert!(
            names(true)
                .starts_with("gpu_util_mean=40 gpu_util_peak=97 gpu_util_last=3 gpu_mem_mean=0mb ")
        );
        assert!(!names(false).contains("gpu"));
        // Of parts of divided cards only memory is known.
        let parts = Measured {
            is_load_unknown: true,
            ..measured
        };
        let words = measured_words(&parts, true);
        let of_cards: Vec<&str> = words
            .iter()
            .filter_map(|(name, _)| name.strip_prefix("gpu_"))
            .collect();
        assert_eq!(of_cards, ["mem_mean", "mem_peak", "mem_last"]);
        assert!(names(false).ends_with("io_read=7kb io_write=0kb"));
    }
}
