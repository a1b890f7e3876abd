//! The rules of the watchdog: when it rolls the model back to an earlier state, and to which one;
//! and when it pauses and resumes learning.

use crate::domain::{ModelChange, ModelChangeCause, ModelOperation, Offset};
use serde::{Deserialize, Serialize};

use super::model_health::{HealthMark, ModelHealth};

/// Thresholds of the automatic rollback.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafetySettings {
    /// Relative drop of quality that triggers a rollback. The rule compares the short-term MRR@20
    /// (about the last 1,000 tests) with the long-term MRR@20 (20,000 tests). 0 or 0.05..=1; 0
    /// disables the rule.
    pub quality_drop: f64,
    /// Relative rise of the loss that triggers a rollback. The rule compares the short-term loss
    /// (about the last 10 trainings) with the long-term loss (1,000 trainings). The rule also
    /// triggers if more than half of the recent mini-batches (mean over about 10 trainings) had a
    /// loss or gradient that was not finite. 0 or 1.1..=100; 0 disables the rule.
    pub loss_rise: f64,
    /// The quality rule applies after this many tests. The loss rule applies after a hundredth as
    /// many trainings. 100..=1,000,000.
    pub warm_up: u64,
    /// Lower limit of the training share, which is the share of events that are tested and trained
    /// on. If learning cannot keep up, the load control reduces the training share down to this
    /// limit. 0.015625..=1.
    pub training_share_min: f64,
}

impl Default for SafetySettings {
    fn default() -> Self {
        Self { quality_drop: 0.4, loss_rise: 2.0, warm_up: 5_000, training_share_min: 0.125 }
    }
}

/// Error: a safety setting is outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("safety.{key} = {value}: allowed are {allowed}")]
pub struct SafetySettingsError {
    /// The key within `safety`.
    pub key: &'static str,
    /// The rejected value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl SafetySettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn check(&self) -> Result<(), SafetySettingsError> {
        let off_or = |value: f64, range: std::ops::RangeInclusive<f64>| value == 0.0 || range.contains(&value);
        let rules = [
            (off_or(self.quality_drop, 0.05..=1.0), "quality_drop", self.quality_drop.to_string(), "0, or 0.05..=1"),
            (off_or(self.loss_rise, 1.1..=100.0), "loss_rise", self.loss_rise.to_string(), "0, or 1.1..=100"),
            ((100..=1_000_000).contains(&self.warm_up), "warm_up", self.warm_up.to_string(), "100..=1000000"),
            (
                (1.0 / f64::from(1_u32 << ModelOperation::MAX_HALVINGS)..=1.0).contains(&self.training_share_min),
                "training_share_min",
                self.training_share_min.to_string(),
                "0.015625..=1",
            ),
        ];
        match rules.into_iter().find(|(fits, ..)| !fits) {
            Some((_, key, value, allowed)) => Err(SafetySettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }

    /// How many times the load control may halve the training share without going below the
    /// minimum.
    #[must_use]
    pub fn max_halvings(&self) -> u8 {
        (0..=ModelOperation::MAX_HALVINGS)
            .rev()
            .find(|halvings| 1.0 / f64::from(1_u32 << halvings) >= self.training_share_min)
            .unwrap_or(0)
    }

    /// If the model health violates a rule, returns the cause to record for the resulting
    /// operation. `tolerance` multiplies the thresholds; a smaller value makes the rules stricter.
    fn violated_rule(&self, mark: &HealthMark, tolerance: f64) -> Option<ModelChangeCause> {
        let (quality, loss) = (&mark.quality, &mark.loss);
        let loss_rises =
            loss.count >= self.warm_up / 100 && loss.short_to_long_ratio() - 1.0 > (self.loss_rise - 1.0) * tolerance;
        let is_significant = quality.usual - quality.recent
            > MIN_QUALITY_DROP_IN_DEVIATIONS * max_quality_deviation(quality.usual) * tolerance;
        let quality_drops = quality.count >= self.warm_up
            && 1.0 - quality.short_to_long_ratio() > self.quality_drop * tolerance
            && is_significant;
        match () {
            () if self.loss_rise > 0.0 && (loss_rises || mark.non_finite_share > 0.5 * tolerance) => {
                Some(ModelChangeCause::Loss)
            }
            () if self.quality_drop > 0.0 && quality_drops => Some(ModelChangeCause::Quality),
            () => None,
        }
    }

    /// Returns the operations that the model health requires; none if the model is healthy. `past`
    /// holds the earlier operations, oldest first. `points` returns the offsets of the available
    /// restore points, in ascending order.
    ///
    /// The model is rolled back to the last restore point at which it was healthy. If there is no
    /// such point, learning is paused instead. If the watchdog already rolled back recently,
    /// learning is paused in addition. Learning resumes for a trial ([`Self::decide_trial`]), or
    /// when an operator resumes it.
    ///
    /// # Errors
    /// The error of `points`, which is called only if a rollback is needed.
    pub fn decide_operations<E>(
        &self,
        health: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: impl FnOnce() -> Result<Vec<Offset>, E>,
    ) -> Result<Vec<(ModelOperation, ModelChangeCause)>, E> {
        let Some(cause) = self.violated_rule(health.current(), 1.0) else { return Ok(Vec::new()) };
        let last_trial = past
            .iter()
            .rev()
            .find(|(_, change)| is_made_by_watchdog(change, |operation| *operation == ModelOperation::Resume));
        if last_trial.is_some_and(|(at, _)| health.current().offset < at + TRIAL_LENGTH_IN_ENTRIES) {
            return Ok(Vec::new());
        }
        let points = points()?;
        // Offsets of the marks from the time before the health deteriorated, latest first.
        let mut healthy =
            health.marks().rev().skip_while(|mark| self.violated_rule(mark, 0.4).is_some()).map(|mark| mark.offset);
        let (near, far) = (healthy.next().unwrap_or(0), healthy.next().unwrap_or(0));
        let last_rollback = past.iter().rev().find(|(_, change)| {
            is_made_by_watchdog(change, |operation| matches!(operation, ModelOperation::Rollback { .. }))
        });
        let is_repeated = last_rollback.is_some_and(|(at, _)| at + 10 * self.warm_up > health.current().offset);
        let latest_point_before =
            |healthy| points.iter().rev().copied().find(|point| *point <= healthy && !is_rolled_back(*point, past));
        // Prefer a restore point before the second latest healthy mark. The model may already have
        // deteriorated a little at the latest healthy mark.
        let to = latest_point_before(far).or_else(|| latest_point_before(near));
        let mut operations: Vec<_> = to.map(|to| (ModelOperation::Rollback { to }, cause)).into_iter().collect();
        if to.is_none() || is_repeated {
            operations.push((ModelOperation::Pause, cause));
        }
        Ok(operations)
    }

    /// Returns the operation that resumes learning for a trial, if a trial is due. The first trial
    /// is due 10,000 entries after the watchdog paused learning. Each further pause by the watchdog
    /// doubles this number, up to 640,000. A pause by an operator never ends with a trial.
    #[must_use]
    pub fn decide_trial(
        &self,
        now: Offset,
        past: &[(Offset, ModelChange)],
    ) -> Option<(ModelOperation, ModelChangeCause)> {
        let switches = |operation: &ModelOperation| matches!(operation, ModelOperation::Pause | ModelOperation::Resume);
        let (at, last) = past.iter().rev().find(|(_, change)| switches(&change.operation))?;
        let is_pause = |operation: &ModelOperation| *operation == ModelOperation::Pause;
        let pauses = past.iter().filter(|(_, change)| is_made_by_watchdog(change, is_pause)).count();
        let wait = ENTRIES_BEFORE_FIRST_TRIAL << pauses.saturating_sub(1).min(6);
        (is_made_by_watchdog(last, is_pause) && now >= at + wait).then_some((ModelOperation::Resume, last.cause))
    }
}

/// Whether the watchdog (not an operator) made the change, and the change's operation satisfies
/// `is_kind`.
fn is_made_by_watchdog(change: &ModelChange, is_kind: impl Fn(&ModelOperation) -> bool) -> bool {
    change.cause != ModelChangeCause::Operator && is_kind(&change.operation)
}

/// Number of journal entries from the first pause by the watchdog to the trial.
const ENTRIES_BEFORE_FIRST_TRIAL: u64 = 10_000;
/// Number of journal entries after the start of a trial during which the watchdog does not roll
/// back.
const TRIAL_LENGTH_IN_ENTRIES: u64 = 5_000;

/// A drop of quality is significant if the short-term quality is at least this many standard
/// deviations below the long-term quality.
///
/// The short-term quality is a weighted mean of reciprocal ranks in [0, 1]. For independent
/// non-negative values, the probability that such a mean lies `z` deviations below its expectation
/// is at most exp(-z²/2), if the variance is bounded by the sum of the squared weights times the
/// mean square (Maurer: "A bound on the deviation probability for sums of non-negative random
/// variables", JIPAM 2003). At z = 6 the probability is 1.6e-8 per test, so a stationary stream
/// raises less than one false alarm in 10^7 events.
const MIN_QUALITY_DROP_IN_DEVIATIONS: f64 = 6.0;

/// Upper bound of the standard deviation of the short-term quality around `mean`. A reciprocal rank
/// is at most 1, so the mean of its square is at most `mean`. The squared weights of an exponential
/// average over n values sum to 1 / (2n - 1).
fn max_quality_deviation(mean: f64) -> f64 {
    (mean / (2.0 * ModelHealth::SHORT_TERM_SPANS.0 - 1.0)).sqrt()
}

/// Whether a rollback discarded the model state at offset `point`. A rollback discards all states
/// between its destination and its own offset.
#[must_use]
pub fn is_rolled_back(point: Offset, past: &[(Offset, ModelChange)]) -> bool {
    past.iter()
        .any(|(at, change)| matches!(change.operation, ModelOperation::Rollback { to } if to < point && point <= *at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::TrainingReport;

    /// Simulates the model health over `events` tests, with a training every 10 tests. Up to event
    /// `from`, the rank is 2 and the loss is 5. After that, the rank is `rank` and the loss `loss`.
    fn simulate_degradation(events: u64, from: u64, rank: Option<usize>, loss: f64, skipped: u64) -> ModelHealth {
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
            health.advance_to(event);
        }
        health
    }

    const RESTORE_POINTS: [Offset; 4] = [5_000, 10_000, 15_000, 20_000];

    fn decide_with_restore_points(
        settings: &SafetySettings,
        health: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: &[Offset],
    ) -> Vec<(ModelOperation, ModelChangeCause)> {
        settings.decide_operations(health, past, || Ok::<_, ()>(points.to_vec())).unwrap()
    }

    fn decide_by_default(health: &ModelHealth) -> Vec<(ModelOperation, ModelChangeCause)> {
        decide_with_restore_points(&SafetySettings::default(), health, &[], &RESTORE_POINTS)
    }

    #[test]
    fn a_healthy_model_is_not_rolled_back() {
        assert_eq!(decide_by_default(&simulate_degradation(20_000, 15_100, Some(3), 6.0, 1)), []);
    }

    #[test]
    fn each_violated_rule_rolls_back_to_the_last_restore_point_before_the_fault() {
        let rollback = |cause| vec![(ModelOperation::Rollback { to: 15_000 }, cause)];
        assert_eq!(
            decide_by_default(&simulate_degradation(20_000, 17_000, None, 5.0, 0)),
            rollback(ModelChangeCause::Quality)
        );
        assert_eq!(
            decide_by_default(&simulate_degradation(20_400, 20_100, Some(2), 50.0, 0)),
            [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)],
            "20,000 is too close to the fault"
        );
        assert_eq!(
            decide_by_default(&simulate_degradation(20_000, 17_000, Some(2), 5.0, 4)),
            rollback(ModelChangeCause::Loss)
        );
    }

    #[test]
    fn huge_losses_do_not_raise_the_long_term_average_enough_to_hide_the_fault() {
        assert_eq!(
            decide_by_default(&simulate_degradation(24_000, 17_000, Some(2), 1e9, 0)),
            [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)]
        );
    }

    /// Simulates `tests` tests whose target item has rank 1 with probability `share`. Returns how
    /// often the watchdog would have acted.
    fn count_alarms_on_stationary_stream(tests: u64, share: f64, seed: u64) -> usize {
        let (mut health, mut state, mut alarms) = (ModelHealth::default(), seed, 0);
        for event in 1..=tests {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_hit = ((state >> 33) as f64 / f64::from(1_u32 << 31)) < share;
            health.record_test(is_hit.then_some(1));
            health.advance_to(event);
            alarms += usize::from(event.is_multiple_of(100) && !decide_by_default(&health).is_empty());
        }
        alarms
    }

    #[test]
    fn a_stationary_stream_triggers_no_rollback() {
        for share in [0.002, 0.01, 0.03, 0.1, 0.5] {
            for seed in 1..=4 {
                assert_eq!(count_alarms_on_stationary_stream(300_000, share, seed), 0, "share {share}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_collapse_of_quality_is_detected_from_any_usual_rank_up_to_10() {
        for rank in [1, 2, 5, 10] {
            let mut health = ModelHealth::default();
            for event in 1..=24_000 {
                health.record_test((event <= 20_000).then_some(rank));
                health.advance_to(event);
            }
            assert!(!decide_by_default(&health).is_empty(), "rank {rank}");
        }
    }

    #[test]
    fn a_trial_ends_a_pause_by_the_watchdog_but_not_a_pause_by_an_operator() {
        let change = |operation, cause| ModelChange { timestamp: 0, operation, cause };
        let pause = |cause| change(ModelOperation::Pause, cause);
        let settings = SafetySettings::default();
        let past = [(100, pause(ModelChangeCause::Quality))];
        assert_eq!(settings.decide_trial(10_099, &past), None);
        assert_eq!(settings.decide_trial(10_100, &past), Some((ModelOperation::Resume, ModelChangeCause::Quality)));
        assert_eq!(settings.decide_trial(1 << 40, &[(100, pause(ModelChangeCause::Operator))]), None);
        let resumed = (10_100, change(ModelOperation::Resume, ModelChangeCause::Quality));
        assert_eq!(settings.decide_trial(1 << 40, &[past[0], resumed]), None, "it is not paused");
        let again = [past[0], resumed, (20_000, pause(ModelChangeCause::Quality))];
        assert_eq!(settings.decide_trial(39_999, &again), None, "the second trial comes later");
        assert!(settings.decide_trial(40_000, &again).is_some());
        // During a trial the watchdog does not roll back.
        let degraded = simulate_degradation(24_000, 17_000, None, 5.0, 0);
        let trial = [(20_000, change(ModelOperation::Resume, ModelChangeCause::Quality))];
        assert_eq!(decide_with_restore_points(&settings, &degraded, &trial, &RESTORE_POINTS), []);
        assert!(!decide_with_restore_points(&settings, &degraded, &[(18_000, trial[0].1)], &RESTORE_POINTS).is_empty());
    }

    #[test]
    fn repeated_rollback_or_missing_restore_point_pauses_learning() {
        let earlier_rollback =
            |cause| (15_600, ModelChange { timestamp: 0, operation: ModelOperation::Rollback { to: 5_000 }, cause });
        let degraded = simulate_degradation(20_000, 17_000, None, 5.0, 0);
        let decide =
            |past: &[_], points: &[_]| decide_with_restore_points(&SafetySettings::default(), &degraded, past, points);
        let rollback = |to| (ModelOperation::Rollback { to }, ModelChangeCause::Quality);
        assert_eq!(
            decide(&[earlier_rollback(ModelChangeCause::Operator)], &RESTORE_POINTS),
            [rollback(5_000)],
            "abandoned states are not restored"
        );
        assert_eq!(
            decide(&[earlier_rollback(ModelChangeCause::Loss)], &RESTORE_POINTS),
            [rollback(5_000), (ModelOperation::Pause, ModelChangeCause::Quality)]
        );
        assert_eq!(decide(&[], &[16_900]), [rollback(16_900)], "a close restore point is better than none");
        assert_eq!(decide(&[], &[18_000]), [(ModelOperation::Pause, ModelChangeCause::Quality)]);
    }

    #[test]
    fn no_rule_applies_before_the_warm_up() {
        let health = simulate_degradation(4_900, 2_000, None, 50.0, 0);
        let decide = |warm_up| {
            let settings = SafetySettings { warm_up, ..SafetySettings::default() };
            decide_with_restore_points(&settings, &health, &[], &[1_500])
        };
        assert_eq!(decide(100_000), []);
        assert_ne!(decide(1_000), []);
    }

    #[test]
    fn the_training_share_never_falls_below_its_minimum() {
        for (training_share_min, halvings) in [(1.0, 0), (0.6, 0), (0.5, 1), (0.3, 1), (0.125, 3), (0.015_625, 6)] {
            let settings = SafetySettings { training_share_min, ..SafetySettings::default() };
            settings.check().unwrap();
            assert_eq!(settings.max_halvings(), halvings, "{training_share_min}");
        }
    }

    #[test]
    fn zero_thresholds_disable_the_watchdog() {
        let off = SafetySettings { quality_drop: 0.0, loss_rise: 0.0, ..SafetySettings::default() };
        off.check().unwrap();
        assert_eq!(
            decide_with_restore_points(
                &off,
                &simulate_degradation(20_000, 17_000, None, 50.0, 4),
                &[],
                &RESTORE_POINTS
            ),
            []
        );
        let error = SafetySettings { quality_drop: 1.5, ..off }.check().unwrap_err();
        assert_eq!(error.to_string(), "safety.quality_drop = 1.5: allowed are 0, or 0.05..=1");
    }
}
