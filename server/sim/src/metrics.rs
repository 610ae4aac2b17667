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

/// The value below which a share of `sorted` lies, interpolated between neighbours; 0 of nothing.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let (low, high) = (sorted[below.min(last)], sorted[(below + 1).min(last)]);
    low + (high - low) * (place - below as f64)
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
    fn percentiles_lie_between_neighbours() {
        let values = [0.0, 10.0, 20.0, 30.0];
        for (share, expected) in [(0.0, 0.0), (0.5, 15.0), (0.99, 29.7), (1.0, 30.0)] {
            assert!(
                (percentile(&values, share) - expected).abs() < 1e-9,
                "{share}"
            );
        }
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn slowdown_is_bounded_below_and_for_short_runs() {
        assert_eq!(bounded_slowdown(90.0, 10.0), 10.0);
        assert_eq!(bounded_slowdown(9.0, 1.0), 1.0);
        assert_eq!(bounded_slowdown(99.0, 1.0), 10.0);
        assert_eq!(bounded_slowdown(0.0, 1000.0), 1.0);
    }
}
