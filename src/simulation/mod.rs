//! A shop that does not exist, with visitors who behave as those of shops do: what the demo shows
//! and the bench sends.
//!
//! It has no clock and no source of chance but its seed: the same settings give the same stream,
//! entry by entry. What can be learned of it is known by construction. Items of a category are
//! visited as Zipf has it; a visitor comes with one category in mind and walks along what goes with
//! what; seasons move the categories; new items arrive; and now and then a small family of items
//! that hardly anybody knew is suddenly wanted.

mod shop_catalog;
mod shop_simulator;
#[cfg(test)]
mod tests;
mod visit;
mod weighted_sampler;

pub use shop_simulator::{ShopSimulator, Trend};

use crate::domain::Timestamp;

/// What a shop is like. Whatever comes by numbers of events comes at these numbers, however fast
/// the events are played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopSettings {
    /// Everything random follows from it.
    pub seed: u64,
    /// When the shop opens: the time of its first entries.
    pub opens_at: Timestamp,
    /// Items at the beginning. 40..=100,000.
    pub items: usize,
    /// Number of returning customers; one visit in five is by a one-time visitor. 1..=10,000,000.
    pub customers: usize,
    /// Events between two arrivals of new items; 0: none arrive.
    pub new_item_interval: u64,
    /// Events between the beginnings of two trends; each is over after half of them. 0: there are
    /// none.
    pub trend_interval: u64,
}

impl Default for ShopSettings {
    fn default() -> Self {
        Self { seed: 42, opens_at: 0, items: 1_000, customers: 2_000, new_item_interval: 200, trend_interval: 10_000 }
    }
}

/// A shop that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the shop's {key} is {value}; it may be {allowed}")]
pub struct ShopSettingsError {
    /// What does not fit.
    pub key: &'static str,
    /// What it is.
    pub value: usize,
    /// What it may be.
    pub allowed: &'static str,
}

impl ShopSettings {
    /// Whether there can be such a shop.
    ///
    /// # Errors
    /// [`ShopSettingsError`] names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), ShopSettingsError> {
        let bounds =
            [("items", self.items, 40..=100_000, "40 to 100,000"), ("customers", self.customers, 1..=10_000_000, "1 to 10,000,000")];
        match bounds.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
            Some((key, value, _, allowed)) => Err(ShopSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }
}
