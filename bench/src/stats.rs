//! Medians, and ratios of measurements that belong together.

/// The middle of `values` (of an even number, the mean of the two in the middle); NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the part `at` (0 to 1) of `values` lies, interpolated; NaN of none.
pub(crate) fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = at * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Each of `values` over the one of `baseline` from the same round.
///
/// Rounds are paired because what disturbs a machine lasts longer than a measurement: it slows both, and leaves their
/// ratio alone.
pub(crate) fn ratios(values: &[f64], baseline: &[f64]) -> Vec<f64> {
    values.iter().zip(baseline).map(|(value, base)| value / base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = [40.0, 10.0, 20.0, 30.0];
        assert_eq!(quantile(&values, 0.0), 10.0);
        assert_eq!(quantile(&values, 0.25), 17.5);
        assert_eq!(quantile(&values, 1.0), 40.0);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        // Twice as much in each round, though the second round was ten times slower: a ratio of medians would say 11.
        assert_eq!(median(&ratios(&[2.0, 20.0], &[1.0, 10.0])), 2.0);
    }
}
