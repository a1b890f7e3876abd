//! Merging users: collects the sequence of a user that is merged into a user of this shard.

use std::collections::VecDeque;

use super::{ShardActor, shard_of_user};
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::domain::{Offset, UserSequence};
use crate::store::{QuarantineReader, StoreError};

/// The largest number of cached updates. Above this number, the cache is cleared and the next merge
/// reads the journal again. The cache reaches this size only while records cannot be stored.
const MAX_CACHED_UPDATES: usize = 100_000;

/// Cache of the journal's tail: the updates of all users that are not yet in every shard's stored
/// records. With this cache, a series of merges reads each journal entry only once.
#[derive(Debug, Default)]
pub(super) struct JournalTail {
    /// The generation of the store that the tail was read from. A reopened store may have lost
    /// the end of its journal.
    generation: u64,
    begin: Offset,
    end: Offset,
    updates: VecDeque<(String, SessionUpdate)>,
}

impl JournalTail {
    /// Returns a user's updates with an offset in `from..until`. `read` reads the journal from an
    /// offset on, and yields each entry's offset and session update. The update is absent if the
    /// entry affects no session.
    fn updates_of_user<I>(
        &mut self,
        user: &str,
        generation: u64,
        (from, until): (Offset, Offset),
        read: impl FnOnce(Offset) -> Result<I, StoreError>,
    ) -> Result<Vec<SessionUpdate>, StoreError>
    where
        I: Iterator<Item = Result<(Offset, Option<(String, SessionUpdate)>), StoreError>>,
    {
        if generation != self.generation || from < self.begin || from > self.end {
            *self = Self { generation, begin: from, end: from, updates: VecDeque::new() };
        }
        if self.end < until {
            for entry in read(self.end)? {
                let (offset, update) = entry?;
                if offset >= until {
                    break;
                }
                self.updates.extend(update);
                self.end = offset + 1;
            }
        }
        let is_wanted =
            |(other, update): &&(String, SessionUpdate)| other == user && (from..until).contains(&update.offset);
        let found = self.updates.iter().filter(is_wanted).map(|(_, update)| update.clone()).collect();
        if self.updates.len() > MAX_CACHED_UPDATES {
            *self = Self::default();
        }
        Ok(found)
    }

    /// Drops the cached updates before offset `through`, which all stored records contain.
    fn drop_updates_before(&mut self, through: Offset) {
        while self.updates.pop_front_if(|(_, update)| update.offset < through).is_some() {}
        self.begin = self.begin.max(through.min(self.end));
    }
}

impl ShardActor {
    /// If the update is a merge, fills in the sequence of the merged user. The sequence comes from
    /// the stored record and the journal's tail. If `from` is given, the sequence comes from the
    /// journal alone, starting at this offset. The merged user may belong to another shard. This
    /// shard sends no message to it, so the result does not depend on that shard's progress.
    pub(super) fn attach_merged_sequence(
        &mut self,
        update: &mut SessionUpdate,
        from: Option<Offset>,
    ) -> Result<(), StoreError> {
        if let SessionOp::Merge { from: user, sequence } = &mut update.op {
            *sequence = self.merged_sequence_before(user, update.offset, from)?;
            self.merged_users.push((update.offset, user.clone()));
        }
        Ok(())
    }

    /// Returns a user's sequence with all its entries before offset `until`. See
    /// [`ShardActor::attach_merged_sequence`] for `from`.
    fn merged_sequence_before(
        &mut self,
        user: &str,
        until: Offset,
        from: Option<Offset>,
    ) -> Result<UserSequence, StoreError> {
        let context = self.context.clone();
        let shard = shard_of_user(user, context.number.1);
        let quarantine =
            context.store.quarantine().all()?.into_iter().filter(|entry| entry.reader == QuarantineReader::Session);
        let quarantined: Vec<Offset> = quarantine.map(|entry| entry.offset).collect();
        loop {
            // The watermark is read before the record, so that the record contains at least the
            // entries before the watermark.
            let flushed_through = context.flush_progress.shard_watermark(shard);
            let record = match context.store.sessions().get(user) {
                _ if from.is_some() => None,
                // If the record is damaged, the sequence is read from the whole journal instead.
                Err(StoreError::DamagedValue { .. }) => {
                    return self.merged_sequence_before(user, until, Some(context.store.journal().first_offset()?));
                }
                read => read?,
            };
            let (mut sequence, applied_through) =
                record.map(|record| (record.sequence, record.applied_through)).unwrap_or_default();
            let read = |from: Offset| {
                let to_update = |(offset, entry)| {
                    (offset, SessionUpdate::from_entry(offset, entry, &context.dictionary, &context.kinds))
                };
                Ok(context.store.journal().entries(from)?.map(move |read| read.map(to_update)))
            };
            // A pass over the whole journal is not cached.
            let mut uncached = JournalTail::default();
            let tail = if from.is_some() { &mut uncached } else { &mut self.journal_tail };
            let updates = tail.updates_of_user(
                user,
                context.store.generation()?,
                (from.unwrap_or(flushed_through), until),
                read,
            )?;
            let mut is_consistent = true;
            for SessionUpdate { offset, op } in updates {
                if offset < applied_through || quarantined.contains(&offset) {
                    continue;
                }
                match op {
                    SessionOp::Step { step, session_id } => {
                        sequence.push(offset, step, session_id.as_deref(), context.sequence_params.idle_gap_ms);
                    }
                    SessionOp::Merge { from: other, .. } => {
                        sequence.merge(
                            &self.merged_sequence_before(&other, offset, from)?,
                            context.sequence_params.idle_gap_ms,
                        );
                        // A flush stores this user's record and then removes the other user's
                        // record. So the result is complete only if no such flush happened between
                        // the reads of the two records.
                        is_consistent =
                            from.is_some() || context.flush_progress.shard_watermark(shard) == flushed_through;
                    }
                    SessionOp::Forget => sequence = UserSequence::default(),
                }
            }
            if is_consistent {
                return Ok(sequence);
            }
        }
    }

    /// Removes the stored records of merged users. A record stays until the stored records of all
    /// shards contain the merge, because a recovery may need the record until then.
    pub(super) fn remove_merged_records(&mut self) {
        self.journal_tail.drop_updates_before(self.context.flush_progress.min_watermark());
        if self.merged_users.is_empty() {
            return;
        }
        let sessions = self.context.store.sessions();
        let removed_through = sessions.watermark().and_then(|through| {
            for (offset, user) in self.merged_users.iter().filter(|(offset, _)| *offset < through) {
                // A record that contains entries after the merge belongs to a new user with the
                // same id: the merged user was erased in the meantime.
                if !matches!(sessions.get(user), Ok(Some(record)) if record.applied_through > *offset) {
                    sessions.remove([user.as_str()])?;
                }
            }
            Ok(through)
        });
        match removed_through {
            Ok(through) => self.merged_users.retain(|(offset, _)| *offset >= through),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the records of merged users could not be removed yet"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Step;
    use std::cell::Cell;

    type JournalRead<'c> = Box<dyn Iterator<Item = Result<(Offset, Option<(String, SessionUpdate)>), StoreError>> + 'c>;

    /// Creates a reader of a journal in which every third entry has no user. The other entries
    /// belong to `u0` and `u1` in turn. The reader counts the entries that it reads.
    fn counting_reader<'c>(
        end: Offset,
        count: &'c Cell<u64>,
    ) -> impl Fn(Offset) -> Result<JournalRead<'c>, StoreError> {
        move |from| {
            Ok(Box::new((from..end).map(move |offset| {
                count.set(count.get() + 1);
                let step = Step { item: None, kind: 0, starts_session: false, at: 0, value: 1.0 };
                let update = SessionUpdate { offset, op: SessionOp::Step { step, session_id: None } };
                Ok((offset, (offset % 3 > 0).then(|| (format!("u{}", offset % 3 - 1), update))))
            })))
        }
    }

    #[test]
    fn each_entry_is_read_once_for_many_merges() {
        let (mut tail, count) = (JournalTail::default(), Cell::new(0));
        let offsets =
            |tail: &mut JournalTail, user: &str, generation: u64, from: Offset, until: Offset| -> Vec<Offset> {
                let found =
                    tail.updates_of_user(user, generation, (from, until), counting_reader(1_000, &count)).unwrap();
                found.into_iter().map(|update| update.offset).collect()
            };
        let expected = |user: u64, from: Offset, until: Offset| {
            (from..until).filter(|offset| offset % 3 == user + 1).collect::<Vec<_>>()
        };
        for until in 100..600 {
            assert_eq!(offsets(&mut tail, "u0", 1, 50, until), expected(0, 50, until));
        }
        // Each merge also reads the first entry at `until` and discards it.
        assert_eq!(count.replace(0), 599 - 50 + 500);
        // The cache also serves other users and smaller ranges within the cached range.
        assert_eq!(offsets(&mut tail, "u1", 1, 70, 400), expected(1, 70, 400));
        assert!(offsets(&mut tail, "u2", 1, 70, 400).is_empty());
        tail.drop_updates_before(300);
        assert_eq!(offsets(&mut tail, "u1", 1, 300, 590), expected(1, 300, 590));
        assert_eq!(count.get(), 0);
        // Entries that were dropped from the cache are read again. After the store was reopened,
        // all entries are read again.
        assert_eq!(offsets(&mut tail, "u1", 1, 200, 400), expected(1, 200, 400));
        assert_eq!(count.replace(0), 201);
        assert_eq!(offsets(&mut tail, "u1", 2, 200, 400), expected(1, 200, 400));
        assert_eq!(count.replace(0), 201);
        // If a range begins beyond the end of the cache, the entries between the two are not read.
        tail.drop_updates_before(2_000);
        assert_eq!(offsets(&mut tail, "u1", 2, 900, 950), expected(1, 900, 950));
        assert_eq!(count.get(), 51);
    }
}
