//! Group commit: many requests in, one durable journal record, receipts out. The pure core behind
//! the committer actor.

mod dedup;
pub(super) mod event_id_file;

use super::{Durability, JournalWatcher, Store, StoreError};
use crate::domain::{
    AliasChange, AliasWriter, Consent, ConsentRecord, ConsentVerdict, ConsentWriter, Entry, ItemDictionary, ItemIx, Offset, UserAlias,
    UserAliases, UserConsents, UserErasure,
};
use dedup::EventIdWindow;
use std::sync::Arc;

/// How a [`Committer`] commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitterSettings {
    /// What an acknowledged entry survives.
    pub durability: Durability,
    /// For how many journal entries an event id is remembered: a repetition within them is a
    /// duplicate. About 60 bytes of memory each.
    pub dedup_window: usize,
    /// How far the consent of users goes who said nothing of it.
    pub default_consent: Consent,
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self { durability: Durability::default(), dedup_window: 500_000, default_consent: Consent::default() }
    }
}

/// Entries after which the item names are stored: what a start has to fold again at most.
const NAMES_EVERY: Offset = 1_000;

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReceipt {
    /// How many of its entries are now in the journal.
    pub accepted: usize,
    /// Which of its entries, by their place in it, were there before and changed nothing.
    pub duplicates: Vec<usize>,
    /// Which were not taken since their user does not let them be kept.
    pub withheld: Vec<usize>,
    /// The offset after the last accepted entry. Derived state that contains the journal up to here
    /// contains the whole request.
    pub offset: Offset,
}

/// An entry as the journal has it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveredEntry {
    /// Its place in the journal.
    pub offset: Offset,
    /// The entry.
    pub entry: Entry,
    /// The number of the item that it is about, if it is about one.
    pub item: Option<ItemIx>,
}

/// What one commit added to the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedBatch {
    /// The offset of the first entry, and of the next commit's if there is none.
    pub first: Offset,
    /// The entries, in journal order.
    pub entries: Vec<DeliveredEntry>,
}

/// The one writer of the journal and of the item numbers. All of its memories, of items, of event
/// ids, of users who were merged and of how far consent goes, are folds of the journal, so that
/// they agree with it after any restart by construction.
#[derive(Debug)]
pub struct Committer {
    store: Store,
    durability: Durability,
    items: Arc<ItemDictionary>,
    /// How many of the items are stored by name.
    stored_items: ItemIx,
    /// The entries before this offset are those that they were folded from.
    items_through: Offset,
    dedup: EventIdWindow,
    linker: AliasWriter,
    /// Links that are new, and where those stood that were forgotten for them, since the item names
    /// were stored.
    unstored: UnstoredAliases,
    keeper: ConsentWriter,
    /// What users said since the item names were stored.
    unstored_consents: Vec<ConsentRecord>,
    /// The offset that the next entry gets.
    next: Offset,
}

impl Committer {
    /// Takes up where the store's journal ends: loads the item names, folds the journal's tail into
    /// them, and recalls the last event ids, from what the last stop left
    /// ([`Committer::prepare_for_shutdown`]) or from the journal.
    ///
    /// # Errors
    /// [`StoreError::JournalTruncated`] if the journal lacks entries that it is known to have had,
    /// or what reading the store says.
    pub fn open(store: Store, settings: CommitterSettings) -> Result<Self, StoreError> {
        let items = store.items().load()?;
        let stored_items = ItemIx::try_from(items.len()).unwrap_or(ItemIx::MAX);
        let (named, end) = (store.items().watermark()?, store.journal().next_offset()?);
        store.check_journal_end()?;
        let mut dedup = EventIdWindow::new(settings.dedup_window);
        let begin = store.journal().first_offset()?;
        let remembered = dedup.window_start(end).max(begin);
        if named < begin {
            return Err(StoreError::MissingEntries { from: named, until: begin });
        }
        let left = event_id_file::read_and_remove(store.dir(), remembered, end);
        let unread = if left.is_some() { end } else { remembered };
        dedup.restore(left.unwrap_or_default());
        let mut linker = AliasWriter::default();
        linker.apply(store.aliases().load()?.into_iter().map(AliasChange::Merged));
        let mut unstored = UnstoredAliases::default();
        let mut keeper = ConsentWriter::new(settings.default_consent);
        keeper.apply(store.consents().load()?);
        let mut unstored_consents = Vec::new();
        for read in store.journal().entries(named.min(unread))? {
            let (offset, entry) = read?;
            if offset >= named {
                unstored_consents.extend(keeper.apply_entry(offset, &entry));
            }
            if let Some(said) = AliasChange::from_entry(offset, &entry).filter(|_| offset >= named) {
                note(&mut linker, &mut unstored, vec![said]);
            }
            if offset >= named {
                begin_removal(&store, offset, &entry)?;
            }
            if let Some(item) = item_of(&entry).filter(|_| offset >= named) {
                items.intern(item);
            }
            if let Some(id) = event_id(&entry).filter(|_| offset >= unread) {
                dedup.remember(offset, dedup::digest(id));
            }
        }
        items.advance_watermark(end);
        let (durability, items) = (settings.durability, Arc::new(items));
        Ok(Self {
            store,
            durability,
            items,
            stored_items,
            items_through: named,
            dedup,
            linker,
            unstored,
            keeper,
            unstored_consents,
            next: end,
        })
    }

    /// The items by number; it grows with every commit that names new ones.
    #[must_use]
    pub fn dictionary(&self) -> Arc<ItemDictionary> {
        Arc::clone(&self.items)
    }

    /// Who was merged into whom; it grows with every commit that merges users.
    #[must_use]
    pub fn aliases(&self) -> Arc<UserAliases> {
        self.linker.aliases()
    }

    /// How far users' consent goes; it changes with every commit of what they say.
    #[must_use]
    pub fn consents(&self) -> Arc<UserConsents> {
        self.keeper.consents()
    }

    /// The offset that the next entry will have.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Appends the entries of many requests, in their order, as one durable journal record. An
    /// event whose id was seen before (within the window, or earlier in the same call) is left out,
    /// and so is a merge of users, or a consent, that says nothing new. Entries of a user who was
    /// merged are from here on those of the other one. What its user does not let be kept is
    /// withheld, and an event that is not to be learned from becomes a private one.
    ///
    /// # Errors
    /// What [`super::Journal::append`] says. Nothing is then taken: items, ids and offsets are as
    /// before. Unless nothing was written ([`StoreError::Codec`]), [`Committer::recover`] has to
    /// find out what the disk holds before more can be committed.
    pub fn commit(&mut self, requests: Vec<Vec<Entry>>) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        self.commit_with_watcher(requests, &mut |sync| sync())
    }

    /// As [`Committer::commit`]; `start` makes the sync.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub fn commit_with_watcher(
        &mut self,
        requests: Vec<Vec<Entry>>,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        let first = self.next;
        let mut receipts = Vec::with_capacity(requests.len());
        let mut entries = Vec::with_capacity(requests.iter().map(Vec::len).sum());
        let mut new_ids = self.dedup.begin_batch();
        let mut new_links = self.linker.begin_batch();
        let mut new_consents = self.keeper.begin_batch();
        let mut offset = first;
        for request in requests {
            let mut receipt = CommitReceipt { accepted: 0, duplicates: Vec::new(), withheld: Vec::new(), offset };
            for (place, mut entry) in request.into_iter().enumerate() {
                if let Entry::Erase(UserErasure { user_id, unlearn, timestamp }) = &entry {
                    let (unlearn, timestamp) = (*unlearn, *timestamp);
                    for id in new_links.ids_of_user(user_id) {
                        let mut erasure = Entry::Erase(UserErasure { user_id: (*id).to_owned(), unlearn, timestamp });
                        new_links.admit(offset, &mut erasure);
                        new_consents.admit(offset, &mut erasure);
                        entries.push(erasure);
                        offset += 1;
                    }
                    receipt.accepted += 1;
                    continue;
                }
                let verdict =
                    if new_links.admit(offset, &mut entry) { new_consents.admit(offset, &mut entry) } else { ConsentVerdict::Unchanged };
                // Before its id is remembered: it may be sent again once its user lets it be kept.
                if verdict == ConsentVerdict::Withheld {
                    receipt.withheld.push(place);
                } else if verdict == ConsentVerdict::Unchanged
                    || event_id(&entry).is_some_and(|id| !new_ids.insert(offset, dedup::digest(id)))
                {
                    receipt.duplicates.push(place);
                } else {
                    entries.push(entry);
                    receipt.accepted += 1;
                    offset += 1;
                }
            }
            receipt.offset = offset;
            receipts.push(receipt);
        }
        let (new_ids, new_links, new_consents) = (new_ids.finish(), new_links.finish(), new_consents.finish());
        let written = self.store.journal().append_with_watcher(&entries, self.durability, watch)?;
        debug_assert_eq!(written, first, "the committer is the journal's only writer");
        self.dedup.commit_batch(new_ids, offset);
        note(&mut self.linker, &mut self.unstored, new_links);
        self.keeper.apply(new_consents.iter().cloned());
        self.unstored_consents.extend(new_consents);
        self.next = offset;
        self.begin_removals(first, &entries);
        let entries = (first..).zip(entries).map(|(offset, entry)| deliver(&self.items, offset, entry)).collect();
        self.items.advance_watermark(offset);
        Ok((receipts, CommittedBatch { first, entries }))
    }

    /// Whether the store rejects writes until [`Committer::recover`], because a write of any part
    /// failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.store.has_failed()
    }

    /// The error of a commit that ended in a panic: as after any that failed,
    /// [`Committer::recover`] has to find out what the disk holds.
    #[must_use]
    pub fn struck(&self) -> StoreError {
        StoreError::NeedsReopen { dir: self.store.dir().to_owned() }
    }

    /// Reopens the store after a failed commit, and returns the entries that the failed commit did
    /// leave in the journal. They were never acknowledged, but a sender that repeats them gets
    /// duplicates.
    ///
    /// # Errors
    /// As [`Store::reopen`]; may be tried again. [`StoreError::MissingEntries`] if acknowledged
    /// entries are missing.
    pub fn recover(&mut self) -> Result<CommittedBatch, StoreError> {
        self.store.reopen()?;
        let (first, end) = (self.next, self.store.journal().next_offset()?);
        if end < first {
            return Err(StoreError::MissingEntries { from: end, until: first });
        }
        let left: Vec<_> = self.store.journal().entries(first)?.collect::<Result<_, _>>()?;
        let ids = left.iter().filter_map(|(offset, entry)| Some((*offset, dedup::digest(event_id(entry)?)))).collect();
        self.dedup.commit_batch(ids, end);
        let said = left.iter().filter_map(|(offset, entry)| AliasChange::from_entry(*offset, entry)).collect();
        note(&mut self.linker, &mut self.unstored, said);
        for (offset, entry) in &left {
            let new = self.keeper.apply_entry(*offset, entry);
            self.unstored_consents.extend(new);
        }
        self.next = end;
        left.iter().for_each(|(offset, entry)| self.begin_removals(*offset, std::slice::from_ref(entry)));
        let entries = left.into_iter().map(|(offset, entry)| deliver(&self.items, offset, entry)).collect();
        self.items.advance_watermark(end);
        Ok(CommittedBatch { first, entries })
    }

    /// Whether so many entries have come since the item names were stored that it is time to do so
    /// again.
    #[must_use]
    pub fn needs_index_persist(&self) -> bool {
        self.next >= self.items_through.saturating_add(NAMES_EVERY)
    }

    /// Stores the names of the items that are new since the last time, so that a restart need not
    /// fold the journal for them.
    ///
    /// # Errors
    /// What the disk says; the names stay to be stored.
    pub fn persist_indexes(&mut self) -> Result<(), StoreError> {
        self.store.aliases().put(&self.unstored.0, &self.unstored.1)?;
        self.unstored = UnstoredAliases::default();
        self.store.consents().put(&self.unstored_consents)?;
        self.unstored_consents = Vec::new();
        self.stored_items = self.store.items().append(&self.items, self.stored_items, self.next)?;
        self.items_through = self.next;
        Ok(())
    }

    /// Forgets the ids of events, those of entries that were erased.
    pub fn forget_event_ids<'i>(&mut self, ids: impl IntoIterator<Item = &'i str>) {
        self.dedup.forget(ids.into_iter().map(dedup::digest).collect());
    }

    /// Stores what a start would otherwise have to read the journal for: the item names, and the
    /// event ids. To be called when nothing more is to be committed.
    ///
    /// # Errors
    /// As [`Committer::persist_indexes`]. Without the ids the next start only takes longer: what
    /// kept them from being written is told to the log.
    pub fn prepare_for_shutdown(&mut self) -> Result<(), StoreError> {
        self.persist_indexes()?;
        let from = self.dedup.window_start(self.next);
        if let Err(error) = event_id_file::write_ids(self.store.dir(), from, self.next, self.dedup.ids()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the event ids could not be stored; the next start reads the journal for them"
            );
        }
        Ok(())
    }

    /// Notes erasures and expiries as under way. Where that fails the next start finds them: they
    /// are among the entries that it folds.
    fn begin_removals(&self, first: Offset, entries: &[Entry]) {
        for (offset, entry) in (first..).zip(entries) {
            if let Err(error) = begin_removal(&self.store, offset, entry) {
                tracing::warn!(
                    offset,
                    error = &error as &dyn std::error::Error,
                    "an erasure could not be noted; it is done after the next start"
                );
            }
        }
    }
}

fn begin_removal(store: &Store, offset: Offset, entry: &Entry) -> Result<(), StoreError> {
    match entry {
        Entry::Erase(erasure) => store.erasures().begin(offset, erasure),
        Entry::Expire(expiry) => store.expiries().begin(offset, expiry),
        _ => Ok(()),
    }
}

/// Links that are to be stored, and where those stood that are to be forgotten.
type UnstoredAliases = (Vec<UserAlias>, Vec<Offset>);

/// Remembers what was said of links, and that it is to be stored.
fn note(linker: &mut AliasWriter, unstored: &mut UnstoredAliases, said: Vec<AliasChange>) {
    unstored.0.extend(said.iter().filter_map(|said| if let AliasChange::Merged(link) = said { Some(link.clone()) } else { None }));
    unstored.1.extend(linker.apply(said));
}

fn deliver(items: &ItemDictionary, offset: Offset, entry: Entry) -> DeliveredEntry {
    let item = item_of(&entry).map(|item| items.intern(item));
    DeliveredEntry { offset, entry, item }
}

/// The item that an entry may be the first to name. An impression shows only items that something
/// else has named.
pub(super) fn item_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Event(event) | Entry::Private(event) => event.item_id.as_deref(),
        Entry::Item(change) => Some(&change.item_id),
        _ => None,
    }
}

fn event_id(entry: &Entry) -> Option<&str> {
    entry.as_event()?.event_id.as_deref()
}

#[cfg(test)]
mod tests;
