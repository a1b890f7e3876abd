//! API keys: the stored record of a key, and the key in clear text, which is shown only at its
//! creation.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::{self, Debug, Display, Write};
use std::str::FromStr;
use subtle::ConstantTimeEq;

use super::{KeyError, Scopes};
use crate::domain::Timestamp;

/// Prefix of every API key. Secret scanners recognise keys by this prefix.
const KEY_PREFIX: &str = "sq";
/// Length of a key's id, in bytes.
const KEY_ID_BYTES: usize = 4;
/// Length of a secret, in bytes: 192 bits.
const SECRET_BYTES: usize = 24;
/// Largest length of a key's name, in characters.
const MAX_KEY_NAME_CHARS: usize = 64;

/// The public id of a key: 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(id: &str) -> Result<Self, KeyError> {
        let is_id = id.len() == 2 * KEY_ID_BYTES && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_id { Ok(Self(id.to_owned())) } else { Err(KeyError::InvalidId) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(id: String) -> Result<Self, KeyError> {
        id.parse()
    }
}

/// A key in clear text. A key is shown only at its creation; no file, no log and no [`Debug`]
/// output contains it.
pub struct Secret(String);

impl Secret {
    /// The key in clear text.
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

/// The SHA-256 digest of a whole key in clear text. It is serialised as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct KeyDigest([u8; 32]);

impl KeyDigest {
    fn hash_key(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        to_hex(&digest.0)
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let invalid = "a sha256 has 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.is_ascii() {
            return Err(invalid);
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or(invalid)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid)?;
        }
        Ok(Self(bytes))
    }
}

/// The stored record of a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The public id.
    pub id: KeyId,
    /// The name by which operators recognise the key.
    pub name: String,
    /// The granted scopes.
    pub scopes: Scopes,
    /// Time of creation, in milliseconds since 1970.
    pub created: Timestamp,
    /// The key's rate limit, in events and requests per second; 0 means unlimited. If absent, the
    /// setting `server.rate_per_key` applies.
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
    /// Generates a key. Returns the record to store, and the key in clear text for
    /// its user. `now` is the time of creation.
    ///
    /// # Errors
    /// [`KeyError::InvalidName`], or [`KeyError::RandomSource`] if the system's random source
    /// fails.
    pub fn generate(name: &str, scopes: Scopes, rate: Option<u32>, now: Timestamp) -> Result<(Self, Secret), KeyError> {
        if !(1..=MAX_KEY_NAME_CHARS).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(KeyError::InvalidName);
        }
        let mut random = [0; KEY_ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|error| KeyError::RandomSource(error.to_string()))?;
        let (id, secret) = random.split_at(KEY_ID_BYTES);
        let id = KeyId(to_hex(id));
        let secret = Secret(format!("{KEY_PREFIX}_{id}_{}", to_hex(secret)));
        let sha256 = KeyDigest::hash_key(secret.reveal());
        Ok((Self { id, name: name.to_owned(), scopes, created: now, rate, sha256 }, secret))
    }

    /// Returns the id part of a key in clear text; `None` if the text does not have the form of a
    /// key.
    pub(super) fn parse_id(key: &str) -> Option<&str> {
        let (id, secret) = key.strip_prefix(KEY_PREFIX)?.strip_prefix('_')?.split_once('_')?;
        (id.len() == 2 * KEY_ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some(id)
    }

    /// The SHA-256 of a key in clear text.
    pub(super) fn digest_of(key: &str) -> [u8; 32] {
        KeyDigest::hash_key(key).0
    }

    /// The SHA-256 of this key, which signs user tokens.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.sha256.0
    }

    /// Whether `key`, in clear text, is the key of this record. The comparison takes constant time,
    /// so its duration does not reveal how many digits are right.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.sha256.0.ct_eq(&KeyDigest::hash_key(key).0).into()
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    fn generate() -> (ApiKey, Secret) {
        ApiKey::generate("shop", Scopes::new([Scope::Write]).unwrap(), None, 7).unwrap()
    }

    #[test]
    fn record_matches_the_key_and_holds_only_its_digest() {
        let (key, secret) = generate();
        let text = secret.reveal();
        assert_eq!((text.len(), ApiKey::parse_id(text)), (60, Some(key.id.to_string().as_str())));
        assert!(key.matches(text));
        assert!(
            !key.matches(&text.to_uppercase())
                && !key.matches(&text[..59])
                && !key.matches("")
                && !key.matches(generate().1.reveal())
        );
        let record = serde_json::to_string(&key).unwrap();
        let secret_part = text.rsplit('_').next().unwrap();
        assert!(!record.contains(secret_part) && !format!("{key:?} {secret:?}").contains(secret_part));
        // The digest covers the whole key, so `sha256sum` can reproduce it.
        assert!(record.contains(&to_hex(&Sha256::digest(text))));
        assert!(serde_json::from_str::<ApiKey>(&record).unwrap().matches(text));
    }

    #[test]
    fn rejects_malformed_keys_and_ids() {
        for malformed in ["", "sq", "sq_1a2b3c4d", "sq_1a2b3c4d_", "sk_1a2b3c4d_00", "write-key", "sq_ü_"] {
            assert_eq!(ApiKey::parse_id(malformed), None, "{malformed}");
        }
        for malformed in ["", "1A2B3C4D", "1a2b3c4", "1a2b3c4d5", "1a2b3c4ü"] {
            assert!(malformed.parse::<KeyId>().is_err(), "{malformed}");
        }
    }

    #[test]
    fn rejects_invalid_names() {
        for invalid in ["", "two\nlines", &"x".repeat(65)] {
            assert!(matches!(
                ApiKey::generate(invalid, Scopes::new([Scope::Read]).unwrap(), None, 0),
                Err(KeyError::InvalidName)
            ));
        }
    }
}
