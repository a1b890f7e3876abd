//! Errors of the interest model.

use crate::domain::ItemIx;

/// Error: the interest model refuses a rating. The rating changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InterestError {
    /// The value is infinite, not a number, or too large to be squared.
    #[error("rating value {0}: allowed are numbers from -1e15 to 1e15")]
    InvalidValue(f32),
    /// The item number exceeds the limit of the settings.
    #[error("item number {item}: allowed are numbers below interest.items_max = {items_max}")]
    ItemOutOfRange {
        /// The rejected item number.
        item: ItemIx,
        /// The limit of the settings.
        items_max: u32,
    },
}
