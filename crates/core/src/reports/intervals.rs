//! Confidence intervals of rates and of sums.

/// The quantile of the standard normal distribution for a two-sided interval of 95 %.
const Z: f64 = 1.959_964;

/// A confidence interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The Wilson score interval of a rate of `successes` among `trials`; `None` without trials.
///
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
/// Journal of the American Statistical Association 22 (1927).
///
/// ```
/// use sequor_core::reports::wilson_interval;
///
/// let interval = wilson_interval(10, 100).unwrap();
/// assert!((interval.low - 0.0552).abs() < 1e-4 && (interval.high - 0.1744).abs() < 1e-4);
/// assert_eq!(wilson_interval(0, 0), None);
/// ```
#[must_use]
pub fn wilson_interval(successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let (n, rate) = (trials as f64, successes.min(trials) as f64 / trials as f64);
    let z2 = Z * Z;
    let center = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding must not move the rate out of its interval.
    Some(Interval { low: (center - half).clamp(0.0, rate), high: (center + half).clamp(rate, 1.0) })
}

/// The interval of the sum of a random number of amounts, from the sum and the sum of squares of the
/// observed amounts. The number has a Poisson distribution (compound Poisson), so the variance of the
/// sum is the sum of squares. It is the limit of the bootstrap with Poisson weights, without its
/// random numbers.
///
/// Source: N. Chamandy et al., "Estimating uncertainty for massive data streams", Google (2012).
///
/// ```
/// use sequor_core::reports::compound_interval;
///
/// let interval = compound_interval(100.0, 4.0 * 25.0 * 25.0);
/// assert!((interval.low - 2.0).abs() < 0.01 && (interval.high - 198.0).abs() < 0.01);
/// ```
#[must_use]
pub fn compound_interval(sum: f64, sum_of_squares: f64) -> Interval {
    let half = Z * sum_of_squares.max(0.0).sqrt();
    Interval { low: sum - half, high: sum + half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wilson_interval_contains_its_rate_and_stays_in_range() {
        for trials in [1_u64, 2, 10, 1_000] {
            for successes in 0..=trials.min(12) {
                let rate = successes as f64 / trials as f64;
                let Interval { low, high } = wilson_interval(successes, trials).unwrap();
                assert!(0.0 <= low && low <= rate && rate <= high && high <= 1.0, "{successes} of {trials}");
            }
        }
    }
}
