//! Click attribution: credits a target event to the impression that showed its item.

use crate::domain::{ItemIx, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

/// Position buckets of a recommendation list, by position counted from 1.
pub const POSITION_BUCKETS: [&str; 4] = ["1", "2-3", "4-10", "11+"];

/// Counts of displayed and clicked items, by source and position bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickThrough {
    /// Displayed items, in the order of [`SourceName::ALL`] and [`POSITION_BUCKETS`].
    pub displayed: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
    /// Items clicked within the attribution window after being displayed, in the same order.
    pub clicked: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
}

/// The recent impressions of one user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentImpressions {
    /// Oldest first.
    shown: Vec<ImpressionSlot>,
}

/// One displayed item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct ImpressionSlot {
    item: ItemIx,
    source: SourceName,
    place: u8,
    at: Timestamp,
}

impl RecentImpressions {
    /// Maximum number of impressions kept per user.
    const MOST: usize = 100;

    /// Records that an item was displayed at `position` of a list, counted from 1.
    pub fn record(
        &mut self,
        item: ItemIx,
        source: SourceName,
        position: usize,
        at: Timestamp,
        counts: &mut ClickThrough,
    ) {
        let bucket = match position {
            0..=1 => 0,
            2..=3 => 1,
            4..=10 => 2,
            _ => 3,
        };
        if self.shown.len() >= Self::MOST {
            self.shown.remove(0);
        }
        self.shown.push(ImpressionSlot { item, source, place: bucket, at });
        bump(&mut counts.displayed, source, bucket);
    }

    /// Adds the impressions of a user who has been merged into this one.
    pub fn merge(&mut self, other: Self) {
        self.shown.extend(other.shown);
        self.shown.sort_by_key(|impression| impression.at);
        self.shown.drain(..self.shown.len().saturating_sub(Self::MOST));
    }

    /// Drops the impressions from before a time.
    pub fn expire(&mut self, before: Timestamp) {
        self.shown.retain(|impression| impression.at >= before);
    }

    /// Attributes a target event on `item` to its latest impression within the window before `at`.
    /// Each impression is credited at most once.
    pub fn attribute_click(&mut self, item: ItemIx, at: Timestamp, window_ms: i64, counts: &mut ClickThrough) {
        let matches = |impression: &ImpressionSlot| {
            impression.item == item && (0..=window_ms).contains(&at.saturating_sub(impression.at))
        };
        if let Some(index) = self.shown.iter().rposition(matches) {
            let impression = self.shown.remove(index);
            bump(&mut counts.clicked, impression.source, impression.place);
        }
    }
}

fn bump(counts: &mut [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()], source: SourceName, bucket: u8) {
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
        impressions.record(7, SourceName::Network, 1, 1_000, &mut counts);
        impressions.record(7, SourceName::Session, 5, 2_000, &mut counts);
        impressions.attribute_click(7, 2_500, 10_000, &mut counts);
        impressions.attribute_click(8, 2_500, 10_000, &mut counts);
        assert_eq!(counts.clicked[6], [0, 0, 1, 0]);
        assert_eq!(counts.clicked[0], [0; 4]);
        impressions.attribute_click(7, 20_000, 10_000, &mut counts);
        assert_eq!(counts.clicked[0], [0; 4], "the window has passed");
        assert_eq!(counts.displayed[0], [1, 0, 0, 0]);
    }

    #[test]
    fn number_of_impressions_is_bounded() {
        let (mut impressions, mut counts) = (RecentImpressions::default(), ClickThrough::default());
        for item in 0..1_000 {
            impressions.record(item, SourceName::New, 20, 0, &mut counts);
        }
        assert_eq!(impressions.shown.len(), RecentImpressions::MOST);
        assert_eq!(counts.displayed[5][3], 1_000);
    }
}
