//! How well the lists of each placement predict the events after them.

use std::collections::{BTreeMap, VecDeque};

/// The quality of the lists of a placement, over the latest events that follow one of its lists.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementQuality {
    /// The placement; `None` for lists without one.
    pub placement: Option<String>,
    /// The share of the events whose item was among the first 20 of the latest list.
    pub recall: f64,
    /// The mean of 1 / position of the item, 0 for an item that was not among the first 20.
    pub mrr: f64,
}

/// The latest events after a list of one placement, as positions: 0 for an item that the list does
/// not have among its first items.
#[derive(Debug, Default)]
struct PositionWindow {
    latest: VecDeque<u8>,
    /// The number of events in `latest` by position.
    counts: [u32; PlacementQualities::CUTOFF + 1],
}

impl PositionWindow {
    fn add(&mut self, position: u8) {
        if self.latest.len() >= PlacementQualities::WINDOW
            && let Some(oldest) = self.latest.pop_front()
        {
            self.change_count(oldest, |count| count.saturating_sub(1));
        }
        self.latest.push_back(position);
        self.change_count(position, |count| count + 1);
    }

    fn change_count(&mut self, position: u8, change: impl Fn(u32) -> u32) {
        self.counts.get_mut(usize::from(position)).into_iter().for_each(|count| *count = change(*count));
    }

    /// Recall and mean reciprocal rank. The window is not empty.
    fn quality(&self) -> (f64, f64) {
        let (events, hits) = (self.latest.len() as f64, || self.counts.iter().enumerate().skip(1));
        let found = hits().map(|(_, count)| f64::from(*count)).sum::<f64>();
        let reciprocal = hits().map(|(position, count)| f64::from(*count) / position as f64).sum::<f64>();
        (found / events, reciprocal / events)
    }
}

/// The quality of the lists of all placements.
#[derive(Debug, Default)]
pub(super) struct PlacementQualities {
    by_placement: BTreeMap<Option<String>, PositionWindow>,
}

impl PlacementQualities {
    /// Number of items at the beginning of a list that count.
    const CUTOFF: usize = 20;
    /// Number of latest events per placement.
    const WINDOW: usize = 1_000;
    /// Maximum number of placements. Events after lists of further placements do not count.
    const MAX_PLACEMENTS: usize = 256;

    /// Adds an event after a list of a placement. `position` is that of the event's item in the list,
    /// counted from 1; `None` if the list does not contain it. Returns the new quality.
    pub(super) fn add_event(&mut self, placement: Option<String>, position: Option<u32>) -> Option<PlacementQuality> {
        if self.by_placement.len() >= Self::MAX_PLACEMENTS && !self.by_placement.contains_key(&placement) {
            return None;
        }
        let window = self.by_placement.entry(placement.clone()).or_default();
        let position = position.and_then(|position| u8::try_from(position).ok());
        window.add(position.filter(|position| usize::from(*position) <= Self::CUTOFF).unwrap_or_default());
        let (recall, mrr) = window.quality();
        Some(PlacementQuality { placement, recall, mrr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_is_that_of_the_latest_events() {
        let mut qualities = PlacementQualities::default();
        let mut add = |position| {
            let quality = qualities.add_event(Some("home".to_owned()), position).unwrap();
            (quality.recall, quality.mrr)
        };
        assert_eq!(add(Some(1)), (1.0, 1.0));
        assert_eq!(add(None), (0.5, 0.5));
        assert_eq!(add(Some(21)), (1.0 / 3.0, 1.0 / 3.0));
        assert_eq!(add(Some(20)), (0.5, (1.0 + 0.05) / 4.0));
        for _ in 0..PlacementQualities::WINDOW - 1 {
            add(Some(4));
        }
        assert_eq!(add(Some(4)), (1.0, 0.25), "the first events left the window");
    }

    #[test]
    fn the_number_of_placements_is_bounded() {
        let mut qualities = PlacementQualities::default();
        let added = (0..300).filter_map(|number| qualities.add_event(Some(number.to_string()), None)).count();
        assert_eq!(added, PlacementQualities::MAX_PLACEMENTS);
        assert!(qualities.add_event(Some("7".to_owned()), None).is_some(), "a known placement");
    }
}
