//! The consents of users, and their enforcement when entries are committed.

use crate::domain::{Consent, Entry, Offset};
use std::collections::HashMap;
use std::sync::Arc;

/// The consent of a user, with the offset of the entry that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRecord {
    /// The user.
    pub user: Arc<str>,
    /// The level; `None` removes the record.
    pub consent: Option<Consent>,
    /// The offset of the entry.
    pub offset: Offset,
}

/// Table of the consents that users have stated, derived from the journal. The committer is the
/// only writer; all readers are lock-free. Takes about 120 bytes per user. No record is ever
/// evicted, because that would override the user's choice.
#[derive(Debug, Default)]
pub struct UserConsents {
    of: papaya::HashMap<Arc<str>, (Consent, Offset), rustc_hash::FxBuildHasher>,
}

impl UserConsents {
    /// The consent of a user. The caller resolves aliases first.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<Consent> {
        self.of.pin().get(user).map(|(consent, _)| *consent)
    }

    /// Number of users with a stated consent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether no user has stated a consent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

/// The writer of [`UserConsents`].
#[derive(Debug, Default)]
pub struct ConsentWriter {
    consents: Arc<UserConsents>,
    /// Consent of users without a stated one.
    default_consent: Consent,
}

/// The outcome of a consent check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentVerdict {
    /// The entry is accepted.
    Accepted,
    /// The entry changes nothing.
    Unchanged,
    /// The user's consent does not cover the entry.
    Withheld,
}

impl ConsentWriter {
    /// Creates a writer of an empty table; `default_consent` applies to users without a stated
    /// consent.
    #[must_use]
    pub fn new(default_consent: Consent) -> Self {
        Self { consents: Arc::default(), default_consent }
    }

    /// The table for readers.
    #[must_use]
    pub fn consents(&self) -> Arc<UserConsents> {
        Arc::clone(&self.consents)
    }

    /// Applies records in journal order. A record of a later entry stays, so applying earlier
    /// entries again is harmless.
    pub fn apply(&mut self, records: impl IntoIterator<Item = ConsentRecord>) {
        let of = self.consents.of.pin();
        for ConsentRecord { user, consent, offset } in records {
            if of.get(&user).is_some_and(|(_, known)| *known >= offset) {
                continue;
            }
            match consent {
                Some(consent) => of.insert(user, (consent, offset)),
                None => of.remove(&user),
            };
        }
    }

    /// Applies a committed entry. Returns the resulting records.
    pub fn apply_entry(&mut self, offset: Offset, entry: &Entry) -> Vec<ConsentRecord> {
        let new = changes(offset, entry, |user| self.consents.get(user));
        self.apply(new.iter().cloned());
        new
    }

    /// Starts a batch of entries that are committed together. It does not change the table.
    #[must_use]
    pub fn begin_batch(&self) -> ConsentBatch<'_> {
        ConsentBatch { writer: self, changed: HashMap::new(), new: Vec::new() }
    }
}

/// The consent changes of an entry. Merged users get the stated consent of either, or the lower
/// level if both have one. An erasure removes the record.
fn changes(offset: Offset, entry: &Entry, of: impl Fn(&str) -> Option<Consent>) -> Vec<ConsentRecord> {
    let record = |user: &str, consent| ConsentRecord { user: Arc::from(user), consent, offset };
    match entry {
        Entry::Consent(change) => vec![record(&change.user_id, Some(change.consent))],
        Entry::Merge(merge) => {
            let Some(from) = of(&merge.from) else { return Vec::new() };
            let into = of(&merge.into).map_or(from, |into| into.min(from));
            vec![record(&merge.from, None), record(&merge.into, Some(into))]
        }
        Entry::Erase(erasure) => of(&erasure.user_id).map(|_| record(&erasure.user_id, None)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The consent changes of a batch of entries, on top of the existing consents.
#[derive(Debug)]
pub struct ConsentBatch<'k> {
    writer: &'k ConsentWriter,
    changed: HashMap<Arc<str>, Option<Consent>>,
    new: Vec<ConsentRecord>,
}

impl ConsentBatch<'_> {
    /// Applies the user's consent to an entry. Without consent to learning, an event becomes
    /// [`Entry::Private`] and an impression is withheld. The caller has already resolved aliases.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> ConsentVerdict {
        match entry {
            Entry::Event(event) => match self.of(&event.user_id) {
                // The API boundary has already applied the sender's consent and the default
                // consent.
                None | Some(Consent::Full) => {}
                Some(Consent::None) => return ConsentVerdict::Withheld,
                Some(Consent::Session) => {
                    let event = event.clone();
                    *entry = Entry::Private(event);
                }
            },
            Entry::Private(event) if self.of(&event.user_id) == Some(Consent::None) => return ConsentVerdict::Withheld,
            Entry::Impression(impression)
                if self.of(&impression.user_id).unwrap_or(self.writer.default_consent) < Consent::Full =>
            {
                return ConsentVerdict::Withheld;
            }
            Entry::Consent(change) => {
                let known = self.of(&change.user_id);
                if known == Some(change.consent)
                    || (known.is_none()
                        && (change.consent, self.writer.default_consent) == (Consent::Full, Consent::Full))
                {
                    return ConsentVerdict::Unchanged;
                }
            }
            _ => {}
        }
        let new = changes(offset, entry, |user| self.of(user));
        self.changed.extend(new.iter().map(|record| (Arc::clone(&record.user), record.consent)));
        self.new.extend(new);
        ConsentVerdict::Accepted
    }

    /// The changes of the batch.
    #[must_use]
    pub fn finish(self) -> Vec<ConsentRecord> {
        self.new
    }

    fn of(&self, user: &str) -> Option<Consent> {
        self.changed.get(user).copied().unwrap_or_else(|| self.writer.consents.get(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConsentChange, Event, EventKind, Impression, UserMerge};

    fn consent_change(user: &str, consent: Consent) -> Entry {
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

    fn impression(user: &str) -> Entry {
        let (recommendation_id, user_id) = ("r".to_owned(), user.to_owned());
        Entry::Impression(Impression {
            recommendation_id,
            user_id,
            timestamp: 0,
            weights_version: 0,
            items: Vec::new(),
        })
    }

    #[test]
    fn entries_are_admitted_according_to_the_consent() {
        let writer = ConsentWriter::default();
        let mut batch = writer.begin_batch();
        let mut admit = |mut entry: Entry| {
            let verdict = batch.admit(0, &mut entry);
            (verdict, matches!(entry, Entry::Private(_)))
        };
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(impression("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(
            admit(consent_change("ann", Consent::Full)),
            (ConsentVerdict::Unchanged, false),
            "it equals the default"
        );
        assert_eq!(admit(consent_change("ann", Consent::Session)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(consent_change("ann", Consent::Session)), (ConsentVerdict::Unchanged, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, true));
        assert_eq!(admit(impression("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(event("bob")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(consent_change("ann", Consent::None)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(consent_change("ann", Consent::Full)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(writer.consents().len(), 0, "a batch changes nothing until it is applied");
    }

    #[test]
    fn full_consent_is_stored_if_the_default_is_none() {
        let mut writer = ConsentWriter::new(Consent::None);
        let mut batch = writer.begin_batch();
        assert_eq!(batch.admit(0, &mut impression("ann")), ConsentVerdict::Withheld);
        assert_eq!(batch.admit(0, &mut consent_change("ann", Consent::Full)), ConsentVerdict::Accepted);
        assert_eq!(batch.admit(1, &mut impression("ann")), ConsentVerdict::Accepted);
        let new = batch.finish();
        writer.apply(new);
        assert_eq!(writer.consents().get("ann"), Some(Consent::Full));
    }

    #[test]
    fn a_merge_keeps_the_lower_consent() {
        for (from, into, merged) in [
            (Some(Consent::Session), None, Some(Consent::Session)),
            (Some(Consent::Session), Some(Consent::Full), Some(Consent::Session)),
            (Some(Consent::Full), Some(Consent::None), Some(Consent::None)),
            (None, Some(Consent::Session), Some(Consent::Session)),
            (None, None, None),
        ] {
            let mut writer = ConsentWriter::default();
            for (offset, (user, consent)) in (0..).zip([("anon", from), ("ann", into)]) {
                if let Some(consent) = consent {
                    writer.apply_entry(offset, &consent_change(user, consent));
                }
            }
            writer.apply_entry(2, &merge("anon", "ann"));
            assert_eq!(
                (writer.consents().get("anon"), writer.consents().get("ann")),
                (None, merged),
                "{from:?} {into:?}"
            );
        }
    }

    #[test]
    fn applying_entries_again_is_harmless() {
        let journal = [
            consent_change("a", Consent::None),
            consent_change("b", Consent::Full),
            merge("a", "b"),
            consent_change("c", Consent::Full),
            merge("b", "c"),
            consent_change("d", Consent::Session),
            consent_change("d", Consent::Full),
        ];
        for from in 0..journal.len() {
            let mut writer = ConsentWriter::default();
            for begin in [0, from] {
                (0..).zip(&journal).skip(begin).for_each(|(offset, entry)| drop(writer.apply_entry(offset, entry)));
            }
            let consents = writer.consents();
            let found = ["a", "b", "c", "d"].map(|user| consents.get(user));
            assert_eq!(found, [None, None, Some(Consent::None), Some(Consent::Full)], "again from {from}");
        }
    }
}
