//! Deduplication window: the event ids of the last journal entries.

use crate::domain::Offset;
use rustc_hash::FxHashSet;
use siphasher::sip128::SipHasher13;
use std::collections::VecDeque;

/// A 128-bit digest of an event id. If the window holds n ids, a new id has the digest of one of
/// them with probability n / 2¹²⁸; its event would be lost as a duplicate. With a window of a
/// million ids, the probability that any of 10¹² events is lost is 3·10⁻²¹.
pub(super) type EventIdDigest = u128;

/// The digest of an event id: 128-bit SipHash-1-3 of its bytes [Aumasson & Bernstein 2012]. A clean
/// stop stores the digests in a file, which another build may read at the next start. If the digest
/// function changes, the file name [`super::event_id_file::EVENT_ID_FILE`] must change too.
pub(super) fn digest_event_id(id: &str) -> EventIdDigest {
    SipHasher13::new().hash(id.as_bytes()).as_u128()
}

/// The event ids of the last entries.
#[derive(Debug)]
pub(super) struct EventIdWindow {
    window: u64,
    /// The ids in the window with the offsets of their entries, ascending. Eviction follows this
    /// order.
    order: VecDeque<(Offset, EventIdDigest)>,
    seen: FxHashSet<EventIdDigest>,
}

impl EventIdWindow {
    /// Creates an empty window over the last `window` entries.
    pub(super) fn new(window: usize) -> Self {
        Self { window: window as u64, order: VecDeque::new(), seen: FxHashSet::default() }
    }

    /// Size of the window, in entries.
    pub(super) fn len_limit(&self) -> usize {
        usize::try_from(self.window).unwrap_or(usize::MAX)
    }

    /// The first offset of the window if the journal ends at `end`.
    pub(super) fn window_start(&self, end: Offset) -> Offset {
        end.saturating_sub(self.window)
    }

    /// Adds the id of the entry at `offset`. The offset must be larger than all earlier offsets.
    pub(super) fn add_event_id(&mut self, offset: Offset, id: EventIdDigest) {
        if self.seen.insert(id) {
            self.order.push_back((offset, id));
        }
    }

    /// Removes ids, regardless of their offsets.
    pub(super) fn remove_event_ids(&mut self, ids: FxHashSet<EventIdDigest>) {
        self.order.retain(|(_, id)| !ids.contains(id));
        ids.iter().for_each(|id| {
            self.seen.remove(id);
        });
    }

    /// Restores the window's content: ids with the offsets of their entries, ascending.
    pub(super) fn restore_event_ids(&mut self, ids: VecDeque<(Offset, EventIdDigest)>) {
        self.seen.extend(ids.iter().map(|(_, id)| id));
        self.order = ids;
    }

    /// The ids in the window with the offsets of their entries, ascending.
    pub(super) fn ids_by_offset(&self) -> impl Iterator<Item = (Offset, EventIdDigest)> {
        self.order.iter().copied()
    }

    /// Starts a batch that detects duplicates without changing the window.
    pub(super) fn begin_batch(&self) -> DedupBatch<'_> {
        DedupBatch { window: self, ids: Vec::new(), seen: FxHashSet::default() }
    }

    /// Adds the ids of a batch that is now in the journal, which ends at `end`. Evicts the ids that
    /// have left the window.
    pub(super) fn commit_batch(&mut self, ids: Vec<(Offset, EventIdDigest)>, end: Offset) {
        for (offset, id) in ids {
            self.add_event_id(offset, id);
        }
        let window_start = self.window_start(end);
        while let Some((_, id)) = self.order.pop_front_if(|(offset, _)| *offset < window_start) {
            self.seen.remove(&id);
        }
    }
}

/// The new ids of a commit in progress.
#[derive(Debug)]
pub(super) struct DedupBatch<'d> {
    window: &'d EventIdWindow,
    ids: Vec<(Offset, EventIdDigest)>,
    seen: FxHashSet<EventIdDigest>,
}

impl DedupBatch<'_> {
    /// Adds the id of the entry at `offset`. If the window or the batch already contains the id,
    /// returns `false` and adds nothing.
    pub(super) fn insert(&mut self, offset: Offset, id: EventIdDigest) -> bool {
        let new = !self.window.seen.contains(&id) && self.seen.insert(id);
        if new {
            self.ids.push((offset, id));
        }
        new
    }

    /// Returns the new ids, for [`EventIdWindow::commit_batch`].
    pub(super) fn into_new_ids(self) -> Vec<(Offset, EventIdDigest)> {
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_digests_are_the_same_in_every_build() {
        // The expected values are the SipHash-1-3-128 of the bytes under a key of zeros, from a
        // Python transcription of the reference implementation. The transcription reproduces the
        // first test vector of SipHash-2-4-128 (a3817f04ba25a8e66df67214c7550293). Both halves are
        // little-endian; the first half is the low half.
        assert_eq!(digest_event_id("event-1"), 0x6f63_6e04_df92_2fab_a7e1_980a_e583_acfb);
    }
}
