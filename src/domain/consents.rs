//! How far each user's consent goes.

use super::{Consent, Entry, Offset};
use std::collections::HashMap;
use std::sync::Arc;

/// What a user said, with where in the journal that came to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Who.
    pub user: Arc<str>,
    /// How far; `None`: nothing is known of this user any more.
    pub consent: Option<Consent>,
    /// The entry that says so.
    pub offset: Offset,
}

/// By user how far consent goes, of those who said so: a fold of the journal. One writer, the committer, adds; everyone reads without a lock. None is ever forgotten for lack of room, since
/// that would be against what the user said; about 120 bytes each.
#[derive(Debug, Default)]
pub struct Consents {
    of: papaya::HashMap<Arc<str>, (Consent, Offset), rustc_hash::FxBuildHasher>,
}

impl Consents {
    /// What a user said; nobody may have been merged into another one.
    #[must_use]
    pub fn of(&self, user: &str) -> Option<Consent> {
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
pub struct Keeper {
    consents: Arc<Consents>,
    /// What holds for users who said nothing.
    usual: Consent,
}

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Taken,
    /// It says nothing new.
    Known,
    /// Its user does not let it be kept.
    Withheld,
}

impl Keeper {
    /// One who keeps nothing yet; `usual` holds for users who said nothing.
    #[must_use]
    pub fn new(usual: Consent) -> Self {
        Self { consents: Arc::default(), usual }
    }

    /// What readers read.
    #[must_use]
    pub fn consents(&self) -> Arc<Consents> {
        Arc::clone(&self.consents)
    }

    /// Remembers, in the order of the journal. What is known from a later entry stays: so entries that were folded before may be folded again.
    pub fn take(&mut self, agreed: impl IntoIterator<Item = Agreed>) {
        let of = self.consents.of.pin();
        for Agreed { user, consent, offset } in agreed {
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
    pub fn fold(&mut self, offset: Offset, entry: &Entry) -> Vec<Agreed> {
        let new = changes(offset, entry, |user| self.consents.of(user));
        self.take(new.iter().cloned());
        new
    }

    /// What is to be written together: nothing of it is remembered before it is.
    #[must_use]
    pub fn batch(&self) -> NewConsents<'_> {
        NewConsents { keeper: self, changed: HashMap::new(), new: Vec::new() }
    }
}

/// What an entry changes. Two users who turn out to be one said what either of them said, and the lesser if both did; who was erased said nothing.
fn changes(offset: Offset, entry: &Entry, of: impl Fn(&str) -> Option<Consent>) -> Vec<Agreed> {
    let agreed = |user: &str, consent| Agreed { user: Arc::from(user), consent, offset };
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
pub struct NewConsents<'k> {
    keeper: &'k Keeper,
    changed: HashMap<Arc<str>, Option<Consent>>,
    new: Vec<Agreed>,
}

impl NewConsents<'_> {
    /// Holds an entry against what its user said before it. An event that is not to be learned from becomes [`Entry::Private`], and an impression that would be learned from is withheld.
    /// Whoever is to be led to another user already was.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> Verdict {
        match entry {
            Entry::Event(event) => match self.of(&event.user_id) {
                // What the sender says of the event, and what holds for who said nothing, was heeded at the door.
                None | Some(Consent::Full) => {}
                Some(Consent::None) => return Verdict::Withheld,
                Some(Consent::Session) => {
                    let event = event.clone();
                    *entry = Entry::Private(event);
                }
            },
            Entry::Private(event) if self.of(&event.user_id) == Some(Consent::None) => return Verdict::Withheld,
            Entry::Impression(impression) if self.of(&impression.user_id).unwrap_or(self.keeper.usual) < Consent::Full => {
                return Verdict::Withheld;
            }
            Entry::Consent(change) => {
                let known = self.of(&change.user_id);
                if known == Some(change.consent)
                    || (known.is_none() && (change.consent, self.keeper.usual) == (Consent::Full, Consent::Full))
                {
                    return Verdict::Known;
                }
            }
            _ => {}
        }
        let new = changes(offset, entry, |user| self.of(user));
        self.changed.extend(new.iter().map(|agreed| (Arc::clone(&agreed.user), agreed.consent)));
        self.new.extend(new);
        Verdict::Taken
    }

    /// What is new.
    #[must_use]
    pub fn finish(self) -> Vec<Agreed> {
        self.new
    }

    fn of(&self, user: &str) -> Option<Consent> {
        self.changed.get(user).copied().unwrap_or_else(|| self.keeper.consents.of(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConsentChange, Event, Impression, Kind, Merge};

    fn says(user: &str, consent: Consent) -> Entry {
        Entry::Consent(ConsentChange { user_id: user.to_owned(), consent, timestamp: 0 })
    }

    fn merge(from: &str, into: &str) -> Entry {
        Entry::Merge(Merge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    fn event(user: &str) -> Entry {
        let (user_id, item_id) = (user.to_owned(), Some("tea".to_owned()));
        Entry::Event(Event {
            event_id: None,
            user_id,
            session_id: None,
            kind: Kind::View,
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
        let keeper = Keeper::default();
        let mut batch = keeper.batch();
        let mut admit = |mut entry: Entry| {
            let verdict = batch.admit(0, &mut entry);
            (verdict, matches!(entry, Entry::Private(_)))
        };
        assert_eq!(admit(event("ann")), (Verdict::Taken, false));
        assert_eq!(admit(shown("ann")), (Verdict::Taken, false));
        assert_eq!(admit(says("ann", Consent::Full)), (Verdict::Known, false), "it is what holds for everybody");
        assert_eq!(admit(says("ann", Consent::Session)), (Verdict::Taken, false));
        assert_eq!(admit(says("ann", Consent::Session)), (Verdict::Known, false));
        assert_eq!(admit(event("ann")), (Verdict::Taken, true));
        assert_eq!(admit(shown("ann")), (Verdict::Withheld, false));
        assert_eq!(admit(event("bob")), (Verdict::Taken, false));
        assert_eq!(admit(says("ann", Consent::None)), (Verdict::Taken, false));
        assert_eq!(admit(event("ann")), (Verdict::Withheld, false));
        assert_eq!(admit(says("ann", Consent::Full)), (Verdict::Taken, false));
        assert_eq!(admit(event("ann")), (Verdict::Taken, false));
        assert_eq!(keeper.consents().len(), 0, "nothing counts before it is written");
    }

    #[test]
    fn where_nobody_is_asked_who_says_full_is_remembered() {
        let mut keeper = Keeper::new(Consent::None);
        let mut batch = keeper.batch();
        assert_eq!(batch.admit(0, &mut shown("ann")), Verdict::Withheld);
        assert_eq!(batch.admit(0, &mut says("ann", Consent::Full)), Verdict::Taken);
        assert_eq!(batch.admit(1, &mut shown("ann")), Verdict::Taken);
        let new = batch.finish();
        keeper.take(new);
        assert_eq!(keeper.consents().of("ann"), Some(Consent::Full));
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
            let mut keeper = Keeper::default();
            for (offset, (user, consent)) in (0..).zip([("anon", from), ("ann", into)]) {
                if let Some(consent) = consent {
                    keeper.fold(offset, &says(user, consent));
                }
            }
            keeper.fold(2, &merge("anon", "ann"));
            assert_eq!((keeper.consents().of("anon"), keeper.consents().of("ann")), (None, both), "{from:?} {into:?}");
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
            let mut keeper = Keeper::default();
            for begin in [0, from] {
                (0..).zip(&journal).skip(begin).for_each(|(offset, entry)| drop(keeper.fold(offset, entry)));
            }
            let consents = keeper.consents();
            let found = ["a", "b", "c", "d"].map(|user| consents.of(user));
            assert_eq!(found, [None, None, Some(Consent::None), Some(Consent::Full)], "again from {from}");
        }
    }
}
