//! Network inputs: steps, training windows and item attributes.

use crate::domain::{ItemIx, KindId, PagedVec};
use serde::{Deserialize, Serialize};

/// Number of buckets of [`gap_bucket`].
pub const GAP_BUCKETS: usize = 16;

/// Bucket of a time gap in milliseconds.
///
/// `0` below one second, else `min(15, 1 + ⌊log₃ seconds⌋)`. The buckets separate seconds, minutes,
/// hours, days and weeks. Bucket 15 starts at 3¹⁴ s, about eight weeks.
#[must_use]
pub fn gap_bucket(milliseconds: i64) -> u8 {
    let seconds = milliseconds / 1000;
    if seconds < 1 {
        return 0;
    }
    u8::try_from(seconds.ilog(3) + 1).unwrap_or(u8::MAX).min(GAP_BUCKETS as u8 - 1)
}

/// Network input of one step: the parts of an event that the network reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInput {
    /// Item of the event. An item that has no embedding is treated as `None`.
    pub item: Option<ItemIx>,
    /// Kind of the event.
    pub kind: KindId,
    /// Bucket of the time since the previous event, computed by [`gap_bucket`].
    pub gap_bucket: u8,
    /// Whether the event starts a session. The hidden state is not reset between sessions, so the
    /// network learns of a session start only from this input.
    pub starts_session: bool,
}

/// A training position: the input of one step, and the target that the network is trained to
/// predict after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPosition {
    /// Network input of the step.
    pub input: StepInput,
    /// Item of the next target event; `None` if this position has no target.
    pub target: Option<ItemIx>,
    /// Factor of the gradient of the target's loss.
    pub weight: f32,
}

/// A training window: the last positions of one session.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingWindow {
    /// Session id. The setting [`SessionTargetHandling`](super::SessionTargetHandling) says whether
    /// targets of the same session are negatives of each other.
    pub session: u64,
    /// Positions, oldest first.
    pub positions: Vec<TrainingPosition>,
}

/// Attribute ids (of categories, brands, …) of each item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemAttributeLists {
    lists: PagedVec<Box<[u32]>, 64>,
}

impl ItemAttributeLists {
    /// Maximum number of attributes per item. Further attributes are dropped.
    pub const MAX_ATTRIBUTES_PER_ITEM: usize = 16;

    /// Replaces the attributes of an item.
    pub fn set_attributes(&mut self, item: ItemIx, attributes: &[u32]) {
        self.lists.grow(item as usize + 1, Box::default);
        if let Some(list) = self.lists.get_mut(item as usize) {
            *list = attributes.iter().copied().take(Self::MAX_ATTRIBUTES_PER_ITEM).collect();
        }
    }

    /// Attributes of an item; empty if none were set.
    #[must_use]
    pub fn attributes_of(&self, item: ItemIx) -> &[u32] {
        self.lists.get(item as usize).map_or(&[], |list| list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_buckets_are_powers_of_three_seconds() {
        let second = 1000;
        let buckets = [i64::MIN, -1, 0, 999, second, 3 * second - 1, 3 * second, 9 * second, 59_049 * second, i64::MAX]
            .map(gap_bucket);
        assert_eq!(buckets, [0, 0, 0, 0, 1, 1, 2, 3, 11, 15]);
    }

    #[test]
    fn setting_attributes_replaces_the_old_ones_and_keeps_at_most_the_limit() {
        let mut attributes = ItemAttributeLists::default();
        attributes.set_attributes(70, &[1, 2]);
        attributes.set_attributes(70, &(0..100).collect::<Vec<_>>());
        assert_eq!(attributes.attributes_of(70).len(), ItemAttributeLists::MAX_ATTRIBUTES_PER_ITEM);
        assert!(attributes.attributes_of(3).is_empty() && attributes.attributes_of(71).is_empty());
    }
}
