//! The secret under which users have their pseudonyms.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::sync::Arc;

use crate::ingest::Pseudonymiser;
use crate::settings::PrivacySettings;

/// Where the secret is looked for first.
const SECRET_VARIABLE: &str = "SEQUOR_PRIVACY_SECRET";

/// The pseudonyms that the settings ask for. Neither the secret nor a part of it is ever said.
pub(super) fn load_pseudonymiser(settings: &PrivacySettings) -> anyhow::Result<Option<Arc<Pseudonymiser>>> {
    if !settings.pseudonymise {
        return Ok(None);
    }
    let file = &settings.secret_file;
    let (secret, place) = match std::env::var_os(SECRET_VARIABLE) {
        Some(secret) => (OsString::into_encoded_bytes(secret), SECRET_VARIABLE.to_owned()),
        None if file.as_os_str().is_empty() => {
            bail!(
                "privacy.pseudonymise = true needs a secret: name its file by privacy.secret_file, or set {SECRET_VARIABLE}; `openssl rand -base64 48` makes one"
            )
        }
        None => {
            (std::fs::read(file).with_context(|| format!("the secret cannot be read from {}", file.display()))?, file.display().to_string())
        }
    };
    let secret = secret.trim_ascii_end();
    let pseudonyms = Pseudonymiser::new(secret);
    let pseudonyms = pseudonyms.with_context(|| {
        format!(
            "the secret in {place} has {} bytes; it needs at least {}, such as `openssl rand -base64 48` makes",
            secret.len(),
            Pseudonymiser::MIN_SECRET_BYTES
        )
    })?;
    Ok(Some(Arc::new(pseudonyms)))
}
