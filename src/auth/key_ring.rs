//! All keys, to be looked up.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ApiKey, KeyError, KeyId, Scope};

/// The keys that there are.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: HashMap<String, Arc<ApiKey>>,
}

impl KeyRing {
    /// The most keys: each may have a limit of its own, which takes memory.
    pub const MAX_KEYS: usize = 10_000;

    /// A ring of these keys.
    ///
    /// # Errors
    /// [`KeyError::TooManyKeys`].
    pub fn new(keys: Vec<ApiKey>) -> Result<Self, KeyError> {
        if keys.len() > Self::MAX_KEYS {
            return Err(KeyError::TooManyKeys(Self::MAX_KEYS));
        }
        Ok(Self { keys: keys.into_iter().map(|key| (key.id.to_string(), Arc::new(key))).collect() })
    }

    /// The key that this is, in clear.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(ApiKey::parse_id(key)?).filter(|known| known.matches(key))
    }

    /// The key of an id.
    #[must_use]
    pub fn get(&self, id: &KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id.to_string())
    }

    /// Each key, those made first at the beginning.
    #[must_use]
    pub fn all(&self) -> Vec<&ApiKey> {
        let mut all: Vec<_> = self.keys.values().map(|key| &**key).collect();
        all.sort_unstable_by_key(|key| (key.created, &key.id));
        all
    }

    /// Whether there is a key that opens something of the public API, or of the admin endpoint.
    #[must_use]
    pub fn has_key_for(&self, public: bool) -> bool {
        let serves = |scope: Scope| if public { scope.is_public() } else { scope == Scope::Admin };
        self.keys.values().any(|key| key.scopes.iter().any(serves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn drawn(scope: Scope, now: i64) -> (ApiKey, String) {
        let (key, secret) = ApiKey::generate("k", Scopes::new([scope]).unwrap(), None, now).unwrap();
        (key, secret.reveal().to_owned())
    }

    #[test]
    fn a_key_is_found_by_what_it_is_in_clear() {
        let ((one, first), (two, second)) = (drawn(Scope::Write, 2), drawn(Scope::Admin, 1));
        let (id, stranger) = (one.id.clone(), drawn(Scope::Write, 0).1);
        let ring = KeyRing::new(vec![one, two]).unwrap();
        assert_eq!(ring.find(&first).unwrap().id, id);
        // The id of one with the secret of another.
        let mixed = format!("sq_{id}_{}", second.rsplit('_').next().unwrap());
        assert!(ring.find(&mixed).is_none() && ring.find(&stranger).is_none() && ring.find("").is_none());
        assert_eq!(ring.all().iter().map(|key| key.created).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_door_is_opened_by_keys_of_its_own() {
        let ring = |scope| KeyRing::new(vec![drawn(scope, 0).0]).unwrap();
        assert!(ring(Scope::Read).has_key_for(true) && !ring(Scope::Read).has_key_for(false));
        assert!(!ring(Scope::Admin).has_key_for(true) && ring(Scope::Admin).has_key_for(false));
        assert!(!ring(Scope::Metrics).has_key_for(false) && !KeyRing::default().has_key_for(true));
    }
}
