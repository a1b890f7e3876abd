//! What governs the fold.

use serde::{Deserialize, Serialize};

/// How the journal is learned from. Every border is counted in entries, never in time, so that the
/// same journal teaches the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningSettings {
    /// Entries between two borders: at each, the sessions touched since the last one are trained
    /// on, while the next stretch is tested on the weights of the training before it. 1..=65536.
    pub interval: u64,
    /// How many earlier sessions are trained on beside each touched one. 0..=64.
    pub replay_ratio: usize,
    /// Earlier sessions are drawn with a probability that halves every so many sessions. At least
    /// 1.
    pub replay_half_life: f64,
    /// How many sessions are kept to be drawn from. 1..=10,000,000.
    pub history: usize,
    /// Session windows a mini-batch. 1..=4096.
    pub batch: usize,
    /// Steps of one user that are trained on, or from which a hidden state is computed afresh.
    /// 1..=49.
    pub window: usize,
    /// A hidden state that has seen weights older than so many borders is computed afresh. At least
    /// 1.
    pub refresh_after: u64,
    /// The fold keeps a user's hidden state for so many entries after the last event; later it is
    /// computed afresh. At least 1.
    pub hidden_kept: u64,
    /// A user's sequence is forgotten after so many entries without an event, by the fold and in
    /// the store. At least `hidden_kept`.
    pub users_kept: u64,
    /// Milliseconds after being shown within which a choice is credited to the recommendation. At
    /// least 0.
    pub credit_window_ms: i64,
    /// One step in so many, chosen by its offset, is a test before it teaches, for the live
    /// metrics; 0: none. What is learned does not depend on it. 0..=1,000,000.
    pub evaluate_every: u64,
    /// The ranker learns from one step in so many, chosen by its offset: testing aside, the rest
    /// spares ranking. 1..=1,000,000.
    pub teach_every: u64,
    /// Steps over which the live metrics slide. 1..=1,000,000.
    pub live_window: usize,
    /// Everything random follows from it: the same seed, the same draws.
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

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("learning.{key} = {value}: allowed are {allowed}")]
pub struct LearningSettingsError {
    /// The key within `learning`.
    pub key: &'static str,
    /// The value that was given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl LearningSettings {
    /// Passes settings that can run.
    ///
    /// # Errors
    /// The first setting that is out of its range.
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
