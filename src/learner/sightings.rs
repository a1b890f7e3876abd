//! The sightings of users, oldest first. Clones share full chunks, so that a clone is cheap.

use crate::domain::Offset;
use std::collections::VecDeque;
use std::sync::Arc;

/// A user and the offset of an event of the user.
pub(super) type Sighting = (Offset, Arc<str>);

/// Sightings per chunk. A write to a chunk that a clone shares copies the chunk.
const SIGHTINGS_PER_CHUNK: usize = 1024;

/// A queue of sightings in chunks behind `Arc`s.
#[derive(Debug, Clone, Default)]
pub(super) struct Sightings {
    /// Every chunk but the last is full.
    chunks: VecDeque<Arc<Vec<Sighting>>>,
    /// Number of sightings at the start of the first chunk that have left the queue.
    left: usize,
}

impl FromIterator<Sighting> for Sightings {
    fn from_iter<I: IntoIterator<Item = Sighting>>(sightings: I) -> Self {
        let mut queue = Self::default();
        sightings.into_iter().for_each(|sighting| queue.push_back(sighting));
        queue
    }
}

impl Sightings {
    pub(super) fn push_back(&mut self, sighting: Sighting) {
        match self.chunks.back_mut().filter(|chunk| chunk.len() < SIGHTINGS_PER_CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(sighting),
            None => self.chunks.push_back(Arc::new(vec![sighting])),
        }
    }

    /// The sighting at an index, counted from the oldest.
    pub(super) fn get(&self, index: usize) -> Option<&Sighting> {
        let index = self.left + index;
        self.chunks.get(index / SIGHTINGS_PER_CHUNK)?.get(index % SIGHTINGS_PER_CHUNK)
    }

    pub(super) fn pop_front(&mut self) -> Option<Sighting> {
        let oldest = self.get(0)?.clone();
        self.left += 1;
        if self.left == SIGHTINGS_PER_CHUNK {
            self.left = 0;
            self.chunks.pop_front();
        }
        Some(oldest)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sighting> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).skip(self.left)
    }

    /// Removes the sightings of a user.
    pub(super) fn remove_user(&mut self, id: &str) {
        *self = self.iter().filter(|(_, seen)| **seen != *id).cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Between two clones, most sightings are added in one go, so that several chunks fill up.
        #[test]
        fn a_queue_behaves_like_a_vec_deque_and_its_clones_do_not_change(
            actions in prop::collection::vec((0_usize..1_500, 0_usize..1_500, 0_u8..4), 1..8),
        ) {
            let (mut queue, mut expected) = (Sightings::default(), VecDeque::new());
            let mut clones = Vec::new();
            let mut offset = 0;
            for (added, removed, user) in actions {
                for _ in 0..added {
                    let sighting = (offset, Arc::from(format!("u{}", offset % 3)));
                    queue.push_back(sighting.clone());
                    expected.push_back(sighting);
                    offset += 1;
                }
                clones.push((queue.clone(), expected.clone()));
                for _ in 0..removed {
                    prop_assert_eq!(queue.pop_front(), expected.pop_front());
                }
                let erased = format!("u{user}");
                queue.remove_user(&erased);
                expected.retain(|(_, seen)| **seen != *erased);
                clones.push((queue.clone(), expected.clone()));
            }
            for (queue, expected) in clones {
                prop_assert!(queue.iter().eq(expected.iter()));
                prop_assert_eq!(queue.get(7), expected.get(7));
                prop_assert_eq!(queue.get(expected.len()), None);
            }
        }
    }
}
