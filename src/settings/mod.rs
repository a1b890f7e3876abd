//! The settings: one tree, each value with a default, each remembering where it came from.
//!
//! In rising precedence: the defaults, the TOML file of `--config`, the environment (`SEQUOR_SERVER__LISTEN` is `server.listen`), the
//! flags. A key that no setting has is an error that names the nearest one; a value out of range is an error that names key, value,
//! range and where it was set.
//!
//! A section is any serde struct with a default; [`SettingsLayers`] learns the keys from the defaults and needs no list of them.

mod events;
mod layers;
mod live_settings;
mod period;
mod privacy;
mod sections;
mod server;
mod telemetry;

pub use events::{EventsSettings, KindSettings, SegmentSettings};
pub use layers::{SettingOrigin, SettingsError, SettingsLayers};
pub use live_settings::{EffectiveSetting, LiveSettings, ReloadError, ReloadReport};
pub use period::Period;
pub use privacy::{PrivacySettings, PropertiesPolicy};
pub use sections::{CommitDurability, LogFormat, LogLevel, LogSettings, SessionSettings, StoreSettings};
pub use server::{ApiKeyPolicy, ServerSettings};
pub use telemetry::TelemetrySettings;

use crate::candidates::{CandidateSettings, CandidateSettingsError, ClusterSettings};
use crate::learner::{LearningSettings, OfflineSettings, SafetySettings};
use crate::nn::NetworkSettings;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// All settings of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The public API and the admin endpoint.
    pub server: ServerSettings,
    /// The embedded store.
    pub store: StoreSettings,
    /// The borders and the life of sessions.
    pub session: SessionSettings,
    /// The kinds of event.
    pub events: EventsSettings,
    /// What Segment's events mean.
    pub segment: SegmentSettings,
    /// What becomes of what is known of people.
    pub privacy: PrivacySettings,
    /// The network.
    pub network: NetworkSettings,
    /// How the journal is learned from.
    pub learning: LearningSettings,
    /// How a recording is learned from, by `sequor train`.
    pub train: OfflineSettings,
    /// The counting sources.
    pub recall: CandidateSettings,
    /// The item clusters.
    pub clusters: ClusterSettings,
    /// When the model is rolled back without being asked.
    pub safety: SafetySettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where spans are sent.
    pub telemetry: TelemetrySettings,
}

/// A tree of settings that can say whether it may run.
pub trait Validate {
    /// Holds every value against its allowed range.
    ///
    /// # Errors
    /// The first value that is not allowed.
    fn validate(&self) -> Result<(), InvalidSetting>;
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), InvalidSetting> {
        self.server.check()?;
        self.store.check()?;
        self.session.check()?;
        self.events.check()?;
        self.segment.check(&self.events.resolved_kinds())?;
        self.privacy.check()?;
        self.telemetry.check()?;
        self.network.check().map_err(|error| InvalidSetting::new(format!("network.{}", error.key), error.value, error.allowed))?;
        self.learning.check().map_err(|error| InvalidSetting::new(format!("learning.{}", error.key), error.value, error.allowed))?;
        self.safety.check().map_err(|error| InvalidSetting::new(format!("safety.{}", error.key), error.value, error.allowed))?;
        self.recall.check().map_err(|CandidateSettingsError::OutOfRange { key, value, min, max }| {
            InvalidSetting::new(format!("recall.{key}"), value, format!("{min} to {max}"))
        })?;
        self.train.check().map_err(|error| InvalidSetting::new(format!("train.{}", error.key), error.value, error.allowed))?;
        self.clusters.check().map_err(|error| InvalidSetting::new(format!("clusters.{}", error.key), error.value, error.allowed))
    }
}

/// A value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: must be {allowed}")]
pub struct InvalidSetting {
    /// The setting's key from the root of the tree (`server.max_batch`).
    pub key: String,
    /// What it was set to.
    pub value: String,
    /// What it may be, in words.
    pub allowed: String,
}

impl InvalidSetting {
    /// Refuses a value.
    pub fn new(key: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// Refuses a value unless it lies within the range.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_range<T: PartialOrd + fmt::Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), Self> {
        if range.contains(&value) { Ok(()) } else { Err(Self::new(key, value, format!("{} to {}", range.start(), range.end()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_may_run() {
        Settings::default().validate().unwrap();
    }
}
