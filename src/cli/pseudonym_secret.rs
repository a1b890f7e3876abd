//! Loads the secret of the user pseudonyms.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::sync::Arc;

use crate::ingest::Pseudonymiser;
use crate::settings::PrivacySettings;

/// Environment variable of the secret; it takes precedence over the file.
const SECRET_VARIABLE: &str = "SEQUOR_PRIVACY_SECRET";

/// Creates the pseudonymiser, if the settings enable it. Error messages contain no part of the
/// secret.
pub(super) fn load_pseudonymiser(settings: &PrivacySettings) -> anyhow::Result<Option<Arc<Pseudonymiser>>> {
    if !settings.pseudonymise {
        return Ok(None);
    }
    let file = &settings.secret_file;
    let (secret, origin) = match std::env::var_os(SECRET_VARIABLE) {
        Some(secret) => (OsString::into_encoded_bytes(secret), SECRET_VARIABLE.to_owned()),
        None if file.as_os_str().is_empty() => {
            bail!(
                "privacy.pseudonymise = true needs a secret: set privacy.secret_file to its file, or set {SECRET_VARIABLE}; `openssl rand -base64 48` creates one"
            )
        }
        None => (
            std::fs::read(file).with_context(|| format!("cannot read the secret from {}", file.display()))?,
            file.display().to_string(),
        ),
    };
    let secret = secret.trim_ascii_end();
    let pseudonymiser = Pseudonymiser::new(secret);
    let pseudonymiser = pseudonymiser.with_context(|| {
        format!(
            "the secret in {origin} has {} bytes; it needs at least {}, for example from `openssl rand -base64 48`",
            secret.len(),
            Pseudonymiser::MIN_SECRET_BYTES
        )
    })?;
    Ok(Some(Arc::new(pseudonymiser)))
}
