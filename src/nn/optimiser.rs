//! How gradients become steps: SGD with momentum, Adagrad, Adam, on the dense parameters and on single rows of a table alike.

use super::math::kernel;
use super::settings::{NetworkSettings, OptimiserKind};

/// No weight leaves ± this, so that whatever the learning rate no weight and no logit ever overflows.
const LIMIT: f32 = 1e4;

impl OptimiserKind {
    /// Values that are remembered beside every parameter.
    pub(super) fn state_per_parameter(self) -> usize {
        match self {
            Self::Sgd | Self::Adagrad => 1,
            Self::Adam => 2,
        }
    }
}

/// One batch's step: the rule with everything that is the same for all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct OptimiserStep {
    kind: OptimiserKind,
    rate: f32,
    /// Factor on every gradient, below 1 where the norm is clipped.
    scale: f32,
    momentum: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    /// Adam's corrections of its two young moments, `1 / (1 − βᵗ)`.
    corrections: (f32, f32),
}

impl OptimiserStep {
    /// The `count`-th step, counted from one.
    pub(super) fn new(settings: &NetworkSettings, rate: f32, scale: f32, count: u64) -> Self {
        let exponent = i32::try_from(count).unwrap_or(i32::MAX);
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(exponent))) as f32;
        Self {
            kind: settings.optimiser,
            rate,
            scale,
            momentum: settings.momentum,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            corrections: (correction(settings.beta1), correction(settings.beta2)),
        }
    }

    /// Steps `weights` along `gradient`. `memory` holds [`OptimiserKind::memories`] times as many values, one kind after the other.
    pub(super) fn apply(&self, weights: &mut [f32], memory: &mut [f32], gradient: &[f32]) {
        let (first, second) = memory.split_at_mut(weights.len());
        match self.kind {
            OptimiserKind::Sgd => sgd(self, weights, first, gradient),
            OptimiserKind::Adagrad => adagrad(self, weights, first, gradient),
            OptimiserKind::Adam => adam(self, weights, first, second, gradient),
        }
    }
}

kernel! {
    /// `v ← μ v + g; w ← w − η v`.
    fn sgd<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], velocities: &'a mut [f32], gradients: &'a [f32]) -> () {
        for ((weight, velocity), gradient) in weights.iter_mut().zip(velocities).zip(gradients) {
            *velocity = step.momentum * *velocity + step.scale * gradient;
            *weight = (*weight - step.rate * *velocity).clamp(-LIMIT, LIMIT);
        }
    }

    /// `a ← a + g²; w ← w − η g / √(a + ε)`.
    fn adagrad<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], squares: &'a mut [f32], gradients: &'a [f32]) -> () {
        for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradients) {
            let gradient = step.scale * gradient;
            *square += gradient * gradient;
            *weight = (*weight - step.rate * gradient / (*square + step.epsilon).sqrt()).clamp(-LIMIT, LIMIT);
        }
    }

    /// `m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η m̂ / (√v̂ + ε)`.
    fn adam<'a>(step: &'a OptimiserStep, weights: &'a mut [f32], means: &'a mut [f32], squares: &'a mut [f32], gradients: &'a [f32]) -> () {
        for (((weight, mean), square), gradient) in weights.iter_mut().zip(means).zip(squares).zip(gradients) {
            let gradient = step.scale * gradient;
            *mean = step.beta1 * *mean + (1.0 - step.beta1) * gradient;
            *square = step.beta2 * *square + (1.0 - step.beta2) * gradient * gradient;
            let change = step.rate * *mean * step.corrections.0 / ((*square * step.corrections.1).sqrt() + step.epsilon);
            *weight = (*weight - change).clamp(-LIMIT, LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descend(optimiser: OptimiserKind, rate: f32) -> f32 {
        let settings = NetworkSettings { optimiser, ..Default::default() };
        let (mut weights, mut memory) = (vec![5.0, -3.0], vec![0.0; 2 * optimiser.state_per_parameter()]);
        for count in 1..=500 {
            let gradient: Vec<f32> = weights.iter().map(|weight| 2.0 * (weight - 1.0)).collect();
            OptimiserStep::new(&settings, rate, 1.0, count).apply(&mut weights, &mut memory, &gradient);
        }
        weights.iter().map(|weight| (weight - 1.0).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn every_rule_finds_the_bottom_of_a_bowl() {
        for (optimiser, rate) in [(OptimiserKind::Sgd, 0.01), (OptimiserKind::Adagrad, 1.0), (OptimiserKind::Adam, 0.1)] {
            let error = descend(optimiser, rate);
            assert!(error < 1e-2, "{optimiser:?} is off by {error}");
        }
    }

    #[test]
    fn the_first_steps_are_those_of_the_formulas() {
        let first = |optimiser| {
            let settings = NetworkSettings { optimiser, epsilon: 1e-8, ..Default::default() };
            let (mut weight, mut memory) = ([1.0], vec![0.0; optimiser.state_per_parameter()]);
            OptimiserStep::new(&settings, 0.1, 0.5, 1).apply(&mut weight, &mut memory, &[4.0]);
            weight[0]
        };
        assert!((first(OptimiserKind::Sgd) - 0.8).abs() < 1e-6);
        assert!((first(OptimiserKind::Adagrad) - 0.9).abs() < 1e-6);
        assert!((first(OptimiserKind::Adam) - 0.9).abs() < 1e-6);
    }

    #[test]
    fn no_rate_makes_a_weight_overflow() {
        let settings = NetworkSettings { optimiser: OptimiserKind::Sgd, ..Default::default() };
        let (mut weight, mut memory) = ([1.0], [0.0]);
        OptimiserStep::new(&settings, 10.0, 1.0, 1).apply(&mut weight, &mut memory, &[1e15]);
        assert_eq!(weight, [-LIMIT]);
    }
}
