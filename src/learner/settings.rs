//! Settings of online learning.

use serde::{Deserialize, Serialize};

/// Settings of online learning. All boundaries are counted in journal entries, never in time, so
/// that learning is a function of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningSettings {
    /// Entries between two training boundaries. At each boundary a training starts on the sessions
    /// touched since the last one. Its weights come into use at the next boundary. 1..=65536.
    pub interval: u64,
    /// Number of earlier sessions that are replayed per touched session. 0..=64.
    pub replay_ratio: usize,
    /// Half-life of replay sampling, in sessions. At least 1.
    pub replay_half_life: f64,
    /// Number of sessions kept for replay. 1..=10,000,000.
    pub history: usize,
    /// Session windows per mini-batch. 1..=4096.
    pub batch: usize,
    /// Number of a user's latest steps that are trained on, or from which a hidden state is
    /// recomputed. 1..=49.
    pub window: usize,
    /// A hidden state is recomputed if its weights are older than this many boundaries. At least 1.
    pub refresh_after: u64,
    /// The learner keeps a user's hidden state for this many entries after the last event, and
    /// recomputes it if needed later. At least 1.
    pub hidden_kept: u64,
    /// The learner and the store drop a user's sequence after this many entries without an event.
    /// At least `hidden_kept`.
    pub users_kept: u64,
    /// Milliseconds after an impression within which a target event is attributed to it. At least
    /// 0.
    pub credit_window_ms: i64,
    /// One step in this many, sampled by offset, is tested before training, for the live metrics; 0
    /// disables testing. Learning does not depend on it. 0..=1,000,000.
    pub evaluate_every: u64,
    /// The ranker trains on one step in this many, sampled by offset. Steps that are neither
    /// trained on nor tested need no ranking. 1..=1,000,000.
    pub teach_every: u64,
    /// Number of tests in the sliding window of the live metrics. 1..=1,000,000.
    pub live_window: usize,
    /// Seed of all random draws.
    pub seed: u64,
}

impl Default for LearningSettings {
    fn default() -> Self {
        Self {
            interval: 64,
            replay_ratio: 3,
            replay_half_life: 2_000.0,
            history: 32_768,
            batch: 64,
            window: 20,
            refresh_after: 8,
            hidden_kept: 50_000,
            users_kept: 1_000_000,
            credit_window_ms: 30 * 60 * 1000,
            evaluate_every: 1,
            teach_every: 1,
            live_window: 10_000,
            seed: 42,
        }
    }
}

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("learning.{key} = {value}: allowed are {allowed}")]
pub struct LearningSettingsError {
    /// The key within `learning`.
    pub key: &'static str,
    /// The given value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl LearningSettings {
    /// Validates the settings.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), LearningSettingsError> {
        let rules: [(bool, &'static str, String, &'static str); 12] = [
            ((1..=65_536).contains(&self.interval), "interval", self.interval.to_string(), "1..=65536"),
            (self.replay_ratio <= 64, "replay_ratio", self.replay_ratio.to_string(), "0..=64"),
            (self.replay_half_life >= 1.0, "replay_half_life", self.replay_half_life.to_string(), "1 and above"),
            ((1..=10_000_000).contains(&self.history), "history", self.history.to_string(), "1..=10000000"),
            ((1..=4096).contains(&self.batch), "batch", self.batch.to_string(), "1..=4096"),
            ((1..=49).contains(&self.window), "window", self.window.to_string(), "1..=49"),
            (self.refresh_after >= 1, "refresh_after", self.refresh_after.to_string(), "1 and above"),
            (
                self.hidden_kept >= 1 && self.users_kept >= self.hidden_kept,
                "users_kept",
                self.users_kept.to_string(),
                "hidden_kept and above",
            ),
            (self.credit_window_ms >= 0, "credit_window_ms", self.credit_window_ms.to_string(), "0 and above"),
            (self.evaluate_every <= 1_000_000, "evaluate_every", self.evaluate_every.to_string(), "0..=1000000"),
            ((1..=1_000_000).contains(&self.teach_every), "teach_every", self.teach_every.to_string(), "1..=1000000"),
            ((1..=1_000_000).contains(&self.live_window), "live_window", self.live_window.to_string(), "1..=1000000"),
        ];
        match rules.into_iter().find(|(fits, ..)| !fits) {
            Some((_, key, value, allowed)) => Err(LearningSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }
}
