//! Click attribution: if an item was displayed to a user, and a target event (view, purchase, …) of
//! the user names the item soon afterwards, the display counts as clicked.

use crate::domain::{ItemIx, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

/// Labels of the position buckets: ranges of list positions, counted from 1.
pub const POSITION_BUCKETS: [&str; 4] = ["1", "2-3", "4-10", "11+"];

/// Counts of displayed and clicked items, by the source that generated the item and by its position
/// bucket in the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickThrough {
    /// Number of displayed items, indexed in the order of [`SourceName::ALL`], then of
    /// [`POSITION_BUCKETS`].
    #[serde(with = "super::encoded_sources")]
    pub displayed: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
    /// Number of displayed items whose display was followed by a target event on the item within
    /// the attribution window. Indexed like `displayed`.
    #[serde(with = "super::encoded_sources")]
    pub clicked: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
}

/// An item of a displayed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisplayedItem {
    /// The item.
    pub item: ItemIx,
    /// The source that generated the item.
    pub source: SourceName,
    /// The position in the list, counted from 1.
    pub position: usize,
}

/// The items recently displayed to one user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentImpressions {
    /// Displayed items, oldest first.
    displayed_items: Vec<ImpressionSlot>,
}

/// One displayed item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct ImpressionSlot {
    item: ItemIx,
    source: SourceName,
    position_bucket: u8,
    at: Timestamp,
}

impl RecentImpressions {
    /// Maximum number of displayed items that are kept per user.
    const MAX_IMPRESSIONS_PER_USER: usize = 100;

    /// Records the items of a displayed list.
    pub fn record_displayed_items(&mut self, items: &[DisplayedItem], at: Timestamp, counts: &mut ClickThrough) {
        let to_slot = |displayed: &DisplayedItem| {
            let position_bucket = match displayed.position {
                0..=1 => 0,
                2..=3 => 1,
                4..=10 => 2,
                _ => 3,
            };
            increment_count(&mut counts.displayed, displayed.source, position_bucket);
            ImpressionSlot { item: displayed.item, source: displayed.source, position_bucket, at }
        };
        self.displayed_items.extend(items.iter().map(to_slot));
        self.remove_excess();
    }

    fn remove_excess(&mut self) {
        self.displayed_items.drain(..self.displayed_items.len().saturating_sub(Self::MAX_IMPRESSIONS_PER_USER));
    }

    /// Adds the displayed items of a user who has been merged into this user.
    pub fn merge(&mut self, other: Self) {
        self.displayed_items.extend(other.displayed_items);
        self.displayed_items.sort_by_key(|impression| impression.at);
        self.remove_excess();
    }

    /// Removes the items displayed before time `before`.
    pub fn expire(&mut self, before: Timestamp) {
        self.displayed_items.retain(|impression| impression.at >= before);
    }

    /// Counts a click for the latest display of `item` in the `window_ms` milliseconds before `at`,
    /// the time of a target event on the item. Each display counts at most one click. Returns whether
    /// there is such a display.
    pub fn attribute_click(&mut self, item: ItemIx, at: Timestamp, window_ms: i64, counts: &mut ClickThrough) -> bool {
        let matches = |impression: &ImpressionSlot| {
            impression.item == item && (0..=window_ms).contains(&at.saturating_sub(impression.at))
        };
        let Some(index) = self.displayed_items.iter().rposition(matches) else { return false };
        let impression = self.displayed_items.remove(index);
        increment_count(&mut counts.clicked, impression.source, impression.position_bucket);
        true
    }
}

fn increment_count(
    counts: &mut [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
    source: SourceName,
    bucket: u8,
) {
    let source = SourceName::ALL.iter().position(|other| *other == source).unwrap_or_default();
    if let Some(count) = counts.get_mut(source).and_then(|buckets| buckets.get_mut(usize::from(bucket))) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn click_is_attributed_once_to_latest_impression_within_window() {
        let (mut impressions, mut counts) = (RecentImpressions::default(), ClickThrough::default());
        let displayed = |source, position| [DisplayedItem { item: 7, source, position }];
        impressions.record_displayed_items(&displayed(SourceName::Network, 1), 1_000, &mut counts);
        impressions.record_displayed_items(&displayed(SourceName::Session, 5), 2_000, &mut counts);
        assert!(impressions.attribute_click(7, 2_500, 10_000, &mut counts));
        assert!(!impressions.attribute_click(8, 2_500, 10_000, &mut counts));
        assert_eq!(counts.clicked[6], [0, 0, 1, 0]);
        assert_eq!(counts.clicked[0], [0; 4]);
        assert!(!impressions.attribute_click(7, 20_000, 10_000, &mut counts));
        assert_eq!(counts.clicked[0], [0; 4], "the window has passed");
        assert_eq!(counts.displayed[0], [1, 0, 0, 0]);
    }

    #[test]
    fn a_user_keeps_at_most_the_maximum_number_of_impressions() {
        let (mut impressions, mut counts) = (RecentImpressions::default(), ClickThrough::default());
        for item in 0..1_000 {
            let displayed = [DisplayedItem { item, source: SourceName::New, position: 20 }];
            impressions.record_displayed_items(&displayed, 0, &mut counts);
        }
        assert_eq!(impressions.displayed_items.len(), RecentImpressions::MAX_IMPRESSIONS_PER_USER);
        assert_eq!(counts.displayed[5][3], 1_000);
    }
}
