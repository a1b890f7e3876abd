//! The moods of the sessions under way, for readers.

use crate::domain::{Offset, PagedVec};
use crate::ranking::SourceAffinity;
use serde::{Deserialize, Serialize};

/// The fold takes every event against what it would have answered, and so knows each session's
/// mood; a session actor would have to judge every event a second time to know it. So the fold
/// leaves each mood here under the session's first offset, and snapshots carry the table to the
/// session actors.
///
/// The table is bounded: a later session may take an earlier one's place, which then reads as
/// having no mood yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceAffinities {
    places: PagedVec<(Offset, SourceAffinity), 16>,
}

impl SourceAffinities {
    /// How many sessions have a place.
    const PLACES: u64 = 1 << 16;

    /// Leaves the mood of the session that began at an offset.
    pub fn set(&mut self, begun: Offset, mood: SourceAffinity) {
        let place = (begun % Self::PLACES) as usize;
        self.places.grow(place + 1, Default::default);
        if let Some(entry) = self.places.get_mut(place) {
            *entry = (begun, mood);
        }
    }

    /// The mood of the session that began at an offset.
    #[must_use]
    pub fn get(&self, begun: Offset) -> SourceAffinity {
        let entry = self.places.get((begun % Self::PLACES) as usize);
        entry.filter(|(owner, _)| *owner == begun).map_or_else(SourceAffinity::default, |(_, mood)| *mood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_taken_by_a_later_session_reads_as_no_mood() {
        let mut moods = SourceAffinities::default();
        let mood = SourceAffinity { repeat_rate: 0.5, ..SourceAffinity::default() };
        moods.set(3, mood);
        let published = moods.clone();
        moods.set(3 + SourceAffinities::PLACES, SourceAffinity::default());
        assert_eq!(moods.get(3), SourceAffinity::default());
        assert_eq!(published.get(3), mood, "a snapshot does not change");
        assert_eq!(published.get(4), SourceAffinity::default());
    }
}
