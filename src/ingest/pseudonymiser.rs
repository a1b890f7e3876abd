//! Replaces ids by pseudonyms: keyed hashes, computed when an id enters the system.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The kind of an id. Equal ids of different kinds get different pseudonyms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum IdKind {
    /// A user id.
    User = 1,
    /// A session id.
    Session = 2,
    /// An event id.
    Event = 3,
}

/// Bytes of the id's HMAC in a pseudonym: 144 bits. Among 10¹² users, two share a pseudonym with
/// probability 2·10⁻²⁰.
const ID_HMAC_BYTES: usize = 18;
/// Bytes of the check value, which identifies pseudonyms of this secret. A foreign id passes the
/// check by chance with probability 2⁻⁴⁸.
const CHECK_VALUE_BYTES: usize = 6;

/// Computes pseudonyms under one secret. A pseudonym is the HMAC-SHA-256 [RFC 2104] of the id, cut
/// to 144 bits, plus a check value, in 32 characters of base64url [RFC 4648].
///
/// The function is idempotent: a pseudonym of the same secret maps to itself. Exports can therefore
/// be imported again, and an API client can name a user by id or pseudonym.
#[derive(Clone)]
pub struct Pseudonymiser {
    keyed: Hmac<Sha256>,
}

impl Pseudonymiser {
    /// Shortest secret, in bytes.
    pub const MIN_SECRET_BYTES: usize = 32;

    /// Creates a pseudonymiser; `None` if the secret is shorter than [`Self::MIN_SECRET_BYTES`].
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let keyed = (secret.len() >= Self::MIN_SECRET_BYTES).then(|| Hmac::new_from_slice(secret).ok())??;
        Some(Self { keyed })
    }

    /// The pseudonym of an id.
    #[must_use]
    pub fn pseudonym(&self, kind: IdKind, id: &str) -> String {
        if self.is_pseudonym(kind, id) {
            return id.to_owned();
        }
        let mut bytes = self.hmac_prefix::<ID_HMAC_BYTES>(kind as u8, id.as_bytes()).to_vec();
        bytes.extend(self.check_value(kind, &bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A digest that identifies the secret without revealing it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        self.hmac_prefix(0, b"fingerprint")
    }

    /// Whether an id is a pseudonym of this secret and kind.
    fn is_pseudonym(&self, kind: IdKind, id: &str) -> bool {
        let bytes = (id.len() == 32).then(|| URL_SAFE_NO_PAD.decode(id).ok()).flatten().unwrap_or_default();
        bytes.split_at_checked(ID_HMAC_BYTES).is_some_and(|(hash, check)| check == self.check_value(kind, hash))
    }

    fn check_value(&self, kind: IdKind, hash: &[u8]) -> [u8; CHECK_VALUE_BYTES] {
        self.hmac_prefix(128 | kind as u8, hash)
    }

    /// The first `N` bytes of the HMAC. `domain` is different for each id kind, each kind's check
    /// values and the fingerprint, so that their hashes differ.
    fn hmac_prefix<const N: usize>(&self, domain: u8, text: &[u8]) -> [u8; N] {
        let mut keyed = self.keyed.clone();
        keyed.update(&[domain]);
        keyed.update(text);
        let mut cut = [0; N];
        cut.iter_mut().zip(keyed.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        cut
    }
}

impl PartialEq for Pseudonymiser {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl fmt::Debug for Pseudonymiser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Pseudonymiser(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_depend_on_secret_and_kind() {
        assert!(Pseudonymiser::new(&[7; 31]).is_none());
        let [one, other] = [7, 8].map(|byte| Pseudonymiser::new(&[byte; 32]).unwrap());
        let ann = one.pseudonym(IdKind::User, "ann@example.com");
        assert!(
            ann.len() == 32 && ann.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{ann}"
        );
        assert_eq!(one.pseudonym(IdKind::User, "ann@example.com"), ann);
        for different in [
            one.pseudonym(IdKind::User, "bob"),
            one.pseudonym(IdKind::Session, "ann@example.com"),
            other.pseudonym(IdKind::User, "ann@example.com"),
        ] {
            assert_ne!(different, ann);
        }
        assert_eq!(one.pseudonym(IdKind::User, &ann), ann, "a pseudonym maps to itself");
        assert_ne!(other.pseudonym(IdKind::User, &ann), ann, "under another secret it is an ordinary id");
        assert_ne!(one.pseudonym(IdKind::Session, &ann), ann);
        let forged = format!("{}A", &ann[..31]);
        assert!(forged == ann || one.pseudonym(IdKind::User, &forged) != forged);
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(format!("{one:?}"), "Pseudonymiser(…)");
    }

    #[test]
    fn matches_the_hmac_test_vector() {
        // RFC 4231, test case 1. Its key is shorter than the minimum length of a secret, so the
        // test calls the HMAC directly.
        let mut keyed = Hmac::<Sha256>::new_from_slice(&[0x0b; 20]).unwrap();
        keyed.update(b"Hi There");
        assert_eq!(keyed.finalize().into_bytes()[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }
}
