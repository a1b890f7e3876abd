//! Sessions like this one: VMIS-kNN, kept up to date event by event.
//!
//! B. Kersbergen, O. Sprangers, S. Schelter: "Serenade: low-latency session-based recommendation in e-commerce at scale", SIGMOD 2022.

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
    holders: Pages<Arc<Vec<SessionIx>>, 64>,
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

impl Neighbours {
    /// Remembers at most `capacity` sessions, looks at the `recent` last of each item, and lets the `nearest` most similar vote.
    #[must_use]
    pub fn new(capacity: usize, recent: usize, nearest: usize) -> Self {
        Self { sessions: Pages::default(), holders: Pages::default(), capacity: capacity.max(1), recent, nearest }
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
        let (mut sessions, mut similar, mut nearest) = (
            std::mem::replace(&mut slate.sessions, super::Tally::new(1)),
            std::mem::take(&mut slate.similar),
            std::mem::take(&mut slate.nearest),
        );
        sessions.clear();
        similar.clear();
        let mut matched = [0; MATCHED];
        let mut count = 0;
        for (back, item) in moment.recent().take(MATCHED).enumerate() {
            if matched[..count].contains(&item) {
                continue;
            }
            matched[count] = item;
            let weight = 1.0 - 0.1 * back as f32;
            let Some(holders) = self.holders.get(item as usize) else { continue };
            for &session in holders.iter().rev().take(self.recent) {
                if let Some((place, new)) = sessions.enter(session) {
                    if new {
                        similar.push((0.0, count as u32));
                    }
                    similar[place].0 += weight;
                }
            }
            count += 1;
        }
        nearest.clear();
        nearest.extend(similar.iter().enumerate().map(|(place, &(similarity, _))| (similarity, place as u32)));
        let keys = sessions.keys();
        if nearest.len() > self.nearest {
            nearest
                .select_nth_unstable_by(self.nearest, |a, b| b.0.total_cmp(&a.0).then_with(|| keys[b.1 as usize].cmp(&keys[a.1 as usize])));
            nearest.truncate(self.nearest);
        }
        nearest.sort_unstable_by_key(|&(_, place)| place);
        let (mut total, mut follow) = (0.0, 0.0);
        for &(similarity, place) in &nearest {
            let session = keys[place as usize];
            let Some(past) = self.past(session).filter(|past| past.begun != moment.begun) else { continue };
            let anchor = matched[similar[place as usize].1 as usize];
            let back = similar[place as usize].1 as f32;
            let vote = similarity * (1.0 - 0.1 * back);
            let at = past.items.iter().rposition(|item| *item == anchor);
            for (j, &item) in past.items.iter().enumerate() {
                slate.add(item, Channel::Neighbours, vote);
                slate.add(item, Channel::Holders, 1.0);
                total += vote;
                if let Some(at) = at
                    && j > at
                {
                    let weight = vote / (j - at) as f32;
                    slate.add(item, Channel::Following, weight);
                    follow += weight;
                }
            }
        }
        slate.weigh(Channel::Neighbours, total);
        slate.weigh(Channel::Following, follow);
        slate.weigh(Channel::Holders, nearest.len() as f32);
        (slate.sessions, slate.similar, slate.nearest) = (sessions, similar, nearest);
    }

    fn bytes(&self) -> usize {
        let sessions = self.sessions.iter().map(|past| size_of::<Past>() + 24 + past.items.capacity() * size_of::<ItemIx>());
        let holders = self.holders.iter().map(|holders| 48 + holders.capacity() * size_of::<SessionIx>());
        sessions.sum::<usize>() + holders.sum::<usize>()
    }
}
