//! Recovery of a shard from the stored records and the journal's tail.

use super::{ShardActor, shard_of_user};
use crate::actors::session::{SessionUpdate, StopSession};
use crate::domain::Offset;
use crate::store::{SessionRecord, StoreError};

impl ShardActor {
    /// Rebuilds a user's record from the whole journal, because the stored record is damaged.
    pub(super) fn rebuild_record_from_journal(&mut self, user: &str) -> Result<SessionRecord, StoreError> {
        let begin = self.context.store.journal().first_offset()?;
        let mut updates: Vec<_> =
            self.updates_since(begin, |other| other == user)?.into_iter().map(|(_, update)| update).collect();
        for update in &mut updates {
            self.attach_merged_sequence(update, Some(begin))?;
        }
        Ok(self.apply_to_record(None, &updates))
    }

    /// Reads from the journal the updates from offset `from` on that were delivered to this shard,
    /// for the users that `is_wanted` selects.
    pub(super) fn updates_since(
        &self,
        from: Offset,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, SessionUpdate)>, StoreError> {
        let mut updates = Vec::new();
        for read in self.context.store.journal().entries(from)? {
            let (offset, entry) = read?;
            if offset >= self.delivered {
                break;
            }
            updates.extend(
                SessionUpdate::from_entry(offset, entry, &self.context.dictionary, &self.context.kinds)
                    .filter(|(user, _)| is_wanted(user)),
            );
        }
        Ok(updates)
    }

    /// Recovers if the store was reopened, because records that were written before the reopening
    /// may be lost. Also retries a recovery that failed earlier.
    pub(super) fn recover_after_reopening(&mut self) -> Result<(), StoreError> {
        let (store, own) = (&self.context.store, self.context.number.0);
        let generation = store.generation()?;
        if generation != self.store_generation {
            self.context.flush_progress.lower_to(own, store.sessions().watermark()?);
            self.store_generation = generation;
            self.needs_recovery = true;
        }
        if self.needs_recovery {
            self.recover();
        }
        if self.needs_recovery {
            Err(StoreError::NeedsReopen { dir: self.context.store.dir().to_owned() })
        } else {
            Ok(())
        }
    }

    /// Stops all session actors. Then delivers the journal's tail, which starts new session actors.
    pub(super) fn recover(&mut self) {
        self.context.metrics.live_sessions.decrement(self.active_sessions.len() as f64);
        self.active_sessions.drain().for_each(|(_, active)| active.actor.do_send(StopSession));
        self.is_full = false;
        let (own, shards) = self.context.number;
        match self
            .updates_since(self.context.flush_progress.shard_watermark(own), |user| shard_of_user(user, shards) == own)
        {
            Ok(tail) => {
                self.needs_recovery = false;
                self.deliver_updates(tail, None);
            }
            Err(error) => {
                self.needs_recovery = true;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the journal's tail could not be read; the next flush retries the recovery"
                );
            }
        }
    }
}
