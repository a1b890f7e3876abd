//! The consents that users have stated, and the check of new entries against these consents.

use crate::domain::{Consent, Entry, Offset};
use std::collections::HashMap;
use std::sync::Arc;

/// The stated consent of a user, with the offset of the entry that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRecord {
    /// The user.
    pub user: Arc<str>,
    /// The consent level; `None` removes the stored consent.
    pub consent: Option<Consent>,
    /// The journal offset of the entry that set the consent.
    pub offset: Offset,
}

/// Table of the consents that users have stated, derived from the journal. The committer is the
/// only writer, and readers take no lock. The table takes about 120 bytes per user. The table never
/// evicts a consent, because the default consent would then replace the user's choice.
#[derive(Debug, Default)]
pub struct UserConsents {
    by_user: papaya::HashMap<Arc<str>, (Consent, Offset), rustc_hash::FxBuildHasher>,
}

impl UserConsents {
    /// The stated consent of a user. The caller must resolve aliases first.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<Consent> {
        self.by_user.pin().get(user).map(|(consent, _)| *consent)
    }

    /// Number of users who have stated a consent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_user.len()
    }

    /// Whether no user has stated a consent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }
}

/// The writer of [`UserConsents`].
#[derive(Debug, Default)]
pub struct ConsentWriter {
    consents: Arc<UserConsents>,
    /// Consent of users who have stated none.
    default_consent: Consent,
}

/// The result of the check of an entry against the consent of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentVerdict {
    /// The user's consent covers the entry.
    Accepted,
    /// The entry would change nothing, so it need not be stored.
    Unchanged,
    /// The user's consent does not cover the entry, so it must not be stored.
    Withheld,
}

impl ConsentWriter {
    /// Creates a writer with an empty table. `default_consent` applies to users who have stated no
    /// consent.
    #[must_use]
    pub fn new(default_consent: Consent) -> Self {
        Self { consents: Arc::default(), default_consent }
    }

    /// The consent table, for readers.
    #[must_use]
    pub fn consents(&self) -> Arc<UserConsents> {
        Arc::clone(&self.consents)
    }

    /// Applies records in journal order. A record is ignored if the same or a later entry set the
    /// user's consent in the table. So it is harmless to apply a record twice.
    pub fn apply(&mut self, records: impl IntoIterator<Item = ConsentRecord>) {
        let by_user = self.consents.by_user.pin();
        for ConsentRecord { user, consent, offset } in records {
            if by_user.get(&user).is_some_and(|(_, known)| *known >= offset) {
                continue;
            }
            match consent {
                Some(consent) => by_user.insert(user, (consent, offset)),
                None => by_user.remove(&user),
            };
        }
    }

    /// Applies a committed entry to the table. Returns the records of the changed consents.
    pub fn apply_entry(&mut self, offset: Offset, entry: &Entry) -> Vec<ConsentRecord> {
        let new = consent_changes(offset, entry, |user| self.consents.get(user));
        self.apply(new.iter().cloned());
        new
    }

    /// Starts a batch of entries that are committed together. Consents of the batch do not change
    /// the table until they are applied.
    #[must_use]
    pub fn begin_batch(&self) -> ConsentBatch<'_> {
        ConsentBatch { writer: self, changed: HashMap::new(), new: Vec::new() }
    }
}

/// The consent changes that an entry makes. After a merge, the remaining user has the consent that
/// either user had stated. If both users had stated a consent, the lower level applies. An erasure
/// removes the stated consent.
fn consent_changes(offset: Offset, entry: &Entry, of: impl Fn(&str) -> Option<Consent>) -> Vec<ConsentRecord> {
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

/// The consent changes of a batch of entries that is not committed yet. Within the batch, entries
/// are checked against both the table of consents and these changes.
#[derive(Debug)]
pub struct ConsentBatch<'k> {
    writer: &'k ConsentWriter,
    changed: HashMap<Arc<str>, Option<Consent>>,
    new: Vec<ConsentRecord>,
}

impl ConsentBatch<'_> {
    /// Checks an entry against the consent of its user. If the user consents to storage but not to
    /// learning, turns an event into [`Entry::Private`], and withholds an impression. The entry's
    /// user id must already be resolved, not an alias.
    pub fn admit(&mut self, offset: Offset, entry: &mut Entry) -> ConsentVerdict {
        match entry {
            Entry::Event(event) => match self.consent_of(&event.user_id) {
                // The API boundary has already applied the sender's consent and the default
                // consent.
                None | Some(Consent::Full) => {}
                Some(Consent::None) => return ConsentVerdict::Withheld,
                Some(Consent::Session) => {
                    let event = event.clone();
                    *entry = Entry::Private(event);
                }
            },
            Entry::Private(event) if self.consent_of(&event.user_id) == Some(Consent::None) => {
                return ConsentVerdict::Withheld;
            }
            Entry::UserAttributes(change) if self.consent_of(&change.user_id) == Some(Consent::None) => {
                return ConsentVerdict::Withheld;
            }
            Entry::Impression(impression)
                if self.consent_of(&impression.user_id).unwrap_or(self.writer.default_consent) < Consent::Full =>
            {
                return ConsentVerdict::Withheld;
            }
            Entry::Consent(change) => {
                let known = self.consent_of(&change.user_id);
                if known == Some(change.consent)
                    || (known.is_none()
                        && (change.consent, self.writer.default_consent) == (Consent::Full, Consent::Full))
                {
                    return ConsentVerdict::Unchanged;
                }
            }
            _ => {}
        }
        let new = consent_changes(offset, entry, |user| self.consent_of(user));
        self.changed.extend(new.iter().map(|record| (Arc::clone(&record.user), record.consent)));
        self.new.extend(new);
        ConsentVerdict::Accepted
    }

    /// The changes of the batch.
    #[must_use]
    pub fn finish(self) -> Vec<ConsentRecord> {
        self.new
    }

    fn consent_of(&self, user: &str) -> Option<Consent> {
        self.changed.get(user).copied().unwrap_or_else(|| self.writer.consents.get(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConsentChange, Event, EventKind, Impression, UserMerge};

    fn consent_change_entry(user: &str, consent: Consent) -> Entry {
        Entry::Consent(ConsentChange { user_id: user.to_owned(), consent, timestamp: 0 })
    }

    fn merge_entry(from: &str, into: &str) -> Entry {
        Entry::Merge(UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    fn event_entry(user: &str) -> Entry {
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
            details: None,
        })
    }

    fn impression_entry(user: &str) -> Entry {
        let (recommendation_id, user_id) = ("r".to_owned(), user.to_owned());
        Entry::Impression(Impression {
            recommendation_id,
            user_id,
            timestamp: 0,
            weights_version: 0,
            items: Vec::new(),
            ..Impression::default()
        })
    }

    #[test]
    fn admit_withholds_entries_or_makes_them_private_by_consent() {
        let writer = ConsentWriter::default();
        let mut batch = writer.begin_batch();
        let mut admit = |mut entry: Entry| {
            let verdict = batch.admit(0, &mut entry);
            (verdict, matches!(entry, Entry::Private(_)))
        };
        assert_eq!(admit(event_entry("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(impression_entry("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(
            admit(consent_change_entry("ann", Consent::Full)),
            (ConsentVerdict::Unchanged, false),
            "it equals the default"
        );
        assert_eq!(admit(consent_change_entry("ann", Consent::Session)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(consent_change_entry("ann", Consent::Session)), (ConsentVerdict::Unchanged, false));
        assert_eq!(admit(event_entry("ann")), (ConsentVerdict::Accepted, true));
        assert_eq!(admit(impression_entry("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(event_entry("bob")), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(consent_change_entry("ann", Consent::None)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event_entry("ann")), (ConsentVerdict::Withheld, false));
        assert_eq!(admit(consent_change_entry("ann", Consent::Full)), (ConsentVerdict::Accepted, false));
        assert_eq!(admit(event_entry("ann")), (ConsentVerdict::Accepted, false));
        assert_eq!(writer.consents().len(), 0, "a batch changes nothing until it is applied");
    }

    #[test]
    fn full_consent_is_stored_if_the_default_is_none() {
        let mut writer = ConsentWriter::new(Consent::None);
        let mut batch = writer.begin_batch();
        assert_eq!(batch.admit(0, &mut impression_entry("ann")), ConsentVerdict::Withheld);
        assert_eq!(batch.admit(0, &mut consent_change_entry("ann", Consent::Full)), ConsentVerdict::Accepted);
        assert_eq!(batch.admit(1, &mut impression_entry("ann")), ConsentVerdict::Accepted);
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
                    writer.apply_entry(offset, &consent_change_entry(user, consent));
                }
            }
            writer.apply_entry(2, &merge_entry("anon", "ann"));
            assert_eq!(
                (writer.consents().get("anon"), writer.consents().get("ann")),
                (None, merged),
                "{from:?} {into:?}"
            );
        }
    }

    #[test]
    fn applying_entries_twice_gives_the_same_consents() {
        let journal = [
            consent_change_entry("a", Consent::None),
            consent_change_entry("b", Consent::Full),
            merge_entry("a", "b"),
            consent_change_entry("c", Consent::Full),
            merge_entry("b", "c"),
            consent_change_entry("d", Consent::Session),
            consent_change_entry("d", Consent::Full),
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
