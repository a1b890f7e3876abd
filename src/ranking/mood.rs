//! The session's mood: which sources have been right in it.

use crate::candidates::CHANNELS;
use serde::{Deserialize, Serialize};

/// Running averages over a session of what each channel had given to the items that then came. Small; kept beside the session by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Mood {
    /// Per channel, the share feature that it had given, 0 to 1.84.
    pub given: [f32; CHANNELS],
    /// How often what came was a repetition.
    pub repeats: f32,
    /// How often what came was among the candidates.
    pub held: f32,
}

/// The weight of what came last in the averages.
const RATE: f32 = 0.3;

impl Mood {
    /// Takes in what came: the share features of its channels, `None` if it was no candidate, and whether the session had held it before.
    pub fn learn(&mut self, shares: Option<&[f32; CHANNELS]>, repeated: bool) {
        let shares_or_none = shares.unwrap_or(&[0.0; CHANNELS]);
        for (given, share) in self.given.iter_mut().zip(shares_or_none) {
            *given += RATE * (share - *given);
        }
        self.repeats += RATE * (f32::from(repeated) - self.repeats);
        self.held += RATE * (f32::from(shares.is_some()) - self.held);
    }
}
