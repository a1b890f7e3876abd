//! Converts the records of an analytics tool to events.

use super::ga4;
use super::kind_names::{KindNames, SkippedEvents};
use super::matomo;
use super::posthog;
use super::preset::Preset;
use super::snowplow;
use super::source_event::{ConvertedRecord, Validation};
use crate::domain::Timestamp;
use crate::ingest::validation::ValidationRules;

/// Converts records of one format to events. A record is a line, or a visit of Matomo.
#[derive(Debug, Clone)]
pub struct EventPreset {
    preset: Preset,
    kinds: KindNames,
}

impl EventPreset {
    /// The converter of a preset. `kinds` holds event names of the file with the kinds that replace
    /// the default kinds; the kind `ignore` yields no event. `None` if the preset is one of catalogs.
    #[must_use]
    pub fn new(preset: Preset, kinds: &[(String, String)]) -> Option<Self> {
        let defaults: &[(&str, &str)] = match preset {
            Preset::Ga4 => &ga4::KINDS,
            Preset::Matomo => &matomo::KINDS,
            Preset::Posthog => &[],
            Preset::Snowplow => &snowplow::KINDS,
            Preset::GoogleMerchant | Preset::Shopify | Preset::Woocommerce => return None,
        };
        Some(Self { preset, kinds: KindNames::new(defaults, kinds) })
    }

    /// The preset.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Converts one record that arrived at `received_at`. A record without an event is counted in
    /// `skipped`. Errors have no position.
    pub fn convert(
        &self,
        text: &[u8],
        rules: &ValidationRules,
        received_at: Timestamp,
        skipped: &mut SkippedEvents,
    ) -> ConvertedRecord {
        let mut record = ConvertedRecord::default();
        let validation = Validation { rules, received_at };
        let outcome = match self.preset {
            Preset::Ga4 => ga4::convert(text, &self.kinds, validation, skipped, &mut record),
            Preset::Matomo => matomo::convert(text, &self.kinds, validation, skipped, &mut record),
            Preset::Posthog => posthog::convert(text, &self.kinds, validation, skipped, &mut record),
            Preset::Snowplow => snowplow::convert(text, &self.kinds, validation, skipped, &mut record),
            Preset::GoogleMerchant | Preset::Shopify | Preset::Woocommerce => Ok(()),
        };
        record.errors.extend(outcome.err());
        record
    }
}
