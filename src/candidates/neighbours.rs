//! Sessions like this one: VMIS-kNN, kept up to date event by event.
//!
//! B. Kersbergen, O. Sprangers, S. Schelter: "Serenade: low-latency session-based recommendation in e-commerce at scale", SIGMOD 2022.

use super::candidate_set::{NeighbourScratch, SimilarSession};
use super::{CandidateSet, CandidateSource, EvidenceColumn, QueryContext, SessionIx};
use crate::domain::{ItemIx, Offset, PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The items of the most recent sessions and, per item, the most recent sessions that hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourSource {
    /// A ring: session `n` stands at `n % capacity`.
    sessions: PagedVec<Arc<PastSession>, 64>,
    /// Per item, sessions in the order in which they first held it; only the last few count.
    holders: PagedVec<Arc<Vec<SessionIx>>, 16>,
    capacity: usize,
    /// Sessions looked at per item.
    recent: usize,
    /// Neighbours that vote.
    nearest: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PastSession {
    number: SessionIx,
    /// The journal offset of its first event.
    session_start: Offset,
    items: Vec<ItemIx>,
}

/// Steps of a session that are remembered.
const LENGTH: usize = 50;
/// Steps of the session under way that look for neighbours.
const MATCHED: usize = 10;

/// What a shared item counts, by its place from the end of the session under way: 1 for the last, 0.1 for the tenth.
fn weight(back: u32) -> f32 {
    1.0 - back as f32 / MATCHED as f32
}

impl NeighbourSource {
    /// Remembers at most `capacity` sessions, looks at the `recent` last of each item, and lets the `nearest` most similar vote.
    #[must_use]
    pub fn new(capacity: usize, recent: usize, nearest: usize) -> Self {
        Self { sessions: PagedVec::default(), holders: PagedVec::default(), capacity: capacity.max(1), recent, nearest }
    }

    /// Leaves the most similar sessions in the workspace, the oldest first.
    fn find(&self, moment: &QueryContext<'_>, hood: &mut NeighbourScratch) {
        hood.session_index.clear();
        hood.similar_sessions.clear();
        for (place, item) in moment.recent_items().take(MATCHED).enumerate() {
            if moment.recent_items().take(place).any(|later| later == item) {
                continue;
            }
            let back = place as u32;
            for &session in self.holders.get(item as usize).into_iter().flat_map(|holders| holders.iter().rev().take(self.recent)) {
                if session != moment.session
                    && let Some((at, new)) = hood.session_index.get_or_insert(session)
                {
                    if new {
                        hood.similar_sessions.push(SimilarSession { session, similarity: 0.0, anchor: item, distance_from_end: back });
                    }
                    hood.similar_sessions[at].similarity += weight(back);
                }
            }
        }
        if hood.similar_sessions.len() > self.nearest {
            // The recent win ties.
            let by = |a: &SimilarSession, b: &SimilarSession| b.similarity.total_cmp(&a.similarity).then_with(|| b.session.cmp(&a.session));
            hood.similar_sessions.select_nth_unstable_by(self.nearest, by);
            hood.similar_sessions.truncate(self.nearest);
        }
        hood.similar_sessions.sort_unstable_by_key(|similar| similar.session);
    }

    /// Forgets what a session held.
    pub fn forget_session(&mut self, session: SessionIx) {
        if self.past(session).is_some()
            && let Some(past) = self.sessions.get_mut(session as usize % self.capacity)
        {
            *past = Arc::default();
        }
    }

    /// Whether it holds items of that session.
    #[cfg(test)]
    pub(super) fn contains_session(&self, session: SessionIx) -> bool {
        self.past(session).is_some_and(|past| !past.items.is_empty())
    }

    fn past(&self, session: SessionIx) -> Option<&PastSession> {
        self.sessions.get(session as usize % self.capacity).map(Arc::as_ref).filter(|past| past.number == session)
    }
}

impl CandidateSource for NeighbourSource {
    fn name(&self) -> SourceName {
        SourceName::Neighbours
    }

    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        let place = moment.session as usize % self.capacity;
        if place >= self.sessions.len() {
            self.sessions.grow(place + 1, Arc::default);
        }
        let Some(past) = self.sessions.get_mut(place).map(Arc::make_mut) else { return };
        if past.number != moment.session || past.items.is_empty() {
            past.number = moment.session;
            past.session_start = moment.session_start;
            past.items.clear();
        }
        let new = !past.items.contains(&item);
        if past.items.len() >= LENGTH {
            past.items.remove(0);
        }
        past.items.push(item);
        if new {
            let place = item as usize;
            if place >= self.holders.len() {
                let empty = Arc::new(Vec::new());
                self.holders.grow(place + 1, || Arc::clone(&empty));
            }
            if let Some(holders) = self.holders.get_mut(place).map(Arc::make_mut) {
                if holders.len() >= self.recent + self.recent / 2 {
                    holders.drain(..self.recent / 2);
                }
                holders.push(moment.session);
            }
        }
    }

    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        self.find(moment, &mut slate.neighbour_scratch);
        let (mut votes, mut follows) = (0.0, 0.0);
        for near in 0..slate.neighbour_scratch.similar_sessions.len() {
            let SimilarSession { session, similarity, anchor, distance_from_end: back } = slate.neighbour_scratch.similar_sessions[near];
            // A reader does not know the number of the session under way, but when it began.
            let Some(past) = self.past(session).filter(|past| past.session_start != moment.session_start) else { continue };
            let vote = similarity * weight(back);
            let anchored = past.items.iter().rposition(|item| *item == anchor);
            let (before, after) = past.items.split_at(anchored.map_or(past.items.len(), |place| place + 1));
            for &item in before {
                slate.add_columns(item, [(EvidenceColumn::Neighbours, vote), (EvidenceColumn::NeighbourCount, 1.0)]);
            }
            for (distance, &item) in after.iter().enumerate() {
                let follow = vote / (distance + 1) as f32;
                slate.add_columns(
                    item,
                    [
                        (EvidenceColumn::Neighbours, vote),
                        (EvidenceColumn::NeighbourCount, 1.0),
                        (EvidenceColumn::NeighbourSuccessors, follow),
                    ],
                );
                follows += follow;
            }
            votes += vote * past.items.len() as f32;
        }
        slate.add_total(EvidenceColumn::Neighbours, votes);
        slate.add_total(EvidenceColumn::NeighbourSuccessors, follows);
        slate.add_total(EvidenceColumn::NeighbourCount, slate.neighbour_scratch.similar_sessions.len() as f32);
    }

    fn entry_count(&self) -> usize {
        self.sessions.len()
    }

    fn memory_bytes(&self) -> usize {
        let sessions = self.sessions.iter().map(|past| size_of::<PastSession>() + 24 + past.items.capacity() * size_of::<ItemIx>());
        let holders = self.holders.iter().map(|holders| 48 + holders.capacity() * size_of::<SessionIx>());
        sessions.sum::<usize>() + holders.sum::<usize>()
    }
}
