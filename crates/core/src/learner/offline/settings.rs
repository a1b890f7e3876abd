//! Settings of offline training.

use serde::{Deserialize, Serialize};

/// Settings of offline training: the split of the recording, and the training schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineSettings {
    /// Maximum number of epochs. 1..=10,000.
    pub epochs: usize,
    /// Number of training windows per mini-batch. 1..=4096.
    pub batch: usize,
    /// Share of all sessions that are held out for testing. The latest sessions are held out. 0 to
    /// 0.9.
    pub test: f64,
    /// Share of the remaining sessions that are held out for validation, to choose the best epoch.
    /// The latest of the remaining sessions are held out. 0 to 0.9. With 0, the last epoch counts
    /// as the best.
    pub validation: f64,
    /// Training ends after this many epochs without an improvement. At least 1.
    pub patience: usize,
    /// Number of mini-batches over which the learning rate rises from 0 to `network.learning_rate`.
    pub warmup: u64,
    /// Factor that multiplies the learning rate after every epoch. Above 0, at most 1.
    pub decay: f32,
    /// Seed of all random draws.
    pub seed: u64,
}

impl Default for OfflineSettings {
    fn default() -> Self {
        Self { epochs: 10, batch: 64, test: 0.1, validation: 0.02, patience: 3, warmup: 0, decay: 0.8, seed: 42 }
    }
}

/// Error: a setting of offline training is outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("train.{key} = {value}: must be {allowed}")]
pub struct OfflineSettingsError {
    /// The key within `train`.
    pub key: &'static str,
    /// The rejected value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl OfflineSettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn check(&self) -> Result<(), OfflineSettingsError> {
        let share = 0.0..=0.9;
        let rules: [(bool, &'static str, String, &'static str); 6] = [
            ((1..=10_000).contains(&self.epochs), "epochs", self.epochs.to_string(), "1 to 10000"),
            ((1..=4096).contains(&self.batch), "batch", self.batch.to_string(), "1 to 4096"),
            (share.contains(&self.test), "test", self.test.to_string(), "0 to 0.9"),
            (share.contains(&self.validation), "validation", self.validation.to_string(), "0 to 0.9"),
            (self.patience >= 1, "patience", self.patience.to_string(), "1 and above"),
            (self.decay > 0.0 && self.decay <= 1.0, "decay", self.decay.to_string(), "above 0 and at most 1"),
        ];
        match rules.into_iter().find(|(fits, ..)| !fits) {
            Some((_, key, value, allowed)) => Err(OfflineSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }

    /// Returns the learning rate of a mini-batch: `rate · decay^epoch`. During the first `warmup`
    /// mini-batches, the rate rises linearly from 0 to that value.
    #[must_use]
    pub fn learning_rate(&self, rate: f32, epoch: usize, batch: u64) -> f32 {
        let warmup_share = if batch < self.warmup { (batch + 1) as f32 / self.warmup as f32 } else { 1.0 };
        rate * warmup_share * self.decay.powi(i32::try_from(epoch).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_errors_name_the_bad_value() {
        OfflineSettings::default().check().unwrap();
        let bad = OfflineSettings { validation: f64::NAN, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "train.validation = NaN: must be 0 to 0.9");
    }

    #[test]
    fn learning_rate_warms_up_and_then_decays_per_epoch() {
        let settings = OfflineSettings { warmup: 4, decay: 0.5, ..Default::default() };
        let rates = [(0, 0), (0, 1), (0, 3), (0, 4), (1, 5), (2, 6)]
            .map(|(epoch, batch)| settings.learning_rate(0.1, epoch, batch));
        assert_eq!(rates, [0.025, 0.05, 0.1, 0.1, 0.05, 0.025]);
    }
}
