//! What the network sees: steps, windows of steps, and the attributes of items.

use crate::domain::{ItemIx, KindId, PagedVec};
use serde::{Deserialize, Serialize};

/// How many buckets [`gap_bucket`] knows.
pub const GAP_BUCKETS: usize = 16;

/// The bucket of a time gap in milliseconds: 0 below one second, then one bucket for every power of three of seconds, so that seconds, minutes, hours, days and weeks are
/// told apart; 15 from about eight weeks on.
#[must_use]
pub fn gap_bucket(milliseconds: i64) -> u8 {
    let seconds = milliseconds / 1000;
    if seconds < 1 {
        return 0;
    }
    u8::try_from(seconds.ilog(3) + 1).unwrap_or(u8::MAX).min(GAP_BUCKETS as u8 - 1)
}

/// One step's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInput {
    /// The event's item; an item that the weights do not know yet counts as none.
    pub item: Option<ItemIx>,
    /// The event's kind.
    pub kind: KindId,
    /// The bucket of the time since the previous event, from [`gap_bucket`].
    pub gap_bucket: u8,
    /// The event begins a session: the hidden state passes over the border with this told.
    pub starts_session: bool,
}

/// A step to learn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPosition {
    /// What is known at this step.
    pub input: StepInput,
    /// The item that came next; `None` if nothing is to be predicted here.
    pub target: Option<ItemIx>,
    /// The value of the event by which it came, for the interest head; NaN if it has none.
    pub value: f32,
}

/// The last steps of one session.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingWindow {
    /// Names the session: targets of the same session are never each other's negatives.
    pub session: u64,
    /// Oldest first.
    pub positions: Vec<TrainingPosition>,
}

/// The attributes of items (category, brand, …) as small dense ids.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemAttributeLists {
    lists: PagedVec<Box<[u32]>, 64>,
}

impl ItemAttributeLists {
    /// At most so many attributes of an item are kept: the first.
    pub const MAX_PER_ITEM: usize = 16;

    /// Sets an item's attributes, forgetting those it had.
    pub fn set(&mut self, item: ItemIx, attributes: &[u32]) {
        self.lists.grow(item as usize + 1, Box::default);
        if let Some(list) = self.lists.get_mut(item as usize) {
            *list = attributes.iter().copied().take(Self::MAX_PER_ITEM).collect();
        }
    }

    /// An item's attributes; none if it was never given any.
    #[must_use]
    pub fn get(&self, item: ItemIx) -> &[u32] {
        self.lists.get(item as usize).map_or(&[], |list| list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_fall_into_powers_of_three_of_seconds() {
        let second = 1000;
        let buckets = [i64::MIN, -1, 0, 999, second, 3 * second - 1, 3 * second, 9 * second, 59_049 * second, i64::MAX].map(gap_bucket);
        assert_eq!(buckets, [0, 0, 0, 0, 1, 1, 2, 3, 11, 15]);
    }

    #[test]
    fn attributes_are_replaced_and_bounded() {
        let mut attributes = ItemAttributeLists::default();
        attributes.set(70, &[1, 2]);
        attributes.set(70, &(0..100).collect::<Vec<_>>());
        assert_eq!(attributes.get(70).len(), ItemAttributeLists::MAX_PER_ITEM);
        assert!(attributes.get(3).is_empty() && attributes.get(71).is_empty());
    }
}
