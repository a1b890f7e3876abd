//! The session's mood.
use crate::recall::CHANNELS;
use serde::{Deserialize, Serialize};

/// What each source had given to the items that then came, averaged over the session.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Mood {
    /// Per channel.
    pub given: [f32; CHANNELS],
    /// Repeats.
    pub repeats: f32,
    /// Whether it was a candidate.
    pub hits: f32,
}

impl Mood {
    /// Takes in what came: the shares given to it, `None` if it was no candidate.
    pub fn take(&mut self, shares: Option<&[f32]>, repeated: bool) {
        const RATE: f32 = 0.3;
        for (lane, given) in self.given.iter_mut().enumerate() {
            let share = shares.and_then(|shares| shares.get(lane)).copied().unwrap_or(0.0);
            *given += RATE * (share - *given);
        }
        self.repeats += RATE * (f32::from(repeated) - self.repeats);
        self.hits += RATE * (f32::from(shares.is_some()) - self.hits);
    }
}
