//! What becomes of what is known of people.

use super::InvalidSetting;
use crate::domain::Consent;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What becomes of the properties that events bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropertiesPolicy {
    /// They are kept as they come.
    #[default]
    Keep,
    /// They are dropped at the door.
    Drop,
}

/// How far consent goes, and under which names people are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacySettings {
    /// How far the consent of users goes who said nothing of it, nor their events.
    pub consent: Consent,
    /// Whether users are known by pseudonyms, under a secret, instead of their ids.
    pub pseudonymise: bool,
    /// The file that holds the secret, at least 32 bytes; empty: the environment does.
    pub secret_file: PathBuf,
    /// What becomes of the properties that events bring.
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
