//! Converts single messages of a message queue to events.

use super::column_mapping::ColumnMapping;
use super::json;
use super::presets::{ConvertedRecord, EventPreset, SkippedEvents};
use super::validation::ValidationRules;
use crate::domain::Timestamp;

/// The format of the messages of a queue. A message is one record.
#[derive(Debug, Clone)]
pub enum MessageFormat {
    /// JSON objects with the fields of a mapping; the default mapping is the format of the API.
    Events(Box<ColumnMapping>),
    /// Records of an analytics tool.
    Preset(EventPreset),
}

impl MessageFormat {
    /// Converts a message that was published at `published_at`. An event without a timestamp gets
    /// this time. Errors have no position; events without a kind are counted in `skipped`.
    pub fn convert(
        &self,
        text: &[u8],
        rules: &ValidationRules,
        published_at: Timestamp,
        skipped: &mut SkippedEvents,
    ) -> ConvertedRecord {
        let event = match self {
            Self::Preset(preset) => return preset.convert(text, rules, published_at, skipped),
            Self::Events(mapping) if mapping.is_native() => {
                json::read_event(text.trim_ascii(), rules, published_at, Some(mapping.time_format()), &mut |_| {})
            }
            Self::Events(mapping) => json::read_mapped_event(text.trim_ascii(), mapping, rules, published_at),
        };
        match event {
            Ok(event) => ConvertedRecord { events: vec![event], errors: Vec::new() },
            Err(error) => ConvertedRecord { events: Vec::new(), errors: vec![error] },
        }
    }
}
