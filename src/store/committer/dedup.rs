//! Which event ids were seen among the last journal entries.

use crate::domain::Offset;
use rustc_hash::FxHashSet;
use siphasher::sip128::SipHasher13;
use std::collections::VecDeque;

/// 128 bits that stand for an event id. Of n remembered ids, one that was never seen is taken for
/// one of them with probability n / 2¹²⁸: with a million remembered and a million million events,
/// 3·10⁻²¹ for a single event lost in all that time.
pub(super) type EventIdDigest = u128;

/// The digest of an event id: 128-bit SipHash-1-3 of its bytes [Aumasson & Bernstein 2012]. A clean
/// stop stores digests for the next start, which may run another build. If the digest changes,
/// [`super::event_id_file::FILE_NAME`] must change too.
pub(super) fn digest(id: &str) -> EventIdDigest {
    SipHasher13::new().hash(id.as_bytes()).as_u128()
}

/// The ids of the last entries.
#[derive(Debug)]
pub(super) struct EventIdWindow {
    window: u64,
    /// The remembered ids by the offset of their entry, ascending, to forget them in that order.
    order: VecDeque<(Offset, EventIdDigest)>,
    seen: FxHashSet<EventIdDigest>,
}

impl EventIdWindow {
    /// Remembers the ids of the last `window` entries.
    pub(super) fn new(window: usize) -> Self {
        Self { window: window as u64, order: VecDeque::new(), seen: FxHashSet::default() }
    }

    /// The first offset whose id is remembered when the journal ends at `end`.
    pub(super) fn window_start(&self, end: Offset) -> Offset {
        end.saturating_sub(self.window)
    }

    /// Remembers the id of the entry at that offset, which must be the last so far.
    pub(super) fn remember(&mut self, offset: Offset, id: EventIdDigest) {
        if self.seen.insert(id) {
            self.order.push_back((offset, id));
        }
    }

    /// Forgets ids, wherever their entries stood.
    pub(super) fn forget(&mut self, ids: FxHashSet<EventIdDigest>) {
        self.order.retain(|(_, id)| !ids.contains(id));
        ids.iter().for_each(|id| {
            self.seen.remove(id);
        });
    }

    /// Remembers ids that were written down, with the offsets of their entries, ascending.
    pub(super) fn restore(&mut self, ids: VecDeque<(Offset, EventIdDigest)>) {
        self.seen.extend(ids.iter().map(|(_, id)| id));
        self.order = ids;
    }

    /// The remembered ids with the offsets of their entries, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = (Offset, EventIdDigest)> {
        self.order.iter().copied()
    }

    /// Sorts new ids from seen ones without remembering any yet.
    pub(super) fn begin_batch(&self) -> DedupBatch<'_> {
        DedupBatch { known: self, ids: Vec::new(), seen: FxHashSet::default() }
    }

    /// Remembers the ids of a batch that the journal now has, and forgets those that the window
    /// before `end` no longer reaches.
    pub(super) fn commit_batch(&mut self, ids: Vec<(Offset, EventIdDigest)>, end: Offset) {
        for (offset, id) in ids {
            self.remember(offset, id);
        }
        let begin = self.window_start(end);
        while let Some((_, id)) = self.order.pop_front_if(|(offset, _)| *offset < begin) {
            self.seen.remove(&id);
        }
    }
}

/// The ids of a commit under way.
#[derive(Debug)]
pub(super) struct DedupBatch<'d> {
    known: &'d EventIdWindow,
    ids: Vec<(Offset, EventIdDigest)>,
    seen: FxHashSet<EventIdDigest>,
}

impl DedupBatch<'_> {
    /// Notes the id of the entry that would stand at `offset`; `false`, noting nothing, if it was
    /// seen before.
    pub(super) fn insert(&mut self, offset: Offset, id: EventIdDigest) -> bool {
        let new = !self.known.seen.contains(&id) && self.seen.insert(id);
        if new {
            self.ids.push((offset, id));
        }
        new
    }

    /// The new ids, for [`EventIdWindow::commit_batch`].
    pub(super) fn finish(self) -> Vec<(Offset, EventIdDigest)> {
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_same_in_every_build() {
        // Expected: SipHash-1-3-128 of the bytes under a key of zeros, by a Python transcription of
        // the reference implementation that gives the first of its vectors for SipHash-2-4-128
        // (a3817f04ba25a8e66df67214c7550293); both halves little-endian, the first one low.
        assert_eq!(digest("event-1"), 0x6f63_6e04_df92_2fab_a7e1_980a_e583_acfb);
    }
}
