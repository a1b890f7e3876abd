//! What users let be done, as far as it is known at the door.

use super::System;
use crate::domain::{Consent, Entry, WithConsent};

/// What may be journalled of what was sent.
#[derive(Debug, Default)]
pub struct ConsentedEntries {
    /// What may.
    pub entries: Vec<Entry>,
    /// How much may not, and is gone.
    pub withheld: usize,
}

impl System {
    /// What a user said of consent, if anything.
    #[must_use]
    pub fn recorded_consent(&self, user: &str) -> Option<Consent> {
        match self.aliases.resolve(user) {
            Some(known) => self.consents.get(&known),
            None => self.consents.get(user),
        }
    }

    /// How far a user's consent goes for what its sender says so much of: the lesser of what the
    /// two say, and what is usual where neither says anything.
    #[must_use]
    pub fn effective_consent(&self, user: &str, sender: Option<Consent>) -> Consent {
        match (self.recorded_consent(user), sender) {
            (Some(user), Some(sender)) => user.min(sender),
            (user, sender) => user.or(sender).unwrap_or(self.default_consent),
        }
    }

    /// Lets in what its users' consent lets in. What a user says in between is heeded once more
    /// when it is committed.
    #[must_use]
    pub fn apply_consent(&self, said: impl IntoIterator<Item = WithConsent<Entry>>) -> ConsentedEntries {
        let mut admitted = ConsentedEntries::default();
        for WithConsent { value: what, consent } in said {
            match self.let_in(what, consent) {
                Some(entry) => admitted.entries.push(entry),
                None => admitted.withheld += 1,
            }
        }
        admitted
    }

    fn let_in(&self, entry: Entry, sender: Option<Consent>) -> Option<Entry> {
        match entry {
            Entry::Event(event) | Entry::Private(event) => match self.effective_consent(&event.user_id, sender) {
                Consent::None => None,
                Consent::Session => Some(Entry::Private(event)),
                Consent::Full => Some(Entry::Event(event)),
            },
            // It would keep the ids of both.
            Entry::Merge(merge) => {
                let least = self.effective_consent(&merge.from, sender).min(self.effective_consent(&merge.into, sender));
                (least > Consent::None).then_some(Entry::Merge(merge))
            }
            entry => Some(entry),
        }
    }
}
