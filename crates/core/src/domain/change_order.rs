//! The order in which users changed, whose clones share what does not change.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Change numbers per chunk. A write to a chunk that a clone shares copies the chunk.
const NUMBERS_PER_CHUNK: u64 = 256;

/// A change number and the user who changed, ascending.
type Chunk = Vec<(u64, Arc<str>)>;

/// User ids by the numbers of their last changes. A clone copies only the list of chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeOrder {
    /// Chunks by `number / NUMBERS_PER_CHUNK`. No chunk is empty.
    chunks: BTreeMap<u64, Arc<Chunk>>,
    len: usize,
}

impl FromIterator<(u64, Arc<str>)> for ChangeOrder {
    fn from_iter<I: IntoIterator<Item = (u64, Arc<str>)>>(users: I) -> Self {
        let mut order = Self::default();
        users.into_iter().for_each(|(number, id)| order.insert(number, id));
        order
    }
}

impl ChangeOrder {
    /// Number of users.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The user ids, in the order of their change numbers.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.chunks.values().flat_map(|chunk| chunk.iter()).map(|(_, id)| id)
    }

    /// Sets the user of a change number.
    pub(super) fn insert(&mut self, number: u64, id: Arc<str>) {
        let chunk = Arc::make_mut(self.chunks.entry(number / NUMBERS_PER_CHUNK).or_default());
        match chunk.binary_search_by_key(&number, |(known, _)| *known) {
            Ok(index) => {
                if let Some(entry) = chunk.get_mut(index) {
                    entry.1 = id;
                }
            }
            Err(index) => {
                chunk.insert(index, (number, id));
                self.len += 1;
            }
        }
    }

    /// Removes a change number.
    pub(super) fn remove(&mut self, number: u64) {
        let key = number / NUMBERS_PER_CHUNK;
        let Some(chunk) = self.chunks.get_mut(&key) else { return };
        let Ok(index) = chunk.binary_search_by_key(&number, |(known, _)| *known) else { return };
        Arc::make_mut(chunk).remove(index);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(&key);
        }
    }

    /// Removes the smallest change number, and returns its user.
    pub(super) fn pop_first(&mut self) -> Option<Arc<str>> {
        let (number, id) = self.chunks.first_key_value()?.1.first().cloned()?;
        self.remove(number);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_behaves_like_a_map_and_its_clones_do_not_change(
            actions in prop::collection::vec((0_u64..1_200, 0_u8..6), 1..200),
        ) {
            let (mut order, mut expected) = (ChangeOrder::default(), BTreeMap::<u64, Arc<str>>::new());
            let mut clones = Vec::new();
            for (step, (number, action)) in actions.into_iter().enumerate() {
                match action {
                    0 => {
                        order.remove(number);
                        expected.remove(&number);
                    }
                    1 => prop_assert_eq!(order.pop_first(), expected.pop_first().map(|(_, id)| id)),
                    2 => clones.push((order.clone(), expected.clone())),
                    _ => {
                        let id: Arc<str> = Arc::from(format!("u{step}"));
                        order.insert(number, Arc::clone(&id));
                        expected.insert(number, id);
                    }
                }
            }
            clones.push((order, expected));
            for (order, expected) in clones {
                prop_assert_eq!(order.len(), expected.len());
                prop_assert!(order.ids().eq(expected.values()));
            }
        }
    }
}
