//! Sessions like this one: VMIS-kNN, kept up to date event by event.
//!
//! B. Kersbergen, O. Sprangers, S. Schelter: "Serenade: low-latency session-based recommendation in e-commerce at scale", SIGMOD 2022.

use super::slate::{Hood, Similar};
use super::{Channel, Moment, SessionIx, Slate, Source};
use crate::domain::{ItemIx, Offset, Pages, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The items of the most recent sessions and, per item, the most recent sessions that hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Neighbours {
    /// A ring: session `n` stands at `n % capacity`.
    sessions: Pages<Arc<Past>, 64>,
    /// Per item, sessions in the order in which they first held it; only the last few count.
    holders: Pages<Arc<Vec<SessionIx>>, 16>,
    capacity: usize,
    /// Sessions looked at per item.
    recent: usize,
    /// Neighbours that vote.
    nearest: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Past {
    number: SessionIx,
    /// The journal offset of its first event.
    begun: Offset,
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

impl Neighbours {
    /// Remembers at most `capacity` sessions, looks at the `recent` last of each item, and lets the `nearest` most similar vote.
    #[must_use]
    pub fn new(capacity: usize, recent: usize, nearest: usize) -> Self {
        Self { sessions: Pages::default(), holders: Pages::default(), capacity: capacity.max(1), recent, nearest }
    }

    /// Leaves the most similar sessions in the workspace, the oldest first.
    fn find(&self, moment: &Moment<'_>, hood: &mut Hood) {
        hood.sessions.clear();
        hood.similar.clear();
        for (place, item) in moment.recent().take(MATCHED).enumerate() {
            if moment.recent().take(place).any(|later| later == item) {
                continue;
            }
            let back = place as u32;
            for &session in self.holders.get(item as usize).into_iter().flat_map(|holders| holders.iter().rev().take(self.recent)) {
                if session != moment.session
                    && let Some((at, new)) = hood.sessions.enter(session)
                {
                    if new {
                        hood.similar.push(Similar { session, similarity: 0.0, anchor: item, back });
                    }
                    hood.similar[at].similarity += weight(back);
                }
            }
        }
        if hood.similar.len() > self.nearest {
            // The recent win ties.
            let by = |a: &Similar, b: &Similar| b.similarity.total_cmp(&a.similarity).then_with(|| b.session.cmp(&a.session));
            hood.similar.select_nth_unstable_by(self.nearest, by);
            hood.similar.truncate(self.nearest);
        }
        hood.similar.sort_unstable_by_key(|similar| similar.session);
    }

    /// Forgets what a session held.
    pub fn forget(&mut self, session: SessionIx) {
        if self.past(session).is_some()
            && let Some(past) = self.sessions.get_mut(session as usize % self.capacity)
        {
            *past = Arc::default();
        }
    }

    /// Whether it holds items of that session.
    #[cfg(test)]
    pub(super) fn holds(&self, session: SessionIx) -> bool {
        self.past(session).is_some_and(|past| !past.items.is_empty())
    }

    fn past(&self, session: SessionIx) -> Option<&Past> {
        self.sessions.get(session as usize % self.capacity).map(Arc::as_ref).filter(|past| past.number == session)
    }
}

impl Source for Neighbours {
    fn name(&self) -> SourceName {
        SourceName::Neighbours
    }

    fn learn(&mut self, moment: &Moment<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        let place = moment.session as usize % self.capacity;
        if place >= self.sessions.len() {
            self.sessions.grow(place + 1, Arc::default);
        }
        let Some(past) = self.sessions.get_mut(place).map(Arc::make_mut) else { return };
        if past.number != moment.session || past.items.is_empty() {
            past.number = moment.session;
            past.begun = moment.begun;
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

    fn gather(&self, moment: &Moment<'_>, slate: &mut Slate) {
        self.find(moment, &mut slate.hood);
        let (mut votes, mut follows) = (0.0, 0.0);
        for near in 0..slate.hood.similar.len() {
            let Similar { session, similarity, anchor, back } = slate.hood.similar[near];
            // A reader does not know the number of the session under way, but when it began.
            let Some(past) = self.past(session).filter(|past| past.begun != moment.begun) else { continue };
            let vote = similarity * weight(back);
            let anchored = past.items.iter().rposition(|item| *item == anchor);
            let (before, after) = past.items.split_at(anchored.map_or(past.items.len(), |place| place + 1));
            for &item in before {
                slate.add_all(item, [(Channel::Neighbours, vote), (Channel::Holders, 1.0)]);
            }
            for (distance, &item) in after.iter().enumerate() {
                let follow = vote / (distance + 1) as f32;
                slate.add_all(item, [(Channel::Neighbours, vote), (Channel::Holders, 1.0), (Channel::Following, follow)]);
                follows += follow;
            }
            votes += vote * past.items.len() as f32;
        }
        slate.weigh(Channel::Neighbours, votes);
        slate.weigh(Channel::Following, follows);
        slate.weigh(Channel::Holders, slate.hood.similar.len() as f32);
    }

    fn entries(&self) -> usize {
        self.sessions.len()
    }

    fn bytes(&self) -> usize {
        let sessions = self.sessions.iter().map(|past| size_of::<Past>() + 24 + past.items.capacity() * size_of::<ItemIx>());
        let holders = self.holders.iter().map(|holders| 48 + holders.capacity() * size_of::<SessionIx>());
        sessions.sum::<usize>() + holders.sum::<usize>()
    }
}
