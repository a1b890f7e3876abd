//! Source affinity: how well each evidence column has predicted the target items of the current
//! session so far.

use serde::{Deserialize, Serialize};

/// Number of evidence columns with an average: the first ones. It is part of the stored encoding.
pub(super) const AFFINITY_COLUMN_COUNT: usize = 16;

/// Exponential averages (rate 0.3) over the target events of a session. For each evidence column,
/// an average tells how well the column has predicted the events.
///
/// The caller stores the affinity with the session.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceAffinity {
    /// For each evidence column, the average share feature of the session's target items, 0 to
    /// 1.84. The share feature is a scaled logarithm of the item's share in the column.
    pub shares: [f32; AFFINITY_COLUMN_COUNT],
    /// Share of target events that repeated an item of the session.
    pub repeat_rate: f32,
    /// Share of target events whose item was among the candidates.
    pub hit_rate: f32,
}

/// Rate of the exponential averages.
const AVERAGING_RATE: f32 = 0.3;

impl SourceAffinity {
    /// Updates the averages with a target event.
    ///
    /// `shares` are the share features of the target item; `None` if the item was not a candidate.
    /// `is_repeat` says whether the session already contained the item.
    pub fn update(&mut self, shares: Option<&[f32; AFFINITY_COLUMN_COUNT]>, is_repeat: bool) {
        let shares_or_none = shares.unwrap_or(&[0.0; AFFINITY_COLUMN_COUNT]);
        for (average, share) in self.shares.iter_mut().zip(shares_or_none) {
            *average += AVERAGING_RATE * (share - *average);
        }
        self.repeat_rate += AVERAGING_RATE * (f32::from(is_repeat) - self.repeat_rate);
        self.hit_rate += AVERAGING_RATE * (f32::from(shares.is_some()) - self.hit_rate);
    }
}
