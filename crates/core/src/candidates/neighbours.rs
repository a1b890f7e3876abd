//! Session kNN: VMIS-kNN [Kersbergen et al. 2022], updated event by event.
//!
//! B. Kersbergen, O. Sprangers, S. Schelter: "Serenade: low-latency session-based recommendation in
//! e-commerce at scale", SIGMOD 2022.
//!
//! The source compares the last 10 items of the user with recent sessions. A repeated item counts
//! once, at its last position. An item at distance d from the end has weight w(d) = 1 − d / 10. The
//! similarity of a past session is the sum of the weights of the items that it shares. The k most
//! similar sessions (the neighbours) vote for all their items with `similarity · w(d_anchor)`. The
//! anchor is the latest shared item. Items after the anchor in the neighbour also get `vote /
//! distance` as successor evidence.
//!
//! The implementation differs from the paper in two points. Item scores have no factor for the
//! inverse document frequency. The limit m on recent sessions applies to each item, not to the
//! union of the matching sessions.

use super::candidate_set::{CandidateSet, NeighbourScratch, SimilarSession};
use super::columns::EvidenceColumn;
use super::past_session::PastSession;
use super::query_context::{QueryContext, SessionIx};
use super::source::CandidateSource;
use crate::domain::{PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Index of recent sessions: for each session its items, and for each item the most recent sessions
/// that contain it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourSource {
    /// Ring buffer of sessions: the session with number `n` is at index `n % capacity`.
    sessions: PagedVec<PastSession, 64>,
    /// For each item, the sessions that contain it, in the order in which they first contained it.
    /// A query examines the last `recent` of them.
    holders: PagedVec<Arc<Vec<SessionIx>>, 16>,
    capacity: usize,
    /// Number of most recent sessions that a query examines per item.
    recent: usize,
    /// Number of most similar past sessions that vote for their items (the k of session kNN).
    nearest: usize,
}

/// The source looks for past sessions that share an item with the user's latest items, at most this
/// many.
const MAX_MATCHED_ITEMS: usize = 10;

/// Weight of a shared item by its distance from the user's last item: 1 for the last item, 0.1 for
/// the tenth from the end.
fn match_weight(distance: u32) -> f32 {
    1.0 - distance as f32 / MAX_MATCHED_ITEMS as f32
}

impl NeighbourSource {
    /// Creates an index of at most `capacity` sessions. A query examines the `recent` latest
    /// sessions of each item, and the `nearest` most similar sessions vote.
    #[must_use]
    pub fn new(capacity: usize, recent: usize, nearest: usize) -> Self {
        Self { sessions: PagedVec::default(), holders: PagedVec::default(), capacity: capacity.max(1), recent, nearest }
    }

    /// Writes the most similar past sessions to `scratch`, oldest first.
    fn find_similar_sessions(&self, context: &QueryContext<'_>, scratch: &mut NeighbourScratch) {
        scratch.session_index.clear();
        scratch.similar_sessions.clear();
        for (position, item) in context.recent_items().take(MAX_MATCHED_ITEMS).enumerate() {
            if context.recent_items().take(position).any(|later| later == item) {
                continue;
            }
            let distance = position as u32;
            for &session in
                self.holders.get(item as usize).into_iter().flat_map(|holders| holders.iter().rev().take(self.recent))
            {
                if session != context.session
                    && let Some((slot, new)) = scratch.session_index.get_or_insert(session)
                {
                    if new {
                        scratch.similar_sessions.push(SimilarSession {
                            session,
                            similarity: 0.0,
                            anchor: item,
                            distance_from_end: distance,
                        });
                    }
                    scratch.similar_sessions[slot].similarity += match_weight(distance);
                }
            }
        }
        if scratch.similar_sessions.len() > self.nearest {
            // Among equally similar sessions, the more recent session has priority.
            let most_similar_first = |a: &SimilarSession, b: &SimilarSession| {
                b.similarity.total_cmp(&a.similarity).then_with(|| b.session.cmp(&a.session))
            };
            scratch.similar_sessions.select_nth_unstable_by(self.nearest, most_similar_first);
            scratch.similar_sessions.truncate(self.nearest);
        }
        scratch.similar_sessions.sort_unstable_by_key(|similar| similar.session);
    }

    /// Removes the items of a session from the index.
    pub fn forget_session(&mut self, session: SessionIx) {
        if self.stored_session(session).is_some()
            && let Some(past) = self.sessions.get_mut(session as usize % self.capacity)
        {
            *past = PastSession::default();
        }
    }

    /// Whether the index contains items of a session.
    #[cfg(test)]
    pub(super) fn contains_session(&self, session: SessionIx) -> bool {
        self.stored_session(session).is_some_and(|past| !past.items().is_empty())
    }

    fn stored_session(&self, session: SessionIx) -> Option<&PastSession> {
        self.sessions.get(session as usize % self.capacity).filter(|past| past.number() == session)
    }
}

impl CandidateSource for NeighbourSource {
    fn name(&self) -> SourceName {
        SourceName::Neighbours
    }

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        let slot = context.session as usize % self.capacity;
        self.sessions.grow(slot + 1, PastSession::default);
        let Some(past) = self.sessions.get_mut(slot) else { return };
        if past.number() != context.session || past.items().is_empty() {
            *past = PastSession::new(context.session, context.session_start);
        }
        let new = !past.items().contains(&item);
        past.push(item);
        if new {
            let index = item as usize;
            if index >= self.holders.len() {
                let empty = Arc::new(Vec::new());
                self.holders.grow(index + 1, || Arc::clone(&empty));
            }
            if let Some(holders) = self.holders.get_mut(index).map(Arc::make_mut) {
                if holders.len() >= self.recent + self.recent / 2 {
                    holders.drain(..self.recent / 2);
                }
                holders.push(context.session);
            }
        }
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let scratch = &mut candidates.neighbour_scratch;
        self.find_similar_sessions(context, scratch);
        let similar_count = scratch.similar_sessions.len();
        // Drop overwritten sessions and the current session. Compare start offsets, because readers
        // do not know the number of the current session. This loop has little work per session, so
        // the CPU reads many sessions from memory at the same time.
        scratch.similar_sessions.retain(|similar| {
            self.stored_session(similar.session).is_some_and(|past| past.session_start() != context.session_start)
        });
        let (mut total_votes, mut total_successor_votes) = (0.0, 0.0);
        for neighbour in 0..candidates.neighbour_scratch.similar_sessions.len() {
            let SimilarSession { session, similarity, anchor, distance_from_end: distance } =
                candidates.neighbour_scratch.similar_sessions[neighbour];
            let Some(items) = self.stored_session(session).map(PastSession::items) else { continue };
            let vote = similarity * match_weight(distance);
            let anchor_position = items.iter().rposition(|item| *item == anchor);
            let (before, after) = items.split_at(anchor_position.map_or(items.len(), |position| position + 1));
            for &item in before {
                candidates.add_evidence_in_columns(
                    item,
                    [(EvidenceColumn::Neighbours, vote), (EvidenceColumn::NeighbourCount, 1.0)],
                );
            }
            for (gap, &item) in after.iter().enumerate() {
                let successor_vote = vote / (gap + 1) as f32;
                candidates.add_evidence_in_columns(
                    item,
                    [
                        (EvidenceColumn::Neighbours, vote),
                        (EvidenceColumn::NeighbourCount, 1.0),
                        (EvidenceColumn::NeighbourSuccessors, successor_vote),
                    ],
                );
                total_successor_votes += successor_vote;
            }
            total_votes += vote * items.len() as f32;
        }
        candidates.add_column_total(EvidenceColumn::Neighbours, total_votes);
        candidates.add_column_total(EvidenceColumn::NeighbourSuccessors, total_successor_votes);
        candidates.add_column_total(EvidenceColumn::NeighbourCount, similar_count as f32);
    }

    fn entry_count(&self) -> usize {
        self.sessions.len()
    }

    fn memory_bytes(&self) -> usize {
        self.sessions.estimate_sum(|past| size_of::<PastSession>() + past.heap_bytes())
            + self.holders.estimate_sum(|holders| 48 + holders.capacity() * size_of::<SessionIx>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::past_session::MAX_ITEMS_PER_PAST_SESSION;
    use super::*;
    use crate::candidates::CandidateSet;
    use crate::domain::ItemIx;

    #[test]
    fn sessions_examined_sessions_and_neighbours_are_bounded() {
        const CAPACITY: usize = 64;
        const RECENT: usize = 20;
        const NEAREST: usize = 4;
        let mut source = NeighbourSource::new(CAPACITY, RECENT, NEAREST);
        let step = |item| Step { item: Some(item), kind: 0, starts_session: false, at: 0, value: 1.0 };
        let mut scratch = CandidateSet::default().neighbour_scratch;
        // Every session contains item 0 and an item of its own.
        for session in 0..10 * CAPACITY as SessionIx {
            let (start, own) = (u64::from(session) * 2, 1 + session);
            let context =
                |steps, now| QueryContext { steps, session, session_start: start, now, ..QueryContext::default() };
            source.learn(&context(&[], start), &step(0));
            source.learn(&context(&[step(0)], start + 1), &step(own));
            assert!(source.sessions.len() <= CAPACITY && source.contains_session(session));
            let holders = source.holders.get(0).unwrap().len();
            assert!(holders <= RECENT + RECENT / 2, "{holders} sessions of item 0");
            let other = QueryContext {
                steps: &[step(0)],
                session: SessionIx::MAX,
                session_start: 0,
                now: start,
                ..QueryContext::default()
            };
            source.find_similar_sessions(&other, &mut scratch);
            let similar: Vec<_> = scratch.similar_sessions.iter().map(|similar| similar.session).collect();
            let newest: Vec<_> = ((session + 1).saturating_sub(NEAREST as u32)..=session).collect();
            assert_eq!(similar, newest, "the most recent of equally similar sessions");
            let examined = scratch.session_index.keys().len();
            assert!(examined <= RECENT, "{examined} sessions were examined");
        }
    }

    #[test]
    fn a_past_session_keeps_its_last_items() {
        let mut source = NeighbourSource::new(8, 10, 4);
        let step = |item| Step { item: Some(item), kind: 0, starts_session: false, at: 0, value: 1.0 };
        for item in 0..10 * MAX_ITEMS_PER_PAST_SESSION as ItemIx {
            let context =
                QueryContext { steps: &[], session: 3, session_start: 0, now: item.into(), ..QueryContext::default() };
            source.learn(&context, &step(item));
            let items = &source.stored_session(3).unwrap().items();
            assert!(items.len() <= MAX_ITEMS_PER_PAST_SESSION && items.last() == Some(&item));
        }
    }
}
