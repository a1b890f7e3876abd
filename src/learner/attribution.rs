//! Which recommendation an event is owed to.

use crate::domain::{ItemIx, SourceName, Timestamp};
use serde::{Deserialize, Serialize};

/// Places of a list that are told apart: the first, the second and third, the fourth to tenth, and
/// those after.
pub const POSITION_BUCKETS: [&str; 4] = ["1", "2-3", "4-10", "11+"];

/// Items shown and items then chosen, by source and by place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClickThrough {
    /// Shown, in the order of [`SourceName::ALL`] and [`POSITION_BUCKETS`].
    pub displayed: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
    /// Chosen within the window after being shown, in the same order.
    pub clicked: [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()],
}

/// What one user was shown lately.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentImpressions {
    /// Latest last.
    shown: Vec<ImpressionSlot>,
}

/// One item on display.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct ImpressionSlot {
    item: ItemIx,
    source: SourceName,
    place: u8,
    at: Timestamp,
}

impl RecentImpressions {
    /// Items of one user that are remembered.
    const MOST: usize = 100;

    /// An item was shown at a place of a list, 1 for the first.
    pub fn record(&mut self, item: ItemIx, source: SourceName, place: usize, at: Timestamp, counts: &mut ClickThrough) {
        let place = match place {
            0..=1 => 0,
            2..=3 => 1,
            4..=10 => 2,
            _ => 3,
        };
        if self.shown.len() >= Self::MOST {
            self.shown.remove(0);
        }
        self.shown.push(ImpressionSlot { item, source, place, at });
        bump(&mut counts.displayed, source, place);
    }

    /// Takes in what another user was shown who turns out to be this one.
    pub fn merge(&mut self, other: Self) {
        self.shown.extend(other.shown);
        self.shown.sort_by_key(|offer| offer.at);
        self.shown.drain(..self.shown.len().saturating_sub(Self::MOST));
    }

    /// Forgets what was shown before a time.
    pub fn expire(&mut self, before: Timestamp) {
        self.shown.retain(|offer| offer.at >= before);
    }

    /// An item was chosen: if it was shown within the window before, the latest showing is credited
    /// with it, once.
    pub fn attribute_click(&mut self, item: ItemIx, at: Timestamp, window_ms: i64, counts: &mut ClickThrough) {
        let fits = |offer: &ImpressionSlot| offer.item == item && (0..=window_ms).contains(&at.saturating_sub(offer.at));
        if let Some(place) = self.shown.iter().rposition(fits) {
            let offer = self.shown.remove(place);
            bump(&mut counts.clicked, offer.source, offer.place);
        }
    }
}

fn bump(counts: &mut [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()], source: SourceName, place: u8) {
    let source = SourceName::ALL.iter().position(|other| *other == source).unwrap_or_default();
    if let Some(count) = counts.get_mut(source).and_then(|places| places.get_mut(usize::from(place))) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_showing_within_the_window_is_credited_once() {
        let (mut display, mut counts) = (RecentImpressions::default(), ClickThrough::default());
        display.record(7, SourceName::Network, 1, 1_000, &mut counts);
        display.record(7, SourceName::Session, 5, 2_000, &mut counts);
        display.attribute_click(7, 2_500, 10_000, &mut counts);
        display.attribute_click(8, 2_500, 10_000, &mut counts);
        assert_eq!(counts.clicked[6], [0, 0, 1, 0]);
        assert_eq!(counts.clicked[0], [0; 4]);
        display.attribute_click(7, 20_000, 10_000, &mut counts);
        assert_eq!(counts.clicked[0], [0; 4], "the window is over");
        assert_eq!(counts.displayed[0], [1, 0, 0, 0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut display, mut counts) = (RecentImpressions::default(), ClickThrough::default());
        for item in 0..1_000 {
            display.record(item, SourceName::New, 20, 0, &mut counts);
        }
        assert_eq!(display.shown.len(), RecentImpressions::MOST);
        assert_eq!(counts.displayed[5][3], 1_000);
    }
}
