//! Figures over many jobs: means, percentiles, slowdown.

/// Runs shorter than this count as so long: else a job of a second that waited a minute would outweigh all others
/// (Feitelson, "Metrics for parallel job scheduling and their convergence", 2001).
const SLOWDOWN_TAU_S: f64 = 10.0;

/// The mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// The value of `sorted` that a share of the others lies below, one of them, not between two; 0 of nothing.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = (share * sorted.len() as f64) as usize;
    sorted[place.min(last)]
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.get(half) {
        Some(upper) if sorted.len().is_multiple_of(2) => (sorted[half - 1] + upper) / 2.0,
        Some(middle) => *middle,
        None => 0.0,
    }
}

/// max(1, (wait + run) / max(run, tau)).
pub(crate) fn bounded_slowdown(wait_s: f64, run_s: f64) -> f64 {
    ((wait_s + run_s) / run_s.max(SLOWDOWN_TAU_S)).max(1.0)
}

/// To so many digits behind the point, for printing.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_list() {
        let values = [0.0, 10.0, 20.0, 30.0];
        for (share, expected) in [
            (0.0, 0.0),
            (0.5, 20.0),
            (0.74, 20.0),
            (0.75, 30.0),
            (1.0, 30.0),
        ] {
            assert_eq!(percentile(&values, share), expected, "{share}");
        }
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(
            (median(&values), median(&values[..3]), median(&[])),
            (15.0, 10.0, 0.0)
        );
    }

    #[test]
    fn slowdown_is_bounded_below_and_for_short_runs() {
        assert_eq!(bounded_slowdown(90.0, 10.0), 10.0);
        assert_eq!(bounded_slowdown(9.0, 1.0), 1.0);
        assert_eq!(bounded_slowdown(99.0, 1.0), 10.0);
        assert_eq!(bounded_slowdown(0.0, 1000.0), 1.0);
    }
}
