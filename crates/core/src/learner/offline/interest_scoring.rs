//! Offline evaluation of the interest models: one pass over the values of a recording.
//!
//! The models are online models. They learn the values of the training and validation sessions in
//! one pass, in the order of the recording. Each update is a step of a Bayesian regression with an
//! uncertainty of its own, so there are no epochs and no early stopping.
//!
//! On the test sessions, what the models have learned about items is frozen, as the network is. The
//! test still adds each value to its user, because users are an input: the models compute the
//! coefficients of a user from the user's earlier values, as the network computes the hidden state
//! from earlier steps. The bias of the user in the baseline learns too, so that both have the same
//! information. `sequor replay` reports the errors of models that keep learning.

use crate::domain::{EventKinds, KindId};
use crate::evaluation::TrainTestSplit;
use crate::interest::InterestSettings;
use std::collections::BTreeSet;

use super::super::interests::{InterestErrors, InterestModels, ValuedEvent};
use super::corpus::{RecordedValue, Recording};

/// Learns the interest models from the values of the earlier sessions of a recording. Returns their
/// errors on the values of the latest sessions, by kind. `test` is the share (0 to 1) of test
/// sessions. Only values of users with an earlier value are tested. A kind without values to learn
/// from or without values to test on is absent.
///
/// A call takes about 10 µs for each value.
#[must_use]
pub fn score_values(
    recording: &Recording,
    test: f64,
    settings: InterestSettings,
    kinds: &EventKinds,
) -> Vec<InterestErrors> {
    let earlier = TrainTestSplit::training_count(recording.session_count(), test);
    let (training, test): (Vec<_>, Vec<_>) = recording.values().iter().partition(|value| value.session < earlier);
    let learned: BTreeSet<KindId> = training.iter().map(|value| value.kind).collect();
    let mut models = InterestModels::new(settings);
    for (values, is_test) in [(training, false), (test, true)] {
        for RecordedValue { user, item, kind, value, at, .. } in values {
            let scale = kinds.rule_of(*kind).interest;
            let (is_learned, is_evaluated) = (!is_test, is_test);
            let event =
                ValuedEvent { user, item: *item, kind: *kind, scale, value: *value, at: *at, is_learned, is_evaluated };
            models.learn_event(&event, 1);
        }
    }
    let reports = models.reports().into_iter().filter(|report| learned.contains(&report.kind));
    reports.filter_map(|report| report.evaluated_errors(kinds)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use rand_xoshiro::SplitMix64;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    const USERS: usize = 150;
    const ITEMS: usize = 60;
    const RATINGS: usize = 9_000;
    /// Variance of the noise: uniform in ±0.9.
    const NOISE_VARIANCE: f64 = 0.27;

    /// Ratings 3 + bias of the user + bias of the item + noise, all uniform. Sessions of ten events.
    fn ratings(edit: impl Fn(usize, &mut Event)) -> Recording {
        let mut rng = SplitMix64::seed_from_u64(7);
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        let user_biases: Vec<f64> = (0..USERS).map(|_| uniform()).collect();
        let item_biases: Vec<f64> = (0..ITEMS).map(|_| uniform()).collect();
        let mut recording = Recording::new(i64::MAX);
        for number in 0..RATINGS {
            let (user, item) = (number * 31 % USERS, (0.5 * (1.0 + uniform()) * ITEMS as f64) as usize % ITEMS);
            let mut event = Event {
                event_id: None,
                user_id: format!("u{user}"),
                session_id: Some(format!("s{}", number / 10)),
                kind: EventKind::Rate,
                item_id: Some(format!("i{item}")),
                value: Some((3.0 + user_biases[user] + item_biases[item] + 0.9 * uniform()) as f32),
                timestamp: number as i64 * 60_000,
                properties: None,
                details: None,
            };
            edit(number, &mut event);
            recording.add_event(&event, &EventKinds::default());
        }
        recording
    }

    fn score(recording: &Recording, test: f64) -> Vec<InterestErrors> {
        score_values(recording, test, InterestSettings::default(), &EventKinds::default())
    }

    #[test]
    fn errors_of_known_biases_are_near_the_noise() {
        let errors = score(&ratings(|_, _| ()), 0.2);
        let [rate] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!((rate.kind.as_str(), rate.tests), ("rate", 1_800));
        // A bias costs its share of the noise variance: about 48 ratings of a user, 120 of an item.
        let expected = NOISE_VARIANCE * (1.0 + 1.0 / 48.0 + 1.0 / 120.0);
        assert!((rate.mse / expected - 1.0).abs() < 0.08, "{rate:?}, expected {expected}");
        assert!(rate.mse < rate.baseline_mse && rate.baseline_mse < 1.5 * expected, "{rate:?}");
        assert!((rate.rmse - rate.mse.sqrt()).abs() < 1e-9 && rate.mae < rate.rmse, "{rate:?}");
        assert!((rate.calibration - 1.0).abs() < 0.1, "{rate:?}");
    }

    #[test]
    fn test_values_change_no_prediction_of_other_users() {
        let whole = score(&ratings(|_, _| ()), 0.2);
        let spoilt = score(
            &ratings(|number, event| {
                if number >= RATINGS * 8 / 10 && event.user_id != "u1" {
                    (event.user_id, event.value) = (format!("new {number}"), Some(1.0));
                }
            }),
            0.2,
        );
        let of_u1 = score(
            &ratings(|number, event| {
                if number >= RATINGS * 8 / 10 && event.user_id != "u1" {
                    event.value = None;
                }
            }),
            0.2,
        );
        assert_eq!(spoilt, of_u1, "values of new users are no tests, and teach nothing");
        assert!(of_u1[0].tests > 5 && of_u1[0].tests < whole[0].tests);
    }

    #[test]
    fn kinds_without_values_on_both_sides_are_absent() {
        assert_eq!(score(&ratings(|_, event| event.value = None), 0.2), []);
        assert_eq!(score(&ratings(|_, event| event.kind = EventKind::Purchase), 0.2), []);
        assert_eq!(score(&ratings(|_, _| ()), 0.0), []);
        assert_eq!(score(&ratings(|_, _| ()), 1.0), []);
    }
}
