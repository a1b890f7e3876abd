//! How a shard takes in users of whichever shard who turn out to be one of its own.

use std::collections::VecDeque;

use super::{ShardActor, shard_of};
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::domain::{Offset, UserSequence};
use crate::store::{QuarantineReader, StoreError};

/// Beyond so many the tail is read again for the next merge: it grows only while records cannot be
/// stored.
const MOST_KEPT: usize = 100_000;

/// The end of the journal that some shard's records do not hold yet, of all users: read once, and
/// not for each merge.
#[derive(Debug, Default)]
pub(super) struct JournalTail {
    /// The opening of the store that it was read from: another one may have lost its end.
    opening: u64,
    begin: Offset,
    end: Offset,
    happened: VecDeque<(String, SessionUpdate)>,
}

impl JournalTail {
    /// What happened to a user from one offset on and before another. `read` reads the journal from
    /// an offset on: each entry with what it means for whose session.
    fn of<I>(
        &mut self,
        user: &str,
        opening: u64,
        (from, until): (Offset, Offset),
        read: impl FnOnce(Offset) -> Result<I, StoreError>,
    ) -> Result<Vec<SessionUpdate>, StoreError>
    where
        I: Iterator<Item = Result<(Offset, Option<(String, SessionUpdate)>), StoreError>>,
    {
        if opening != self.opening || from < self.begin || from > self.end {
            *self = Self { opening, begin: from, end: from, happened: VecDeque::new() };
        }
        if self.end < until {
            for entry in read(self.end)? {
                let (offset, happened) = entry?;
                if offset >= until {
                    break;
                }
                self.happened.extend(happened);
                self.end = offset + 1;
            }
        }
        let wanted = |(who, happened): &&(String, SessionUpdate)| who == user && (from..until).contains(&happened.offset);
        let found = self.happened.iter().filter(wanted).map(|(_, happened)| happened.clone()).collect();
        if self.happened.len() > MOST_KEPT {
            *self = Self::default();
        }
        Ok(found)
    }

    /// Lets go of what all records hold.
    fn let_go(&mut self, through: Offset) {
        while self.happened.pop_front_if(|(_, happened)| happened.offset < through).is_some() {}
        self.begin = self.begin.max(through.min(self.end));
    }
}

impl ShardActor {
    /// Finds out what a user had done who was merged into one of this shard's: from its record and
    /// what the journal has beyond it, or, `from` an offset of the journal, from that alone. Nobody
    /// is asked and nobody waits, so that what is found does not depend on who is how far.
    pub(super) fn attach_merged_record(&mut self, happened: &mut SessionUpdate, from: Option<Offset>) -> Result<(), StoreError> {
        if let SessionOp::Merge { from: user, sequence: session } = &mut happened.op {
            *session = self.session_before(user, happened.offset, from)?;
            self.merged_users.push((happened.offset, user.clone()));
        }
        Ok(())
    }

    /// A user's sequence as of an offset.
    fn session_before(&mut self, user: &str, until: Offset, from: Option<Offset>) -> Result<UserSequence, StoreError> {
        let share = self.context.clone();
        let shard = shard_of(user, share.number.1);
        let noted = share.store.quarantine().all()?.into_iter().filter(|noted| noted.reader == QuarantineReader::Session);
        let passed_over: Vec<Offset> = noted.map(|noted| noted.offset).collect();
        loop {
            // Read before the record: that reaches at least as far.
            let stored = share.flush_progress.get(shard);
            let record = match share.store.sessions().get(user) {
                _ if from.is_some() => None,
                // Of a damaged record nothing is left but what the journal says.
                Err(StoreError::DamagedValue { .. }) => {
                    return self.session_before(user, until, Some(share.store.journal().first_offset()?));
                }
                read => read?,
            };
            let (mut session, applied) = record.map(|record| (record.sequence, record.applied_through)).unwrap_or_default();
            let read = |from: Offset| {
                let meaning = |(offset, entry)| (offset, SessionUpdate::from_entry(offset, entry, &share.dictionary, &share.kinds));
                Ok(share.store.journal().entries(from)?.map(move |read| read.map(meaning)))
            };
            // A pass over all of the journal is nothing to keep.
            let mut passing = JournalTail::default();
            let tail = if from.is_some() { &mut passing } else { &mut self.journal_tail };
            let happened = tail.of(user, share.store.generation()?, (from.unwrap_or(stored), until), read)?;
            let mut is_steady = true;
            for SessionUpdate { offset, op: act } in happened {
                if offset < applied || passed_over.contains(&offset) {
                    continue;
                }
                match act {
                    SessionOp::Step { step, session_id } => {
                        session.push(offset, step, session_id.as_deref(), share.sequence_params.idle_gap_ms);
                    }
                    SessionOp::Merge { from: other, .. } => {
                        session.merge(&self.session_before(&other, offset, from)?, share.sequence_params.idle_gap_ms);
                        // The other's record goes once this one's is stored: what was read is whole
                        // only if that did not happen meanwhile.
                        is_steady = from.is_some() || share.flush_progress.get(shard) == stored;
                    }
                    SessionOp::Forget => session = UserSequence::default(),
                }
            }
            if is_steady {
                return Ok(session);
            }
        }
    }

    /// Removes the records of users who were merged, once every record reaches beyond that: until
    /// then they may be needed again.
    pub(super) fn remove_merged_records(&mut self) {
        self.journal_tail.let_go(self.context.flush_progress.min());
        if self.merged_users.is_empty() {
            return;
        }
        let sessions = self.context.store.sessions();
        let forgotten = sessions.watermark().and_then(|through| {
            for (offset, user) in self.merged_users.iter().filter(|(offset, _)| *offset < through) {
                // Who was erased after the merge may have come back as a new user.
                if !matches!(sessions.get(user), Ok(Some(record)) if record.applied_through > *offset) {
                    sessions.remove([user.as_str()])?;
                }
            }
            Ok(through)
        });
        match forgotten {
            Ok(through) => self.merged_users.retain(|(offset, _)| *offset >= through),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "users who were merged could not be forgotten yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Step;
    use std::cell::Cell;

    type Read<'c> = Box<dyn Iterator<Item = Result<(Offset, Option<(String, SessionUpdate)>), StoreError>> + 'c>;

    /// A journal in which every third entry is of nobody, the others are of `u0` and `u1` in turn;
    /// it counts what is read of it.
    fn read<'c>(end: Offset, count: &'c Cell<u64>) -> impl Fn(Offset) -> Result<Read<'c>, StoreError> {
        move |from| {
            Ok(Box::new((from..end).map(move |offset| {
                count.set(count.get() + 1);
                let step = Step { item: None, kind: 0, starts_session: false, at: 0, value: 1.0 };
                let happened = SessionUpdate { offset, op: SessionOp::Step { step, session_id: None } };
                Ok((offset, (offset % 3 > 0).then(|| (format!("u{}", offset % 3 - 1), happened))))
            })))
        }
    }

    #[test]
    fn each_entry_is_read_once_for_many_merges() {
        let (mut tail, count) = (JournalTail::default(), Cell::new(0));
        let offsets = |tail: &mut JournalTail, user: &str, opening: u64, from: Offset, until: Offset| -> Vec<Offset> {
            let found = tail.of(user, opening, (from, until), read(1_000, &count)).unwrap();
            found.into_iter().map(|happened| happened.offset).collect()
        };
        let expected = |user: u64, from: Offset, until: Offset| (from..until).filter(|offset| offset % 3 == user + 1).collect::<Vec<_>>();
        for until in 100..600 {
            assert_eq!(offsets(&mut tail, "u0", 1, 50, until), expected(0, 50, until));
        }
        // Each merge looks at the entry behind which it stops, and leaves it.
        assert_eq!(count.replace(0), 599 - 50 + 500);
        // Of another user, of another span within it, of less of it: all is known.
        assert_eq!(offsets(&mut tail, "u1", 1, 70, 400), expected(1, 70, 400));
        assert!(offsets(&mut tail, "u2", 1, 70, 400).is_empty());
        tail.let_go(300);
        assert_eq!(offsets(&mut tail, "u1", 1, 300, 590), expected(1, 300, 590));
        assert_eq!(count.get(), 0);
        // What was let go is read again, and so is everything of a store that was opened anew.
        assert_eq!(offsets(&mut tail, "u1", 1, 200, 400), expected(1, 200, 400));
        assert_eq!(count.replace(0), 201);
        assert_eq!(offsets(&mut tail, "u1", 2, 200, 400), expected(1, 200, 400));
        assert_eq!(count.replace(0), 201);
        // Far behind all that is known nothing between is read.
        tail.let_go(2_000);
        assert_eq!(offsets(&mut tail, "u1", 2, 900, 950), expected(1, 900, 950));
        assert_eq!(count.get(), 51);
    }
}
