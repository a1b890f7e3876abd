//! Who was merged into whom.

use super::{Entry, Offset, UserMerge};
use rustc_hash::FxHashSet;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A merge that was taken, with where it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAlias {
    /// Where.
    pub offset: Offset,
    /// Who was merged.
    pub from: Arc<str>,
    /// Into whom.
    pub into: Arc<str>,
}

/// What changes whom an id leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasChange {
    /// Two users are one.
    Merged(UserAlias),
    /// A user was erased: its id leads nowhere any more, and none leads to it.
    Erased(Arc<str>),
}

impl AliasChange {
    /// What an entry says of it, if anything.
    #[must_use]
    pub fn from_entry(offset: Offset, entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Merge(merge) => {
                Some(Self::Merged(UserAlias { offset, from: Arc::from(merge.from.as_str()), into: Arc::from(merge.into.as_str()) }))
            }
            Entry::Erase(erasure) => Some(Self::Erased(Arc::from(erasure.user_id.as_str()))),
            _ => None,
        }
    }
}

/// By the id of a user who was merged, the user into whom: a fold of the journal's merges, of which
/// the last [`UserAliases::MAX_ALIASES`] are remembered. One writer, the committer, adds; everyone
/// reads without a lock.
#[derive(Debug, Default)]
pub struct UserAliases {
    into: papaya::HashMap<Arc<str>, Arc<str>, rustc_hash::FxBuildHasher>,
}

impl UserAliases {
    /// How many aliases are kept, about 150 bytes each. Events under an id whose alias was dropped
    /// belong to a new user.
    pub const MAX_ALIASES: usize = 1_000_000;

    /// Who a user is by now.
    #[must_use]
    pub fn resolve(&self, user: &str) -> Option<Arc<str>> {
        let into = self.into.pin();
        let mut found = into.get(user)?;
        // A user who was merged is never merged into, so that this comes to an end.
        while let Some(next) = into.get(found) {
            found = next;
        }
        Some(Arc::clone(found))
    }

    /// Every id that leads to a user, in the order of their bytes. Looks at all links.
    #[must_use]
    pub fn aliases_of(&self, user: &str) -> Vec<Arc<str>> {
        let into = self.into.pin();
        let mut ids: Vec<_> = into.keys().filter(|id| self.resolve(id).as_deref() == Some(user)).map(Arc::clone).collect();
        ids.sort_unstable();
        ids
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.into.len()
    }

    /// Whether nobody was ever merged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.into.is_empty()
    }
}

/// The writer of the links.
#[derive(Debug, Default)]
pub struct AliasWriter {
    links: Arc<UserAliases>,
    /// Oldest first.
    order: VecDeque<(Offset, Arc<str>)>,
}

impl AliasWriter {
    /// What readers read.
    #[must_use]
    pub fn aliases(&self) -> Arc<UserAliases> {
        Arc::clone(&self.links)
    }

    /// Remembers what was said of links, in the order of the journal; says at which offsets those
    /// stood that are forgotten for it. A link that is known already changes nothing.
    pub fn apply(&mut self, said: impl IntoIterator<Item = AliasChange>) -> Vec<Offset> {
        let mut forgotten = Vec::new();
        let into = self.links.into.pin();
        for said in said {
            let link = match said {
                AliasChange::Merged(link) => link,
                AliasChange::Erased(user) => {
                    self.order.retain(|(offset, from)| {
                        let goes = *from == user || into.get(from) == Some(&user);
                        if goes {
                            into.remove(from);
                            forgotten.push(*offset);
                        }
                        !goes
                    });
                    continue;
                }
            };
            if into.contains_key(&link.from) {
                continue;
            }
            self.order.push_back((link.offset, Arc::clone(&link.from)));
            into.insert(link.from, link.into);
            if self.order.len() > UserAliases::MAX_ALIASES
                && let Some((offset, oldest)) = self.order.pop_front()
            {
                into.remove(&oldest);
                forgotten.push(offset);
            }
        }
        forgotten
    }

    /// What is to be written together: nothing of it is remembered before it is.
    #[must_use]
    pub fn begin_batch(&self) -> AliasBatch<'_> {
        AliasBatch { links: &self.links, into: HashMap::new(), erased: FxHashSet::default(), new: Vec::new() }
    }
}

/// The links of a batch of entries, on those that were there before.
#[derive(Debug)]
pub struct AliasBatch<'l> {
    links: &'l UserAliases,
    into: HashMap<Arc<str>, Arc<str>>,
    /// Ids that the links from before the batch say nothing of any more.
    erased: FxHashSet<Arc<str>>,
    new: Vec<AliasChange>,
}

impl AliasBatch<'_> {
    /// Has an entry name who its user is by now. `false` for a merge that says nothing new: who was
    /// merged stays merged, and nobody is merged into who was merged into it.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> bool {
        match entry {
            Entry::Event(event) | Entry::Private(event) => self.rename(&mut event.user_id),
            Entry::Consent(change) => self.rename(&mut change.user_id),
            Entry::Impression(impression) => self.rename(&mut impression.user_id),
            Entry::Merge(UserMerge { from, into, .. }) => {
                self.rename(into);
                if from == into || self.resolve(from).is_some() {
                    return false;
                }
                let link = UserAlias { offset, from: Arc::from(from.as_str()), into: Arc::from(into.as_str()) };
                self.into.insert(Arc::clone(&link.from), Arc::clone(&link.into));
                self.new.push(AliasChange::Merged(link));
            }
            Entry::Erase(erasure) => self.erase(&erasure.user_id),
            Entry::Item(_) | Entry::Model(_) | Entry::Tombstone | Entry::Expire(_) => {}
        }
        true
    }

    /// Every id of the user that an id resolves to: the user's own id first, then the merged ids.
    #[must_use]
    pub fn ids_of_user(&self, id: &str) -> Vec<Arc<str>> {
        let user = self.resolve(id).unwrap_or_else(|| Arc::from(id));
        let mut ids: Vec<_> = self.links.aliases_of(&user);
        for link in self.into.keys() {
            ids.extend(self.links.aliases_of(link));
            ids.push(Arc::clone(link));
        }
        ids.retain(|id| self.resolve(id).as_ref() == Some(&user));
        ids.sort_unstable();
        ids.dedup();
        ids.insert(0, user);
        ids
    }

    /// All of a person's ids are erased, one after the other.
    fn erase(&mut self, user: &str) {
        let user: Arc<str> = Arc::from(user);
        self.into.retain(|from, into| *from != user && *into != user);
        self.erased.insert(Arc::clone(&user));
        self.new.push(AliasChange::Erased(user));
    }

    /// What is new.
    #[must_use]
    pub fn finish(self) -> Vec<AliasChange> {
        self.new
    }

    fn rename(&self, user: &mut String) {
        if let Some(known) = self.resolve(user) {
            *user = (*known).to_owned();
        }
    }

    fn resolve(&self, user: &str) -> Option<Arc<str>> {
        let mut found = self.resolve_before(user);
        while let Some(next) = self.into.get(found.as_deref().unwrap_or(user)) {
            found = Some(self.resolve_before(next).unwrap_or_else(|| Arc::clone(next)));
        }
        found
    }

    /// What the links from before the batch say.
    fn resolve_before(&self, user: &str) -> Option<Arc<str>> {
        if self.erased.contains(user) { None } else { self.links.resolve(user) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Consent, ConsentChange, UserErasure};

    fn merge(from: &str, into: &str) -> Entry {
        Entry::Merge(UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    #[test]
    fn who_was_merged_stays_merged_and_no_circle_arises() {
        let mut linker = AliasWriter::default();
        let mut batch = linker.begin_batch();
        let mut admit = |offset, from, into| {
            let mut entry = merge(from, into);
            let admitted = batch.admit(offset, &mut entry);
            let Entry::Merge(merge) = entry else { unreachable!() };
            admitted.then_some(merge.into)
        };
        assert_eq!(admit(0, "anon", "ann").as_deref(), Some("ann"));
        assert_eq!(admit(1, "anon", "ann"), None, "it is known");
        assert_eq!(admit(1, "anon", "bob"), None, "another user of the same browser");
        assert_eq!(admit(1, "ann", "anon"), None, "a circle");
        assert_eq!(admit(1, "ann", "ann"), None);
        assert_eq!(admit(1, "phone", "anon").as_deref(), Some("ann"), "into whom it is by now");
        let new = batch.finish();
        assert_eq!(linker.aliases().resolve("anon"), None, "nothing counts before it is written");
        assert!(linker.apply(new.clone()).is_empty());
        linker.apply(new);
        assert_eq!(linker.aliases().len(), 2);
        // A whole user goes on as another one.
        let mut batch = linker.begin_batch();
        assert!(batch.admit(5, &mut merge("ann", "anna")));
        let new = batch.finish();
        linker.apply(new);
        for id in ["anon", "phone", "ann"] {
            assert_eq!(linker.aliases().resolve(id).as_deref(), Some("anna"));
        }
        assert!(!linker.begin_batch().admit(6, &mut merge("anna", "phone")));
    }

    #[test]
    fn who_is_erased_is_nobody_and_nobody_leads_there() {
        let ids = |ids: Vec<Arc<str>>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut linker = AliasWriter::default();
        let mut batch = linker.begin_batch();
        for (offset, from, into) in [(0, "phone", "ann"), (1, "ann", "anna"), (2, "tv", "bob")] {
            assert!(batch.admit(offset, &mut merge(from, into)));
        }
        assert_eq!(ids(batch.ids_of_user("phone")), ["anna", "ann", "phone"]);
        let new = batch.finish();
        linker.apply(new);
        let mut batch = linker.begin_batch();
        assert!(batch.admit(3, &mut merge("tablet", "ann")));
        let person = ids(batch.ids_of_user("ann"));
        assert_eq!(person, ["anna", "ann", "phone", "tablet"]);
        for user_id in person {
            assert!(batch.admit(4, &mut Entry::Erase(UserErasure { user_id, unlearn: false, timestamp: 0 })));
        }
        let mut event = Entry::Consent(ConsentChange { user_id: "phone".to_owned(), consent: Consent::None, timestamp: 0 });
        assert!(batch.admit(8, &mut event));
        assert!(matches!(event, Entry::Consent(change) if change.user_id == "phone"), "a new user");
        assert!(batch.admit(9, &mut merge("phone", "cyd")), "who may be merged like any");
        let new = batch.finish();
        assert_eq!(linker.apply(new), [1, 3, 0], "where the links stood that are no more");
        let links = linker.aliases();
        assert_eq!(links.len(), 2);
        assert_eq!(links.resolve("phone").as_deref(), Some("cyd"));
        assert_eq!(links.resolve("tv").as_deref(), Some("bob"));
        assert_eq!((links.resolve("ann"), links.resolve("tablet")), (None, None));
    }
}
