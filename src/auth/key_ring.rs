//! Lookup of API keys.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ApiKey, KeyError, KeyId, Scope};

/// All keys, by id.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: HashMap<String, Arc<ApiKey>>,
}

impl KeyRing {
    /// Largest number of keys. The number is limited because each key can have a rate limiter,
    /// which uses memory.
    pub const MAX_KEYS: usize = 10_000;

    /// Creates a ring of keys.
    ///
    /// # Errors
    /// [`KeyError::TooManyKeys`] if there are more than [`Self::MAX_KEYS`] keys.
    pub fn new(keys: Vec<ApiKey>) -> Result<Self, KeyError> {
        if keys.len() > Self::MAX_KEYS {
            return Err(KeyError::TooManyKeys(Self::MAX_KEYS));
        }
        Ok(Self { keys: keys.into_iter().map(|key| (key.id.to_string(), Arc::new(key))).collect() })
    }

    /// Finds the record of a key that is given in clear text.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(ApiKey::parse_id(key)?).filter(|known| known.matches(key))
    }

    /// The key with an id.
    #[must_use]
    pub fn get(&self, id: &KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id.to_string())
    }

    /// All keys, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<&ApiKey> {
        let mut all: Vec<_> = self.keys.values().map(|key| &**key).collect();
        all.sort_unstable_by_key(|key| (key.created, &key.id));
        all
    }

    /// Whether at least one key grants access: to the public API if `is_public_listener` is set,
    /// and otherwise to the whole admin endpoint.
    #[must_use]
    pub fn has_key_for_listener(&self, is_public_listener: bool) -> bool {
        let grants = |scope: Scope| if is_public_listener { scope.is_public() } else { scope == Scope::Admin };
        self.keys.values().any(|key| key.scopes.iter().any(grants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn generate(scope: Scope, now: i64) -> (ApiKey, String) {
        let (key, secret) = ApiKey::generate("k", Scopes::new([scope]).unwrap(), None, now).unwrap();
        (key, secret.reveal().to_owned())
    }

    #[test]
    fn finds_a_key_by_its_clear_text() {
        let ((one, first), (two, second)) = (generate(Scope::Write, 2), generate(Scope::Admin, 1));
        let (id, unknown) = (one.id.clone(), generate(Scope::Write, 0).1);
        let ring = KeyRing::new(vec![one, two]).unwrap();
        assert_eq!(ring.find(&first).unwrap().id, id);
        // This text combines the id of one key with the secret of another key.
        let mixed = format!("sq_{id}_{}", second.rsplit('_').next().unwrap());
        assert!(ring.find(&mixed).is_none() && ring.find(&unknown).is_none() && ring.find("").is_none());
        assert_eq!(ring.all().iter().map(|key| key.created).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let keys = vec![generate(Scope::Write, 0).0; KeyRing::MAX_KEYS + 1];
        assert!(KeyRing::new(keys[1..].to_vec()).is_ok());
        assert_eq!(KeyRing::new(keys).unwrap_err().to_string(), KeyError::TooManyKeys(KeyRing::MAX_KEYS).to_string());
    }

    #[test]
    fn a_key_counts_only_for_the_listener_that_its_scope_belongs_to() {
        let ring = |scope| KeyRing::new(vec![generate(scope, 0).0]).unwrap();
        assert!(ring(Scope::Read).has_key_for_listener(true) && !ring(Scope::Read).has_key_for_listener(false));
        assert!(!ring(Scope::Admin).has_key_for_listener(true) && ring(Scope::Admin).has_key_for_listener(false));
        assert!(!ring(Scope::Metrics).has_key_for_listener(false) && !KeyRing::default().has_key_for_listener(true));
    }
}
