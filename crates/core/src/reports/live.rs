//! Attribution of events as they are learned, for metrics.

use crate::domain::{Entry, Event, Impression};
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;

use super::placement_quality::{PlacementQualities, PlacementQuality};
use super::touches::{AttributionSettings, ShownListItem, TouchTable};

/// What an event was attributed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributedEvent {
    /// The placement of the list; `None` for a list without one.
    pub placement: Option<String>,
    /// Whether the event is a conversion. Otherwise, it is a click.
    pub is_conversion: bool,
}

/// The items that an impression shows for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewlyShownItems {
    /// The placement of the list; `None` for a list without one.
    pub placement: Option<String>,
    /// Number of items.
    pub count: u64,
}

/// What a journal entry changes in the metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttributionUpdate {
    /// The items of an impression.
    pub shown: Option<NewlyShownItems>,
    /// What an event was attributed to.
    pub attributed: Option<AttributedEvent>,
    /// The quality of the placements of which the user was shown a list before an event.
    pub quality: Vec<PlacementQuality>,
}

/// Attributes each event to the impressions before it, as an attribution report with the default
/// settings does.
#[derive(Debug)]
pub struct LiveAttribution {
    settings: AttributionSettings,
    /// Items by the hashes of their ids, which take less memory than the ids.
    touches: TouchTable<u64>,
    qualities: PlacementQualities,
}

/// The hash of an item id. Two items with the same hash would only distort metrics.
fn hash_item(id: &str) -> u64 {
    FxBuildHasher.hash_one(id)
}

impl LiveAttribution {
    /// Largest number of shown items that can get clicks and conversions at one time.
    pub const MAX_SHOWN_ITEMS: usize = 200_000;

    /// Adds the next journal entry.
    pub fn add_entry(&mut self, entry: &Entry) -> AttributionUpdate {
        match entry {
            Entry::Impression(impression) => return self.add_impression(impression),
            Entry::Event(event) => {
                let item = event.item_id.as_deref().map(hash_item);
                return item.map_or_else(AttributionUpdate::default, |item| self.add_event(event, item));
            }
            Entry::Merge(merge) => self.touches.merge_users(&merge.from, &merge.into),
            Entry::Erase(erasure) => self.touches.remove_user(&erasure.user_id),
            _ => {}
        }
        AttributionUpdate::default()
    }

    fn add_impression(&mut self, impression: &Impression) -> AttributionUpdate {
        let mut count = 0;
        self.touches.record_impression(impression, hash_item, |_| count += 1);
        let shown = Some(NewlyShownItems { placement: impression.placement.clone(), count });
        AttributionUpdate { shown, ..AttributionUpdate::default() }
    }

    fn add_event(&mut self, event: &Event, item: u64) -> AttributionUpdate {
        let positions = self.touches.positions_in_latest_lists(event, &item, self.settings.click_window_ms);
        let quality =
            positions.into_iter().filter_map(|(placement, position)| self.qualities.add_event(placement, position));
        let quality = quality.collect();
        let attributed = self.touches.attribute_event(event, &item, &self.settings);
        let attributed = attributed.map(|(ShownListItem { list, .. }, is_conversion)| AttributedEvent {
            placement: list.placement.clone(),
            is_conversion,
        });
        AttributionUpdate { attributed, quality, ..AttributionUpdate::default() }
    }
}

impl Default for LiveAttribution {
    fn default() -> Self {
        let settings = AttributionSettings::default();
        let touches = TouchTable::new(&settings, Self::MAX_SHOWN_ITEMS);
        Self { touches, settings, qualities: PlacementQualities::default() }
    }
}
