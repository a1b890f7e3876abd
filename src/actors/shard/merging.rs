//! How a shard takes in users of whichever shard who turn out to be one of its own.

use super::{ShardActor, shard_of};
use crate::actors::session::{Act, Happened};
use crate::domain::{Offset, Session};
use crate::store::{Reader, StoreError};

impl ShardActor {
    /// Finds out what a user had done who was merged into one of this shard's: from its record and what the journal has beyond it, or, `from` an offset of the journal, from that alone.
    /// Nobody is asked and nobody waits, so that what is found does not depend on who is how far.
    pub(super) fn look_up(&mut self, happened: &mut Happened, from: Option<Offset>) -> Result<(), StoreError> {
        if let Act::Merge { from: user, session } = &mut happened.act {
            *session = self.session_before(user, happened.offset, from)?;
            self.merged.push((happened.offset, user.clone()));
        }
        Ok(())
    }

    /// A user's sequence as of an offset.
    fn session_before(&self, user: &str, until: Offset, from: Option<Offset>) -> Result<Session, StoreError> {
        let share = &self.share;
        let shard = shard_of(user, share.number.1);
        let noted = share.store.quarantine().all()?.into_iter().filter(|noted| noted.reader == Reader::Session);
        let passed_over: Vec<Offset> = noted.map(|noted| noted.offset).collect();
        loop {
            // Read before the record: that reaches at least as far.
            let stored = share.stored.of(shard);
            let record = match share.store.sessions().get(user) {
                _ if from.is_some() => None,
                // Of a damaged record nothing is left but what the journal says.
                Err(StoreError::DamagedValue { .. }) => return self.session_before(user, until, Some(share.store.journal().begin()?)),
                read => read?,
            };
            let (mut session, applied) = record.map(|record| (record.session, record.applied)).unwrap_or_default();
            let mut is_steady = true;
            for read in share.store.journal().entries(from.unwrap_or(stored))? {
                let (offset, entry) = read?;
                if offset >= until {
                    break;
                }
                let Some((who, happened)) = Happened::of(offset, entry, &share.dictionary, &share.kinds) else { continue };
                if who != user || offset < applied || passed_over.contains(&offset) {
                    continue;
                }
                match happened.act {
                    Act::Step { step, session_id } => {
                        session.push(offset, step, session_id.as_deref(), share.pace.idle_gap_ms);
                    }
                    Act::Merge { from: other, .. } => {
                        session.absorb(&self.session_before(&other, offset, from)?, share.pace.idle_gap_ms);
                        // The other's record goes once this one's is stored: what was read is whole only if that did not happen meanwhile.
                        is_steady = from.is_some() || share.stored.of(shard) == stored;
                    }
                    Act::Forget => session = Session::default(),
                }
            }
            if is_steady {
                return Ok(session);
            }
        }
    }

    /// Removes the records of users who were merged, once every record reaches beyond that: until then they may be needed again.
    pub(super) fn forget_merged(&mut self) {
        if self.merged.is_empty() {
            return;
        }
        let sessions = self.share.store.sessions();
        let forgotten = sessions.through().and_then(|through| {
            for (offset, user) in self.merged.iter().filter(|(offset, _)| *offset < through) {
                // Who was erased after the merge may have come back as a new user.
                if !matches!(sessions.get(user), Ok(Some(record)) if record.applied > *offset) {
                    sessions.remove([user.as_str()])?;
                }
            }
            Ok(through)
        });
        match forgotten {
            Ok(through) => self.merged.retain(|(offset, _)| *offset >= through),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "users who were merged could not be forgotten yet"),
        }
    }
}
