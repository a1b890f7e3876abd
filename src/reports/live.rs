//! Attribution of events as they are learned, for metrics.

use crate::domain::{Entry, ItemIx};

use super::touches::{AttributionSettings, ShownListItem, TouchTable};

/// What an event was attributed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributedEvent {
    /// The placement of the list; `None` for a list without one.
    pub placement: Option<String>,
    /// Whether the event is a conversion. Otherwise, it is a click.
    pub is_conversion: bool,
}

/// Attributes each event to the impressions before it, as an attribution report with the default
/// settings does.
#[derive(Debug)]
pub struct LiveAttribution {
    settings: AttributionSettings,
    touches: TouchTable<ItemIx>,
}

impl LiveAttribution {
    /// Largest number of shown items that can get clicks and conversions at one time.
    pub const MAX_SHOWN_ITEMS: usize = 200_000;

    /// Adds the next journal entry, whose items `number_of` numbers. Returns what the entry was
    /// attributed to, if it is an event that responds to an impression.
    pub fn add_entry(&mut self, entry: &Entry, number_of: impl Fn(&str) -> Option<ItemIx>) -> Option<AttributedEvent> {
        match entry {
            Entry::Impression(impression) => self.touches.record_impression(impression, number_of, |_| ()),
            Entry::Merge(merge) => self.touches.merge_users(&merge.from, &merge.into),
            Entry::Erase(erasure) => self.touches.remove_user(&erasure.user_id),
            Entry::Event(event) => {
                let item = number_of(event.item_id.as_deref()?)?;
                let (shown, is_conversion) = self.touches.attribute_event(event, &item, &self.settings)?;
                let ShownListItem { list, .. } = shown;
                return Some(AttributedEvent { placement: list.placement.clone(), is_conversion });
            }
            _ => {}
        }
        None
    }
}

impl Default for LiveAttribution {
    fn default() -> Self {
        let settings = AttributionSettings::default();
        Self { touches: TouchTable::new(&settings, Self::MAX_SHOWN_ITEMS), settings }
    }
}
