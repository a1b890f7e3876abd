//! What governs training from a recording.

use serde::{Deserialize, Serialize};

/// How a recording is split and learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineSettings {
    /// The most epochs. 1..=10,000.
    pub epochs: usize,
    /// Session windows a mini-batch. 1..=4096.
    pub batch: usize,
    /// The last sessions that are never learned from but tested on, as a share of all. 0 to 0.9.
    pub test: f64,
    /// The last of the other sessions by which the best epoch is chosen, as a share of those. 0
    /// (none: the last epoch is kept) to 0.9.
    pub validation: f64,
    /// Epochs without a better one after which training ends. 1 and above.
    pub patience: usize,
    /// Mini-batches over which the learning rate rises from nothing to that of the network's
    /// settings.
    pub warmup: u64,
    /// The learning rate is multiplied by this after every epoch. Above 0, at most 1.
    pub decay: f32,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for OfflineSettings {
    fn default() -> Self {
        Self { epochs: 10, batch: 64, test: 0.1, validation: 0.02, patience: 3, warmup: 0, decay: 0.8, seed: 42 }
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("train.{key} = {value}: must be {allowed}")]
pub struct OfflineSettingsError {
    /// The key within `train`.
    pub key: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl OfflineSettings {
    /// Passes settings that can run.
    ///
    /// # Errors
    /// The first setting that is out of its range.
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

    /// The learning rate of a mini-batch: `rate · decay^epoch`, and while fewer than `warmup`
    /// mini-batches came before it in all, a share of that which rises with every one.
    #[must_use]
    pub fn learning_rate(&self, rate: f32, epoch: usize, batch: u64) -> f32 {
        let risen = if batch < self.warmup { (batch + 1) as f32 / self.warmup as f32 } else { 1.0 };
        rate * risen * self.decay.powi(i32::try_from(epoch).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_and_a_bad_value_is_named() {
        OfflineSettings::default().check().unwrap();
        let bad = OfflineSettings { validation: f64::NAN, ..Default::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "train.validation = NaN: must be 0 to 0.9");
    }

    #[test]
    fn the_learning_rate_rises_and_then_falls_by_epochs() {
        let settings = OfflineSettings { warmup: 4, decay: 0.5, ..Default::default() };
        let rates = [(0, 0), (0, 1), (0, 3), (0, 4), (1, 5), (2, 6)].map(|(epoch, batch)| settings.learning_rate(0.1, epoch, batch));
        assert_eq!(rates, [0.025, 0.05, 0.1, 0.1, 0.05, 0.025]);
    }
}
