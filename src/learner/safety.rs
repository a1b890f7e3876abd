//! The watchdog's rules: when to roll the model back, and to which earlier state.

use crate::domain::{ModelChange, ModelChangeCause, ModelOperation, Offset};
use serde::{Deserialize, Serialize};

use super::model_health::{HealthMark, ModelHealth};

/// Thresholds of the automatic rollback.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafetySettings {
    /// Relative drop that triggers a rollback: the short-term MRR@20 (about the last 1,000 tests)
    /// against the long-term one (20,000). 0 or 0.05..=1; 0 disables the rule.
    pub quality_drop: f64,
    /// Relative rise that triggers a rollback: the short-term loss (about the last 10 trainings)
    /// against the long-term one (1,000). If half of the mini-batches are not finite, the rule also
    /// triggers. 0 or 1.1..=100; 0 disables the rule.
    pub loss_rise: f64,
    /// Number of tests before quality is judged; the loss is judged after a hundredth as many
    /// trainings. 100..=1,000,000.
    pub warm_up: u64,
}

impl Default for SafetySettings {
    fn default() -> Self {
        Self { quality_drop: 0.4, loss_rise: 2.0, warm_up: 5_000 }
    }
}

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("safety.{key} = {value}: allowed are {allowed}")]
pub struct SafetySettingsError {
    /// The key within `safety`.
    pub key: &'static str,
    /// The given value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl SafetySettings {
    /// Validates the settings.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), SafetySettingsError> {
        let off_or = |value: f64, range: std::ops::RangeInclusive<f64>| value == 0.0 || range.contains(&value);
        let rules = [
            (off_or(self.quality_drop, 0.05..=1.0), "quality_drop", self.quality_drop.to_string(), "0, or 0.05..=1"),
            (off_or(self.loss_rise, 1.1..=100.0), "loss_rise", self.loss_rise.to_string(), "0, or 1.1..=100"),
            ((100..=1_000_000).contains(&self.warm_up), "warm_up", self.warm_up.to_string(), "100..=1000000"),
        ];
        match rules.into_iter().find(|(fits, ..)| !fits) {
            Some((_, key, value, allowed)) => Err(SafetySettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }

    /// Returns the violated rule, if any. `tolerance` scales the thresholds: 1 uses the configured
    /// ones, less is stricter.
    fn fault(&self, mark: &HealthMark, tolerance: f64) -> Option<ModelChangeCause> {
        let (quality, loss) = (&mark.quality, &mark.loss);
        let loss_rises = loss.count >= self.warm_up / 100 && loss.ratio() - 1.0 > (self.loss_rise - 1.0) * tolerance;
        let quality_drops = quality.count >= self.warm_up && 1.0 - quality.ratio() > self.quality_drop * tolerance;
        match () {
            () if self.loss_rise > 0.0 && (loss_rises || mark.non_finite_share > 0.5 * tolerance) => Some(ModelChangeCause::Loss),
            () if self.quality_drop > 0.0 && quality_drops => Some(ModelChangeCause::Quality),
            () => None,
        }
    }

    /// Returns the operations that the model's health requires; none if it is healthy. `past` are
    /// the earlier operations in order; `points` returns the available restore points, ascending.
    ///
    /// The model is rolled back to the last restore point at which it was healthy. If there is
    /// none, or if the watchdog rolled back recently, learning is paused until an operator
    /// intervenes.
    ///
    /// # Errors
    /// The error of `points`, which is called only if a rollback is needed.
    pub fn decide_operations<E>(
        &self,
        health: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: impl FnOnce() -> Result<Vec<Offset>, E>,
    ) -> Result<Vec<(ModelOperation, ModelChangeCause)>, E> {
        let Some(cause) = self.fault(health.current(), 1.0) else { return Ok(Vec::new()) };
        let points = points()?;
        // Marks at which the problem was not yet visible, the latest first.
        let mut healthy = health.marks().rev().skip_while(|mark| self.fault(mark, 0.4).is_some()).map(|mark| mark.offset);
        let (near, far) = (healthy.next().unwrap_or(0), healthy.next().unwrap_or(0));
        let last_rollback = past
            .iter()
            .rev()
            .find(|(_, change)| change.cause != ModelChangeCause::Operator && matches!(change.operation, ModelOperation::Rollback { .. }));
        let is_repeated = last_rollback.is_some_and(|(at, _)| at + 10 * self.warm_up > health.current().offset);
        let latest_point_before = |healthy| points.iter().rev().copied().find(|point| *point <= healthy && !is_rolled_back(*point, past));
        // Prefers a restore point that is one mark older, to keep a margin.
        let to = latest_point_before(far).or_else(|| latest_point_before(near));
        let mut operations: Vec<_> = to.map(|to| (ModelOperation::Rollback { to }, cause)).into_iter().collect();
        if to.is_none() || is_repeated {
            operations.push((ModelOperation::Pause, cause));
        }
        Ok(operations)
    }
}

/// Whether a rollback abandoned the model state at `point`: the point lies between a rollback's
/// destination and the rollback itself.
#[must_use]
pub fn is_rolled_back(point: Offset, past: &[(Offset, ModelChange)]) -> bool {
    past.iter().any(|(at, change)| matches!(change.operation, ModelOperation::Rollback { to } if to < point && point <= *at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::TrainingReport;

    /// Simulates tests at rank 2 with a training every 10 events. From event `from` on, tests have
    /// rank `rank` and trainings have loss `loss`.
    fn simulate(events: u64, from: u64, rank: Option<usize>, loss: f64, skipped: u64) -> ModelHealth {
        let (mut health, mut all) = (ModelHealth::default(), TrainingReport::default());
        for event in 1..=events {
            let is_degraded = event > from;
            health.record_test(if is_degraded { rank } else { Some(2) });
            if event.is_multiple_of(10) {
                let (batches, skipped) = if is_degraded { (4 - skipped, skipped) } else { (4, 0) };
                all.merge(&TrainingReport {
                    batches,
                    skipped,
                    loss: batches as f64 * if is_degraded { loss } else { 5.0 },
                    ..TrainingReport::default()
                });
                health.record_training(&all);
            }
            health.advance(event);
        }
        health
    }

    const POINTS: [Offset; 4] = [5_000, 10_000, 15_000, 20_000];

    fn decide(
        settings: &SafetySettings,
        health: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: &[Offset],
    ) -> Vec<(ModelOperation, ModelChangeCause)> {
        settings.decide_operations(health, past, || Ok::<_, ()>(points.to_vec())).unwrap()
    }

    fn decide_by_default(health: &ModelHealth) -> Vec<(ModelOperation, ModelChangeCause)> {
        decide(&SafetySettings::default(), health, &[], &POINTS)
    }

    #[test]
    fn healthy_model_is_left_alone() {
        assert_eq!(decide_by_default(&simulate(20_000, 15_100, Some(3), 6.0, 1)), []);
    }

    #[test]
    fn each_fault_rolls_back_to_the_last_point_before_it() {
        let rollback = |cause| vec![(ModelOperation::Rollback { to: 15_000 }, cause)];
        assert_eq!(decide_by_default(&simulate(20_000, 17_000, None, 5.0, 0)), rollback(ModelChangeCause::Quality));
        assert_eq!(
            decide_by_default(&simulate(20_400, 20_100, Some(2), 50.0, 0)),
            [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)],
            "20,000 is too close to the fault"
        );
        assert_eq!(decide_by_default(&simulate(20_000, 17_000, Some(2), 5.0, 4)), rollback(ModelChangeCause::Loss));
    }

    #[test]
    fn huge_losses_do_not_become_normal() {
        assert_eq!(
            decide_by_default(&simulate(24_000, 17_000, Some(2), 1e9, 0)),
            [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)]
        );
    }

    #[test]
    fn repeated_rollback_or_missing_restore_point_pauses_learning() {
        let earlier_rollback = |cause| (15_600, ModelChange { timestamp: 0, operation: ModelOperation::Rollback { to: 5_000 }, cause });
        let is_degraded = simulate(20_000, 17_000, None, 5.0, 0);
        let decide_by_default = |past: &[_], points: &[_]| decide(&SafetySettings::default(), &is_degraded, past, points);
        let rollback = |to| (ModelOperation::Rollback { to }, ModelChangeCause::Quality);
        assert_eq!(
            decide_by_default(&[earlier_rollback(ModelChangeCause::Operator)], &POINTS),
            [rollback(5_000)],
            "abandoned states are not restored"
        );
        assert_eq!(
            decide_by_default(&[earlier_rollback(ModelChangeCause::Loss)], &POINTS),
            [rollback(5_000), (ModelOperation::Pause, ModelChangeCause::Quality)]
        );
        assert_eq!(decide_by_default(&[], &[16_900]), [rollback(16_900)], "a close restore point is better than none");
        assert_eq!(decide_by_default(&[], &[18_000]), [(ModelOperation::Pause, ModelChangeCause::Quality)]);
    }

    #[test]
    fn zero_thresholds_disable_the_watchdog() {
        let off = SafetySettings { quality_drop: 0.0, loss_rise: 0.0, ..SafetySettings::default() };
        off.check().unwrap();
        assert_eq!(decide(&off, &simulate(20_000, 17_000, None, 50.0, 4), &[], &POINTS), []);
        let error = SafetySettings { quality_drop: 1.5, ..off }.check().unwrap_err();
        assert_eq!(error.to_string(), "safety.quality_drop = 1.5: allowed are 0, or 0.05..=1");
    }
}
