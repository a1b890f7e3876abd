//! User tokens. A token is a signed permission to get the lists of one user until an expiry time.
//!
//! A site's backend signs a token for a visitor that it knows. The browser sends it instead of a
//! key. A token has the form `su_<key id>_<expiry>_<signature>`. The expiry is in seconds since
//! 1970. The signature is the HMAC-SHA-256 [RFC 2104] of `<expiry>.<user id>`, in hexadecimal
//! digits, under the SHA-256 of a key with the scope `read-own`. The token does not contain the
//! user id.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;

use super::key::{ApiKey, KeyId, to_hex};
use super::{KeyError, KeyRing, Scope};
use crate::domain::Timestamp;

/// Prefix of every user token.
const PREFIX: &str = "su_";
/// Length of a signature, in bytes.
const SIGNATURE_BYTES: usize = 32;

/// The parsed parts of a token, whose signature is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UnverifiedToken<'t> {
    key: &'t str,
    /// Seconds since 1970, as in the token.
    expires: &'t str,
    signature: [u8; SIGNATURE_BYTES],
}

/// A valid user token.
#[derive(Debug, Clone)]
pub struct UserToken {
    /// The key that signed it.
    pub key: Arc<ApiKey>,
    /// The time at which it expires, in milliseconds since 1970.
    pub expires: Timestamp,
}

/// Whether a text has the form of a user token.
#[must_use]
pub fn is_user_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Signs a token for `user` that expires at `expires`, in seconds since 1970. `key` is a key in clear
/// text.
///
/// # Errors
/// [`KeyError::InvalidKey`] if `key` does not have the form of a key.
pub fn sign_user_token(key: &str, user: &str, expires: i64) -> Result<String, KeyError> {
    let id: KeyId = ApiKey::parse_id(key).ok_or(KeyError::InvalidKey)?.parse()?;
    let expires = expires.to_string();
    let signed = signer(&ApiKey::digest_of(key), &expires, user).ok_or(KeyError::InvalidKey)?;
    Ok(format!("{PREFIX}{id}_{expires}_{}", to_hex(&signed.finalize().into_bytes())))
}

fn signer(digest: &[u8; 32], expires: &str, user: &str) -> Option<Hmac<Sha256>> {
    let mut signer = Hmac::<Sha256>::new_from_slice(digest).ok()?;
    [expires, ".", user].iter().for_each(|part| signer.update(part.as_bytes()));
    Some(signer)
}

fn parse(token: &str) -> Option<UnverifiedToken<'_>> {
    let (key, rest) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let (expires, digits) = rest.split_once('_')?;
    let mut signature = [0; SIGNATURE_BYTES];
    if digits.len() != 2 * SIGNATURE_BYTES {
        return None;
    }
    for (byte, index) in signature.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(index..index + 2)?, 16).ok()?;
    }
    Some(UnverifiedToken { key, expires, signature })
}

impl KeyRing {
    /// Checks a token for `user`. Returns `None` if the token has expired, was changed or is for
    /// another user, or if its key was revoked or lacks the scope `read-own`. The comparison of
    /// signatures takes constant time.
    #[must_use]
    pub fn check_user_token(&self, token: &str, user: &str, now: Timestamp) -> Option<UserToken> {
        let token = parse(token)?;
        let expires = token.expires.parse::<i64>().ok()?.checked_mul(1000)?;
        let key = self.get(&token.key.parse().ok()?)?;
        let is_signed = key.scopes.allows(Scope::ReadOwn)
            && signer(key.digest(), token.expires, user)?.verify_slice(&token.signature).is_ok();
        (is_signed && now < expires).then(|| UserToken { key: Arc::clone(key), expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    #[test]
    fn token_is_valid_for_its_user_until_it_expires() {
        let create = |scope| ApiKey::generate("k", Scopes::new([scope]).unwrap(), None, 0).unwrap();
        let ((own, secret), (read, read_secret)) = (create(Scope::ReadOwn), create(Scope::Read));
        let ring = KeyRing::new(vec![own, read]).unwrap();
        let token = sign_user_token(secret.reveal(), "ann", 100).unwrap();
        let check = |token: &str, user: &str, now| ring.check_user_token(token, user, now).map(|valid| valid.expires);
        assert_eq!(check(&token, "ann", 99_999), Some(100_000));
        assert_eq!(check(&token, "ann", 100_000), None, "expired");
        assert_eq!(check(&token, "bob", 0), None, "of another user");
        let (head, digits) = token.rsplit_once('_').unwrap();
        let changed = if digits.starts_with('0') { '1' } else { '0' };
        for tampered in [
            token.replace("_100_", "_900_"),
            format!("{head}_{changed}{}", &digits[1..]),
            format!("{head}_{}", &digits[1..]),
            format!("{head}_é{}", &digits[2..]),
            head.to_owned(),
            sign_user_token(read_secret.reveal(), "ann", 100).unwrap(),
            sign_user_token(create(Scope::ReadOwn).1.reveal(), "ann", 100).unwrap(),
            String::new(),
        ] {
            assert_eq!(check(&tampered, "ann", 0), None, "{tampered}");
        }
        assert!(is_user_token(&token) && !is_user_token(secret.reveal()));
        assert!(matches!(sign_user_token("secret", "ann", 1), Err(KeyError::InvalidKey)));
    }

    #[test]
    fn signature_can_be_reproduced_with_other_tools() {
        // key=sq_1a2b3c4d_$(printf '0%.0s' $(seq 48)); printf 1700000000.ann |
        //   openssl dgst -sha256 -mac hmac -macopt hexkey:$(printf %s $key | sha256sum | cut -c-64)
        let key = format!("sq_1a2b3c4d_{}", "0".repeat(48));
        let token = sign_user_token(&key, "ann", 1_700_000_000).unwrap();
        assert_eq!(token, format!("su_1a2b3c4d_1700000000_{SIGNATURE}"));
    }

    const SIGNATURE: &str = "6481ad019955bcf1b92b5577672cd557429533b25a75c296d122ef2fba2a29ed";
}
