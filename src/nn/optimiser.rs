//! Optimisers: SGD with momentum, Adagrad and Adam.
//!
//! Every batch updates all dense parameters: the layer weights and other parameters that are not in
//! embedding tables. In the embedding tables, a batch updates only the rows that it uses. Every
//! weight has its own optimiser state.

use super::math::kernel;
use super::settings::{NetworkSettings, OptimiserKind};

/// Largest absolute value of a weight. The clamp keeps weights and logits from overflowing at any
/// learning rate.
const MAX_WEIGHT: f32 = 1e4;

impl OptimiserKind {
    /// Number of optimiser state values per parameter. SGD stores the velocity, Adagrad the sum of
    /// squares, Adam the first and the second moment.
    pub(super) fn state_values_per_parameter(self) -> usize {
        match self {
            Self::Sgd | Self::Adagrad => 1,
            Self::Adam => 2,
        }
    }
}

/// The update rule for one batch, with the values that are the same for all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptimiserStep {
    kind: OptimiserKind,
    rate: f32,
    /// Every gradient is multiplied by this factor. It is below 1 if the gradient norm is clipped.
    scale: f32,
    momentum: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// Adam's bias corrections `1 / (1 − β₁ᵗ)` and `1 / (1 − β₂ᵗ)`.
    bias_corrections: (f32, f32),
}

impl OptimiserStep {
    /// Creates the update rule for the step with number `step_number`, counted from 1.
    pub(super) fn new(settings: &NetworkSettings, rate: f32, scale: f32, step_number: u64) -> Self {
        let exponent = i32::try_from(step_number).unwrap_or(i32::MAX);
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(exponent))) as f32;
        Self {
            kind: settings.optimiser,
            rate,
            scale,
            momentum: settings.momentum,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            bias_corrections: (correction(settings.beta1), correction(settings.beta2)),
        }
    }

    /// Updates `weights` by `gradient`. `state` holds [`OptimiserKind::state_values_per_parameter`]
    /// values per weight: first one value for every weight, then the second value for every weight.
    pub(super) fn update_weights(&self, weights: &mut [f32], state: &mut [f32], gradient: &[f32]) {
        let (first, second) = state.split_at_mut(weights.len());
        match self.kind {
            OptimiserKind::Sgd => sgd(self, weights, first, gradient),
            OptimiserKind::Adagrad => adagrad(self, weights, first, gradient),
            OptimiserKind::Adam => adam(self, weights, first, second, gradient),
        }
    }
}

kernel! {
    /// SGD with momentum: `v ← μ v + g; w ← w − η v`.
    fn sgd<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], velocities: &'a mut [f32], gradients: &'a [f32]) -> () {
        for ((weight, velocity), gradient) in weights.iter_mut().zip(velocities).zip(gradients) {
            *velocity = step.momentum * *velocity + step.scale * gradient;
            *weight = (*weight - step.rate * *velocity).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }

    /// Adagrad [Duchi et al. 2011], diagonal: `a ← a + g²; w ← w − η g / √(a + ε)`.
    fn adagrad<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], squares: &'a mut [f32], gradients: &'a [f32]) -> () {
        for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradients) {
            let gradient = step.scale * gradient;
            *square += gradient * gradient;
            *weight = (*weight - step.rate * gradient / (*square + step.epsilon).sqrt()).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }

    /// Adam [Kingma & Ba 2015]: `m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η m̂ / (√v̂
    /// + ε)`, with `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)`.
    ///
    /// Embedding rows use lazy Adam: t counts all batches, but the moments of a row decay only when
    /// a batch uses the row.
    fn adam<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], means: &'a mut [f32], squares: &'a mut [f32], gradients: &'a [f32]) -> () {
        for (((weight, mean), square), gradient) in weights.iter_mut().zip(means).zip(squares).zip(gradients) {
            let gradient = step.scale * gradient;
            *mean = step.beta1 * *mean + (1.0 - step.beta1) * gradient;
            *square = step.beta2 * *square + (1.0 - step.beta2) * gradient * gradient;
            let change = step.rate * *mean * step.bias_corrections.0 / ((*square * step.bias_corrections.1).sqrt() + step.epsilon);
            *weight = (*weight - change).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance_to_minimum_after_500_steps(optimiser: OptimiserKind, rate: f32) -> f32 {
        let settings = NetworkSettings { optimiser, ..Default::default() };
        let (mut weights, mut state) = (vec![5.0, -3.0], vec![0.0; 2 * optimiser.state_values_per_parameter()]);
        for step_number in 1..=500 {
            let gradient: Vec<f32> = weights.iter().map(|weight| 2.0 * (weight - 1.0)).collect();
            OptimiserStep::new(&settings, rate, 1.0, step_number).update_weights(&mut weights, &mut state, &gradient);
        }
        weights.iter().map(|weight| (weight - 1.0).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn every_optimiser_minimises_a_quadratic() {
        for (optimiser, rate) in [(OptimiserKind::Sgd, 0.01), (OptimiserKind::Adagrad, 1.0), (OptimiserKind::Adam, 0.1)]
        {
            let error = distance_to_minimum_after_500_steps(optimiser, rate);
            assert!(error < 1e-2, "{optimiser:?} is off by {error}");
        }
    }

    #[test]
    fn the_first_step_of_each_optimiser_matches_its_formula() {
        let first = |optimiser| {
            let settings = NetworkSettings { optimiser, epsilon: 1e-8, ..Default::default() };
            let (mut weight, mut state) = ([1.0], vec![0.0; optimiser.state_values_per_parameter()]);
            OptimiserStep::new(&settings, 0.1, 0.5, 1).update_weights(&mut weight, &mut state, &[4.0]);
            weight[0]
        };
        assert!((first(OptimiserKind::Sgd) - 0.8).abs() < 1e-6);
        assert!((first(OptimiserKind::Adagrad) - 0.9).abs() < 1e-6);
        assert!((first(OptimiserKind::Adam) - 0.9).abs() < 1e-6);
    }

    #[test]
    fn weights_are_clamped_at_any_learning_rate() {
        let settings = NetworkSettings { optimiser: OptimiserKind::Sgd, ..Default::default() };
        let (mut weight, mut state) = ([1.0], [0.0]);
        OptimiserStep::new(&settings, 10.0, 1.0, 1).update_weights(&mut weight, &mut state, &[1e15]);
        assert_eq!(weight, [-MAX_WEIGHT]);
    }
}
