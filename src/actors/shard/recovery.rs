//! How a shard begins again with what is stored and the journal's tail.

use super::{ActiveSession, ShardActor, shard_of};
use crate::actors::session::{ApplySessionUpdate, SessionUpdate, Stop};
use crate::domain::Offset;
use crate::learner::ScoringWorkspace;
use crate::store::StoreError;

impl ShardActor {
    /// Starts the user's actor with nothing but what the journal says. That takes a pass over the
    /// journal: the price of damage.
    pub(super) fn rebuild_session(&mut self, user: &str) -> Result<&mut ActiveSession, StoreError> {
        let begin = self.context.store.journal().first_offset()?;
        let mut events: Vec<_> = self.updates_since(begin, |other| other == user)?.into_iter().map(|(_, happened)| happened).collect();
        for happened in &mut events {
            self.attach_merged_record(happened, Some(begin))?;
        }
        let active = self.start(user, None);
        active.actor.do_send(ApplySessionUpdate { updates: events, permits: None });
        active.is_dirty = true;
        Ok(active)
    }

    /// What was delivered of the journal from an offset on, of the users that `wanted` names.
    pub(super) fn updates_since(&self, from: Offset, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, SessionUpdate)>, StoreError> {
        let mut events = Vec::new();
        for read in self.context.store.journal().entries(from)? {
            let (offset, entry) = read?;
            if offset >= self.delivered {
                break;
            }
            events.extend(
                SessionUpdate::from_entry(offset, entry, &self.context.dictionary, &self.context.kinds).filter(|(user, _)| wanted(user)),
            );
        }
        Ok(events)
    }

    /// Goes back to what the store holds where it was opened again, since what was stored last may
    /// be gone; and tries again what could not be read then.
    pub(super) fn reload_after_reopening(&mut self) -> Result<(), StoreError> {
        let (store, own) = (&self.context.store, self.context.number.0);
        let opening = store.generation()?;
        if opening != self.store_generation {
            self.context.flush_progress.lower(own, store.sessions().watermark()?);
            self.store_generation = opening;
            self.needs_recovery = true;
        }
        if self.needs_recovery {
            self.recover();
        }
        if self.needs_recovery { Err(StoreError::NeedsReopen { dir: self.context.store.dir().to_owned() }) } else { Ok(()) }
    }

    /// Lets all session actors go, and puts the journal's tail before those that it concerns.
    pub(super) fn recover(&mut self) {
        self.context.metrics.live_sessions.decrement(self.active_sessions.len() as f64);
        self.active_sessions.drain().for_each(|(_, active)| active.actor.do_send(Stop));
        self.session_context.workspace.replace(ScoringWorkspace::default());
        let (own, shards) = self.context.number;
        match self.updates_since(self.context.flush_progress.get(own), |user| shard_of(user, shards) == own) {
            Ok(tail) => {
                self.needs_recovery = false;
                self.deliver(tail, None);
            }
            Err(error) => {
                self.needs_recovery = true;
                tracing::error!(error = &error as &dyn std::error::Error, "the journal's tail could not be read");
            }
        }
    }
}
