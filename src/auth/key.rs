//! One key: what is kept of it, and what is given out once.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::{self, Debug, Display, Write};
use std::str::FromStr;
use subtle::ConstantTimeEq;

use super::{KeyError, Scopes};
use crate::domain::Timestamp;

/// What every key begins with, so that scanners for secrets know one when they see it.
const PREFIX: &str = "sq";
/// Bytes of an id.
const ID: usize = 4;
/// Bytes of a secret: 192 bits.
const SECRET: usize = 24;
/// Characters of a name, at most.
const NAME: usize = 64;

/// What a key is called: 8 hexadecimal digits. It is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(id: &str) -> Result<Self, KeyError> {
        let is_id = id.len() == 2 * ID && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_id { Ok(Self(id.to_owned())) } else { Err(KeyError::InvalidId) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(id: String) -> Result<Self, KeyError> {
        id.parse()
    }
}

/// A key in clear text. It is shown once, when it is created, and never written, logged or shown by
/// [`Debug`].
pub struct Secret(String);

impl Secret {
    /// The key in clear.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// SHA-256 of a whole key; as 64 hexadecimal digits where it is written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct KeyDigest([u8; 32]);

impl KeyDigest {
    fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl From<KeyDigest> for String {
    fn from(fingerprint: KeyDigest) -> Self {
        hex(&fingerprint.0)
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let wrong = "a sha256 has 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return Err(wrong);
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * place..2 * place + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// What is kept of a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Names it.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// What it opens.
    pub scopes: Scopes,
    /// When it was made, in milliseconds since 1970.
    pub created: Timestamp,
    /// Events and questions a second, 0: any number; `None`: what `server.rate_per_key` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    sha256: KeyDigest,
}

impl Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({}, {})", self.id, self.scopes)
    }
}

impl ApiKey {
    /// Makes a key, at `now`: what is kept of it, and what is given out.
    ///
    /// # Errors
    /// [`KeyError::InvalidName`], or [`KeyError::RandomSource`] if the system has no secret to
    /// give.
    pub fn generate(name: &str, scopes: Scopes, rate: Option<u32>, now: Timestamp) -> Result<(Self, Secret), KeyError> {
        if !(1..=NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(KeyError::InvalidName);
        }
        let mut drawn = [0; ID + SECRET];
        getrandom::fill(&mut drawn).map_err(|error| KeyError::RandomSource(error.to_string()))?;
        let (id, secret) = drawn.split_at(ID);
        let id = KeyId(hex(id));
        let secret = Secret(format!("{PREFIX}_{id}_{}", hex(secret)));
        let sha256 = KeyDigest::of(secret.reveal());
        Ok((Self { id, name: name.to_owned(), scopes, created: now, rate, sha256 }, secret))
    }

    /// The id that a key in clear bears, if it looks like one at all.
    pub(super) fn parse_id(key: &str) -> Option<&str> {
        let (id, secret) = key.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        (id.len() == 2 * ID && secret.len() == 2 * SECRET).then_some(id)
    }

    /// Whether this is the key. How long it takes tells nothing of how far it is right.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.sha256.0.ct_eq(&KeyDigest::of(key).0).into()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    fn drawn() -> (ApiKey, Secret) {
        ApiKey::generate("shop", Scopes::new([Scope::Write]).unwrap(), None, 7).unwrap()
    }

    #[test]
    fn a_key_is_known_by_its_digest_alone() {
        let (key, secret) = drawn();
        let text = secret.reveal();
        assert_eq!((text.len(), ApiKey::parse_id(text)), (60, Some(key.id.to_string().as_str())));
        assert!(key.matches(text));
        assert!(!key.matches(&text.to_uppercase()) && !key.matches(&text[..59]) && !key.matches("") && !key.matches(drawn().1.reveal()));
        let kept = serde_json::to_string(&key).unwrap();
        let hidden = text.rsplit('_').next().unwrap();
        assert!(!kept.contains(hidden) && !format!("{key:?} {secret:?}").contains(hidden));
        // The digest is that of the whole text, so that `sha256sum` can tell it.
        assert!(kept.contains(&hex(&Sha256::digest(text))));
        assert!(serde_json::from_str::<ApiKey>(&kept).unwrap().matches(text));
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        for strange in ["", "sq", "sq_1a2b3c4d", "sq_1a2b3c4d_", "sk_1a2b3c4d_00", "write-key", "sq_ü_"] {
            assert_eq!(ApiKey::parse_id(strange), None, "{strange}");
        }
        for strange in ["", "1A2B3C4D", "1a2b3c4", "1a2b3c4d5", "1a2b3c4ü"] {
            assert!(strange.parse::<KeyId>().is_err(), "{strange}");
        }
    }

    #[test]
    fn a_name_says_something() {
        for wrong in ["", "two\nlines", &"x".repeat(65)] {
            assert!(matches!(ApiKey::generate(wrong, Scopes::new([Scope::Read]).unwrap(), None, 0), Err(KeyError::InvalidName)));
        }
    }
}
