//! When a model is not to be trusted any more, and which earlier one is.

use crate::domain::{ModelChange, ModelChangeCause, ModelOperation, Offset};
use serde::{Deserialize, Serialize};

use super::model_health::{HealthMark, ModelHealth};

/// When the model is rolled back without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SafetySettings {
    /// Roll back when the recent MRR@20 (about the last 1,000 steps) lies below the usual one
    /// (20,000) by this share of it; 0: never. 0 or 0.05..=1.
    pub quality_drop: f64,
    /// Roll back when the recent loss (about the last 10 trainings) is more than this many times
    /// the usual one (1,000), or half of the batches are not finite; 0: never. 0 or 1.1..=100.
    pub loss_rise: f64,
    /// Steps that must have been tested before quality, and a hundredth of it the trainings before
    /// the loss, is judged. 100..=1,000,000.
    pub warm_up: u64,
}

impl Default for SafetySettings {
    fn default() -> Self {
        Self { quality_drop: 0.4, loss_rise: 2.0, warm_up: 5_000 }
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("safety.{key} = {value}: allowed are {allowed}")]
pub struct SafetySettingsError {
    /// The key within `safety`.
    pub key: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl SafetySettings {
    /// Passes settings that can run.
    ///
    /// # Errors
    /// The first setting that is out of its range.
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

    /// What is wrong at a moment, if anything is. `tolerance` of 1 is what the settings say, less
    /// is stricter.
    fn fault(&self, mark: &HealthMark, tolerance: f64) -> Option<ModelChangeCause> {
        let (quality, loss) = (&mark.quality, &mark.loss);
        let loses = loss.count >= self.warm_up / 100 && loss.ratio() - 1.0 > (self.loss_rise - 1.0) * tolerance;
        let falls = quality.count >= self.warm_up && 1.0 - quality.ratio() > self.quality_drop * tolerance;
        match () {
            () if self.loss_rise > 0.0 && (loses || mark.non_finite_share > 0.5 * tolerance) => Some(ModelChangeCause::Loss),
            () if self.quality_drop > 0.0 && falls => Some(ModelChangeCause::Quality),
            () => None,
        }
    }

    /// What is to be done about the model as it does: nothing, mostly. `past` are the acts so far,
    /// in their order; `points` the offsets that it can go back to, ascending.
    ///
    /// It goes back to the last point at which all was well. Where there is none, or where it has
    /// just been taken back, nothing is learned until somebody looks.
    ///
    /// # Errors
    /// What kept `points` from being told, which are asked for only if they are needed.
    pub fn decide_operations<E>(
        &self,
        vitals: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: impl FnOnce() -> Result<Vec<Offset>, E>,
    ) -> Result<Vec<(ModelOperation, ModelChangeCause)>, E> {
        let Some(cause) = self.fault(vitals.current(), 1.0) else { return Ok(Vec::new()) };
        let points = points()?;
        // The marks at which there was no sign of it yet, the last first.
        let mut well = vitals.marks().rev().skip_while(|mark| self.fault(mark, 0.4).is_some()).map(|mark| mark.offset);
        let (near, far) = (well.next().unwrap_or(0), well.next().unwrap_or(0));
        let just_now = past
            .iter()
            .rev()
            .find(|(_, change)| change.cause != ModelChangeCause::Operator && matches!(change.operation, ModelOperation::Rollback { .. }));
        let again = just_now.is_some_and(|(at, _)| at + 10 * self.warm_up > vitals.current().offset);
        let before = |well| points.iter().rev().copied().find(|point| *point <= well && !is_rolled_back(*point, past));
        // One mark more for good measure, where there is a point from then.
        let to = before(far).or_else(|| before(near));
        let mut acts: Vec<_> = to.map(|to| (ModelOperation::Rollback { to }, cause)).into_iter().collect();
        if to.is_none() || again {
            acts.push((ModelOperation::Pause, cause));
        }
        Ok(acts)
    }
}

/// Whether the model as it was at `point` was left by a rollback: it lies between where one went to
/// and where it was made.
#[must_use]
pub fn is_rolled_back(point: Offset, past: &[(Offset, ModelChange)]) -> bool {
    past.iter().any(|(at, change)| matches!(change.operation, ModelOperation::Rollback { to } if to < point && point <= *at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::TrainingReport;

    /// Steps at rank 2, each with its share of a training; from `from` on at `rank`, with that
    /// loss.
    fn lived(events: u64, from: u64, rank: Option<usize>, loss: f64, skipped: u64) -> ModelHealth {
        let (mut vitals, mut all) = (ModelHealth::default(), TrainingReport::default());
        for event in 1..=events {
            let ill = event > from;
            vitals.record_test(if ill { rank } else { Some(2) });
            if event.is_multiple_of(10) {
                let (batches, skipped) = if ill { (4 - skipped, skipped) } else { (4, 0) };
                all.merge(&TrainingReport {
                    batches,
                    skipped,
                    loss: batches as f64 * if ill { loss } else { 5.0 },
                    ..TrainingReport::default()
                });
                vitals.record_training(&all);
            }
            vitals.advance(event);
        }
        vitals
    }

    const POINTS: [Offset; 4] = [5_000, 10_000, 15_000, 20_000];

    fn asked(
        settings: &SafetySettings,
        vitals: &ModelHealth,
        past: &[(Offset, ModelChange)],
        points: &[Offset],
    ) -> Vec<(ModelOperation, ModelChangeCause)> {
        settings.decide_operations(vitals, past, || Ok::<_, ()>(points.to_vec())).unwrap()
    }

    fn judged(vitals: &ModelHealth) -> Vec<(ModelOperation, ModelChangeCause)> {
        asked(&SafetySettings::default(), vitals, &[], &POINTS)
    }

    #[test]
    fn a_model_that_does_as_usual_is_left_alone() {
        assert_eq!(judged(&lived(20_000, 15_100, Some(3), 6.0, 1)), []);
    }

    #[test]
    fn each_fault_leads_back_to_the_last_point_before_it() {
        let back = |cause| vec![(ModelOperation::Rollback { to: 15_000 }, cause)];
        assert_eq!(judged(&lived(20_000, 17_000, None, 5.0, 0)), back(ModelChangeCause::Quality));
        assert_eq!(
            judged(&lived(20_400, 20_100, Some(2), 50.0, 0)),
            [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)],
            "20,000 is too near"
        );
        assert_eq!(judged(&lived(20_000, 17_000, Some(2), 5.0, 4)), back(ModelChangeCause::Loss));
    }

    #[test]
    fn a_loss_beyond_all_bounds_does_not_become_usual() {
        assert_eq!(judged(&lived(24_000, 17_000, Some(2), 1e9, 0)), [(ModelOperation::Rollback { to: 15_000 }, ModelChangeCause::Loss)]);
    }

    #[test]
    fn the_second_time_it_stops_and_so_it_does_where_there_is_no_way_back() {
        let rolled = |cause| (15_600, ModelChange { timestamp: 0, operation: ModelOperation::Rollback { to: 5_000 }, cause });
        let ill = lived(20_000, 17_000, None, 5.0, 0);
        let judged = |past: &[_], points: &[_]| asked(&SafetySettings::default(), &ill, past, points);
        let back = |to| (ModelOperation::Rollback { to }, ModelChangeCause::Quality);
        assert_eq!(judged(&[rolled(ModelChangeCause::Operator)], &POINTS), [back(5_000)], "what was left is not gone back to");
        assert_eq!(judged(&[rolled(ModelChangeCause::Loss)], &POINTS), [back(5_000), (ModelOperation::Pause, ModelChangeCause::Quality)]);
        assert_eq!(judged(&[], &[16_900]), [back(16_900)], "better a near one than none");
        assert_eq!(judged(&[], &[18_000]), [(ModelOperation::Pause, ModelChangeCause::Quality)]);
    }

    #[test]
    fn it_can_be_switched_off() {
        let off = SafetySettings { quality_drop: 0.0, loss_rise: 0.0, ..SafetySettings::default() };
        off.check().unwrap();
        assert_eq!(asked(&off, &lived(20_000, 17_000, None, 50.0, 4), &[], &POINTS), []);
        let refused = SafetySettings { quality_drop: 1.5, ..off }.check().unwrap_err();
        assert_eq!(refused.to_string(), "safety.quality_drop = 1.5: allowed are 0, or 0.05..=1");
    }
}
