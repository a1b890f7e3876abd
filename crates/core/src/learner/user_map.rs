//! A map of users by id whose clones share the users that do not change.

use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Number of shards. With more shards a clone costs more, and the first write to a shard after the
/// clone costs less.
const SHARDS: u64 = 1024;

type Shard<V> = FxHashMap<Arc<str>, Arc<V>>;

/// Users by id, in shards behind `Arc`s. A clone copies only the list of shards. The first write to a
/// shard after the clone copies the shard's list of users, and the first write to a user copies the
/// user.
///
/// Unlike [`SharedUsers`](crate::domain::SharedUsers), it takes little more memory than a hash map, and
/// it has entries.
#[derive(Debug, Clone)]
pub(super) struct UserMap<V> {
    shards: FxHashMap<u64, Arc<Shard<V>>>,
}

impl<V> Default for UserMap<V> {
    fn default() -> Self {
        Self { shards: FxHashMap::default() }
    }
}

impl<V> FromIterator<(Arc<str>, Arc<V>)> for UserMap<V> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<V>)>>(users: I) -> Self {
        let mut shards = FxHashMap::<u64, Shard<V>>::default();
        for (id, user) in users {
            shards.entry(shard_of(&id)).or_default().insert(id, user);
        }
        Self { shards: shards.into_iter().map(|(number, shard)| (number, Arc::new(shard))).collect() }
    }
}

/// The shard of a user. The low bits of the hash select the place within the shard, so the shard is
/// selected by others.
fn shard_of(id: &str) -> u64 {
    (FxBuildHasher.hash_one(id) >> 32) % SHARDS
}

impl<V> UserMap<V> {
    pub(super) fn len(&self) -> usize {
        self.shards.values().map(|shard| shard.len()).sum()
    }

    pub(super) fn get(&self, id: &str) -> Option<&V> {
        self.shards.get(&shard_of(id))?.get(id).map(Arc::as_ref)
    }

    /// The key of a user, which shares its memory.
    pub(super) fn shared_id(&self, id: &str) -> Option<Arc<str>> {
        self.shards.get(&shard_of(id))?.get_key_value(id).map(|(known, _)| Arc::clone(known))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.shards.values().flat_map(|shard| shard.iter()).map(|(id, user)| (id, &**user))
    }
}

impl<V: Clone> UserMap<V> {
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        let shard = self.shards.get_mut(&shard_of(id)).filter(|shard| shard.contains_key(id))?;
        Arc::make_mut(shard).get_mut(id).map(Arc::make_mut)
    }

    pub(super) fn get_or_default(&mut self, id: Arc<str>) -> &mut V
    where
        V: Default,
    {
        let shard = self.shards.entry(shard_of(&id)).or_default();
        Arc::make_mut(Arc::make_mut(shard).entry(id).or_default())
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<V> {
        let shard = self.shards.get_mut(&shard_of(id)).filter(|shard| shard.contains_key(id))?;
        Arc::make_mut(shard).remove(id).map(Arc::unwrap_or_clone)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.shards.values_mut().flat_map(|shard| Arc::make_mut(shard).values_mut().map(Arc::make_mut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_user_map_behaves_like_a_map_and_its_clones_do_not_change(
            actions in prop::collection::vec((0_u8..40, 0_u8..5), 1..200),
        ) {
            let (mut users, mut expected) = (UserMap::<u32>::default(), BTreeMap::<String, u32>::new());
            let mut clones = Vec::new();
            for (user, action) in actions {
                let id = format!("u{user}");
                match action {
                    0 => prop_assert_eq!(users.remove(&id), expected.remove(&id)),
                    1 => clones.push((users.clone(), expected.clone())),
                    2 => {
                        users.iter_mut().for_each(|count| *count += 10);
                        expected.values_mut().for_each(|count| *count += 10);
                    }
                    _ => {
                        *users.get_or_default(Arc::from(&*id)) += 1;
                        *expected.entry(id.clone()).or_default() += 1;
                    }
                }
                prop_assert_eq!(users.get(&id), expected.get(&id));
                prop_assert_eq!(users.get_mut(&id), expected.get_mut(&id));
                prop_assert_eq!(users.shared_id(&id).is_some(), expected.contains_key(&id));
            }
            clones.push((users, expected));
            for (users, expected) in clones {
                let all: BTreeMap<_, _> = users.iter().map(|(id, count)| (id.to_string(), *count)).collect();
                prop_assert_eq!((users.len(), &all), (expected.len(), &expected));
            }
        }
    }
}
