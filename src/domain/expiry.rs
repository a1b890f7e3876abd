//! What is kept for a set time only.

use super::{EventKind, EventKinds, KindId, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// From here on what is older than its kind is kept for is no more: neither in the journal nor in
/// sessions nor in what is remembered of them one by one. What was counted and trained stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Events of these kinds go that are from before the time beside it.
    pub events: Vec<(EventKind, Timestamp)>,
    /// Lists go that were shown before.
    pub impressions: Option<Timestamp>,
    /// When it was found.
    pub timestamp: Timestamp,
}

impl Expiry {
    /// What it means for steps.
    #[must_use]
    pub fn cutoffs(&self, kinds: &EventKinds) -> ExpiryCutoffs {
        let mut before = vec![Timestamp::MIN; kinds.len()];
        for (kind, at) in &self.events {
            if let Some(place) = kinds.id(kind).and_then(|id| before.get_mut(usize::from(id))) {
                *place = *at;
            }
        }
        ExpiryCutoffs { before, impressions: self.impressions.unwrap_or(Timestamp::MIN) }
    }
}

/// An [`Expiry`] by the number of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpiryCutoffs {
    before: Vec<Timestamp>,
    /// Lists go that were shown before.
    pub impressions: Timestamp,
}

impl ExpiryCutoffs {
    /// Whether a step of that kind goes that is from then.
    #[must_use]
    pub fn covers(&self, kind: KindId, at: Timestamp) -> bool {
        self.before.get(usize::from(kind)).is_some_and(|before| at < *before)
    }

    /// Takes out of a sequence what goes. A border that goes is handed on to the step after it.
    /// Whether anything went.
    pub fn prune(&self, steps: &mut Vec<Step>) -> bool {
        let (before, mut border) = (steps.len(), false);
        steps.retain_mut(|step| {
            let goes = self.covers(step.kind, step.at);
            step.starts_session |= border;
            border = goes && step.starts_session;
            !goes
        });
        steps.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Event, Impression};
    use super::*;

    #[test]
    fn what_is_too_old_for_its_kind_goes() {
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
        };
        let shown = |timestamp| {
            Entry::Impression(Impression {
                recommendation_id: "r".to_owned(),
                user_id: "ann".to_owned(),
                timestamp,
                weights_version: 0,
                items: Vec::new(),
            })
        };
        assert!(Entry::Event(event(EventKind::Search, 99)).is_expired_by(&expiry));
        assert!(Entry::Private(event(EventKind::Search, 99)).is_expired_by(&expiry), "not being learned from does not keep it");
        assert!(!Entry::Event(event(EventKind::Search, 100)).is_expired_by(&expiry));
        assert!(!Entry::Event(event(EventKind::View, 0)).is_expired_by(&expiry));
        assert!(shown(49).is_expired_by(&expiry) && !shown(50).is_expired_by(&expiry));
        let expired = expiry.cutoffs(&EventKinds::default());
        let search = EventKinds::default().id(&EventKind::Search).unwrap();
        assert!(expired.covers(search, 99) && !expired.covers(search, 100) && !expired.covers(0, 0));
        assert!(!expired.covers(12, 0), "`tea` is no kind in force");
    }

    #[test]
    fn a_border_is_handed_on() {
        let expired = Expiry { events: vec![(EventKind::Search, 100)], ..Expiry::default() }.cutoffs(&EventKinds::default());
        let step = |kind, at, boundary| Step { item: None, kind, starts_session: boundary, at, value: 1.0 };
        let mut steps = vec![step(2, 1, true), step(2, 2, false), step(0, 3, false), step(2, 100, true), step(0, 101, false)];
        assert!(expired.prune(&mut steps));
        assert_eq!(steps, [step(0, 3, true), step(2, 100, true), step(0, 101, false)]);
        assert!(!expired.prune(&mut steps));
    }
}
