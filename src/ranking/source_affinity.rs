//! The session's mood: which sources have been right in it.

use crate::candidates::EVIDENCE_COLUMNS;
use serde::{Deserialize, Serialize};

/// Running averages over a session of what each channel had given to the items that then came. Small; kept beside the session by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceAffinity {
    /// Per channel, the share feature that it had given, 0 to 1.84.
    pub shares: [f32; EVIDENCE_COLUMNS],
    /// How often what came was a repetition.
    pub repeat_rate: f32,
    /// How often what came was among the candidates.
    pub hit_rate: f32,
}

/// The weight of what came last in the averages.
const RATE: f32 = 0.3;

impl SourceAffinity {
    /// Takes in what came: the share features of its channels, `None` if it was no candidate, and whether the session had held it before.
    pub fn update(&mut self, shares: Option<&[f32; EVIDENCE_COLUMNS]>, repeated: bool) {
        let shares_or_none = shares.unwrap_or(&[0.0; EVIDENCE_COLUMNS]);
        for (given, share) in self.shares.iter_mut().zip(shares_or_none) {
            *given += RATE * (share - *given);
        }
        self.repeat_rate += RATE * (f32::from(repeated) - self.repeat_rate);
        self.hit_rate += RATE * (f32::from(shares.is_some()) - self.hit_rate);
    }
}
