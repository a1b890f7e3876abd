//! Aliases: the ids of merged users. Each alias resolves to the id of the user that remained.

use crate::domain::{Entry, Offset, UserMerge};
use rustc_hash::FxHashSet;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// An alias: the result of an accepted merge of two users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAlias {
    /// The journal offset of the merge.
    pub offset: Offset,
    /// The merged id, which is now an alias.
    pub from: Arc<str>,
    /// The id that the alias resolves to.
    pub into: Arc<str>,
}

/// A change of the aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasChange {
    /// Two users were merged.
    Merged(UserAlias),
    /// A user was erased. Removes the alias of the user's id, and all aliases that resolve to it.
    Erased(Arc<str>),
}

impl AliasChange {
    /// The alias change that a journal entry makes, if any.
    #[must_use]
    pub fn from_entry(offset: Offset, entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Merge(merge) => Some(Self::Merged(UserAlias {
                offset,
                from: Arc::from(merge.from.as_str()),
                into: Arc::from(merge.into.as_str()),
            })),
            Entry::Erase(erasure) => Some(Self::Erased(Arc::from(erasure.user_id.as_str()))),
            _ => None,
        }
    }
}

/// Table of aliases: for each merged id, the id that it resolves to. It is derived from the
/// journal, and keeps the latest [`UserAliases::MAX_ALIASES`] aliases. The committer is the only
/// writer, and readers take no lock.
#[derive(Debug, Default)]
pub struct UserAliases {
    into: papaya::HashMap<Arc<str>, Arc<str>, rustc_hash::FxBuildHasher>,
}

impl UserAliases {
    /// Maximum number of aliases. An alias takes about 150 bytes. If an old alias is dropped from
    /// the table, later events with the merged id belong to a new user.
    pub const MAX_ALIASES: usize = 1_000_000;

    /// The user that a merged id resolves to; `None` if the id was not merged.
    #[must_use]
    pub fn resolve(&self, user: &str) -> Option<Arc<str>> {
        let into = self.into.pin();
        let mut found = into.get(user)?;
        // A merged id is never the target of a later merge, so the loop terminates.
        while let Some(next) = into.get(found) {
            found = next;
        }
        Some(Arc::clone(found))
    }

    /// All ids that resolve to a user, in byte order. The call scans the whole table.
    #[must_use]
    pub fn aliases_of(&self, user: &str) -> Vec<Arc<str>> {
        let into = self.into.pin();
        let mut ids: Vec<_> =
            into.keys().filter(|id| self.resolve(id).as_deref() == Some(user)).map(Arc::clone).collect();
        ids.sort_unstable();
        ids
    }

    /// Number of aliases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.into.len()
    }

    /// Whether there are no aliases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.into.is_empty()
    }
}

/// The writer of [`UserAliases`].
#[derive(Debug, Default)]
pub struct AliasWriter {
    aliases: Arc<UserAliases>,
    /// The aliased ids with the offsets of their merges, oldest first.
    order: VecDeque<(Offset, Arc<str>)>,
}

impl AliasWriter {
    /// The alias table, for readers.
    #[must_use]
    pub fn aliases(&self) -> Arc<UserAliases> {
        Arc::clone(&self.aliases)
    }

    /// Applies changes in journal order. Returns the offsets of the merges whose aliases were
    /// removed. If a change adds an alias that exists, it has no effect.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = AliasChange>) -> Vec<Offset> {
        let mut removed = Vec::new();
        let into = self.aliases.into.pin();
        for change in changes {
            let alias = match change {
                AliasChange::Merged(alias) => alias,
                AliasChange::Erased(user) => {
                    self.order.retain(|(offset, from)| {
                        let remove = *from == user || into.get(from) == Some(&user);
                        if remove {
                            into.remove(from);
                            removed.push(*offset);
                        }
                        !remove
                    });
                    continue;
                }
            };
            if into.contains_key(&alias.from) {
                continue;
            }
            self.order.push_back((alias.offset, Arc::clone(&alias.from)));
            into.insert(alias.from, alias.into);
            if self.order.len() > UserAliases::MAX_ALIASES
                && let Some((offset, oldest)) = self.order.pop_front()
            {
                into.remove(&oldest);
                removed.push(offset);
            }
        }
        removed
    }

    /// Starts a batch of entries that are committed together. Aliases of the batch do not change
    /// the table until they are applied.
    #[must_use]
    pub fn begin_batch(&self) -> AliasBatch<'_> {
        AliasBatch { aliases: &self.aliases, into: HashMap::new(), erased: FxHashSet::default(), new: Vec::new() }
    }
}

/// The alias changes of a batch of entries that is not committed yet. Within the batch, ids are
/// resolved with the table of aliases and with these changes.
#[derive(Debug)]
pub struct AliasBatch<'l> {
    aliases: &'l UserAliases,
    into: HashMap<Arc<str>, Arc<str>>,
    /// Ids of users that the batch erases. The batch ignores the table's aliases of these ids.
    erased: FxHashSet<Arc<str>>,
    new: Vec<AliasChange>,
}

impl AliasBatch<'_> {
    /// Replaces the user id in the entry by the id that it resolves to. Returns `false` if the
    /// entry is a merge that must be rejected: its `from` id is already merged, or both of its ids
    /// are the same.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> bool {
        match entry {
            Entry::Event(event) | Entry::Private(event) => self.resolve_in_place(&mut event.user_id),
            Entry::Consent(change) => self.resolve_in_place(&mut change.user_id),
            Entry::UserAttributes(change) => self.resolve_in_place(&mut change.user_id),
            Entry::Impression(impression) => self.resolve_in_place(&mut impression.user_id),
            Entry::Merge(UserMerge { from, into, .. }) => {
                self.resolve_in_place(into);
                if from == into || self.resolve(from).is_some() {
                    return false;
                }
                let alias = UserAlias { offset, from: Arc::from(from.as_str()), into: Arc::from(into.as_str()) };
                self.into.insert(Arc::clone(&alias.from), Arc::clone(&alias.into));
                self.new.push(AliasChange::Merged(alias));
            }
            Entry::Erase(erasure) => self.erase_id(&erasure.user_id),
            Entry::Item(_)
            | Entry::Model(_)
            | Entry::Tombstone
            | Entry::Expire(_)
            | Entry::Purge(_)
            | Entry::Placement(_)
            | Entry::Rule(_) => {}
        }
        true
    }

    /// All ids of the user with the id `id`: first the id to which the others resolve, then the
    /// merged ids.
    #[must_use]
    pub fn ids_of_user(&self, id: &str) -> Vec<Arc<str>> {
        let user = self.resolve(id).unwrap_or_else(|| Arc::from(id));
        let mut ids: Vec<_> = self.aliases.aliases_of(&user);
        for alias in self.into.keys() {
            ids.extend(self.aliases.aliases_of(alias));
            ids.push(Arc::clone(alias));
        }
        ids.retain(|id| self.resolve(id).as_ref() == Some(&user));
        ids.sort_unstable();
        ids.dedup();
        ids.insert(0, user);
        ids
    }

    /// Erases one id. The caller must erase all ids of a user, one by one.
    fn erase_id(&mut self, user: &str) {
        let user: Arc<str> = Arc::from(user);
        self.into.retain(|from, into| *from != user && *into != user);
        self.erased.insert(Arc::clone(&user));
        self.new.push(AliasChange::Erased(user));
    }

    /// The changes of the batch.
    #[must_use]
    pub fn finish(self) -> Vec<AliasChange> {
        self.new
    }

    fn resolve_in_place(&self, user: &mut String) {
        if let Some(target) = self.resolve(user) {
            *user = (*target).to_owned();
        }
    }

    fn resolve(&self, user: &str) -> Option<Arc<str>> {
        let mut found = self.resolve_before_batch(user);
        while let Some(next) = self.into.get(found.as_deref().unwrap_or(user)) {
            found = Some(self.resolve_before_batch(next).unwrap_or_else(|| Arc::clone(next)));
        }
        found
    }

    /// Resolves an id with the aliases of the table only, without the changes of the batch.
    fn resolve_before_batch(&self, user: &str) -> Option<Arc<str>> {
        if self.erased.contains(user) { None } else { self.aliases.resolve(user) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Consent, ConsentChange, UserErasure};

    fn merge_entry(from: &str, into: &str) -> Entry {
        Entry::Merge(UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    #[test]
    fn admit_rejects_cycles_and_merging_an_id_twice() {
        let mut writer = AliasWriter::default();
        let mut batch = writer.begin_batch();
        let mut admit = |offset, from, into| {
            let mut entry = merge_entry(from, into);
            let admitted = batch.admit(offset, &mut entry);
            let Entry::Merge(merge) = entry else { unreachable!() };
            admitted.then_some(merge.into)
        };
        assert_eq!(admit(0, "anon", "ann").as_deref(), Some("ann"));
        assert_eq!(admit(1, "anon", "ann"), None, "it is already merged");
        assert_eq!(admit(1, "anon", "bob"), None, "another user of the same browser");
        assert_eq!(admit(1, "ann", "anon"), None, "a cycle");
        assert_eq!(admit(1, "ann", "ann"), None);
        assert_eq!(admit(1, "phone", "anon").as_deref(), Some("ann"), "the target is resolved");
        let new = batch.finish();
        assert_eq!(writer.aliases().resolve("anon"), None, "a batch changes nothing until it is applied");
        assert!(writer.apply(new.clone()).is_empty());
        writer.apply(new);
        assert_eq!(writer.aliases().len(), 2);
        // `ann`, into which other ids were merged, is now merged itself.
        let mut batch = writer.begin_batch();
        assert!(batch.admit(5, &mut merge_entry("ann", "anna")));
        let new = batch.finish();
        writer.apply(new);
        for id in ["anon", "phone", "ann"] {
            assert_eq!(writer.aliases().resolve(id).as_deref(), Some("anna"));
        }
        assert!(!writer.begin_batch().admit(6, &mut merge_entry("anna", "phone")));
    }

    #[test]
    fn erasing_a_user_removes_all_its_aliases() {
        let ids = |ids: Vec<Arc<str>>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut writer = AliasWriter::default();
        let mut batch = writer.begin_batch();
        for (offset, from, into) in [(0, "phone", "ann"), (1, "ann", "anna"), (2, "tv", "bob")] {
            assert!(batch.admit(offset, &mut merge_entry(from, into)));
        }
        assert_eq!(ids(batch.ids_of_user("phone")), ["anna", "ann", "phone"]);
        let new = batch.finish();
        writer.apply(new);
        let mut batch = writer.begin_batch();
        assert!(batch.admit(3, &mut merge_entry("tablet", "ann")));
        let erased_ids = ids(batch.ids_of_user("ann"));
        assert_eq!(erased_ids, ["anna", "ann", "phone", "tablet"]);
        for user_id in erased_ids {
            assert!(batch.admit(4, &mut Entry::Erase(UserErasure { user_id, unlearn: false, timestamp: 0 })));
        }
        let mut event =
            Entry::Consent(ConsentChange { user_id: "phone".to_owned(), consent: Consent::None, timestamp: 0 });
        assert!(batch.admit(8, &mut event));
        assert!(matches!(event, Entry::Consent(change) if change.user_id == "phone"), "a new user");
        assert!(batch.admit(9, &mut merge_entry("phone", "cyd")), "it can be merged again");
        let new = batch.finish();
        assert_eq!(writer.apply(new), [1, 3, 0], "the offsets of the removed aliases");
        let aliases = writer.aliases();
        assert_eq!(aliases.len(), 2);
        assert_eq!(aliases.resolve("phone").as_deref(), Some("cyd"));
        assert_eq!(aliases.resolve("tv").as_deref(), Some("bob"));
        assert_eq!((aliases.resolve("ann"), aliases.resolve("tablet")), (None, None));
    }
}
