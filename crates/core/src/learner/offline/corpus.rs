//! Sessions from recorded events, and their split into training, validation and test sets.

use crate::domain::{Event, EventKinds, InterestScale, ItemIx, KindId, Step, Timestamp, UserSequence};
use crate::evaluation::TrainTestSplit;
use crate::registries::ItemDictionary;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

use super::settings::OfflineSettings;

/// A value that an event of a recording carries.
#[derive(Debug)]
pub(super) struct RecordedValue {
    pub(super) user: Arc<str>,
    pub(super) item: ItemIx,
    pub(super) kind: KindId,
    pub(super) value: f32,
    pub(super) at: Timestamp,
    /// Index of the event's session.
    pub(super) session: usize,
}

/// A recording of events, grouped into sessions in the order of their first events.
#[derive(Debug, Default)]
pub struct Recording {
    idle_gap_ms: i64,
    items: ItemDictionary,
    /// Each user's latest steps.
    users: FxHashMap<String, UserSequence>,
    sessions: Vec<Vec<Step>>,
    /// The number of the first event of each session.
    session_starts: Vec<u64>,
    /// The values that the interest models predict, in the order of the events.
    values: Vec<RecordedValue>,
    /// Ids of the users with such values.
    valued_users: FxHashSet<Arc<str>>,
    events: u64,
}

impl Recording {
    /// Creates an empty recording. A new session begins after `idle_gap_ms` milliseconds without an
    /// event, or with a new `session_id`.
    #[must_use]
    pub fn new(idle_gap_ms: i64) -> Self {
        Self { idle_gap_ms, ..Self::default() }
    }

    /// Adds the next event. Events of kinds that are not configured are ignored.
    pub fn add_event(&mut self, event: &Event, kinds: &EventKinds) {
        let Some(kind) = kinds.id_of(&event.kind) else { return };
        let item = event.item_id.as_deref().map(|name| self.items.intern(name));
        let value = kinds.step_value(kind, event.value);
        let step = Step { item, kind, starts_session: false, at: event.timestamp, value };
        if !self.users.contains_key(&event.user_id) {
            self.users.insert(event.user_id.clone(), UserSequence::default());
        }
        if let Some(user) = self.users.get_mut(&event.user_id) {
            let placement = user.push(self.events, step, event.session_id.as_deref(), self.idle_gap_ms);
            let session = self.add_step(step, placement.session_start);
            self.add_value(event, &step, session, kinds);
        }
        self.events += 1;
    }

    /// Keeps the value of an event if an interest model predicts the values of its kind.
    fn add_value(&mut self, event: &Event, step: &Step, session: usize, kinds: &EventKinds) {
        let Step { item: Some(item), kind, at, .. } = *step else { return };
        let Some(value) = event.value.filter(|_| kinds.rule_of(kind).interest != InterestScale::Off) else { return };
        let user = self.valued_users.get(event.user_id.as_str()).cloned().unwrap_or_else(|| {
            let user: Arc<str> = event.user_id.as_str().into();
            self.valued_users.insert(Arc::clone(&user));
            user
        });
        self.values.push(RecordedValue { user, item, kind, value, at, session });
    }

    /// Adds a step to the session that began with event number `start`, or to a new session. Returns
    /// the index of the session.
    fn add_step(&mut self, mut step: Step, start: Option<u64>) -> usize {
        let known = start.and_then(|start| self.session_starts.binary_search(&start).ok());
        let number = known.unwrap_or(self.sessions.len());
        let Some(session) = self.sessions.get_mut(number) else {
            step.starts_session = true;
            self.sessions.push(vec![step]);
            self.session_starts.push(self.events);
            return number;
        };
        let index = session.partition_point(|other| other.at <= step.at);
        if index == 0
            && let Some(first) = session.first_mut()
        {
            (step.starts_session, first.starts_session) = (first.starts_session, false);
        }
        session.insert(index, step);
        number
    }

    pub(super) fn values(&self) -> &[RecordedValue] {
        &self.values
    }

    /// The number of events added.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.events
    }

    /// The number of sessions in the recording.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the test sessions with their items numbered as in a given network. `test` is the
    /// share of test sessions; `names` holds that network's item names, in the order of its item
    /// numbers.
    #[must_use]
    pub fn into_test_sessions(self, test: f64, names: &[Arc<str>]) -> Vec<Vec<Step>> {
        let mut numbers = vec![None; self.items.len()];
        for (number, name) in (0..).zip(names) {
            if let Some(known) = self.items.get(name).and_then(|item| numbers.get_mut(item as usize)) {
                *known = Some(number);
            }
        }
        let mut split = TrainTestSplit::split_by_time(self.sessions, test);
        renumber_test_items(&mut split, &numbers);
        split.test
    }

    /// Splits the sessions into training, validation and test sets. Items are numbered in the order
    /// in which they first occur in the training and validation sessions.
    #[must_use]
    pub fn into_corpus(self, settings: &OfflineSettings) -> Corpus {
        let mut test_split = TrainTestSplit::split_by_time(self.sessions, settings.test);
        let mut numbers = vec![None; self.items.len()];
        let mut names = Vec::new();
        for item in test_split.train.iter_mut().flatten().filter_map(|step| step.item.as_mut()) {
            let Some(number) = numbers.get_mut(*item as usize) else { continue };
            *item = *number.get_or_insert_with(|| {
                names.extend(self.items.name(*item));
                (names.len() - 1) as ItemIx
            });
        }
        renumber_test_items(&mut test_split, &numbers);
        let mut validation_split = TrainTestSplit::split_by_time(test_split.train, settings.validation);
        let mut is_trained = vec![false; names.len()];
        for item in validation_split.train.iter().flatten().filter_map(|step| step.item) {
            if let Some(is_trained) = is_trained.get_mut(item as usize) {
                *is_trained = true;
            }
        }
        validation_split.retain_known_items(|item| is_trained.get(item as usize).copied().unwrap_or(false));
        Corpus {
            idle_gap_ms: self.idle_gap_ms,
            item_names: names,
            training: validation_split.train,
            validation: validation_split.test,
            test: test_split.test,
        }
    }
}

/// Renumbers the items of the test sessions, and drops steps whose item has no new number.
fn renumber_test_items(split: &mut TrainTestSplit, numbers: &[Option<ItemIx>]) {
    let number = |item: ItemIx| numbers.get(item as usize).copied().flatten();
    split.retain_known_items(|item| number(item).is_some());
    for step in split.test.iter_mut().flatten() {
        step.item = step.item.and_then(number);
    }
}

/// A recording split into training, validation and test sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// An event starts a new session if the user had no event for more than this many milliseconds.
    pub idle_gap_ms: i64,
    /// Item names by number, without the items that occur only in the test set.
    pub item_names: Vec<Arc<str>>,
    /// The training sessions.
    pub training: Vec<Vec<Step>>,
    /// The validation sessions, on which the best epoch is chosen. Validation sessions start later
    /// than the training sessions.
    pub validation: Vec<Vec<Step>>,
    /// The test sessions, which start later than the validation sessions.
    pub test: Vec<Vec<Step>>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::EventKind;

    pub(in crate::learner::offline) fn view_event(user: &str, item: &str, at: i64) -> Event {
        Event {
            event_id: None,
            user_id: user.to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(item.to_owned()),
            value: None,
            timestamp: at,
            properties: None,
            details: None,
        }
    }

    fn items_by_session(sessions: &[Vec<Step>]) -> Vec<Vec<u32>> {
        sessions.iter().map(|session| session.iter().filter_map(|step| step.item).collect()).collect()
    }

    #[test]
    fn sessions_are_ordered_by_their_first_events() {
        let mut recording = Recording::new(100);
        let kinds = EventKinds::default();
        for (user, item, at) in
            [("ann", "cup", 0), ("bob", "pot", 1), ("ann", "pot", 50), ("bob", "cup", 102), ("ann", "jug", 103)]
        {
            recording.add_event(&view_event(user, item, at), &kinds);
        }
        recording
            .add_event(&Event { kind: EventKind::Custom("wink".to_owned()), ..view_event("ann", "cup", 104) }, &kinds);
        assert_eq!((recording.event_count(), recording.session_count()), (5, 3));
        assert_eq!(items_by_session(&recording.sessions), [vec![0, 1, 2], vec![1], vec![0]]);
        assert!(recording.sessions.iter().all(|session| {
            session
                .iter()
                .map(|step| step.starts_session)
                .eq((0..session.len()).map(|session_index| session_index == 0))
        }));
    }

    #[test]
    fn items_are_numbered_by_training_order_and_unknown_items_are_not_tested() {
        let mut recording = Recording::new(i64::MAX);
        // The test session of user c begins last but ends before the others, so its item `new`
        // occurs before later items of the training sessions.
        for (user, item) in [("a", "x"), ("b", "y"), ("c", "new"), ("c", "y"), ("c", "x"), ("a", "z"), ("b", "x")] {
            recording.add_event(&view_event(user, item, 0), &EventKinds::default());
        }
        let corpus = recording.into_corpus(&OfflineSettings { test: 0.3, validation: 0.5, ..Default::default() });
        assert_eq!(corpus.item_names.iter().map(|name| &**name).collect::<Vec<_>>(), ["x", "z", "y"]);
        assert_eq!(items_by_session(&corpus.training), [[0, 1]]);
        assert_eq!(
            items_by_session(&corpus.validation),
            Vec::<Vec<u32>>::new(),
            "y is not in the training set, and a session needs two events"
        );
        assert_eq!(items_by_session(&corpus.test), [[2, 0]]);
    }
}
