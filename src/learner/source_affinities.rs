//! Source affinities of the current sessions, for readers.

use crate::domain::{Offset, PagedVec};
use crate::ranking::SourceAffinity;
use serde::{Deserialize, Serialize};

/// The learner ranks before every event, so it knows each session's source affinity. A session
/// actor would need a second ranking per event. So the learner stores each affinity here under the
/// session's first offset, and snapshots carry the table to the session actors.
///
/// The table is bounded. If a later session overwrites an earlier one's slot, the earlier session
/// reads as having the default affinity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceAffinities {
    slots: PagedVec<(Offset, SourceAffinity), 16>,
}

impl SourceAffinities {
    /// Number of slots.
    const SLOT_COUNT: u64 = 1 << 16;

    /// Stores the affinity of the session that began at offset `begun`.
    pub fn set(&mut self, session_start: Offset, affinity: SourceAffinity) {
        let slot = (session_start % Self::SLOT_COUNT) as usize;
        self.slots.grow(slot + 1, Default::default);
        if let Some(entry) = self.slots.get_mut(slot) {
            *entry = (session_start, affinity);
        }
    }

    /// Returns the affinity of the session that began at offset `begun`.
    #[must_use]
    pub fn get(&self, session_start: Offset) -> SourceAffinity {
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
        affinities.set(3, affinity);
        let published = affinities.clone();
        affinities.set(3 + SourceAffinities::SLOT_COUNT, SourceAffinity::default());
        assert_eq!(affinities.get(3), SourceAffinity::default());
        assert_eq!(published.get(3), affinity, "a snapshot does not change");
        assert_eq!(published.get(4), SourceAffinity::default());
    }
}
