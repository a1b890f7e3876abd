//! The losses of the next-item head, one example at a time: a row of logits becomes the row of its gradients.

use super::math::{exp, exp_and_sum, kernel, largest, sigmoid};
use super::settings::LossKind;

/// The logit of what must not count as a negative: its exponential is exactly zero.
pub(super) const MASKED: f32 = -1e30;

/// The loss of one example. `logits` (one a column) become `scale` times its gradient; column `target` is the item that came. Masked columns get none.
pub(super) fn next_item(kind: LossKind, logits: &mut [f32], target: usize, regularisation: f32, scale: f32) -> f64 {
    match kind {
        LossKind::CrossEntropy => cross_entropy(logits, target, scale),
        LossKind::BprMax => bpr_max(logits, target, regularisation, scale),
    }
}

kernel! {
    /// `−ln softmax(logits)[target]`.
    fn cross_entropy<'a>(logits: &'a mut [f32], target: usize, scale: f32) -> f64 {
        let Some(wanted) = logits.get(target).copied() else {
            return 0.0;
        };
        let peak = largest(logits);
        let sum = exp_and_sum(logits, peak);
        let factor = scale / sum;
        for value in logits.iter_mut() {
            *value *= factor;
        }
        logits[target] -= scale;
        f64::from(peak) + f64::from(sum).ln() - f64::from(wanted)
    }

    /// `−ln Σⱼ sⱼ σ(r − rⱼ) + λ Σⱼ sⱼ rⱼ²` over the negatives j, s their softmax and r the target's logit [Hidasi & Karatzoglou 2018].
    fn bpr_max<'a>(logits: &'a mut [f32], target: usize, regularisation: f32, scale: f32) -> f64 {
        let Some(wanted) = logits.get(target).copied() else {
            return 0.0;
        };
        logits[target] = MASKED;
        let peak = largest(logits);
        if peak <= MASKED {
            // Nothing to tell it from.
            logits.fill(0.0);
            return 0.0;
        }
        let (mut sum, mut better, mut squares, mut slope) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
        for value in logits.iter() {
            let (weight, above) = (exp(value - peak), sigmoid(wanted - value));
            sum += weight;
            better += weight * above;
            slope += weight * above * (1.0 - above);
            squares += if weight > 0.0 { weight * value * value } else { 0.0 };
        }
        let (better, squares, slope) = ((better / sum).max(1e-24), squares / sum, slope / sum);
        for value in logits.iter_mut() {
            let (weight, above) = (exp(*value - peak) / sum, sigmoid(wanted - *value));
            let ranking = weight * (better + above * (1.0 - above) - above) / better;
            let size = if weight > 0.0 { weight * (2.0 * *value + *value * *value - squares) } else { 0.0 };
            *value = scale * (ranking + regularisation * size);
        }
        logits[target] = -scale * slope / better;
        f64::from(-better.ln() + regularisation * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss_at(kind: LossKind, logits: &[f32], target: usize) -> f64 {
        next_item(kind, &mut logits.to_vec(), target, 0.7, 1.0)
    }

    #[test]
    fn gradients_agree_with_differences() {
        let logits = [0.3, -1.2, 2.0, 0.0, MASKED, 0.7];
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let mut gradient = logits.to_vec();
            next_item(kind, &mut gradient, 3, 0.7, 0.5);
            for column in [0, 1, 2, 3, 5] {
                let (mut more, mut less) = (logits, logits);
                more[column] += 1e-2;
                less[column] -= 1e-2;
                let expected = 0.5 * (loss_at(kind, &more, 3) - loss_at(kind, &less, 3)) / 2e-2;
                assert!((f64::from(gradient[column]) - expected).abs() < 2e-4, "{kind:?} {column}: {} is not {expected}", gradient[column]);
            }
            assert_eq!(gradient[4], 0.0, "a masked column learns nothing");
        }
    }

    #[test]
    fn cross_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
        assert!((loss_at(LossKind::CrossEntropy, &[1.0; 8], 2) - 8.0_f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_lone_target_teaches_nothing() {
        for kind in [LossKind::CrossEntropy, LossKind::BprMax] {
            let mut logits = [MASKED, 0.4, MASKED];
            assert_eq!(next_item(kind, &mut logits, 1, 1.0, 1.0), 0.0);
            assert_eq!(logits, [0.0; 3]);
        }
    }
}
