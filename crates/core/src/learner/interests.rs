//! The interest models of the learner: one for each kind of events whose values are predicted.

use crate::domain::{EventKinds, ExpiryCutoffs, InterestScale, ItemIx, KindId, PredictedInterest, Timestamp};
use crate::interest::{InterestMetrics, InterestModel, InterestSettings, InterestSnapshot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The interest models by kind of event. A kind gets a model with its first value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct InterestModels {
    settings: InterestSettings,
    by_kind: BTreeMap<KindId, KindInterest>,
}

/// The interest model of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KindInterest {
    scale: InterestScale,
    model: InterestModel,
    evaluated: InterestMetrics,
    live: InterestMetrics,
}

/// An event with a value, as the interest models see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValuedEvent<'e> {
    pub(super) user: &'e str,
    pub(super) item: ItemIx,
    pub(super) kind: KindId,
    pub(super) scale: InterestScale,
    pub(super) value: f32,
    pub(super) at: Timestamp,
    /// Whether the models may learn about the item from the event.
    pub(super) is_learned: bool,
    /// Whether the event counts in [`InterestReport::evaluated`].
    pub(super) is_evaluated: bool,
}

/// The error of one kind's interest model. It is prequential: each value is predicted before the
/// model learns from it. Values on a logarithmic scale count with their logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterestReport {
    /// The kind of the events.
    pub kind: KindId,
    /// Error over the events from the event `evaluate_from` on, of users with an earlier value.
    pub evaluated: InterestMetrics,
    /// Error over about the latest `learning.live_window` such events (live metrics).
    pub live: InterestMetrics,
}

/// The errors of one kind's interest model, over values of users with an earlier value. On a
/// logarithmic scale, they are errors of logarithms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InterestErrors {
    /// The name of the kind.
    pub kind: String,
    /// The scale of the values.
    pub scale: InterestScale,
    /// Number of tested values.
    pub tests: u64,
    /// Mean squared error.
    pub mse: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// Mean of squared error / predicted variance; 1 is calibrated.
    pub calibration: f64,
    /// Mean squared error of mean + bias of the user + bias of the item, for the same values.
    pub baseline_mse: f64,
}

impl InterestReport {
    /// The errors of [`InterestReport::evaluated`]; `None` without tests.
    #[must_use]
    pub fn evaluated_errors(&self, kinds: &EventKinds) -> Option<InterestErrors> {
        self.errors(&self.evaluated, kinds)
    }

    /// The errors of [`InterestReport::live`]; `None` without tests.
    #[must_use]
    pub fn live_errors(&self, kinds: &EventKinds) -> Option<InterestErrors> {
        self.errors(&self.live, kinds)
    }

    fn errors(&self, metrics: &InterestMetrics, kinds: &EventKinds) -> Option<InterestErrors> {
        Some(InterestErrors {
            kind: kinds.name_of(self.kind)?.to_owned(),
            scale: kinds.rule_of(self.kind).interest,
            tests: metrics.ratings,
            mse: metrics.mse()?,
            rmse: metrics.rmse()?,
            mae: metrics.mae()?,
            calibration: metrics.calibration()?,
            baseline_mse: metrics.baseline_mse()?,
        })
    }
}

impl InterestModels {
    /// Creates an empty table. `settings` apply to each model.
    pub(super) fn new(settings: InterestSettings) -> Self {
        Self { settings, by_kind: BTreeMap::new() }
    }

    /// The settings of the models.
    pub(super) fn settings(&self) -> &InterestSettings {
        &self.settings
    }

    /// Tests the model of the event's kind on the event's value, and then trains it. The live
    /// metrics cover about the latest `live_window` tests. An event without scale has no effect,
    /// and neither has a value or item number outside the limits of the model.
    pub(super) fn learn_event(&mut self, event: &ValuedEvent<'_>, live_window: usize) {
        let ValuedEvent { user, item, scale, at, .. } = *event;
        if scale == InterestScale::Off {
            return;
        }
        let kind = match self.by_kind.entry(event.kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let Ok(model) = InterestModel::new(self.settings) else { return };
                let (evaluated, live) = (InterestMetrics::default(), InterestMetrics::default());
                free.insert(KindInterest { scale, model, evaluated, live })
            }
        };
        let value = scale.scaled(event.value);
        let tested = match event.is_learned {
            true => kind.model.learn(user, item, value, at),
            false => kind.model.observe(user, item, value, at),
        };
        if let Ok(Some(prediction)) = tested {
            kind.live.record_recent(&prediction, value, live_window);
            if event.is_evaluated {
                kind.evaluated.record(&prediction, value);
            }
        }
    }

    /// Sets the initial parameters of a new item to the mean of similar items.
    pub(super) fn add_new_item(&mut self, item: ItemIx, similar: &[ItemIx]) {
        self.by_kind.values_mut().for_each(|kind| kind.model.add_new_item(item, similar));
    }

    /// Removes a user from all models.
    pub(super) fn remove_user(&mut self, user: &str) {
        for kind in self.by_kind.values_mut() {
            kind.model.remove_user(user);
        }
    }

    /// Merges the ratings of a user into another user.
    pub(super) fn merge_users(&mut self, from: &str, into: &str) {
        self.by_kind.values_mut().for_each(|kind| kind.model.merge_users(from, into));
    }

    /// Removes expired ratings of users.
    pub(super) fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.by_kind.iter_mut().for_each(|(kind, interest)| interest.model.expire_ratings(expired.cutoff(*kind)));
    }

    /// Restores what earlier models had learned about items. The users keep their ratings. A model
    /// that did not exist earlier is removed.
    pub(super) fn roll_back(&mut self, earlier: &Self) {
        self.by_kind.retain(|kind, interest| match earlier.by_kind.get(kind) {
            Some(earlier) => {
                interest.model.restore_parameters(&earlier.model);
                true
            }
            None => false,
        });
    }

    /// The errors of the models, in the order of the kinds.
    pub(super) fn reports(&self) -> Vec<InterestReport> {
        let report = |(kind, interest): (&KindId, &KindInterest)| InterestReport {
            kind: *kind,
            evaluated: interest.evaluated,
            live: interest.live,
        };
        self.by_kind.iter().map(report).collect()
    }

    /// An immutable copy for predictions, which shares its data with the models.
    pub(super) fn snapshot(&self) -> InterestPredictor {
        let kinds = self.by_kind.iter().map(|(kind, interest)| (*kind, interest.scale, interest.model.snapshot()));
        InterestPredictor { kinds: kinds.collect() }
    }
}

/// Predicts event values from a snapshot.
#[derive(Debug, Clone, Default)]
pub struct InterestPredictor {
    kinds: Vec<(KindId, InterestScale, InterestSnapshot)>,
}

impl InterestPredictor {
    /// The kind whose values answers contain: the kind with the most learned values, and among
    /// equals the first. `None` before the first value.
    #[must_use]
    pub fn main_kind(&self) -> Option<KindId> {
        let most = self.kinds.iter().rev().max_by_key(|(_, _, model)| model.ratings());
        most.filter(|(_, _, model)| model.ratings() > 0).map(|(kind, ..)| *kind)
    }

    /// The latest values of a user's events from which values are predicted, by kind and then oldest
    /// first: kind, item, value and time of each.
    pub fn ratings_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = (KindId, ItemIx, f32, Timestamp)> + use<'a> {
        self.kinds.iter().flat_map(move |(kind, scale, model)| {
            let ratings = model.user_ratings(user).into_iter().flat_map(|ratings| ratings.iter());
            ratings.map(|rating| (*kind, rating.item, scale.value(rating.value), rating.at))
        })
    }

    /// Predicts the values of events of a kind. A user without id or without values is predicted as
    /// an average user. Returns one prediction per item; `None` if no value of the kind was
    /// learned.
    #[must_use]
    pub fn predict(
        &self,
        kind: KindId,
        user: Option<&str>,
        items: impl IntoIterator<Item = ItemIx>,
        at: Timestamp,
    ) -> Option<Vec<PredictedInterest>> {
        let (_, scale, model) = self.kinds.iter().find(|(known, _, model)| *known == kind && model.ratings() > 0)?;
        let user = model.user_interest(user, at);
        let predict = |item| {
            let prediction = model.predict(&user, item);
            let deviation = prediction.variance.max(0.0).sqrt();
            let [value, low, high] =
                [0.0, -deviation, deviation].map(|distance| scale.value(prediction.mean + distance));
            PredictedInterest { value, low, high }
        };
        Some(items.into_iter().map(predict).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(user: &str, item: ItemIx, kind: KindId, value: f32) -> ValuedEvent<'_> {
        let scale = if kind == 1 { InterestScale::Logarithmic } else { InterestScale::Linear };
        ValuedEvent { user, item, kind, scale, value, at: 0, is_learned: true, is_evaluated: true }
    }

    fn learned() -> InterestModels {
        let mut models = InterestModels::default();
        for round in 0..60 {
            let user = ["ann", "bob", "cyd"][round % 3];
            models.learn_event(&event(user, round as u32 % 4, 0, 1.0 + (round % 4) as f32), 10);
            models.learn_event(&event(user, 0, 1, 200.0), 10);
        }
        models.learn_event(&event("ann", 0, 0, 2.0), 10);
        models
    }

    #[test]
    fn each_kind_has_its_own_scale_and_predictions_stay_among_the_learned_values() {
        let predictor = learned().snapshot();
        assert_eq!(predictor.main_kind(), Some(0));
        let ratings = predictor.predict(0, Some("ann"), 0..5, 0).unwrap();
        assert!(
            ratings[3].value > ratings[0].value && ratings.iter().all(|rating| (1.0..=4.0).contains(&rating.value))
        );
        let seconds = predictor.predict(1, None, [0], 0).unwrap()[0];
        assert!((seconds.value - 200.0).abs() < 1.0 && seconds.low < seconds.value && seconds.value < seconds.high);
        assert_eq!(predictor.predict(2, None, [0], 0), None);
        assert_eq!(InterestPredictor::default().main_kind(), None);
    }

    #[test]
    fn a_kind_without_scale_and_refused_values_teach_nothing() {
        let mut models = InterestModels::default();
        models.learn_event(&ValuedEvent { scale: InterestScale::Off, ..event("ann", 1, 0, 3.0) }, 10);
        models.learn_event(&event("ann", 1, 0, f32::NAN), 10);
        models.learn_event(&event("ann", u32::MAX, 0, 3.0), 10);
        assert_eq!(models.snapshot().main_kind(), None);
    }

    #[test]
    fn reports_count_tests_of_users_with_an_earlier_value() {
        let mut models = learned();
        let report = models.reports()[0];
        assert_eq!((report.kind, report.evaluated.ratings, report.live.ratings), (0, 58, 10));
        models.learn_event(&ValuedEvent { is_evaluated: false, ..event("ann", 1, 0, 4.0) }, 10);
        assert_eq!(models.reports()[0].evaluated, report.evaluated);
        assert_ne!(models.reports()[0].live, report.live);
    }

    #[test]
    fn a_rollback_restores_items_and_keeps_users() {
        let earlier = learned();
        let mut models = earlier.clone();
        models.learn_event(&event("dan", 2, 3, 5.0), 10);
        (0..50).for_each(|_| models.learn_event(&event("dan", 0, 0, 4.0), 10));
        let of_stranger = |models: &InterestModels| models.snapshot().predict(0, None, 0..4, 0);
        assert_ne!(of_stranger(&models), of_stranger(&earlier));
        models.roll_back(&earlier);
        assert_eq!(of_stranger(&models), of_stranger(&earlier));
        let predict = |user| models.snapshot().predict(0, user, [1], 0);
        assert_ne!(predict(Some("dan")), predict(None));
        assert_eq!(models.snapshot().predict(3, None, [2], 0), None);
    }
}
