//! The sections that no other room defines: the store, sessions, the log.

use super::{InvalidSetting, Period};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(super) fn check_at_least_one_minute(key: &str, period: Period) -> Result<(), InvalidSetting> {
    if period.as_millis() < 60_000 { Err(InvalidSetting::new(key, period, "at least 1m, or off")) } else { Ok(()) }
}

/// Which deaths an acknowledged event outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitDurability {
    /// That of the machine: each commit reaches the disk before it is acknowledged.
    PowerLoss,
    /// That of the process: each commit reaches the operating system before it is acknowledged.
    ProcessCrash,
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// The folder that holds everything that is kept.
    pub data_dir: PathBuf,
    /// Which deaths an acknowledged event outlives.
    pub durability: CommitDurability,
    /// Memory for the store's pages, in bytes, 16 MiB..=1 TiB.
    pub cache_bytes: u64,
    /// How many of the latest event ids are remembered, to tell a repetition, 0..=1,000,000,000.
    pub dedup_window: u64,
    /// Entries of the journal from one checkpoint to the next, 100..=1,000,000,000: what a restart has to replay at most.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept, 2..=1000: the last must not be the only one.
    pub checkpoints_kept: usize,
    /// How many of the latest journal entries are kept at least, 0: all, else 1000..=1,000,000,000,000. Older ones go once everything derived from them is in a checkpoint.
    pub retain_entries: u64,
    /// How long a journal entry is kept at least, by its own timestamp against the last entry's, at least 1 min; `off`: by `retain_entries` alone. Where both are set an entry goes once
    /// both let it.
    pub retain_for: Period,
    /// How many times what is in it the database may take on the disk before it is written anew, 0: any, else 1.5..=100. Below 64 MiB it never is.
    pub compact_ratio: f64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./sequor-data"),
            durability: CommitDurability::PowerLoss,
            cache_bytes: 128 * 1024 * 1024,
            dedup_window: 1_000_000,
            checkpoint_every: 20_000,
            checkpoints_kept: 3,
            retain_entries: 0,
            retain_for: Period::OFF,
            compact_ratio: 3.0,
        }
    }
}

impl StoreSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(InvalidSetting::new("store.data_dir", "\"\"", "a folder"));
        }
        InvalidSetting::check_range("store.cache_bytes", self.cache_bytes, 16 << 20..=1 << 40)?;
        InvalidSetting::check_range("store.dedup_window", self.dedup_window, 0..=1_000_000_000)?;
        InvalidSetting::check_range("store.checkpoint_every", self.checkpoint_every, 100..=1_000_000_000)?;
        InvalidSetting::check_range("store.checkpoints_kept", self.checkpoints_kept, 2..=1000)?;
        if self.retain_entries > 0 {
            InvalidSetting::check_range("store.retain_entries", self.retain_entries, 1000..=1_000_000_000_000)?;
        }
        check_at_least_one_minute("store.retain_for", self.retain_for)?;
        if self.compact_ratio == 0.0 { Ok(()) } else { InvalidSetting::check_range("store.compact_ratio", self.compact_ratio, 1.5..=100.0) }
    }
}

/// The borders and the life of sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// More than this without an event, at least 1 s, and the next one begins a new session; `off`: only a new `session_id` does.
    pub idle_gap: Period,
    /// Event loops that the session actors are spread over, 0..=256; 0: one a processor.
    pub shards: usize,
    /// After this without an event or a question, at least 1 s, a session leaves the memory for the store; `off`: never.
    pub passivate_after: Period,
    /// How many sessions stay in memory, 1..=100,000,000, about 3 KB each; beyond it those unused longest leave it first, whatever `passivate_after` says.
    pub live_max: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_gap: Period::minutes(30), shards: 0, passivate_after: Period::minutes(10), live_max: 100_000 }
    }
}

impl SessionSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        for (key, period) in [("session.idle_gap", self.idle_gap), ("session.passivate_after", self.passivate_after)] {
            if period.as_millis() < 1000 {
                return Err(InvalidSetting::new(key, period, "at least 1s, or off"));
            }
        }
        InvalidSetting::check_range("session.live_max", self.live_max, 1..=100_000_000)?;
        InvalidSetting::check_range("session.shards", self.shards, 0..=256)
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may fail soon.
    Warn,
    /// And what an operator likes to know.
    Info,
    /// And what a developer looks for.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// The name, as log filters write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How a line is written.
    pub format: LogFormat,
    /// The least severity that is logged.
    pub level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Validate};

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert_eq!(refused(|s| s.server.max_batch = 0), "server.max_batch = 0: must be 1 to 100000");
        assert_eq!(refused(|s| s.server.max_in_flight_events = 10), "server.max_in_flight_events = 10: must be 1000 to 16777216");
        assert!(refused(|s| s.server.admin_listen = s.server.listen).starts_with("server.admin_listen = 127.0.0.1:8080"));
        assert_eq!(refused(|s| s.store.checkpoints_kept = 1), "store.checkpoints_kept = 1: must be 2 to 1000");
        assert_eq!(refused(|s| s.store.retain_for = Period::seconds(3)), "store.retain_for = 3s: must be at least 1m, or off");
        assert_eq!(refused(|s| s.store.compact_ratio = 1.2), "store.compact_ratio = 1.2: must be 1.5 to 100");
        assert!(refused(|s| s.store.compact_ratio = f64::NAN).starts_with("store.compact_ratio = NaN"));
        assert_eq!(refused(|s| s.session.idle_gap = Period::milliseconds(5)), "session.idle_gap = 5ms: must be at least 1s, or off");
    }
}
