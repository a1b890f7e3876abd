//! Presets: the file formats of analytics tools and shop systems, as events and item changes.
//!
//! - `preset`: the names of the presets.
//! - `ga4`, `matomo`, `posthog`, `snowplow`: convert a record to events, with the help of
//!   `source_event` and `kind_names`; `event_preset` selects the converter.
//! - `google_merchant`, `shopify`, `woocommerce`: convert rows to item changes, with the help of
//!   `source_fields`.
//! - `event_reader`, `item_reader`, `json_array`, `feed_xml`: read files as streams.

mod event_preset;
mod event_reader;
mod feed_xml;
mod ga4;
mod google_merchant;
mod item_reader;
mod json_array;
mod kind_names;
mod matomo;
mod posthog;
mod preset;
mod shopify;
mod snowplow;
mod source_event;
mod source_fields;
#[cfg(test)]
mod tests;
mod woocommerce;

pub use event_preset::EventPreset;
pub use event_reader::{PresetEventReader, PresetRecord};
pub use item_reader::PresetItemReader;
pub use kind_names::SkippedEvents;
pub use preset::Preset;
pub use source_event::ConvertedRecord;
