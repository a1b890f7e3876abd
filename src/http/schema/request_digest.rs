//! Digests of the parameters of a request.

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// A digest of the parameters that determine a list. It is the same in every build, because the
/// journal stores it.
#[derive(Default)]
pub(in crate::http) struct RequestDigest(SipHasher24);

impl RequestDigest {
    /// Adds a parameter.
    pub(in crate::http) fn add(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.write(&(part.len() as u64).to_le_bytes());
            self.0.write(part.as_bytes());
        }
    }

    /// The digest.
    pub(in crate::http) fn finish(&self) -> u64 {
        self.0.finish()
    }
}
