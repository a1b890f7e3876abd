//! Optimisers: SGD with momentum, Adagrad, row-wise Adagrad and Adam.
//!
//! Every batch updates all dense parameters: the layer weights and other parameters that are not in
//! embedding tables. In the embedding tables, a batch updates only the rows that it uses. Every
//! weight has its own optimiser state, except that row-wise Adagrad keeps one sum of squares per
//! embedding.

use super::embedding_table::RowState;
use super::math::{dot, kernel};
use super::settings::{NetworkSettings, OptimiserKind};

/// Largest absolute value of a weight. The clamp keeps weights and logits from overflowing at any
/// learning rate.
const MAX_WEIGHT: f32 = 1e4;

impl OptimiserKind {
    /// Number of optimiser state values per parameter that is not in an embedding table. SGD stores
    /// the velocity, Adagrad the sum of squares, Adam the first and the second moment.
    pub(super) fn state_values_per_parameter(self) -> usize {
        match self {
            Self::Sgd | Self::Adagrad | Self::RowAdagrad => 1,
            Self::Adam => 2,
        }
    }

    /// The optimiser state of a row of an embedding table.
    pub(super) fn row_state(self) -> RowState {
        match self {
            Self::RowAdagrad => RowState::PerRow,
            _ => RowState::PerWeight(self.state_values_per_parameter()),
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
            OptimiserKind::Adagrad | OptimiserKind::RowAdagrad => adagrad(self, weights, first, gradient),
            OptimiserKind::Adam => adam(self, weights, first, second, gradient),
        }
    }

    /// Updates a row of an embedding table by `gradient`. The first `hidden` weights are the
    /// embedding; biases may follow. `state` is the row's [`RowState`].
    pub(super) fn update_row(&self, weights: &mut [f32], state: &mut [f32], gradient: &[f32], hidden: usize) {
        let (OptimiserKind::RowAdagrad, [square_of_embedding, square_of_biases]) = (self.kind, &mut *state) else {
            return self.update_weights(weights, state, gradient);
        };
        let (embedding, biases) = weights.split_at_mut(hidden.min(weights.len()));
        let (embedding_gradient, bias_gradient) = gradient.split_at(embedding.len().min(gradient.len()));
        row_adagrad(self, embedding, square_of_embedding, embedding_gradient, hidden as f32);
        row_adagrad(self, biases, square_of_biases, bias_gradient, 1.0);
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

    /// Adagrad with one sum of squares for all weights: `a ← a + ‖g‖² / divisor; w ← w − η g / √(a +
    /// ε)`.
    fn row_adagrad<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], square: &'a mut f32, gradients: &'a [f32], divisor: f32) -> () {
        *square += step.scale * step.scale * dot(gradients, gradients) / divisor;
        let rate = step.rate * step.scale / (*square + step.epsilon).sqrt();
        for (weight, gradient) in weights.iter_mut().zip(gradients) {
            *weight = (*weight - rate * gradient).clamp(-MAX_WEIGHT, MAX_WEIGHT);
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

    #[test]
    fn row_adagrad_has_one_rate_per_embedding_and_one_for_the_bias() {
        let settings = NetworkSettings { optimiser: OptimiserKind::RowAdagrad, epsilon: 1e-8, ..Default::default() };
        let step = OptimiserStep::new(&settings, 0.1, 0.5, 1);
        let (mut weights, mut state) = ([1.0; 4], [0.0, 3.0]);
        step.update_row(&mut weights, &mut state, &[6.0, 8.0, 2.0, 0.0], 2);
        // The scaled gradient of the embedding is (3, 4), with the mean square 12.5.
        assert_eq!(state, [12.5, 4.0]);
        let expected = [1.0 - 0.3 / 12.5_f32.sqrt(), 1.0 - 0.4 / 12.5_f32.sqrt(), 0.95, 1.0];
        assert!(weights.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{weights:?}");
        step.update_row(&mut weights[..2], &mut state, &[0.0; 2], 2);
        assert_eq!(state, [12.5, 4.0], "a row without biases keeps the second value");
    }

    #[test]
    fn a_row_is_updated_like_other_weights_with_every_other_optimiser() {
        for optimiser in [OptimiserKind::Sgd, OptimiserKind::Adagrad, OptimiserKind::Adam] {
            let step = OptimiserStep::new(&NetworkSettings { optimiser, ..Default::default() }, 0.1, 1.0, 1);
            let (mut row, mut state) = ([1.0, 2.0, 3.0], vec![0.5; 3 * optimiser.state_values_per_parameter()]);
            let (mut weights, mut weight_state) = (row, state.clone());
            step.update_row(&mut row, &mut state, &[1.0, -2.0, 0.5], 2);
            step.update_weights(&mut weights, &mut weight_state, &[1.0, -2.0, 0.5]);
            assert!(row == weights && state == weight_state, "{optimiser:?}");
        }
    }

    fn distance_to_minimum_after_500_steps(optimiser: OptimiserKind, rate: f32) -> f32 {
        let settings = NetworkSettings { optimiser, ..Default::default() };
        let (mut weights, mut state) = (vec![5.0, -3.0], vec![0.0; optimiser.row_state().len(2)]);
        for step_number in 1..=500 {
            let gradient: Vec<f32> = weights.iter().map(|weight| 2.0 * (weight - 1.0)).collect();
            let step = OptimiserStep::new(&settings, rate, 1.0, step_number);
            step.update_row(&mut weights, &mut state, &gradient, 2);
        }
        weights.iter().map(|weight| (weight - 1.0).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn every_optimiser_minimises_a_quadratic() {
        for (optimiser, rate) in [
            (OptimiserKind::Sgd, 0.01),
            (OptimiserKind::Adagrad, 1.0),
            (OptimiserKind::Adam, 0.1),
            (OptimiserKind::RowAdagrad, 1.0),
        ] {
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
