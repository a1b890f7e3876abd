//! A queue in chunks, whose clones share the chunks that do not change.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::sync::Arc;

/// A queue in chunks of `CHUNK` elements behind `Arc`s. A clone copies only the list of chunks. The
/// first write to a chunk after the clone copies the chunk. Removal from the front copies nothing.
///
/// The serialised form is that of a sequence of the elements.
///
/// ```
/// use sequor_core::domain::SharedQueue;
///
/// let mut queue: SharedQueue<u32, 2> = (1..=5).collect();
/// let before = queue.clone();
/// assert_eq!(queue.pop_front(), Some(1));
/// if let Some(second) = queue.get_mut(1) {
///     *second = 30;
/// }
/// assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [2, 30, 4, 5]);
/// assert_eq!(before.iter().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
/// ```
#[derive(Debug, Clone)]
pub struct SharedQueue<T, const CHUNK: usize> {
    /// Every chunk but the last has `CHUNK` elements.
    chunks: VecDeque<Arc<Vec<T>>>,
    /// Number of elements at the start of the first chunk that have left the queue. Less than `CHUNK`.
    left: usize,
}

impl<T, const CHUNK: usize> Default for SharedQueue<T, CHUNK> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), left: 0 }
    }
}

impl<T: Clone, const CHUNK: usize> FromIterator<T> for SharedQueue<T, CHUNK> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut queue = Self::default();
        elements.into_iter().for_each(|element| queue.push_back(element));
        queue
    }
}

impl<T: PartialEq, const CHUNK: usize> PartialEq for SharedQueue<T, CHUNK> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T, const CHUNK: usize> SharedQueue<T, CHUNK> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.chunks.back().map_or(0, |chunk| chunk.len());
        (self.chunks.len().saturating_sub(1) * CHUNK + last).saturating_sub(self.left)
    }

    /// Whether the queue has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at an index, counted from the oldest.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        let index = self.left + index;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The elements, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).skip(self.left)
    }
}

impl<T: Clone, const CHUNK: usize> SharedQueue<T, CHUNK> {
    /// Adds an element at the end.
    pub fn push_back(&mut self, element: T) {
        match self.chunks.back_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(element),
            None => self.chunks.push_back(Arc::new(vec![element])),
        }
    }

    /// Removes the oldest element. Its memory is freed with its chunk.
    pub fn pop_front(&mut self) -> Option<T> {
        let oldest = self.get(0)?.clone();
        self.left += 1;
        if self.left == CHUNK {
            self.left = 0;
            self.chunks.pop_front();
        }
        Some(oldest)
    }

    /// The element at an index, counted from the oldest, for a change.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let index = self.left + index;
        let chunk = self.chunks.get_mut(index / CHUNK).filter(|chunk| index % CHUNK < chunk.len())?;
        Arc::make_mut(chunk).get_mut(index % CHUNK)
    }

    /// Changes the elements that `needs_change` selects.
    pub fn change_selected(&mut self, needs_change: impl Fn(&T) -> bool, change: impl Fn(&mut T)) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.iter().any(&needs_change)) {
            Arc::make_mut(chunk).iter_mut().filter(|element| needs_change(element)).for_each(&change);
        }
    }
}

impl<T: Serialize, const CHUNK: usize> Serialize for SharedQueue<T, CHUNK> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A sequence of known length, as the encoding of a sequence needs.
        self.iter().collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de, T: Clone + Deserialize<'de>, const CHUNK: usize> Deserialize<'de> for SharedQueue<T, CHUNK> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<T>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Queue = SharedQueue<u32, 64>;

    proptest! {
        /// Between two clones, most elements are added in one go, so that several chunks fill up.
        #[test]
        fn a_queue_behaves_like_a_vec_deque_and_its_clones_do_not_change(
            actions in prop::collection::vec((0_usize..150, 0_usize..150, 0_usize..200, 2_u32..40), 1..8),
        ) {
            let (mut queue, mut expected) = (Queue::default(), VecDeque::new());
            let mut clones = Vec::new();
            let mut number = 0;
            for (added, removed, changed, divisor) in actions {
                for _ in 0..added {
                    queue.push_back(number);
                    expected.push_back(number);
                    number += 1;
                }
                clones.push((queue.clone(), expected.clone()));
                for _ in 0..removed {
                    prop_assert_eq!(queue.pop_front(), expected.pop_front());
                }
                prop_assert_eq!(queue.get_mut(changed), expected.get_mut(changed));
                if let (Some(element), Some(copy)) = (queue.get_mut(changed), expected.get_mut(changed)) {
                    (*element, *copy) = (0, 0);
                }
                queue.change_selected(|element| element % divisor == 1, |element| *element += 1_000);
                expected.iter_mut().filter(|element| **element % divisor == 1).for_each(|element| *element += 1_000);
                clones.push((queue.clone(), expected.clone()));
            }
            for (queue, expected) in clones {
                prop_assert!(queue.iter().eq(expected.iter()));
                prop_assert_eq!((queue.len(), queue.is_empty()), (expected.len(), expected.is_empty()));
                prop_assert_eq!((queue.get(7), queue.get(expected.len())), (expected.get(7), None));
                let bytes = serde_json::to_string(&queue).unwrap();
                prop_assert_eq!(&bytes, &serde_json::to_string(&expected).unwrap());
                prop_assert_eq!(serde_json::from_str::<Queue>(&bytes).unwrap(), queue);
            }
        }
    }
}
