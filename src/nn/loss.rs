//! The losses of the next-item head, over a block of logits that become their own gradients.
//!
//! Logits lie as `(columns, lanes)`, a column an item and a lane an example, so that all sums of a loss run down the lanes, sixteen examples in one vector.

use super::math::{exp, kernel, sigmoid};
use super::settings::LossKind;

/// Examples of one vector; a block's lanes are a multiple of it.
pub(super) const LANES: usize = 16;

/// The logit of what must not count as a negative: its exponential is exactly zero.
pub(super) const MASKED_LOGIT: f32 = -1e30;

/// Logits below this count as masked: its square is still finite.
const FLOOR: f32 = -1e15;

/// The summed loss of a block's examples. `logits` become `scale` times its gradient; `wanted` holds every example's target's column, and lanes beyond it hold anything.
/// Masked logits get no gradient.
pub(super) fn next_item_loss(kind: LossKind, logits: &mut [f32], lanes: usize, wanted: &[usize], regularisation: f32, scale: f32) -> f64 {
    match kind {
        LossKind::CrossEntropy => cross_entropy(logits, lanes, wanted, scale),
        LossKind::BprMax => bpr_max(logits, lanes, wanted, regularisation, scale),
    }
}

/// The largest logit of every lane of a tile.
#[inline(always)]
fn peaks(logits: &[f32], lanes: usize, first: usize) -> [f32; LANES] {
    let mut peaks = [f32::NEG_INFINITY; LANES];
    for row in logits.chunks_exact(lanes) {
        for (peak, value) in peaks.iter_mut().zip(&row[first..first + LANES]) {
            *peak = if *value > *peak { *value } else { *peak };
        }
    }
    peaks
}

kernel! {
    /// `−ln softmax(logits)[wanted]`.
    fn cross_entropy<'a>(logits: &'a mut [f32], lanes: usize, wanted: &'a [usize], scale: f32) -> f64 {
        let mut loss = 0.0;
        for (tile, wanted) in wanted.chunks(LANES).enumerate() {
            let first = tile * LANES;
            let peaks = peaks(logits, lanes, first);
            for (lane, column) in wanted.iter().enumerate() {
                loss -= f64::from(logits[column * lanes + first + lane]);
            }
            let mut sums = [0.0_f32; LANES];
            for row in logits.chunks_exact_mut(lanes) {
                for ((value, peak), sum) in row[first..first + LANES].iter_mut().zip(&peaks).zip(&mut sums) {
                    *value = exp(*value - peak);
                    *sum += *value;
                }
            }
            let factors = sums.map(|sum| scale / sum);
            for row in logits.chunks_exact_mut(lanes) {
                for (value, factor) in row[first..first + LANES].iter_mut().zip(&factors) {
                    *value *= factor;
                }
            }
            for (lane, column) in wanted.iter().enumerate() {
                logits[column * lanes + first + lane] -= scale;
                loss += f64::from(peaks[lane]) + f64::from(sums[lane]).ln();
            }
        }
        loss
    }

    /// `−ln Σⱼ sⱼ σ(r − rⱼ) + λ Σⱼ sⱼ rⱼ²` over the negatives j, s their softmax and r the target's logit [Hidasi & Karatzoglou 2018].
    fn bpr_max<'a>(logits: &'a mut [f32], lanes: usize, wanted: &'a [usize], regularisation: f32, scale: f32) -> f64 {
        let mut loss = 0.0;
        for (tile, wanted) in wanted.chunks(LANES).enumerate() {
            let first = tile * LANES;
            let mut targets = [0.0_f32; LANES];
            for (lane, column) in wanted.iter().enumerate() {
                let place = &mut logits[column * lanes + first + lane];
                targets[lane] = std::mem::replace(place, MASKED_LOGIT);
            }
            let peaks = peaks(logits, lanes, first).map(|peak| peak.max(FLOOR));
            let (mut sums, mut better) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            let (mut squares, mut slopes) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            for row in logits.chunks_exact(lanes) {
                let row = &row[first..first + LANES];
                for lane in 0..LANES {
                    let value = row[lane].max(FLOOR);
                    let (weight, above) = (exp(value - peaks[lane]), sigmoid(targets[lane] - value));
                    sums[lane] += weight;
                    better[lane] += weight * above;
                    slopes[lane] += weight * above * (1.0 - above);
                    squares[lane] += weight * value * value;
                }
            }
            for lane in 0..LANES {
                // Where all is masked there is nothing to tell the target from.
                let share = if peaks[lane] > FLOOR { 1.0 / sums[lane] } else { 0.0 };
                sums[lane] = share;
                better[lane] = (better[lane] * share).max(1e-24);
                squares[lane] *= share;
                slopes[lane] *= share;
            }
            for row in logits.chunks_exact_mut(lanes) {
                let row = &mut row[first..first + LANES];
                for lane in 0..LANES {
                    let value = row[lane].max(FLOOR);
                    let (weight, above) = (exp(value - peaks[lane]) * sums[lane], sigmoid(targets[lane] - value));
                    let ranking = weight * (better[lane] + above * (1.0 - above) - above) / better[lane];
                    let size = weight * (2.0 * value + value * value - squares[lane]);
                    row[lane] = scale * (ranking + regularisation * size);
                }
            }
            for (lane, column) in wanted.iter().enumerate() {
                let alone = sums[lane] == 0.0;
                logits[column * lanes + first + lane] = if alone { 0.0 } else { -scale * slopes[lane] / better[lane] };
                loss += if alone { 0.0 } else { f64::from(regularisation * squares[lane] - better[lane].ln()) };
            }
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One example's column of logits as a block of one tile, in the lane given.
    fn block(logits: &[f32], lane: usize) -> Vec<f32> {
        logits.iter().flat_map(|logit| (0..LANES).map(move |other| if other == lane { *logit } else { 0.5 })).collect()
    }

    /// Loss and gradient of one example in the second of two lanes.
    fn learn(kind: LossKind, logits: &[f32], target: usize) -> (f64, Vec<f32>) {
        let mut both = block(logits, 1);
        let loss = next_item_loss(kind, &mut both, LANES, &[0, target], 0.7, 0.5);
        let mut other = block(logits, 1);
        let alone = next_item_loss(kind, &mut other, LANES, &[0], 0.7, 0.5);
        (loss - alone, both.chunks_exact(LANES).map(|row| row[1]).collect())
    }

    #[test]
    fn gradients_agree_with_differences() {
        let logits = [0.3, -1.2, 2.0, 0.0, MASKED_LOGIT, 0.7];
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let (_, gradient) = learn(kind, &logits, 3);
            for column in [0, 1, 2, 3, 5] {
                let (mut more, mut less) = (logits, logits);
                more[column] += 1e-2;
                less[column] -= 1e-2;
                let expected = 0.5 * (learn(kind, &more, 3).0 - learn(kind, &less, 3).0) / 2e-2;
                assert!((f64::from(gradient[column]) - expected).abs() < 2e-4, "{kind:?} {column}: {} is not {expected}", gradient[column]);
            }
            assert_eq!(gradient[4], 0.0, "a masked column learns nothing");
        }
    }

    #[test]
    fn cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
        assert!((learn(LossKind::CrossEntropy, &[1.0; 8], 2).0 - 8.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_lone_target_teaches_nothing() {
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let (loss, gradient) = learn(kind, &[MASKED_LOGIT, 0.4, MASKED_LOGIT], 1);
            assert!(loss.abs() < 1e-6, "{kind:?}: {loss}");
            assert_eq!(gradient, [0.0; 3]);
        }
    }
}
