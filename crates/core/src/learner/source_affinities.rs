//! Table of the source affinities of current sessions. A source affinity says how well each
//! candidate source has predicted the session so far.

use crate::domain::{Offset, PagedVec};
use crate::ranking::SourceAffinity;
use serde::{Deserialize, Serialize};

/// Table of source affinities. The key is the offset of the first event of a session. The learner
/// writes the table: it scores candidates before an event and therefore knows which sources
/// predicted it. Session actors read the table from snapshots, so they need not score candidates
/// for every event.
///
/// The table has a fixed number of slots. If a later session overwrites the slot of a session, the
/// earlier session gets the default affinity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceAffinities {
    slots: PagedVec<(Offset, SourceAffinity), 16>,
}

impl SourceAffinities {
    /// Number of slots in the table.
    const SLOT_COUNT: u64 = 1 << 16;

    /// Stores the affinity of the session whose first event is at offset `session_start`.
    pub fn set_affinity(&mut self, session_start: Offset, affinity: SourceAffinity) {
        let slot = (session_start % Self::SLOT_COUNT) as usize;
        self.slots.grow(slot + 1, Default::default);
        if let Some(entry) = self.slots.get_mut(slot) {
            *entry = (session_start, affinity);
        }
    }

    /// Returns the affinity of the session whose first event is at offset `session_start`.
    #[must_use]
    pub fn affinity_of_session(&self, session_start: Offset) -> SourceAffinity {
        let entry = self.slots.get((session_start % Self::SLOT_COUNT) as usize);
        entry
            .filter(|(owner, _)| *owner == session_start)
            .map_or_else(SourceAffinity::default, |(_, affinity)| *affinity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_whose_slot_was_overwritten_has_the_default_affinity() {
        let mut affinities = SourceAffinities::default();
        let affinity = SourceAffinity { repeat_rate: 0.5, ..SourceAffinity::default() };
        affinities.set_affinity(3, affinity);
        let published = affinities.clone();
        affinities.set_affinity(3 + SourceAffinities::SLOT_COUNT, SourceAffinity::default());
        assert_eq!(affinities.affinity_of_session(3), SourceAffinity::default());
        assert_eq!(published.affinity_of_session(3), affinity, "a snapshot does not change");
        assert_eq!(published.affinity_of_session(4), SourceAffinity::default());
    }
}
