//! The learner: the fold itself.

mod monitoring;
mod state;
mod steering;
mod user_lifecycle;

pub use state::{LearnerConfig, LearnerState, LearningReport};

use crate::candidates::{CandidateSettingsError, ClusterSettings, QueryContext, is_dismissal};
use crate::domain::{Entry, Event, Impression, ItemChange, ItemDictionary, ItemIx, ModelChange, Offset, SourceName, Step};
use crate::nn::NetworkSettingsError;
use crate::ranking::SourceAffinity;
use std::sync::Arc;

use super::background::{BackgroundJobs, JobLost};
use super::clustering::ClusteringResult;
use super::model_health::ModelHealth;
use super::pretrained::PretrainedNetwork;
use super::scorer::{Scorer, ScoringWorkspace};
use super::snapshot::ModelSnapshot;
use super::state_history::{StateHistory, StateHistoryError};
use super::training::{OnlineTraining, TrainingOutcome};
use monitoring::MonitoredCounters;

/// Why the fold cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// The network's settings cannot run.
    #[error("the network cannot be built")]
    Network(#[from] NetworkSettingsError),
    /// The network to begin with is another than the settings describe.
    #[error("the network to begin with was made with other network settings, or reads kinds of event that are not those of the settings")]
    PretrainedMismatch,
    /// The sources' settings cannot run.
    #[error("the sources cannot be built")]
    Candidates(#[from] CandidateSettingsError),
    /// A training died.
    #[error("the training begun after entry {begun} gave no result")]
    BackgroundJobLost {
        /// The last entry before the border at which it began.
        begun: Offset,
    },
    /// What the model was at an earlier offset cannot be told.
    #[error("the model cannot be rolled back to offset {to}")]
    HistoryUnavailable {
        /// The offset.
        to: Offset,
        /// Why.
        #[source]
        source: StateHistoryError,
    },
    /// An entry came out of turn.
    #[error("entry {got} was given where {expected} comes next")]
    OutOfOrder {
        /// The next entry.
        expected: Offset,
        /// The one given.
        got: Offset,
    },
}

/// Whether an offset is one of the `1 / every` that are drawn; none if that is 0. Neighbouring
/// offsets are drawn independently, so that no rhythm of the traffic meets that of the draws.
fn is_drawn(offset: Offset, every: u64) -> bool {
    let mixed = offset.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    every > 0 && (mixed ^ mixed >> 32).is_multiple_of(every)
}

/// What a learner does not do by itself.
pub struct LearnerDeps {
    /// Trains the network.
    pub training: Box<dyn BackgroundJobs<TrainingOutcome>>,
    /// Clusters the items.
    pub clustering: Box<dyn BackgroundJobs<ClusteringResult>>,
    /// Remembers what was learned earlier.
    pub state_history: Box<dyn StateHistory>,
}

/// Folds the journal, entry by entry: test, then learn.
pub struct Learner {
    state: LearnerState,
    dictionary: Arc<ItemDictionary>,
    clusters: Arc<ClusterSettings>,
    training: Box<dyn BackgroundJobs<TrainingOutcome>>,
    clustering: Box<dyn BackgroundJobs<ClusteringResult>>,
    past: Box<dyn StateHistory>,
    /// The last entry before the border at which the training under way began.
    begun: Offset,
    watched: MonitoredCounters,
    workspace: ScoringWorkspace,
}

impl Learner {
    /// A learner that goes on from a checkpoint's state, or begins at the journal's first entry
    /// `first`, if need be with a network that was trained before. A state that was learned under
    /// other settings is another fold's and is not used, but for the catalog where the entries that
    /// made it are no more.
    ///
    /// # Errors
    /// [`LearnerError::Network`] if the network's settings cannot run, [`LearnerError::Unsuitable`]
    /// if the network to begin with is another.
    pub fn new(
        settings: LearnerConfig,
        dictionary: Arc<ItemDictionary>,
        state: Option<LearnerState>,
        first: Offset,
        pretrained: Option<PretrainedNetwork>,
        aides: LearnerDeps,
    ) -> Result<Self, LearnerError> {
        let LearnerDeps { training, clustering, state_history: past } = aides;
        let clusters = Arc::new(settings.clusters.clone());
        let state = match state {
            Some(state) if state.matches_settings(&settings) => state,
            other => {
                let mut state = LearnerState::new(settings, pretrained)?;
                if let Some(other) = other.filter(|_| first > 0) {
                    (state.catalog, state.vocabulary, state.items) = (other.catalog, other.vocabulary, other.items.max(state.items));
                }
                state.next = first;
                state
            }
        };
        let watched = MonitoredCounters::new(state.settings.learning.live_window);
        Ok(Self { state, dictionary, clusters, training, clustering, past, begun: 0, watched, workspace: ScoringWorkspace::default() })
    }

    /// The next entry to be folded.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.state.next
    }

    /// Folds one entry.
    ///
    /// # Errors
    /// [`LearnerError::OutOfTurn`] if it is not the next one; [`LearnerError::Lost`] if a
    /// background job died; [`LearnerError::Past`] if it asks for a past that is not known.
    pub fn apply(&mut self, offset: Offset, entry: &Entry) -> Result<(), LearnerError> {
        self.expect(offset)?;
        match entry {
            Entry::Event(event) => self.event(offset, event),
            Entry::Impression(impression) => self.impression(offset, impression),
            Entry::Item(change) => self.item(change),
            Entry::Model(change) => self.steer(offset, change)?,
            Entry::Merge(merge) => self.merge(offset, merge),
            Entry::Erase(erasure) => self.erase(&erasure.user_id),
            Entry::Expire(expiry) => self.expire(expiry),
            Entry::Private(_) | Entry::Consent(_) | Entry::Tombstone => {}
        }
        self.state.next = offset + 1;
        self.cross(true)
    }

    /// Passes over an entry that cannot be learned from. If it stands before a border, no training
    /// begins there.
    ///
    /// # Errors
    /// As [`Learner::fold`].
    pub fn skip(&mut self, offset: Offset) -> Result<(), LearnerError> {
        self.expect(offset)?;
        self.state.next = offset + 1;
        self.cross(false)
    }

    fn expect(&self, offset: Offset) -> Result<(), LearnerError> {
        let expected = self.state.next;
        if offset == expected { Ok(()) } else { Err(LearnerError::OutOfOrder { expected, got: offset }) }
    }

    /// Everything learned, as it stands: for a checkpoint. Waits for the work under way.
    ///
    /// # Errors
    /// [`LearnerError::Lost`] if it died.
    pub fn state(&mut self) -> Result<&LearnerState, LearnerError> {
        let LearnerState { training, clustering, .. } = &mut self.state;
        if let Some(training) = training {
            training.finish_pending(self.training.as_mut()).map_err(|JobLost| LearnerError::BackgroundJobLost { begun: self.begun })?;
        }
        clustering.finish_pending(self.clustering.as_mut());
        Ok(&self.state)
    }

    /// What was done to the model last, oldest first, with where it stands in the journal.
    pub fn operations(&self) -> impl Iterator<Item = &(Offset, ModelChange)> {
        self.state.operations.iter()
    }

    /// How the model is doing.
    #[must_use]
    pub fn health(&self) -> &ModelHealth {
        &self.state.health
    }

    /// What readers may see of it.
    #[must_use]
    pub fn snapshot(&self) -> ModelSnapshot {
        let state = &self.state;
        let border = state.training.as_ref().map_or(0, OnlineTraining::trained_boundary);
        ModelSnapshot {
            offset: state.next,
            trained_through: border * state.settings.learning.interval,
            weights: state.training.as_ref().map(|training| Arc::clone(training.weights())),
            clusters: state.clustering.current().cloned(),
            items: state.items,
            catalog: state.catalog.clone(),
            sources: state.sources.clone(),
            ranker: state.ranker.clone(),
            affinities: state.affinities.clone(),
            cluster_settings: Arc::clone(&self.clusters),
        }
    }

    /// What was measured and trained so far.
    #[must_use]
    pub fn report(&self) -> LearningReport {
        LearningReport { hits_by_source: self.watched.hits(), live_by_source: self.watched.live(), ..self.state.report() }
    }

    fn event(&mut self, offset: Offset, event: &Event) {
        let Some((step, chosen)) = self.step(event) else { return };
        let number = self.state.events;
        let LearnerState {
            settings,
            users,
            affinities: moods,
            session_owners: owners,
            sessions,
            sources,
            ranker,
            training,
            clustering,
            by_source: alone,
            interest,
            clickthrough,
            paused,
            ..
        } = &mut self.state;
        let frozen = *paused || settings.freeze_from.is_some_and(|from| number >= from);
        let user = users.get_or_create(&event.user_id, offset);
        let weights = training.as_ref().map(|training| Arc::clone(training.weights()));
        let clusters = clustering.current().filter(|_| !settings.candidates.without.contains(&SourceName::Clusters)).cloned();

        if let Some(item) = chosen {
            user.impressions.attribute_click(item, step.at, settings.learning.credit_window_ms, clickthrough);
        }

        // Test.
        let known = !user.sequence.sequence.steps.is_empty();
        let tests = is_drawn(offset, settings.learning.evaluate_every);
        let teaches = is_drawn(offset, settings.learning.teach_every);
        let mut rank = None;
        let judged = step.item.filter(|_| known && (tests || teaches) && (chosen.is_some() || is_dismissal(&step)));
        if let Some(item) = judged {
            // A mere test leaves no trace.
            let hidden = (!teaches).then(|| user.sequence.cached_hidden().cloned());
            let judge = Scorer {
                weights: weights.as_deref(),
                clusters: clusters.as_deref(),
                sources,
                ranker,
                settings: &self.clusters,
                now: offset,
            };
            judge.score(&mut user.sequence, user.session_ix, &user.affinity, &settings.sequence, &mut self.workspace);
            if let Some(hidden) = hidden {
                user.sequence.set_hidden(hidden);
            }
            if tests
                && number >= settings.evaluate_from
                && let Some(predicted) = weights.as_deref().and_then(|weights| self.workspace.interest(weights, item))
            {
                interest.count(predicted, step.value, settings.learning.live_window);
            }
            let counted = settings.evaluate_sources && number >= settings.evaluate_from;
            let drawn = is_drawn(offset, MonitoredCounters::ALONE_EVERY);
            if tests && chosen.is_some() && (counted || drawn) {
                let ranks = self.workspace.ranking.candidates().source_ranks(item);
                if counted {
                    alone.iter_mut().zip(ranks).for_each(|(quality, rank)| quality.count(rank));
                }
                if drawn {
                    self.watched.count_source_ranks(&ranks);
                }
            }
            let desk = &mut self.workspace.ranking;
            if chosen.is_some() {
                rank = desk.rank_of(item);
                if tests {
                    self.watched.count_hit(rank, desk.source_of(item));
                }
            }
            if teaches && chosen.is_some() {
                let repeated = user.sequence.sequence.current_session().iter().any(|step| step.item == Some(item));
                user.affinity.update(desk.shares_of(item), repeated);
            }
            match chosen {
                _ if frozen || !teaches => {}
                Some(_) => {
                    desk.train(ranker, item);
                }
                None => desk.train_dismissal(ranker, item),
            }
        }

        // Then learn.
        let session_id = event.session_id.as_deref();
        let begins = user.sequence.sequence.starts_new_session(step.at, session_id, settings.sequence.idle_gap_ms);
        if begins {
            user.affinity = SourceAffinity::default();
            user.session_ix = *sessions;
            *sessions = sessions.wrapping_add(1);
        }
        let before = if begins { &[] } else { user.sequence.sequence.current_session() };
        let begun = if begins { offset } else { user.sequence.sequence.session_start };
        if begins {
            owners.begin_session(user.session_ix, begun, &event.user_id);
        }
        owners.record_step(user.session_ix, &step);
        if !frozen {
            sources.learn(&QueryContext { steps: before, session: user.session_ix, session_start: begun, now: offset }, &step);
        }
        moods.set(begun, user.affinity);
        user.sequence.advance(offset, step, session_id, &settings.sequence, weights.as_deref(), &mut self.workspace.network);
        if let Some(training) = training {
            if begins {
                training.begin_session(u64::from(user.session_ix));
            }
            if !frozen {
                training.mark_touched(u64::from(user.session_ix), &user.sequence.sequence.steps, chosen, settings.learning.window);
            }
        }
        self.state.events += 1;
        if chosen.is_some() && known && tests {
            self.count(number, rank);
        }
    }

    /// The catalog says something of an item. One that it names first is new to the sources, and
    /// begins in the network where those stand whose attributes it shares.
    fn item(&mut self, change: &ItemChange) {
        let Some(item) = self.dictionary.get(&change.item_id) else { return };
        let LearnerState { items, catalog, vocabulary, sources, training, .. } = &mut self.state;
        catalog.apply(item, &change.operation);
        let new = item as usize >= *items;
        *items = (*items).max(item as usize + 1);
        let Some(known) = catalog.get(item) else { return };
        if new {
            sources.add_new_item(item);
        }
        let values = vocabulary.encode(known);
        let alike = vocabulary.similar_items(&values);
        vocabulary.record_item(item, &values);
        if let Some(training) = training {
            if new && !alike.is_empty() {
                training.add_item_like(item, alike);
            }
            training.set_attributes(item, values);
        }
    }

    fn impression(&mut self, offset: Offset, impression: &Impression) {
        let LearnerState { users, clickthrough, .. } = &mut self.state;
        let display = &mut users.get_or_create(&impression.user_id, offset).impressions;
        for (place, shown) in impression.items.iter().enumerate() {
            if let Some(item) = self.dictionary.get(&shown.item_id) {
                display.record(item, shown.source, place + 1, impression.timestamp, clickthrough);
            }
        }
    }

    /// The step of an event, and the item if choosing it is something to be predicted. `None` if
    /// its kind is no longer configured.
    fn step(&mut self, event: &Event) -> Option<(Step, Option<ItemIx>)> {
        let kinds = &self.state.settings.kinds;
        let kind = kinds.id(&event.kind)?;
        let rule = kinds.rule(kind);
        let item = event.item_id.as_deref().and_then(|name| self.dictionary.get(name));
        self.state.items = self.state.items.max(item.map_or(0, |item| item as usize + 1));
        let value = event.value.unwrap_or(rule.value);
        Some((Step { item, kind, starts_session: false, at: event.timestamp, value }, item.filter(|_| rule.target)))
    }

    fn count(&mut self, number: u64, rank: Option<usize>) {
        let state = &mut self.state;
        state.total.count(rank);
        state.live.count(rank);
        state.health.record_test(rank);
        state.curve.count(number, rank);
        if number >= state.settings.evaluate_from {
            state.counted.count(rank);
        }
    }

    /// What happens at borders; whether a training may begin there.
    fn cross(&mut self, begins: bool) -> Result<(), LearnerError> {
        let LearnerState { settings, next, items, training, clustering, health, .. } = &mut self.state;
        health.advance(*next);
        let Some(training) = training else { return Ok(()) };
        if next.is_multiple_of(settings.learning.interval) {
            let (border, begun) = (*next / settings.learning.interval, self.begun);
            let lost = |JobLost| LearnerError::BackgroundJobLost { begun };
            training.apply_finished(self.training.as_mut()).map_err(lost)?;
            health.record_training(training.total());
            if begins {
                training.begin(border, *items, &settings.kinds, &settings.learning, self.training.as_mut()).map_err(lost)?;
                self.begun = next.saturating_sub(1);
            } else {
                training.clear_touched();
            }
        }
        clustering.advance_boundary(*next, training.weights(), &settings.clusters, settings.learning.seed, self.clustering.as_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
