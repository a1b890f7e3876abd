//! The settings: one tree in which every value has a default and records its origin.
//!
//! Sources in rising precedence: defaults, the TOML file of `--config`, environment variables
//! (`SEQUOR_SERVER__LISTEN` is `server.listen`), command line flags. An unknown key is an error
//! that suggests the nearest known key. A value out of range is an error that names key, value,
//! range and origin.
//!
//! A section is any serde struct with a default. [`SettingsLayers`] takes the keys from the
//! defaults, so there is no separate list of keys.
//!
//! - `layers`: merges the sources; `live_settings`: the settings of a running daemon, and reloads.
//! - `server`, `events`, `privacy`, `telemetry`, `cluster`, `sections` (store, session, log): the
//!   sections.
//! - `environment`: `SEQUOR_` variables without effect; `listen_address`: listen addresses.
//! - `period`: durations such as `1h30m`.

mod cluster;
mod environment;
mod events;
mod features;
mod layers;
mod listen_address;
mod live_settings;
mod period;
mod privacy;
mod sections;
mod server;
mod telemetry;

pub use cluster::{ClusterMemberSettings, is_node_name};
pub use environment::{UnknownVariable, unknown_variables};
pub use events::{EventsSettings, KindSettings, SegmentSettings};
pub use features::{FeatureOperands, FeatureSettings};
pub use layers::{SettingOrigin, SettingsError, SettingsLayers};
pub use live_settings::{EffectiveSetting, LiveSettings, ReloadError, ReloadReport};
pub use period::Period;
pub use privacy::{PrivacySettings, PropertiesPolicy, RecordedOrigins};
pub use sections::{CommitDurability, LogFormat, LogLevel, LogSettings, SessionSettings, StoreSettings};
pub use server::{ApiKeyPolicy, ServerSettings};
pub use telemetry::TelemetrySettings;

use crate::candidates::{CandidateSettings, CandidateSettingsError, ClusterSettings, ProfileSettings};
use crate::learner::{InterestSettings, LearningSettings, OfflineSettings, SafetySettings};
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
    /// Session boundaries and session memory.
    pub session: SessionSettings,
    /// Kinds of event.
    pub events: EventsSettings,
    /// Mapping of Segment events and consent categories.
    pub segment: SegmentSettings,
    /// Consent, pseudonyms and event properties.
    pub privacy: PrivacySettings,
    /// The recurrent network.
    pub network: NetworkSettings,
    /// Online learning from the journal.
    pub learning: LearningSettings,
    /// Prediction of event values, for example of ratings.
    pub interest: InterestSettings,
    /// Long-term profiles of users.
    pub profiles: ProfileSettings,
    /// Features of the ranker from attributes, by name.
    pub features: FeatureSettings,
    /// Offline training from a recording (`sequor train`).
    pub train: OfflineSettings,
    /// Count-based candidate sources.
    pub recall: CandidateSettings,
    /// Item clusters.
    pub clusters: ClusterSettings,
    /// Automatic rollback of the model.
    pub safety: SafetySettings,
    /// Logging.
    pub log: LogSettings,
    /// Export of trace spans.
    pub telemetry: TelemetrySettings,
    /// Membership in a cluster.
    pub cluster: ClusterMemberSettings,
}

/// A tree of settings that can be validated.
pub trait Validate {
    /// Checks every value against its allowed range.
    ///
    /// # Errors
    /// The first invalid value.
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
        self.features.check()?;
        self.telemetry.check()?;
        self.cluster.check()?;
        self.network
            .check()
            .map_err(|error| InvalidSetting::new(format!("network.{}", error.key), error.value, error.allowed))?;
        self.learning
            .check()
            .map_err(|error| InvalidSetting::new(format!("learning.{}", error.key), error.value, error.allowed))?;
        self.interest
            .check()
            .map_err(|error| InvalidSetting::new(format!("interest.{}", error.key), error.value, error.allowed))?;
        self.profiles
            .check()
            .map_err(|error| InvalidSetting::new(format!("profiles.{}", error.key), error.value, error.allowed))?;
        self.safety
            .check()
            .map_err(|error| InvalidSetting::new(format!("safety.{}", error.key), error.value, error.allowed))?;
        self.recall.check().map_err(|CandidateSettingsError::OutOfRange { key, value, min, max }| {
            InvalidSetting::new(format!("recall.{key}"), value, format!("{min} to {max}"))
        })?;
        self.train
            .check()
            .map_err(|error| InvalidSetting::new(format!("train.{}", error.key), error.value, error.allowed))?;
        self.clusters
            .check()
            .map_err(|error| InvalidSetting::new(format!("clusters.{}", error.key), error.value, error.allowed))
    }
}

/// A setting with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: must be {allowed}")]
pub struct InvalidSetting {
    /// The setting's key from the root of the tree (`server.max_batch`).
    pub key: String,
    /// The invalid value.
    pub value: String,
    /// Description of the allowed values.
    pub allowed: String,
}

impl InvalidSetting {
    /// Creates the error for a value.
    pub fn new(key: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// Checks that a value is within a range.
    ///
    /// # Errors
    /// If the value is out of range.
    pub fn check_range<T: PartialOrd + fmt::Display>(
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), Self> {
        if range.contains(&value) {
            Ok(())
        } else {
            Err(Self::new(key, value, format!("{} to {}", range.start(), range.end())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        Settings::default().validate().unwrap();
    }
}
