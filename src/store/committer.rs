//! Group commit: writes the entries of many requests as one durable journal record and returns a
//! receipt for each request. The committer actor wraps this type, which needs no runtime.

mod commit_condition;
mod commit_plan;
mod dedup;
pub(super) mod event_id_file;
mod removed_ids;
mod shared_log;

pub use commit_condition::CommitCondition;
pub use shared_log::LogMessage;

use super::log_position::SharedLogPosition;
use super::{Durability, JournalWatcher, Store, StoreError};
use crate::domain::{Consent, Entry, ItemIx, Offset, Origin, PlacementTable, VectorError};
use crate::registries::{
    AliasChange, AliasWriter, ConsentRecord, ConsentWriter, ItemDictionary, PlacementRecord, PlacementWriter,
    UserAlias, UserAliases, UserAttributes, UserAttributesRecord, UserAttributesWriter, UserConsents,
};
use arc_swap::ArcSwap;
use commit_plan::{CommitPlan, CommitState};
use dedup::EventIdWindow;
use std::sync::Arc;

/// Settings of a [`Committer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitterSettings {
    /// The kind of failure after which acknowledged entries are still in the journal.
    pub durability: Durability,
    /// Deduplication window, in journal entries: an event id that repeats within the window is a
    /// duplicate. The window takes about 60 bytes of memory per entry.
    pub dedup_window: usize,
    /// The consent that applies to users who have not stated one.
    pub default_consent: Consent,
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self { durability: Durability::default(), dedup_window: 500_000, default_consent: Consent::default() }
    }
}

/// Number of entries after which the committer stores the indexes. A start reads at most this
/// number of entries to rebuild the indexes.
const INDEX_PERSIST_INTERVAL_ENTRIES: Offset = 1_000;

/// The entries of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommitRequest {
    /// The entries, in the sender's order.
    pub entries: Vec<Entry>,
    /// The sender of the entries, if known.
    pub origin: Option<Origin>,
    /// The condition under which the entries apply. Only commits of a shared log evaluate it,
    /// because only there another node can decide the same at the same time. If it does not hold,
    /// all entries count as duplicates.
    pub condition: Option<CommitCondition>,
}

impl From<Vec<Entry>> for CommitRequest {
    fn from(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }
}

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Number of entries that are now in the journal.
    pub accepted: usize,
    /// Positions in the request of the entries that are duplicates or change nothing.
    pub duplicates: Vec<usize>,
    /// Positions in the request of the entries that were dropped because the user's consent does
    /// not cover them.
    pub withheld: Vec<usize>,
    /// Positions in the request of the item changes that were refused, because their vectors do not
    /// fit those of other items.
    pub rejected: Vec<(usize, VectorError)>,
    /// The offset after the last accepted entry. Derived state whose watermark is at least this
    /// offset contains the whole request.
    pub offset: Offset,
}

/// A journal entry with its offset and item number.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveredEntry {
    /// The offset in the journal.
    pub offset: Offset,
    /// The entry.
    pub entry: Entry,
    /// The number of the entry's item, if the entry has an item.
    pub item: Option<ItemIx>,
}

/// The entries that one commit added to the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedBatch {
    /// The offset of the first entry. If the commit added no entries, the journal's next offset.
    pub first: Offset,
    /// The entries, in journal order.
    pub entries: Vec<DeliveredEntry>,
}

/// The only writer of the journal and of the item dictionary. Its state in memory (items, event
/// ids, aliases, consents, attributes, placements) is derived from the journal, so it agrees with
/// the journal after every restart.
#[derive(Debug)]
pub struct Committer {
    store: Store,
    durability: Durability,
    items: Arc<ItemDictionary>,
    /// Number of item names that the store already contains.
    stored_items: ItemIx,
    /// Watermark of the stored indexes. The indexes contain all entries before this offset.
    indexed_through: Offset,
    dedup: EventIdWindow,
    alias_writer: AliasWriter,
    /// Alias changes since the indexes were last stored.
    unstored_alias_changes: UnstoredAliasChanges,
    consent_writer: ConsentWriter,
    /// Consent changes since the indexes were last stored.
    unstored_consents: Vec<ConsentRecord>,
    placement_writer: PlacementWriter,
    /// Changes of placements and rules since the indexes were last stored.
    unstored_placements: Vec<PlacementRecord>,
    attribute_writer: UserAttributesWriter,
    /// Attribute changes since the indexes were last stored.
    unstored_attributes: Vec<UserAttributesRecord>,
    /// The offset of the next entry.
    next: Offset,
    /// The position in the shared log of a cluster; `None` if the journal comes from no shared log.
    position: Option<SharedLogPosition>,
}

impl Committer {
    /// Opens the committer at the end of the store's journal. Loads the indexes, applies the tail
    /// of the journal to them, and restores the deduplication window. The window is read from the
    /// file that the last clean stop wrote ([`Committer::prepare_for_shutdown`]), or else from the
    /// journal.
    ///
    /// # Errors
    /// [`StoreError::JournalTruncated`] if the journal lost entries, or any read error.
    pub fn open(store: Store, settings: CommitterSettings) -> Result<Self, StoreError> {
        let items = store.items().load()?;
        let stored_items = ItemIx::try_from(items.len()).unwrap_or(ItemIx::MAX);
        let (indexed_through, end) = (store.items().watermark()?, store.journal().next_offset()?);
        store.check_journal_end()?;
        let mut dedup = EventIdWindow::new(settings.dedup_window);
        let first_offset = store.journal().first_offset()?;
        let window_start = dedup.window_start(end).max(first_offset);
        if indexed_through < first_offset {
            return Err(StoreError::MissingEntries { from: indexed_through, until: first_offset });
        }
        let stored_ids = event_id_file::read_and_remove(store.dir(), window_start, end);
        let ids_unread_from = if stored_ids.is_some() { end } else { window_start };
        dedup.restore_event_ids(stored_ids.unwrap_or_default());
        let mut alias_writer = AliasWriter::default();
        alias_writer.apply(store.aliases().load()?.into_iter().map(AliasChange::Merged));
        let mut unstored_alias_changes = UnstoredAliasChanges::default();
        let mut consent_writer = ConsentWriter::new(settings.default_consent);
        consent_writer.apply(store.consents().load()?);
        let mut unstored_consents = Vec::new();
        let mut placement_writer = PlacementWriter::default();
        placement_writer.apply(&store.placements().load()?);
        let mut unstored_placements = Vec::new();
        let mut attribute_writer = UserAttributesWriter::default();
        attribute_writer.apply(store.user_attributes().load()?);
        let mut unstored_attributes = Vec::new();
        for read in store.journal().entries(indexed_through.min(ids_unread_from))? {
            let (offset, entry) = read?;
            if offset >= indexed_through {
                unstored_consents.extend(consent_writer.apply_entry(offset, &entry));
                unstored_placements.extend(PlacementRecord::from_entry(offset, &entry));
                unstored_attributes.extend(attribute_writer.apply_entry(offset, &entry));
            }
            if let Some(change) = AliasChange::from_entry(offset, &entry).filter(|_| offset >= indexed_through) {
                apply_aliases(&mut alias_writer, &mut unstored_alias_changes, vec![change]);
            }
            if offset >= indexed_through {
                record_pending_removal(&store, offset, &entry)?;
            }
            if let Some(item) = item_id_of_entry(&entry).filter(|_| offset >= indexed_through) {
                items.intern(item);
            }
            if let Some(id) = event_id_of_entry(&entry).filter(|_| offset >= ids_unread_from) {
                dedup.add_event_id(offset, dedup::digest_event_id(id));
            }
        }
        placement_writer.apply(&unstored_placements);
        items.advance_watermark(end);
        let (durability, items) = (settings.durability, Arc::new(items));
        let position = store.log_position()?;
        let mut committer = Self {
            store,
            durability,
            items,
            stored_items,
            indexed_through,
            dedup,
            alias_writer,
            unstored_alias_changes,
            consent_writer,
            unstored_consents,
            placement_writer,
            unstored_placements,
            attribute_writer,
            unstored_attributes,
            next: end,
            position,
        };
        // The stored ids are those of a clean stop, which has removed the ids of all removals.
        if committer.position.is_some() && ids_unread_from < end {
            committer.remove_ids_of_pending_removals()?;
        }
        Ok(committer)
    }

    /// The item dictionary. The dictionary grows with every commit that contains new items.
    #[must_use]
    pub fn dictionary(&self) -> Arc<ItemDictionary> {
        Arc::clone(&self.items)
    }

    /// The aliases of merged users. The aliases change with every commit that merges or erases
    /// users.
    #[must_use]
    pub fn aliases(&self) -> Arc<UserAliases> {
        self.alias_writer.aliases()
    }

    /// The consents of the users. The consents change with every commit that contains consent
    /// changes.
    #[must_use]
    pub fn consents(&self) -> Arc<UserConsents> {
        self.consent_writer.consents()
    }

    /// The placements and rules. They change with every commit that contains changes of them.
    #[must_use]
    pub fn placements(&self) -> Arc<ArcSwap<PlacementTable>> {
        self.placement_writer.table()
    }

    /// The attributes of the users. They change with every commit that contains changes of them.
    #[must_use]
    pub fn user_attributes(&self) -> Arc<UserAttributes> {
        self.attribute_writer.attributes()
    }

    /// The offset of the next entry.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Appends the entries of many requests, in their order, as one durable journal record.
    ///
    /// - Skips duplicates: an event whose id is in the window or occurred earlier in the same call.
    ///   Also skips a user merge or consent change that changes nothing.
    ///
    /// - Replaces the id of a merged user by the id that it now resolves to.
    ///
    /// - Withholds entries that the user's consent does not cover. If the user consents to storage
    ///   but not to learning, the event becomes a private event.
    ///
    /// # Errors
    /// Any error of [`super::Journal::append`]. Items, event ids and offsets are then unchanged.
    /// After any error except [`StoreError::Codec`], which writes nothing, call
    /// [`Committer::recover`] before the next commit.
    pub fn commit(&mut self, requests: Vec<Vec<Entry>>) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        self.commit_with_watcher(requests.into_iter().map(CommitRequest::from).collect(), &mut |sync| sync())
    }

    /// Like [`Committer::commit`], but calls `watch` to run the journal's sync.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub fn commit_with_watcher(
        &mut self,
        requests: Vec<CommitRequest>,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        let first = self.next;
        let state = CommitState {
            dedup: &self.dedup,
            aliases: &self.alias_writer,
            consents: &self.consent_writer,
            marks: None,
        };
        let plan = state.plan_commit(first, requests);
        self.write_plan(first, plan, watch)
    }

    /// Writes the entries of a plan to the journal, and applies them to the committer's state.
    fn write_plan(
        &mut self,
        first: Offset,
        plan: CommitPlan,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        let CommitPlan { receipts, batch, new_ids, new_aliases, new_consents, end: offset, .. } = plan;
        let first_written = self.store.journal().append_with_watcher(&batch, self.durability, watch)?;
        debug_assert_eq!(first_written, first, "the committer is the journal's only writer");
        self.dedup.commit_batch(new_ids, offset);
        apply_aliases(&mut self.alias_writer, &mut self.unstored_alias_changes, new_aliases);
        self.consent_writer.apply(new_consents.iter().cloned());
        self.unstored_consents.extend(new_consents);
        self.apply_placements((first..).zip(&batch.entries));
        self.apply_attributes(first, &batch.entries);
        self.next = offset;
        self.record_pending_removals(first, &batch.entries);
        let entries = (first..)
            .zip(batch.entries)
            .map(|(offset, entry)| to_delivered_entry(&self.items, offset, entry))
            .collect();
        self.items.advance_watermark(offset);
        Ok((receipts, CommittedBatch { first, entries }))
    }

    /// Checks that the database's files were not removed, see [`Store::check_files`].
    ///
    /// # Errors
    /// As [`Store::check_files`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.store.check_files()
    }

    /// Whether a write failed. The store then rejects writes until [`Committer::recover`] succeeds.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.store.has_failed()
    }

    /// Returns the error with which requests are answered if their commit panicked. Call
    /// [`Committer::recover`] before the next commit, as after any failed commit.
    #[must_use]
    pub fn error_after_panic(&self) -> StoreError {
        StoreError::NeedsReopen { dir: self.store.dir().to_owned() }
    }

    /// Reopens the store after a failed commit. Returns the entries of the failed commit that are
    /// in the journal. The daemon never acknowledged these entries. If the sender sends them again,
    /// they are recognised as duplicates.
    ///
    /// # Errors
    /// As [`Store::reopen`]; the caller can retry. [`StoreError::MissingEntries`] if acknowledged
    /// entries are missing.
    pub fn recover(&mut self) -> Result<CommittedBatch, StoreError> {
        self.store.reopen()?;
        let (first, end) = (self.next, self.store.journal().next_offset()?);
        if end < first {
            self.store.reject_writes();
            return Err(StoreError::MissingEntries { from: end, until: first });
        }
        let recovered: Vec<_> = self.store.journal().entries(first)?.collect::<Result<_, _>>()?;
        let ids = recovered
            .iter()
            .filter_map(|(offset, entry)| Some((*offset, dedup::digest_event_id(event_id_of_entry(entry)?))))
            .collect();
        self.dedup.commit_batch(ids, end);
        let changes = recovered.iter().filter_map(|(offset, entry)| AliasChange::from_entry(*offset, entry)).collect();
        apply_aliases(&mut self.alias_writer, &mut self.unstored_alias_changes, changes);
        for (offset, entry) in &recovered {
            let new = self.consent_writer.apply_entry(*offset, entry);
            self.unstored_consents.extend(new);
            self.apply_attributes(*offset, std::slice::from_ref(entry));
        }
        self.apply_placements(recovered.iter().map(|(offset, entry)| (*offset, entry)));
        self.next = end;
        if !recovered.is_empty() && self.position.is_some() {
            self.position = self.store.log_position()?;
        }
        recovered.iter().for_each(|(offset, entry)| self.record_pending_removals(*offset, std::slice::from_ref(entry)));
        let entries =
            recovered.into_iter().map(|(offset, entry)| to_delivered_entry(&self.items, offset, entry)).collect();
        self.items.advance_watermark(end);
        if self.position.is_some() {
            self.remove_ids_of_pending_removals()?;
        }
        Ok(CommittedBatch { first, entries })
    }

    /// Whether [`Committer::persist_indexes`] is due, because enough entries were committed since
    /// the last call.
    #[must_use]
    pub fn needs_index_persist(&self) -> bool {
        self.next >= self.indexed_through.saturating_add(INDEX_PERSIST_INTERVAL_ENTRIES)
    }

    /// Stores the new item names, aliases, consents, attributes and placements, so that a restart need
    /// not derive them from the journal.
    ///
    /// # Errors
    /// Any I/O error. The next call tries to store the changes again.
    pub fn persist_indexes(&mut self) -> Result<(), StoreError> {
        self.store.aliases().put(&self.unstored_alias_changes.added, &self.unstored_alias_changes.removed)?;
        self.unstored_alias_changes = UnstoredAliasChanges::default();
        self.store.consents().put(&self.unstored_consents)?;
        self.unstored_consents = Vec::new();
        self.store.placements().put(&self.unstored_placements)?;
        self.unstored_placements = Vec::new();
        self.store.user_attributes().put(&self.unstored_attributes)?;
        self.unstored_attributes = Vec::new();
        self.store_position()?;
        self.stored_items = self.store.items().append(&self.items, self.stored_items, self.next)?;
        self.indexed_through = self.next;
        Ok(())
    }

    /// Removes event ids from the deduplication window, after their entries were erased.
    pub fn remove_event_ids<'i>(&mut self, ids: impl IntoIterator<Item = &'i str>) {
        self.dedup.remove_event_ids(ids.into_iter().map(dedup::digest_event_id).collect());
    }

    /// Stores the indexes and the deduplication window, so that the next start need not derive them
    /// from the journal. Call this method after the last commit.
    ///
    /// # Errors
    /// As [`Committer::persist_indexes`]. A failure to write the event ids is only logged. The next
    /// start then reads the ids from the journal.
    pub fn prepare_for_shutdown(&mut self) -> Result<(), StoreError> {
        self.persist_indexes()?;
        let from = self.dedup.window_start(self.next);
        if let Err(error) = event_id_file::write_ids(self.store.dir(), from, self.next, self.dedup.ids_by_offset()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the event ids could not be stored; the next start reads them from the journal"
            );
        }
        Ok(())
    }

    /// Applies the changes of placements and rules among committed entries.
    fn apply_placements<'e>(&mut self, entries: impl Iterator<Item = (Offset, &'e Entry)>) {
        let changes: Vec<_> =
            entries.filter_map(|(offset, entry)| PlacementRecord::from_entry(offset, entry)).collect();
        self.placement_writer.apply(&changes);
        self.unstored_placements.extend(changes);
    }

    /// Applies the changes of users' attributes among committed entries.
    fn apply_attributes(&mut self, first: Offset, entries: &[Entry]) {
        for (offset, entry) in (first..).zip(entries) {
            self.unstored_attributes.extend(self.attribute_writer.apply_entry(offset, entry));
        }
    }

    /// Records the erasures, expiries and purges among the entries as in progress. If that fails, the next
    /// start finds them in the tail of the journal.
    fn record_pending_removals(&self, first: Offset, entries: &[Entry]) {
        for (offset, entry) in (first..).zip(entries) {
            if let Err(error) = record_pending_removal(&self.store, offset, entry) {
                tracing::warn!(
                    offset,
                    error = &error as &dyn std::error::Error,
                    "an erasure, expiry or purge could not be recorded; it runs after the next start"
                );
            }
        }
    }
}

fn record_pending_removal(store: &Store, offset: Offset, entry: &Entry) -> Result<(), StoreError> {
    if matches!(entry, Entry::Erase(_) | Entry::Expire(_)) {
        store.record_last_removal(offset)?;
    }
    match entry {
        Entry::Erase(erasure) => store.erasures().record_begun(offset, erasure),
        Entry::Expire(expiry) => store.expiries().record_begun(offset, expiry),
        Entry::Purge(purge) => store.purges().record_begun(offset, purge),
        _ => Ok(()),
    }
}

/// Alias changes that the committer has applied but not yet written to the store.
#[derive(Debug, Default)]
struct UnstoredAliasChanges {
    added: Vec<UserAlias>,
    /// The offsets of the removed aliases.
    removed: Vec<Offset>,
}

/// Applies alias changes to the table, and adds them to the changes that are not stored yet.
fn apply_aliases(
    alias_writer: &mut AliasWriter,
    unstored_alias_changes: &mut UnstoredAliasChanges,
    changes: Vec<AliasChange>,
) {
    unstored_alias_changes.added.extend(
        changes
            .iter()
            .filter_map(|change| if let AliasChange::Merged(alias) = change { Some(alias.clone()) } else { None }),
    );
    unstored_alias_changes.removed.extend(alias_writer.apply(changes));
}

fn to_delivered_entry(items: &ItemDictionary, offset: Offset, entry: Entry) -> DeliveredEntry {
    let item = item_id_of_entry(&entry).map(|item| items.intern(item));
    DeliveredEntry { offset, entry, item }
}

/// The item id that an entry can add to the dictionary. An impression adds none, because it
/// contains only known items.
pub(super) fn item_id_of_entry(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Event(event) | Entry::Private(event) => event.item_id.as_deref(),
        Entry::Item(change) => Some(&change.item_id),
        _ => None,
    }
}

fn event_id_of_entry(entry: &Entry) -> Option<&str> {
    entry.as_event()?.event_id.as_deref()
}

#[cfg(test)]
mod tests;
