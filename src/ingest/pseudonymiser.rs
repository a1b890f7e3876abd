//! Pseudonyms: ids of people, hashed under a secret at the door.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// What an id names: the same id is another pseudonym for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum IdKind {
    /// A user.
    User = 1,
    /// A visit.
    Session = 2,
    /// An event.
    Event = 3,
}

/// Bytes of the id's HMAC that a pseudonym holds: 144 bits, so that of 10¹² users two share one with probability 2·10⁻²⁰.
const HASH: usize = 18;
/// Bytes by which a pseudonym is known as one of this secret: an id that merely looks like one is taken for it with probability 2⁻⁴⁸.
const CHECK: usize = 6;

/// Gives pseudonyms under one secret: HMAC-SHA-256 [RFC 2104] of the id, cut to 144 bits, and a check on it, in 32 letters of base64url [RFC 4648]. A pseudonym of the secret is its own
/// pseudonym, so that what was exported can be read in again, and a user be asked for by either name.
#[derive(Clone)]
pub struct Pseudonymiser {
    keyed: Hmac<Sha256>,
}

impl Pseudonymiser {
    /// The least that a secret has, in bytes.
    pub const MIN_SECRET_BYTES: usize = 32;

    /// Those of a secret; `None` if it has too few bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let keyed = (secret.len() >= Self::MIN_SECRET_BYTES).then(|| Hmac::new_from_slice(secret).ok())??;
        Some(Self { keyed })
    }

    /// The pseudonym of an id.
    #[must_use]
    pub fn pseudonym(&self, what: IdKind, id: &str) -> String {
        if self.is_one(what, id) {
            return id.to_owned();
        }
        let mut bytes = self.hash::<HASH>(what as u8, id.as_bytes()).to_vec();
        bytes.extend(self.check(what, &bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What tells this secret from others, and nothing of it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        self.hash(0, b"fingerprint")
    }

    fn is_one(&self, what: IdKind, id: &str) -> bool {
        let bytes = (id.len() == 32).then(|| URL_SAFE_NO_PAD.decode(id).ok()).flatten().unwrap_or_default();
        bytes.split_at_checked(HASH).is_some_and(|(hash, check)| check == self.check(what, hash))
    }

    fn check(&self, what: IdKind, hash: &[u8]) -> [u8; CHECK] {
        self.hash(128 | what as u8, hash)
    }

    fn hash<const N: usize>(&self, what: u8, text: &[u8]) -> [u8; N] {
        let mut keyed = self.keyed.clone();
        keyed.update(&[what]);
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
        out.write_str("Pseudonyms(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_of_its_secret_and_of_what_it_names() {
        assert!(Pseudonymiser::new(&[7; 31]).is_none());
        let [one, other] = [7, 8].map(|byte| Pseudonymiser::new(&[byte; 32]).unwrap());
        let ann = one.pseudonym(IdKind::User, "ann@example.com");
        assert!(ann.len() == 32 && ann.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{ann}");
        assert_eq!(one.pseudonym(IdKind::User, "ann@example.com"), ann);
        for different in [
            one.pseudonym(IdKind::User, "bob"),
            one.pseudonym(IdKind::Session, "ann@example.com"),
            other.pseudonym(IdKind::User, "ann@example.com"),
        ] {
            assert_ne!(different, ann);
        }
        assert_eq!(one.pseudonym(IdKind::User, &ann), ann, "it is its own");
        assert_ne!(other.pseudonym(IdKind::User, &ann), ann, "under another secret it is an id like any other");
        assert_ne!(one.pseudonym(IdKind::Session, &ann), ann);
        let forged = format!("{}A", &ann[..31]);
        assert!(forged == ann || one.pseudonym(IdKind::User, &forged) != forged);
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(format!("{one:?}"), "Pseudonyms(…)");
    }

    #[test]
    fn it_is_the_hash_that_the_standard_says() {
        // RFC 4231, test case 1, whose key is too short for a secret.
        let mut keyed = Hmac::<Sha256>::new_from_slice(&[0x0b; 20]).unwrap();
        keyed.update(b"Hi There");
        assert_eq!(keyed.finalize().into_bytes()[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }
}
