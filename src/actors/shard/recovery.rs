//! How a shard begins again with what is stored and the journal's tail.

use super::{ActiveSession, ShardActor, shard_of};
use crate::actors::session::{ApplySessionUpdate, SessionUpdate, Stop};
use crate::domain::Offset;
use crate::learner::ScoringWorkspace;
use crate::store::StoreError;

impl ShardActor {
    /// Starts the user's actor with nothing but what the journal says. That takes a pass over the
    /// journal: the price of damage.
    pub(super) fn fold_anew(&mut self, user: &str) -> Result<&mut ActiveSession, StoreError> {
        let begin = self.share.store.journal().begin()?;
        let mut events: Vec<_> = self.delivered_since(begin, |other| other == user)?.into_iter().map(|(_, happened)| happened).collect();
        for happened in &mut events {
            self.look_up(happened, Some(begin))?;
        }
        let active = self.start(user, None);
        active.actor.do_send(ApplySessionUpdate { events, permits: None });
        active.dirty = true;
        Ok(active)
    }

    /// What was delivered of the journal from an offset on, of the users that `wanted` names.
    pub(super) fn delivered_since(&self, from: Offset, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, SessionUpdate)>, StoreError> {
        let mut events = Vec::new();
        for read in self.share.store.journal().entries(from)? {
            let (offset, entry) = read?;
            if offset >= self.delivered {
                break;
            }
            events.extend(SessionUpdate::of(offset, entry, &self.share.dictionary, &self.share.kinds).filter(|(user, _)| wanted(user)));
        }
        Ok(events)
    }

    /// Goes back to what the store holds where it was opened again, since what was stored last may
    /// be gone; and tries again what could not be read then.
    pub(super) fn follow_store(&mut self) -> Result<(), StoreError> {
        let (store, own) = (&self.share.store, self.share.number.0);
        let opening = store.opening()?;
        if opening != self.opening {
            self.share.stored.lower(own, store.sessions().through()?);
            self.opening = opening;
            self.ill = true;
        }
        if self.ill {
            self.heal();
        }
        if self.ill { Err(StoreError::Failed { dir: self.share.store.dir().to_owned() }) } else { Ok(()) }
    }

    /// Lets all session actors go, and puts the journal's tail before those that it concerns.
    pub(super) fn heal(&mut self) {
        self.share.metrics.live_sessions.decrement(self.active.len() as f64);
        self.active.drain().for_each(|(_, active)| active.actor.do_send(Stop));
        self.surroundings.workspace.replace(ScoringWorkspace::default());
        let (own, shards) = self.share.number;
        match self.delivered_since(self.share.stored.of(own), |user| shard_of(user, shards) == own) {
            Ok(tail) => {
                self.ill = false;
                self.deliver(tail, None);
            }
            Err(error) => {
                self.ill = true;
                tracing::error!(error = &error as &dyn std::error::Error, "the journal's tail could not be read");
            }
        }
    }
}
