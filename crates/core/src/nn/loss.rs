//! Losses of the next-item head. A loss function overwrites a block of logits with the gradient of
//! the loss.
//!
//! Logits are `(columns, lanes)`: a column is an item, a lane is an example. A loss sums over the
//! items of an example, that is, along a lane. One vector therefore processes sixteen examples.

use super::math::{exp, kernel, sigmoid};
use super::settings::LossKind;

/// Number of examples (lanes) that one vector instruction processes. The number of lanes of a block
/// is a multiple of this constant.
pub(super) const EXAMPLES_PER_VECTOR: usize = 16;

/// Logit of an excluded negative. The exponential of this logit is exactly zero.
pub(super) const MASKED_LOGIT: f32 = -1e30;

/// BPR-max raises smaller logits, among them [`MASKED_LOGIT`], to this value, because its square is
/// finite. If no negative of an example has a logit above this value, all of them are masked.
const MIN_LOGIT: f32 = -1e15;

/// Returns the sum of the losses of a block of examples and replaces `logits` by `scale` times the
/// gradient of that sum.
///
/// `target_columns` holds the target column of every example. Lanes beyond the length of
/// `target_columns` are padding: they are ignored and hold unspecified values on return. Masked
/// logits get a zero gradient.
pub(super) fn next_item_loss(
    kind: LossKind,
    logits: &mut [f32],
    lanes: usize,
    target_columns: &[usize],
    regularisation: f32,
    scale: f32,
) -> f64 {
    match kind {
        LossKind::CrossEntropy | LossKind::NormalisedSoftmax => cross_entropy(logits, lanes, target_columns, scale),
        LossKind::BprMax => bpr_max(logits, lanes, target_columns, regularisation, scale),
    }
}

/// Returns the largest logit of each lane, for [`EXAMPLES_PER_VECTOR`] consecutive lanes from lane
/// `first` on.
#[inline(always)]
fn lane_maxima(logits: &[f32], lanes: usize, first: usize) -> [f32; EXAMPLES_PER_VECTOR] {
    let mut maxima = [f32::NEG_INFINITY; EXAMPLES_PER_VECTOR];
    for row in logits.chunks_exact(lanes) {
        for (maximum, value) in maxima.iter_mut().zip(&row[first..first + EXAMPLES_PER_VECTOR]) {
            *maximum = if *value > *maximum { *value } else { *maximum };
        }
    }
    maxima
}

kernel! {
    /// Softmax cross-entropy, `L = −ln softmax(r)_target`. Gradient: `softmax(r)_j − [j = target]`.
    fn cross_entropy<'a>(logits: &'a mut [f32], lanes: usize, target_columns: &'a [usize], scale: f32) -> f64 {
        let mut loss = 0.0;
        for (tile_index, target_columns) in target_columns.chunks(EXAMPLES_PER_VECTOR).enumerate() {
            let first = tile_index * EXAMPLES_PER_VECTOR;
            let maxima = lane_maxima(logits, lanes, first);
            for (lane, column) in target_columns.iter().enumerate() {
                loss -= f64::from(logits[column * lanes + first + lane]);
            }
            let mut sums = [0.0_f32; EXAMPLES_PER_VECTOR];
            for row in logits.chunks_exact_mut(lanes) {
                for ((value, maximum), sum) in row[first..first + EXAMPLES_PER_VECTOR].iter_mut().zip(&maxima).zip(&mut sums) {
                    *value = exp(*value - maximum);
                    *sum += *value;
                }
            }
            let factors = sums.map(|sum| scale / sum);
            for row in logits.chunks_exact_mut(lanes) {
                for (value, factor) in row[first..first + EXAMPLES_PER_VECTOR].iter_mut().zip(&factors) {
                    *value *= factor;
                }
            }
            for (lane, column) in target_columns.iter().enumerate() {
                logits[column * lanes + first + lane] -= scale;
                loss += f64::from(maxima[lane]) + f64::from(sums[lane]).ln();
            }
        }
        loss
    }

    /// BPR-max [Hidasi & Karatzoglou 2018]: `L = −ln Σⱼ sⱼ σ(r − rⱼ) + λ Σⱼ sⱼ rⱼ²`.
    ///
    /// The sums run over the negatives j, s is the softmax of their logits and r is the logit of
    /// the target.
    fn bpr_max<'a>(logits: &'a mut [f32], lanes: usize, target_columns: &'a [usize], regularisation: f32, scale: f32) -> f64 {
        let mut loss = 0.0;
        for (tile_index, target_columns) in target_columns.chunks(EXAMPLES_PER_VECTOR).enumerate() {
            let first = tile_index * EXAMPLES_PER_VECTOR;
            let mut targets = [0.0_f32; EXAMPLES_PER_VECTOR];
            for (lane, column) in target_columns.iter().enumerate() {
                let logit = &mut logits[column * lanes + first + lane];
                targets[lane] = std::mem::replace(logit, MASKED_LOGIT);
            }
            let maxima = lane_maxima(logits, lanes, first).map(|maximum| maximum.max(MIN_LOGIT));
            let (mut sums, mut win_probability) = ([0.0_f32; EXAMPLES_PER_VECTOR], [0.0_f32; EXAMPLES_PER_VECTOR]);
            let (mut squares, mut win_slopes) = ([0.0_f32; EXAMPLES_PER_VECTOR], [0.0_f32; EXAMPLES_PER_VECTOR]);
            for row in logits.chunks_exact(lanes) {
                let row = &row[first..first + EXAMPLES_PER_VECTOR];
                for lane in 0..EXAMPLES_PER_VECTOR {
                    let value = row[lane].max(MIN_LOGIT);
                    let (weight, win) = (exp(value - maxima[lane]), sigmoid(targets[lane] - value));
                    sums[lane] += weight;
                    win_probability[lane] += weight * win;
                    win_slopes[lane] += weight * win * (1.0 - win);
                    squares[lane] += weight * value * value;
                }
            }
            for lane in 0..EXAMPLES_PER_VECTOR {
                // If every negative is masked, the loss of the example is zero.
                let share = if maxima[lane] > MIN_LOGIT { 1.0 / sums[lane] } else { 0.0 };
                sums[lane] = share;
                win_probability[lane] = (win_probability[lane] * share).max(1e-24);
                squares[lane] *= share;
                win_slopes[lane] *= share;
            }
            for row in logits.chunks_exact_mut(lanes) {
                let row = &mut row[first..first + EXAMPLES_PER_VECTOR];
                for lane in 0..EXAMPLES_PER_VECTOR {
                    let value = row[lane].max(MIN_LOGIT);
                    let (weight, win) = (exp(value - maxima[lane]) * sums[lane], sigmoid(targets[lane] - value));
                    let bpr_gradient = weight * (win_probability[lane] + win * (1.0 - win) - win) / win_probability[lane];
                    let penalty_gradient = weight * (2.0 * value + value * value - squares[lane]);
                    row[lane] = scale * (bpr_gradient + regularisation * penalty_gradient);
                }
            }
            for (lane, column) in target_columns.iter().enumerate() {
                let no_negatives = sums[lane] == 0.0;
                logits[column * lanes + first + lane] = if no_negatives { 0.0 } else { -scale * win_slopes[lane] / win_probability[lane] };
                loss += if no_negatives { 0.0 } else { f64::from(regularisation * squares[lane] - win_probability[lane].ln()) };
            }
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a block of [`EXAMPLES_PER_VECTOR`] lanes that holds `logits` in lane `lane` and 0.5
    /// elsewhere.
    fn one_tile_with_logits(logits: &[f32], lane: usize) -> Vec<f32> {
        logits
            .iter()
            .flat_map(|logit| (0..EXAMPLES_PER_VECTOR).map(move |other| if other == lane { *logit } else { 0.5 }))
            .collect()
    }

    /// Computes the loss and the gradient of one example, which is the second of two examples in
    /// the block.
    fn loss_and_gradient(kind: LossKind, logits: &[f32], target: usize) -> (f64, Vec<f32>) {
        let mut both = one_tile_with_logits(logits, 1);
        let loss = next_item_loss(kind, &mut both, EXAMPLES_PER_VECTOR, &[0, target], 0.7, 0.5);
        let mut other = one_tile_with_logits(logits, 1);
        let first_only = next_item_loss(kind, &mut other, EXAMPLES_PER_VECTOR, &[0], 0.7, 0.5);
        (loss - first_only, both.chunks_exact(EXAMPLES_PER_VECTOR).map(|row| row[1]).collect())
    }

    #[test]
    fn gradients_match_finite_differences() {
        let logits = [0.3, -1.2, 2.0, 0.0, MASKED_LOGIT, 0.7];
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let (_, gradient) = loss_and_gradient(kind, &logits, 3);
            for column in [0, 1, 2, 3, 5] {
                let (mut more, mut less) = (logits, logits);
                more[column] += 1e-2;
                less[column] -= 1e-2;
                let expected = 0.5 * (loss_and_gradient(kind, &more, 3).0 - loss_and_gradient(kind, &less, 3).0) / 2e-2;
                assert!(
                    (f64::from(gradient[column]) - expected).abs() < 2e-4,
                    "{kind:?} {column}: {} is not {expected}",
                    gradient[column]
                );
            }
            assert_eq!(gradient[4], 0.0, "a masked column gets no gradient");
        }
    }

    #[test]
    fn cross_entropy_of_equal_logits_is_the_log_of_their_count() {
        assert!((loss_and_gradient(LossKind::CrossEntropy, &[1.0; 8], 2).0 - 8.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn an_example_whose_negatives_are_all_masked_has_zero_loss() {
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let (loss, gradient) = loss_and_gradient(kind, &[MASKED_LOGIT, 0.4, MASKED_LOGIT], 1);
            assert!(loss.abs() < 1e-6, "{kind:?}: {loss}");
            assert_eq!(gradient, [0.0; 3]);
        }
    }
}
