//! The sections `store`, `session` and `log`.

use super::{InvalidSetting, Period};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub(super) fn check_at_least_one_minute(key: &str, period: Period) -> Result<(), InvalidSetting> {
    if period.as_millis() < 60_000 { Err(InvalidSetting::new(key, period, "at least 1m, or off")) } else { Ok(()) }
}

/// The kind of failure that an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitDurability {
    /// A power loss of the machine. Each commit is synced to the disk before it is acknowledged.
    PowerLoss,
    /// A crash of the process. Each commit is written to the operating system before it is
    /// acknowledged.
    ProcessCrash,
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// Data directory.
    pub data_dir: PathBuf,
    /// The kind of failure that an acknowledged event survives.
    pub durability: CommitDurability,
    /// Target size of the store's page cache, in bytes, 16 MiB..=1 TiB.
    pub cache_bytes: u64,
    /// Number of latest journal entries whose event ids are remembered to detect duplicates,
    /// 0..=1,000,000,000.
    pub dedup_window: u64,
    /// Journal entries between two checkpoints, 100..=1,000,000,000. A restart replays at most this
    /// many entries, and those that arrived while the last checkpoint was written. An impression
    /// counts as a tenth of an entry, because its replay takes about a tenth of the time.
    pub checkpoint_every: u64,
    /// Number of retained checkpoints, 2..=1000. The minimum is two: if the newest checkpoint is
    /// damaged, an older one is used.
    pub checkpoints_kept: usize,
    /// Minimum number of retained journal entries, 1000..=1,000,000,000,000; 0: all. An older entry
    /// is removed once a checkpoint contains everything derived from it.
    pub retain_entries: u64,
    /// Age that a journal entry must reach before it is removed, at least 1 min. The age is the
    /// difference between its timestamp and that of the last entry; `off`: only `retain_entries`
    /// applies. If `retain_entries` is set as well, an entry is removed only if both settings allow
    /// it.
    pub retain_for: Period,
    /// Ratio of disk size to live data above which the database is compacted, 1.5..=100; 0: never.
    /// A database smaller than 64 MiB is never compacted.
    pub compact_ratio: f64,
    /// Period in which the background scrub reads the whole journal once to find damage, at least
    /// 1 s; `off`: no scrub.
    pub scrub_period: Period,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./sequor-data"),
            durability: CommitDurability::PowerLoss,
            cache_bytes: 64 * 1024 * 1024,
            dedup_window: 1_000_000,
            checkpoint_every: 20_000,
            checkpoints_kept: 3,
            retain_entries: 0,
            retain_for: Period::OFF,
            compact_ratio: 3.0,
            scrub_period: Period::from_minutes(24 * 60),
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
        if self.scrub_period.as_millis() < 1000 {
            return Err(InvalidSetting::new("store.scrub_period", self.scrub_period, "at least 1s, or off"));
        }
        if self.compact_ratio == 0.0 {
            Ok(())
        } else {
            InvalidSetting::check_range("store.compact_ratio", self.compact_ratio, 1.5..=100.0)
        }
    }
}

/// Session boundaries and session memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Idle gap that ends a session, at least 1 s: an event after a longer gap starts a new
    /// session. With `off`, only a new `session_id` starts a session.
    pub idle_gap: Period,
    /// Number of event loops (shards) for session actors, 0..=256; 0: one per processor.
    pub shards: usize,
    /// Idle time after which a session is moved from memory to the store, at least 1 s; `off`:
    /// never.
    pub passivate_after: Period,
    /// Largest number of sessions in memory, 1..=100,000,000, about 3 KB each. At this number, the
    /// least recently used sessions are moved to the store regardless of `passivate_after`. As long
    /// as no session can be moved, every use of a further session reads that session from the store
    /// and writes it back.
    pub live_max: usize,
    /// Time for which a dismissed item is not recommended to the user. `off`: the item is hidden
    /// until the user's sequence no longer contains the dismissal.
    pub dismissed_for: Period,
    /// Time for which a purchased item is not recommended to the user. With 0 s, it can be
    /// recommended again at once.
    pub purchased_for: Period,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            idle_gap: Period::from_minutes(30),
            shards: 0,
            passivate_after: Period::from_minutes(10),
            live_max: 100_000,
            dismissed_for: Period::from_minutes(30 * 24 * 60),
            purchased_for: Period::from_minutes(24 * 60),
        }
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

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Minimum severity of log events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Failures and warnings.
    Warn,
    /// Also operational events.
    Info,
    /// All levels above, and details for debugging.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name in the settings.
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

/// Logging to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Format of log lines.
    pub format: LogFormat,
    /// Minimum severity.
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
    fn errors_name_key_value_and_range() {
        let error = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert_eq!(error(|s| s.server.max_batch = 0), "server.max_batch = 0: must be 1 to 100000");
        assert_eq!(
            error(|s| s.server.max_in_flight_events = 10),
            "server.max_in_flight_events = 10: must be 1000 to 16777216"
        );
        assert!(error(|s| s.server.admin_listen = s.server.listen).starts_with("server.admin_listen = 127.0.0.1:8080"));
        assert_eq!(error(|s| s.store.checkpoints_kept = 1), "store.checkpoints_kept = 1: must be 2 to 1000");
        assert_eq!(
            error(|s| s.store.retain_for = Period::from_seconds(3)),
            "store.retain_for = 3s: must be at least 1m, or off"
        );
        assert_eq!(error(|s| s.store.compact_ratio = 1.2), "store.compact_ratio = 1.2: must be 1.5 to 100");
        assert!(error(|s| s.store.compact_ratio = f64::NAN).starts_with("store.compact_ratio = NaN"));
        assert_eq!(
            error(|s| s.session.idle_gap = Period::from_milliseconds(5)),
            "session.idle_gap = 5ms: must be at least 1s, or off"
        );
    }
}
