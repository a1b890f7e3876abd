//! Settings of online learning.

use serde::{Deserialize, Serialize};

/// Settings of online learning. All intervals are numbers of journal entries, not times, so that
/// the learned state depends only on the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningSettings {
    /// Number of journal entries between two training boundaries. At each boundary, a training
    /// starts on the sessions with events since the previous boundary. The learner uses the weights
    /// of this training from the next boundary on. 1..=65536.
    pub interval: u64,
    /// For each session with new events, a training also trains on this many earlier sessions
    /// (replay). 0..=64.
    pub replay_ratio: usize,
    /// The probability that an earlier session is replayed halves each time its age grows by this
    /// number of sessions. At least 1.
    pub replay_half_life: f64,
    /// Maximum number of sessions that are kept for replay. 1..=10,000,000.
    pub history: usize,
    /// Number of training windows per mini-batch. 1..=4096.
    pub batch: usize,
    /// Number of latest steps of a session that form a training window. A hidden state is
    /// recomputed from the same number of steps. 1..=49.
    pub window: usize,
    /// A hidden state is recomputed if the weights with which it began are at least this many
    /// training boundaries old. At least 1.
    pub refresh_after: u64,
    /// The learner drops a user's hidden state this many journal entries after the user's last
    /// event. At least 1.
    pub hidden_kept: u64,
    /// The learner and the store drop a user's sequence this many journal entries after the user's
    /// last event. At least `hidden_kept`.
    pub users_kept: u64,
    /// Attribution window: a target event counts as a click on a displayed item if the item was
    /// displayed at most this many milliseconds before. At least 0.
    pub credit_window_ms: i64,
    /// The learner tests on one event in this many, sampled by offset, for the live metrics; 0
    /// disables tests. Tests do not change what is learned. 0..=1,000,000.
    pub evaluate_every: u64,
    /// The ranker trains on one event in this many, sampled by offset. The learner does not score
    /// candidates for the other events, unless it tests on them. 1..=1,000,000.
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

/// Error: a learning setting is outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("learning.{key} = {value}: allowed are {allowed}")]
pub struct LearningSettingsError {
    /// The key within `learning`.
    pub key: &'static str,
    /// The rejected value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl LearningSettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
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
