//! A simulated shop whose visitors generate a realistic stream of events, for the demo and the
//! benchmark.
//!
//! The simulation reads no clock, and all random draws follow from one seed. The same settings
//! therefore give the same stream of journal entries. The stream has these patterns:
//!
//! - The popularity of the items in a category follows Zipf's law.
//! - During a visit, a visitor stays in one category and usually moves from an item to an item that
//!   complements it.
//! - Seasons change the popularity of the categories.
//! - New items arrive.
//! - At regular intervals, a small group of unpopular items becomes popular for a while (a trend).

mod shop_catalog;
mod shop_simulator;
#[cfg(test)]
mod tests;
mod visit;
mod weighted_sampler;

pub use shop_simulator::{ShopSimulator, Trend};

use crate::domain::Timestamp;

/// Parameters of a simulated shop. Intervals are numbers of events, so they do not depend on how
/// fast the events are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopSettings {
    /// Seed of all random draws.
    pub seed: u64,
    /// Time at which the shop opens: the timestamp of the first journal entries.
    pub opens_at: Timestamp,
    /// Number of items at the start. 40..=2,000,000.
    pub items: usize,
    /// Number of returning customers. One visit in five is by a one-time visitor instead.
    /// 1..=10,000,000.
    pub customers: usize,
    /// Number of events between two new items; 0 disables new items.
    pub new_item_interval: u64,
    /// Number of events between the starts of two trends. A trend lasts half of this interval. The
    /// value 0 disables trends.
    pub trend_interval: u64,
}

impl Default for ShopSettings {
    fn default() -> Self {
        Self { seed: 42, opens_at: 0, items: 1_000, customers: 2_000, new_item_interval: 200, trend_interval: 10_000 }
    }
}

/// Error: a parameter of the simulated shop is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid `{key}` of the shop: {value} is not in {allowed}")]
pub struct ShopSettingsError {
    /// Name of the parameter.
    pub key: &'static str,
    /// The invalid value.
    pub value: usize,
    /// The allowed range.
    pub allowed: &'static str,
}

impl ShopSettings {
    /// Checks that all parameters are in their ranges.
    ///
    /// # Errors
    /// [`ShopSettingsError`] names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), ShopSettingsError> {
        let bounds = [
            ("items", self.items, 40..=2_000_000, "40..=2,000,000"),
            ("customers", self.customers, 1..=10_000_000, "1..=10,000,000"),
        ];
        match bounds.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
            Some((key, value, _, allowed)) => Err(ShopSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }
}
