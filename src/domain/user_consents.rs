//! How far each user's consent goes.

use super::{Consent, Entry, Offset};
use std::collections::HashMap;
use std::sync::Arc;

/// What a user said, with where in the journal that came to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRecord {
    /// Who.
    pub user: Arc<str>,
    /// How far; `None`: nothing is known of this user any more.
    pub consent: Option<Consent>,
    /// The entry that says so.
    pub offset: Offset,
}

/// By user how far consent goes, of those who said so: a fold of the journal. One writer, the
/// committer, adds; everyone reads without a lock. None is ever forgotten for lack of room, since
/// that would be against what the user said; about 120 bytes each.
#[derive(Debug, Default)]
pub struct UserConsents {
    of: papaya::HashMap<Arc<str>, (Consent, Offset), rustc_hash::FxBuildHasher>,
}

impl UserConsents {
    /// What a user said; nobody may have been merged into another one.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<Consent> {
        self.of.pin().get(user).map(|(consent, _)| *consent)
    }

    /// How many said something.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether nobody did.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

/// The writer of the consents.
#[derive(Debug, Default)]
pub struct ConsentWriter {
    consents: Arc<UserConsents>,
    /// What holds for users who said nothing.
    usual: Consent,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentVerdict {
    /// It is taken.
    Accepted,
    /// It says nothing new.
    Unchanged,
    /// Its user does not let it be kept.
    Withheld,
}

impl ConsentWriter {
    /// One who keeps nothing yet; `usual` holds for users who said nothing.
    #[must_use]
    pub fn new(usual: Consent) -> Self {
        Self { consents: Arc::default(), usual }
    }

    /// What readers read.
    #[must_use]
    pub fn consents(&self) -> Arc<UserConsents> {
        Arc::clone(&self.consents)
    }

    /// Remembers, in the order of the journal. What is known from a later entry stays: so entries
    /// that were folded before may be folded again.
    pub fn apply(&mut self, agreed: impl IntoIterator<Item = ConsentRecord>) {
        let of = self.consents.of.pin();
        for ConsentRecord { user, consent, offset } in agreed {
            if of.get(&user).is_some_and(|(_, known)| *known >= offset) {
                continue;
            }
            match consent {
                Some(consent) => of.insert(user, (consent, offset)),
                None => of.remove(&user),
            };
        }
    }

    /// Folds an entry that the journal has.
    pub fn apply_entry(&mut self, offset: Offset, entry: &Entry) -> Vec<ConsentRecord> {
        let new = changes(offset, entry, |user| self.consents.get(user));
        self.apply(new.iter().cloned());
        new
    }

    /// What is to be written together: nothing of it is remembered before it is.
    #[must_use]
    pub fn begin_batch(&self) -> ConsentBatch<'_> {
        ConsentBatch { keeper: self, changed: HashMap::new(), new: Vec::new() }
    }
}

/// What an entry changes. Two users who turn out to be one said what either of them said, and the
/// lesser if both did; who was erased said nothing.
fn changes(offset: Offset, entry: &Entry, of: impl Fn(&str) -> Option<Consent>) -> Vec<ConsentRecord> {
    let agreed = |user: &str, consent| ConsentRecord { user: Arc::from(user), consent, offset };
    match entry {
        Entry::Consent(change) => vec![agreed(&change.user_id, Some(change.consent))],
        Entry::Merge(merge) => {
            let Some(from) = of(&merge.from) else { return Vec::new() };
            let into = of(&merge.into).map_or(from, |into| into.min(from));
            vec![agreed(&merge.from, None), agreed(&merge.into, Some(into))]
        }
        Entry::Erase(erasure) => of(&erasure.user_id).map(|_| agreed(&erasure.user_id, None)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The consents of a batch of entries, on those that were there before.
#[derive(Debug)]
pub struct ConsentBatch<'k> {
    keeper: &'k ConsentWriter,
    changed: HashMap<Arc<str>, Option<Consent>>,
    new: Vec<ConsentRecord>,
}

impl ConsentBatch<'_> {
    /// Applies the user's consent to an entry. Without consent to learning, an event becomes
    /// [`Entry::Private`] and an impression is withheld. The caller has already resolved aliases.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> ConsentVerdict {
        match entry {
            Entry::Event(event) => match self.of(&event.user_id) {
                // What the sender says of the event, and what holds for who said nothing, was
                // heeded at the door.
                None | Some(Consent::Full) => {}
                Some(Consent::None) => return ConsentVerdict::Withheld,
                Some(Consent::Session) => {
                    let event = event.clone();
                    *entry = Entry::Private(event);
                }
            },
            Entry::Private(event) if self.of(&event.user_id) == Some(Consent::None) => return ConsentVerdict::Withheld,
            Entry::Impression(impression) if self.of(&impression.user_id).unwrap_or(self.keeper.usual) < Consent::Full => {
                return ConsentVerdict::Withheld;
            }
            Entry::Consent(change) => {
                let known = self.of(&change.user_id);
                if known == Some(change.consent)
                    || (known.is_none() && (change.consent, self.keeper.usual) == (Consent::Full, Consent::Full))
                {
                    return ConsentVerdict::Unchanged;
                }
            }
            _ => {}
        }
        let new = changes(offset, entry, |user| self.of(user));
        self.changed.extend(new.iter().map(|agreed| (Arc::clone(&agreed.user), agreed.consent)));
        self.new.extend(new);
        ConsentVerdict::Accepted
    }

    /// What is new.
    #[must_use]
    pub fn finish(self) -> Vec<ConsentRecord> {
        self.new
    }

    fn of(&self, user: &str) -> Option<Consent> {
        self.changed.get(user).copied().unwrap_or_else(|| self.keeper.consents.get(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConsentChange, Event, EventKind, Impression, UserMerge};

    fn says(user: &str, consent: Consent) -> Entry {
        Entry::Consent(ConsentChange { user_id: user.to_owned(), consent, timestamp: 0 })
    }

    fn merge(from: &str, into: &str) -> Entry {
        Entry::Merge(UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    fn event(user: &str) -> Entry {
        let (user_id, item_id) = (user.to_owned(), Some("tea".to_owned()));
        Entry::Event(Event {
            event_id: None,
            user_id,
            session_id: None,
            kind: EventKind::View,
            item_id,
            value: None,
            timestamp: 0,
            properties: None,
        })
    }

    fn shown(user: &str) -> Entry {
        let (recommendation_id, user_id) = ("r".to_owned(), user.to_owned());
        Entry::Impression(Impression { recommendation_id, user_id, timestamp: 0, weights_version: 0, items: Vec::new() })
    }

    #[test]
    fn what_a_user_does_is_taken_as_far_as_the_consent_goes() {
        let keeper = ConsentWriter::default();
        let mut batch = keeper.begin_batch();
        let mut admit = |mut entry: Entry| {
            let verdict = batch.admit(0, &mut entry);
            (verdict, matches!(entry, Entry::Private(_)))
        };
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(shown("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(says("ann", Consent::Full)), (ConsentVerdict::Unchanged, false), "it is what holds for everybody");
        assert_eq!(admit(says("ann", Consent::Session)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(says("ann", Consent::Session)), (ConsentVerdict::Unchanged, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, true));
        assert_eq!(admit(shown("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(event("bob")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(says("ann", Consent::None)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(says("ann", Consent::Full)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(keeper.consents().len(), 0, "nothing counts before it is written");
    }

    #[test]
    fn where_nobody_is_asked_who_says_full_is_remembered() {
        let mut keeper = ConsentWriter::new(Consent::None);
        let mut batch = keeper.begin_batch();
        assert_eq!(batch.admit(0, &mut shown("ann")), ConsentVerdict::Withheld);
        assert_eq!(batch.admit(0, &mut says("ann", Consent::Full)), ConsentVerdict::Accepted);
        assert_eq!(batch.admit(1, &mut shown("ann")), ConsentVerdict::Accepted);
        let new = batch.finish();
        keeper.apply(new);
        assert_eq!(keeper.consents().get("ann"), Some(Consent::Full));
    }

    #[test]
    fn of_two_who_are_one_the_lesser_counts() {
        for (from, into, both) in [
            (Some(Consent::Session), None, Some(Consent::Session)),
            (Some(Consent::Session), Some(Consent::Full), Some(Consent::Session)),
            (Some(Consent::Full), Some(Consent::None), Some(Consent::None)),
            (None, Some(Consent::Session), Some(Consent::Session)),
            (None, None, None),
        ] {
            let mut keeper = ConsentWriter::default();
            for (offset, (user, consent)) in (0..).zip([("anon", from), ("ann", into)]) {
                if let Some(consent) = consent {
                    keeper.apply_entry(offset, &says(user, consent));
                }
            }
            keeper.apply_entry(2, &merge("anon", "ann"));
            assert_eq!((keeper.consents().get("anon"), keeper.consents().get("ann")), (None, both), "{from:?} {into:?}");
        }
    }

    #[test]
    fn entries_that_were_folded_before_may_be_folded_again() {
        let journal = [
            says("a", Consent::None),
            says("b", Consent::Full),
            merge("a", "b"),
            says("c", Consent::Full),
            merge("b", "c"),
            says("d", Consent::Session),
            says("d", Consent::Full),
        ];
        for from in 0..journal.len() {
            let mut keeper = ConsentWriter::default();
            for begin in [0, from] {
                (0..).zip(&journal).skip(begin).for_each(|(offset, entry)| drop(keeper.apply_entry(offset, entry)));
            }
            let consents = keeper.consents();
            let found = ["a", "b", "c", "d"].map(|user| consents.get(user));
            assert_eq!(found, [None, None, Some(Consent::None), Some(Consent::Full)], "again from {from}");
        }
    }
}
