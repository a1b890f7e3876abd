//! Source affinity: how well each evidence column predicted the session so far.

use crate::candidates::EVIDENCE_COLUMNS;
use serde::{Deserialize, Serialize};

/// Exponential averages over a session's target events (rate 0.3).
///
/// The caller stores it with the session.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceAffinity {
    /// Per column, the share feature of the target items, 0 to 1.84.
    pub shares: [f32; EVIDENCE_COLUMNS],
    /// Share of target events that repeated an item of the session.
    pub repeat_rate: f32,
    /// Share of target events whose item was among the candidates.
    pub hit_rate: f32,
}

/// Rate of the exponential averages.
const RATE: f32 = 0.3;

impl SourceAffinity {
    /// Updates the averages with a target event.
    ///
    /// `shares` are the share features of the target item, `None` if it was no candidate.
    /// `is_repeat` says whether the session already held the item.
    pub fn update(&mut self, shares: Option<&[f32; EVIDENCE_COLUMNS]>, is_repeat: bool) {
        let shares_or_none = shares.unwrap_or(&[0.0; EVIDENCE_COLUMNS]);
        for (average, share) in self.shares.iter_mut().zip(shares_or_none) {
            *average += RATE * (share - *average);
        }
        self.repeat_rate += RATE * (f32::from(is_repeat) - self.repeat_rate);
        self.hit_rate += RATE * (f32::from(shares.is_some()) - self.hit_rate);
    }
}
