//! All keys, to be looked up.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Key, KeyError, KeyId, Scope};

/// The keys that there are.
#[derive(Debug, Default)]
pub struct Ring {
    keys: HashMap<String, Arc<Key>>,
}

impl Ring {
    /// The most keys: each may have a limit of its own, which takes memory.
    pub const MOST: usize = 10_000;

    /// A ring of these keys.
    ///
    /// # Errors
    /// [`KeyError::TooMany`].
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        if keys.len() > Self::MOST {
            return Err(KeyError::TooMany(Self::MOST));
        }
        Ok(Self { keys: keys.into_iter().map(|key| (key.id.to_string(), Arc::new(key))).collect() })
    }

    /// The key that this is, in clear.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Arc<Key>> {
        self.keys.get(Key::id_in(key)?).filter(|known| known.is(key))
    }

    /// The key of an id.
    #[must_use]
    pub fn get(&self, id: &KeyId) -> Option<&Arc<Key>> {
        self.keys.get(&id.to_string())
    }

    /// Each key, those made first at the beginning.
    #[must_use]
    pub fn all(&self) -> Vec<&Key> {
        let mut all: Vec<_> = self.keys.values().map(|key| &**key).collect();
        all.sort_unstable_by_key(|key| (key.created, &key.id));
        all
    }

    /// Whether there is a key that opens something of the public API, or of the admin endpoint.
    #[must_use]
    pub fn opens(&self, public: bool) -> bool {
        let serves = |scope: Scope| if public { scope.is_public() } else { scope == Scope::Admin };
        self.keys.values().any(|key| key.scopes.iter().any(serves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;

    fn drawn(scope: Scope, now: i64) -> (Key, String) {
        let (key, secret) = Key::draw("k", Scopes::new([scope]).unwrap(), None, now).unwrap();
        (key, secret.reveal().to_owned())
    }

    #[test]
    fn a_key_is_found_by_what_it_is_in_clear() {
        let ((one, first), (two, second)) = (drawn(Scope::Write, 2), drawn(Scope::Admin, 1));
        let (id, stranger) = (one.id.clone(), drawn(Scope::Write, 0).1);
        let ring = Ring::new(vec![one, two]).unwrap();
        assert_eq!(ring.find(&first).unwrap().id, id);
        // The id of one with the secret of another.
        let mixed = format!("sq_{id}_{}", second.rsplit('_').next().unwrap());
        assert!(ring.find(&mixed).is_none() && ring.find(&stranger).is_none() && ring.find("").is_none());
        assert_eq!(ring.all().iter().map(|key| key.created).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_door_is_opened_by_keys_of_its_own() {
        let ring = |scope| Ring::new(vec![drawn(scope, 0).0]).unwrap();
        assert!(ring(Scope::Read).opens(true) && !ring(Scope::Read).opens(false));
        assert!(!ring(Scope::Admin).opens(true) && ring(Scope::Admin).opens(false));
        assert!(!ring(Scope::Metrics).opens(false) && !Ring::default().opens(true));
    }
}
