//! Privacy: consent, pseudonyms and event properties.

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

/// Default consent, pseudonymisation and treatment of properties.
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
