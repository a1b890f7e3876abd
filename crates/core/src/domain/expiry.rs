//! Expiry of events and impressions after their retention period.

use super::{EventKind, EventKinds, KindId, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// An expiry removes entries that are older than the retention period of their kind: from the
/// journal, from user sequences and from other per-user records. Counts and trained weights stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Event kinds with their cutoff times. Events of the kind that are older than the cutoff time
    /// are removed.
    pub events: Vec<(EventKind, Timestamp)>,
    /// Impressions that are older than this time are removed.
    pub impressions: Option<Timestamp>,
    /// The time at which the expiry was created.
    pub timestamp: Timestamp,
}

impl Expiry {
    /// Returns the cutoff times by kind id. Steps name their kind by id, so this form is used to
    /// find expired steps.
    #[must_use]
    pub fn cutoffs(&self, kinds: &EventKinds) -> ExpiryCutoffs {
        let mut before = vec![Timestamp::MIN; kinds.len()];
        for (kind, at) in &self.events {
            if let Some(cutoff) = kinds.id_of(kind).and_then(|id| before.get_mut(usize::from(id))) {
                *cutoff = *at;
            }
        }
        ExpiryCutoffs { before, impressions: self.impressions.unwrap_or(Timestamp::MIN) }
    }
}

/// The cutoff times of an [`Expiry`], by kind id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpiryCutoffs {
    before: Vec<Timestamp>,
    /// Impressions that are older than this time are removed.
    pub impressions: Timestamp,
}

impl ExpiryCutoffs {
    /// Whether the expiry removes a step of kind `kind` at time `at`.
    #[must_use]
    pub fn is_expired(&self, kind: KindId, at: Timestamp) -> bool {
        self.before.get(usize::from(kind)).is_some_and(|before| at < *before)
    }

    /// Events of a kind before this time are removed.
    #[must_use]
    pub fn cutoff(&self, kind: KindId) -> Timestamp {
        self.before.get(usize::from(kind)).copied().unwrap_or(Timestamp::MIN)
    }

    /// Whether a sequence has an expired step.
    #[must_use]
    pub fn has_expired(&self, steps: &[Step]) -> bool {
        steps.iter().any(|step| self.is_expired(step.kind, step.at))
    }

    /// Removes expired steps from a sequence. If a removed step started a session, the next
    /// remaining step of the session becomes its start. Returns whether any step was removed.
    pub fn remove_expired(&self, steps: &mut Vec<Step>) -> bool {
        let (before, mut pending_start) = (steps.len(), false);
        steps.retain_mut(|step| {
            let is_removed = self.is_expired(step.kind, step.at);
            step.starts_session |= pending_start;
            pending_start = is_removed && step.starts_session;
            !is_removed
        });
        steps.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Event, Impression};
    use super::*;

    #[test]
    fn entries_older_than_their_cutoff_expire() {
        let expiry = Expiry {
            events: vec![(EventKind::Search, 100), (EventKind::Custom("tea".to_owned()), 100)],
            impressions: Some(50),
            timestamp: 200,
        };
        let event = |kind, timestamp| Event {
            event_id: None,
            user_id: "ann".to_owned(),
            session_id: None,
            kind,
            item_id: None,
            value: None,
            timestamp,
            properties: None,
            details: None,
        };
        let impression = |timestamp| {
            Entry::Impression(Impression {
                recommendation_id: "r".to_owned(),
                user_id: "ann".to_owned(),
                timestamp,
                weights_version: 0,
                items: Vec::new(),
                ..Impression::default()
            })
        };
        assert!(Entry::Event(event(EventKind::Search, 99)).is_expired_by(&expiry));
        assert!(Entry::Private(event(EventKind::Search, 99)).is_expired_by(&expiry), "private events expire, too");
        assert!(!Entry::Event(event(EventKind::Search, 100)).is_expired_by(&expiry));
        assert!(!Entry::Event(event(EventKind::View, 0)).is_expired_by(&expiry));
        assert!(impression(49).is_expired_by(&expiry) && !impression(50).is_expired_by(&expiry));
        let cutoffs = expiry.cutoffs(&EventKinds::default());
        let search = EventKinds::default().id_of(&EventKind::Search).unwrap();
        assert!(cutoffs.is_expired(search, 99) && !cutoffs.is_expired(search, 100) && !cutoffs.is_expired(0, 0));
        assert!(!cutoffs.is_expired(12, 0), "`tea` is not a configured kind");
    }

    #[test]
    fn the_step_after_a_removed_session_start_starts_the_session() {
        let cutoffs =
            Expiry { events: vec![(EventKind::Search, 100)], ..Expiry::default() }.cutoffs(&EventKinds::default());
        let step = |kind, at, starts_session| Step { item: None, kind, starts_session, at, value: 1.0 };
        let mut steps =
            vec![step(2, 1, true), step(2, 2, false), step(0, 3, false), step(2, 100, true), step(0, 101, false)];
        assert!(cutoffs.remove_expired(&mut steps));
        assert_eq!(steps, [step(0, 3, true), step(2, 100, true), step(0, 101, false)]);
        assert!(!cutoffs.remove_expired(&mut steps));
    }
}
