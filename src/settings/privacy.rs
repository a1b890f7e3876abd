//! Privacy: consent, pseudonyms, event properties and recorded origins.

use super::InvalidSetting;
use crate::domain::Consent;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Treatment of the `properties` of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertiesPolicy {
    /// Properties are stored unchanged.
    #[default]
    Keep,
    /// Properties are dropped when an event arrives.
    Drop,
}

/// What the journal records about the sender of events and merges. The journal holds keyed hashes,
/// never addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedOrigins {
    /// The API key and the client address.
    #[default]
    KeyAndAddress,
    /// Only the API key.
    Key,
    /// Nothing: events cannot be purged.
    None,
}

impl RecordedOrigins {
    /// Whether the API key is recorded.
    #[must_use]
    pub fn includes_key(self) -> bool {
        self != Self::None
    }

    /// Whether the client address is recorded.
    #[must_use]
    pub fn includes_address(self) -> bool {
        self == Self::KeyAndAddress
    }
}

/// Default consent, pseudonymisation, treatment of properties and recorded origins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacySettings {
    /// Consent level that applies if neither the user nor the event has one.
    pub consent: Consent,
    /// Whether to replace user, session and event ids by keyed hashes.
    pub pseudonymise: bool,
    /// File with the secret, at least 32 bytes. The environment variable `SEQUOR_PRIVACY_SECRET`
    /// takes precedence; it is required if `pseudonymise` is set without a file.
    pub secret_file: PathBuf,
    /// Treatment of the `properties` of events.
    pub properties: PropertiesPolicy,
    /// What the journal records about the sender of events and merges, so that `sequor admin purge`
    /// can remove the events of a sender. It records keyed hashes, never addresses.
    pub origins: RecordedOrigins,
}

impl PrivacySettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if !self.pseudonymise && !self.secret_file.as_os_str().is_empty() {
            return Err(InvalidSetting::new(
                "privacy.secret_file",
                self.secret_file.display(),
                "empty, unless privacy.pseudonymise = true",
            ));
        }
        Ok(())
    }
}
