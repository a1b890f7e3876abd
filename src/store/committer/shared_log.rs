//! Commits the messages of the shared log of a cluster. Each node commits the same messages in the
//! same order, so what a commit decides depends on the committed messages only.

use super::commit_plan::CommitState;
use super::removed_ids::RemovalRequests;
use super::{CommitReceipt, CommitRequest, CommittedBatch, Committer, dedup};
use crate::domain::Offset;
use crate::store::log_position::{LogDigest, SharedLogPosition};
use crate::store::{JournalWatcher, StoreError};

/// A message of the shared log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMessage {
    /// The sequence number in the log.
    pub sequence: u64,
    /// The digest of the message's bytes.
    pub digest: LogDigest,
    /// The requests of the message.
    pub requests: Vec<CommitRequest>,
}

impl Committer {
    /// The position in the shared log; `None` if the journal's last entry comes from no shared log.
    #[must_use]
    pub fn log_position(&self) -> Option<SharedLogPosition> {
        self.position
    }

    /// Begins to commit the messages of a shared log: the journal so far counts as its start. Does
    /// nothing if the journal already has a position.
    pub fn begin_shared_log(&mut self, start: SharedLogPosition) {
        self.position.get_or_insert(start);
    }

    /// Commits a message of the shared log, which must follow the last one. Otherwise like
    /// [`Committer::commit_with_watcher`].
    ///
    /// # Errors
    /// As [`Committer::commit_with_watcher`].
    pub fn commit_message(
        &mut self,
        message: LogMessage,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        let LogMessage { sequence, digest, requests } = message;
        let (first, before) = (self.next, self.position.unwrap_or_default());
        let state = CommitState {
            dedup: &self.dedup,
            aliases: &self.alias_writer,
            consents: &self.consent_writer,
            marks: Some(before.marks),
        };
        let mut plan = state.plan_commit(first, requests);
        let marks = plan.marks.unwrap_or(before.marks);
        let record = (plan.batch.entries.as_slice(), &plan.batch.origins);
        let position = before.after_message((sequence, digest), first, record, marks)?;
        plan.batch.position = Some(position);
        let removals = RemovalRequests::of_entries((first..).zip(&plan.batch.entries));
        let committed = self.write_plan(first, plan, watch)?;
        self.position = Some(position);
        if !removals.is_empty() {
            let ids = removals.removed_ids(&self.store, self.window_start()?)?;
            self.remove_event_ids(ids.iter().map(String::as_str));
        }
        Ok(committed)
    }

    /// The first offset whose event ids the deduplication window contains.
    fn window_start(&self) -> Result<Offset, StoreError> {
        Ok(self.dedup.window_start(self.next).max(self.store.journal().first_offset()?))
    }

    /// Removes the ids of entries that the journal still contains, but that an erasure, purge or
    /// expiry removes.
    pub(super) fn remove_ids_of_pending_removals(&mut self) -> Result<(), StoreError> {
        let start = self.window_start()?;
        let removals = RemovalRequests::in_journal(&self.store, start)?;
        if removals.is_empty() {
            return Ok(());
        }
        let mut window = dedup::EventIdWindow::new(self.dedup.len_limit());
        for read in self.store.journal().entries(start)?.with_origins() {
            let (offset, entry, origin) = read?;
            if let Some(id) = super::event_id_of_entry(&entry)
                && !removals.removes(offset, &entry, origin)
            {
                window.add_event_id(offset, dedup::digest_event_id(id));
            }
        }
        self.dedup = window;
        Ok(())
    }

    /// Stores the position of a journal whose last messages added no entries.
    pub(super) fn store_position(&self) -> Result<(), StoreError> {
        self.position.map_or(Ok(()), |position| self.store.put_log_position(self.next, &position))
    }
}
