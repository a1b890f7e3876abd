//! The online learner: applies journal entries in order. The learner evaluates the model on each
//! event before it trains on the event.

mod event;
mod monitoring;
mod steering;
mod user_lifecycle;

use crate::candidates::ClusterSettings;
use crate::domain::{
    Entry, Event, Impression, ImpressionItem, ItemChange, ItemIx, ModelChange, Offset, SourceName, Step,
};
use crate::registries::ItemDictionary;
use std::sync::Arc;
use std::time::Duration;

use super::attribution::DisplayedItem;
use super::background_jobs::BackgroundJobs;
use super::clustering::ClusteringResult;
use super::error::LearnerError;
use super::model_health::ModelHealth;
use super::pretrained::PretrainedNetwork;
use super::scorer::ScoringWorkspace;
use super::sequence_state::SequenceState;
use super::shared_training::TrainingExchange;
use super::snapshot::ModelSnapshot;
use super::state::{LearnerConfig, LearnerState, LearningReport};
use super::state_history::StateHistory;
use super::training::{OnlineTraining, TrainingOutcome};
use event::TestedEvent;
use monitoring::MonitoredCounters;

/// Whether an offset belongs to the sample of one in `every` offsets. If `every` is 0, no offset
/// does. The offset is hashed, so that a periodic pattern in the traffic does not bias the sample.
fn is_sampled(offset: Offset, every: u64) -> bool {
    let mixed = offset.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    every > 0 && (mixed ^ mixed >> 32).is_multiple_of(every)
}

/// Dependencies of the learner: runners of background jobs, and access to earlier states.
pub struct LearnerDeps {
    /// Runs the training jobs of the network.
    pub training: Box<dyn BackgroundJobs<TrainingOutcome>>,
    /// Runs the clustering jobs.
    pub clustering: Box<dyn BackgroundJobs<ClusteringResult>>,
    /// Reconstructs earlier states, for rollbacks.
    pub state_history: Box<dyn StateHistory>,
}

/// The online learner, which applies journal entries one by one. The learner is deterministic: the
/// same entries and settings give the same state.
pub struct Learner {
    state: LearnerState,
    dictionary: Arc<ItemDictionary>,
    cluster_settings: Arc<ClusterSettings>,
    training: Box<dyn BackgroundJobs<TrainingOutcome>>,
    clustering: Box<dyn BackgroundJobs<ClusteringResult>>,
    state_history: Box<dyn StateHistory>,
    /// Shares trainings with other learners; `None` if this learner does all trainings itself.
    training_exchange: Option<Arc<dyn TrainingExchange>>,
    /// Offset of the last entry before the pending training began.
    training_begun_after: Offset,
    monitoring: MonitoredCounters,
    workspace: ScoringWorkspace,
}

impl Learner {
    /// Creates a learner. If `state` (read from a checkpoint) is given, the learner continues from
    /// it. Otherwise it starts at `first`, the first entry of the journal, optionally with a
    /// pretrained network.
    ///
    /// A state that was learned under other settings is discarded. If the journal no longer
    /// contains its first entries (`first > 0`), the catalog and the vocabulary of that state are
    /// kept, because they cannot be derived from the journal again.
    ///
    /// # Errors
    /// [`LearnerError::Network`] or [`LearnerError::Candidates`] if the settings are invalid,
    /// [`LearnerError::PretrainedMismatch`] if the pretrained network does not match the settings.
    pub fn new(
        settings: LearnerConfig,
        dictionary: Arc<ItemDictionary>,
        state: Option<LearnerState>,
        first: Offset,
        pretrained: Option<PretrainedNetwork>,
        deps: LearnerDeps,
    ) -> Result<Self, LearnerError> {
        let LearnerDeps { training, clustering, state_history } = deps;
        let cluster_settings = Arc::new(settings.clusters.clone());
        let state = match state {
            Some(state) if state.matches_settings(&settings) => state,
            other => {
                let mut state = LearnerState::new(settings, pretrained)?;
                if let Some(other) = other.filter(|_| first > 0) {
                    (state.catalog, state.vocabulary, state.item_count) =
                        (other.catalog, other.vocabulary, other.item_count.max(state.item_count));
                    state.features.keep_attributes(other.features);
                }
                state.next_offset = first;
                state
            }
        };
        let monitoring = MonitoredCounters::new(state.settings.learning.live_window, state.settings.kinds.len());
        let workspace = ScoringWorkspace::default();
        let mut learner = Self {
            state,
            dictionary,
            cluster_settings,
            training,
            clustering,
            state_history,
            training_exchange: None,
            training_begun_after: 0,
            monitoring,
            workspace,
        };
        if let Some(training) = &mut learner.state.training {
            training.share_rows();
        }
        learner.order_rows_by_cluster();
        Ok(learner)
    }

    /// Lets the learner share its trainings with other learners that have the same state.
    #[must_use]
    pub fn with_training_exchange(mut self, exchange: Option<Arc<dyn TrainingExchange>>) -> Self {
        self.training_exchange = exchange;
        self
    }

    /// The offset of the next entry to apply.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.state.next_offset
    }

    /// Number of events that were held back so far.
    #[must_use]
    pub fn held_back_count(&self) -> u64 {
        self.state.influence.held_back().iter().sum()
    }

    /// Waits for the background jobs whose results [`Learner::apply`] needs at the next entry: at most
    /// `longest` for each of the two kinds of jobs. Returns whether the entry can be applied without
    /// waiting.
    pub fn wait_for_due_jobs(&mut self, longest: Duration) -> bool {
        let LearnerState { settings, next_offset, training, clustering, .. } = &self.state;
        if training.is_none() {
            return true;
        }
        let next = next_offset + 1;
        let needs_training = next.is_multiple_of(settings.learning.interval);
        let needs_clustering = clustering.needs_result_at(next, &settings.clusters);
        (!needs_training || self.training.wait(longest)) && (!needs_clustering || self.clustering.wait(longest))
    }

    /// Waits for all background jobs: at most `longest` for each of the two kinds of jobs. Returns
    /// whether [`Learner::state`] does not wait.
    pub fn wait_for_all_jobs(&mut self, longest: Duration) -> bool {
        self.training.wait(longest) && self.clustering.wait(longest)
    }

    /// Applies the journal entry at `offset`.
    ///
    /// # Errors
    /// [`LearnerError::OutOfOrder`] if the entry is not the next entry,
    /// [`LearnerError::BackgroundJobLost`] if a background job returned no result,
    /// [`LearnerError::HistoryUnavailable`] if a rollback needs a state that cannot be
    /// reconstructed.
    pub fn apply(&mut self, offset: Offset, entry: &Entry) -> Result<(), LearnerError> {
        self.check_order(offset)?;
        let is_frozen = self.state.is_frozen();
        match entry {
            Entry::Event(event) => self.learn_event(offset, event),
            Entry::Impression(impression) => self.record_impression(offset, impression),
            Entry::Item(change) => self.apply_item_change(change),
            Entry::Model(change) => self.apply_model_change(offset, change)?,
            Entry::Merge(merge) => self.merge_users(offset, merge),
            Entry::Erase(erasure) => self.erase_user(&erasure.user_id),
            Entry::Expire(expiry) => self.apply_expiry(expiry),
            Entry::UserAttributes(change) => self.state.features.change_attributes(change),
            Entry::Private(_)
            | Entry::Consent(_)
            | Entry::Tombstone
            | Entry::Purge(_)
            | Entry::Placement(_)
            | Entry::Rule(_) => {}
        }
        self.state.supplement.frozen_entries += u64::from(is_frozen);
        self.state.next_offset = offset + 1;
        self.run_boundary_work(true)
    }

    /// Skips an entry that cannot be applied. If the entry is the last one before a training
    /// boundary, no training begins at that boundary.
    ///
    /// # Errors
    /// As [`Learner::apply`].
    pub fn skip_entry(&mut self, offset: Offset) -> Result<(), LearnerError> {
        self.check_order(offset)?;
        self.state.supplement.frozen_entries += u64::from(self.state.is_frozen());
        self.state.next_offset = offset + 1;
        self.run_boundary_work(false)
    }

    fn check_order(&self, offset: Offset) -> Result<(), LearnerError> {
        let expected = self.state.next_offset;
        if offset == expected { Ok(()) } else { Err(LearnerError::OutOfOrder { expected, got: offset }) }
    }

    /// The learned state, for a checkpoint. Waits for pending background jobs.
    ///
    /// # Errors
    /// [`LearnerError::BackgroundJobLost`] if a background job returned no result.
    pub fn state(&mut self) -> Result<&LearnerState, LearnerError> {
        let LearnerState { training, clustering, .. } = &mut self.state;
        if let Some(training) = training {
            let begun = self.training_begun_after;
            training
                .finish_pending(self.training.as_mut())
                .map_err(|source| LearnerError::BackgroundJobLost { begun, source })?;
        }
        clustering.finish_pending(self.clustering.as_mut());
        Ok(&self.state)
    }

    /// The sequence state of a user: the latest steps and the network's hidden state. `None` for an
    /// unknown user.
    #[must_use]
    pub fn sequence_state(&self, user: &str) -> Option<&SequenceState> {
        self.state.users.get(user).map(|user| &user.state)
    }

    /// The latest operations on the model with their journal offsets, oldest first.
    pub fn model_operations(&self) -> impl Iterator<Item = &(Offset, ModelChange)> {
        self.state.operations.iter()
    }

    /// The model health, which the watchdog checks.
    #[must_use]
    pub fn health(&self) -> &ModelHealth {
        &self.state.health
    }

    /// Creates an immutable snapshot of the model. The snapshot shares its data with the learner;
    /// the learner copies a part before it changes that part.
    #[must_use]
    pub fn snapshot(&self) -> ModelSnapshot {
        let state = &self.state;
        let boundary = state.training.as_ref().map_or(0, OnlineTraining::trained_boundary);
        ModelSnapshot {
            offset: state.next_offset,
            trained_through: boundary * state.settings.learning.interval,
            weights: state.training.as_ref().map(|training| Arc::clone(training.weights())),
            clusters: state.clustering.current_clusters().cloned(),
            item_count: state.item_count,
            catalog: state.catalog.clone(),
            sources: state.sources.clone(),
            ranker: state.ranker.clone(),
            features: state.features.clone(),
            affinities: state.affinities.clone(),
            unproven: state.influence.unproven().clone(),
            interests: state.supplement.interests.snapshot(),
            profiles: state.profiles.map().clone(),
            item_histories: state.item_histories.map().clone(),
            baskets: state.baskets.clone(),
            heads: state.objectives.heads(),
            relevance: state.relevance.model,
            source_time: state.source_time(),
            cluster_settings: Arc::clone(&self.cluster_settings),
        }
    }

    /// The version of the weights that snapshots contain, 0 before the first training.
    #[must_use]
    pub fn weights_version(&self) -> u64 {
        self.state.training.as_ref().map_or(0, |training| training.weights().version())
    }

    /// The measurements and training totals so far.
    #[must_use]
    pub fn report(&self) -> LearningReport {
        LearningReport {
            hits_by_source: self.monitoring.hits_by_source(),
            live_by_source: self.monitoring.live_metrics_by_source(),
            by_kind: self.monitoring.quality_by_kind(),
            ..self.state.report()
        }
    }

    /// Applies a catalog change. Adds a new item to the candidate sources and the network. The
    /// initial embedding of a new item is the mean of the embeddings of the items that share its
    /// attributes, and the embedding predicted from its vectors.
    fn apply_item_change(&mut self, change: &ItemChange) {
        let Some(item) = self.dictionary.get(&change.item_id) else { return };
        let LearnerState { item_count: items, catalog, vocabulary, sources, training, supplement, new_items, .. } =
            &mut self.state;
        catalog.apply(item, &change.operation);
        let is_new = item as usize >= *items;
        *items = (*items).max(item as usize + 1);
        let Some(known) = catalog.get(item) else { return };
        if is_new {
            sources.add_new_item(item);
        }
        let values = vocabulary.attribute_numbers(known);
        let similar = vocabulary.similar_items(&values);
        vocabulary.record_item(item, &values);
        supplement.interests.add_new_item(item, &similar);
        if let Some(training) = training {
            let gets_vectors = change.operation.vectors().next().is_some() && new_items.has_no_event(item);
            if gets_vectors || is_new && !similar.is_empty() {
                training.add_new_item(item, similar);
            }
            training.set_attributes(item, values);
        }
    }

    /// Records the displayed items, for click attribution. Impressions do not train the model.
    ///
    /// Ignores items that no earlier entry contains. The dictionary may already know such an item,
    /// because it is ahead of the learner, by an amount that depends on the time.
    fn record_impression(&mut self, offset: Offset, impression: &Impression) {
        let LearnerState { users, clickthrough, item_histories, relevance, item_count, .. } = &mut self.state;
        let number = |item: &str| self.dictionary.get(item).filter(|item| (*item as usize) < *item_count);
        relevance.record_impression(impression, number);
        let Impression { user_id, timestamp, items, .. } = impression;
        let number_of = |(index, shown): (usize, &ImpressionItem)| {
            Some(DisplayedItem { item: number(&shown.item_id)?, source: shown.source, position: index + 1 })
        };
        let displayed: Vec<_> = items.iter().enumerate().filter_map(number_of).collect();
        item_histories.record_shown(user_id, displayed.iter().map(|displayed| displayed.item), *timestamp);
        if !impression.is_reported() {
            // Clicks are counted by source. The sources of the items of a reported list are not known.
            let impressions = &mut users.get_or_create(user_id, offset).impressions;
            impressions.record_displayed_items(&displayed, *timestamp, clickthrough);
        }
    }

    /// Converts an event to a step. Returns the step, and its target item if the event is a target
    /// event. `None` if the event kind is no longer configured.
    fn step_and_target(&mut self, event: &Event) -> Option<(Step, Option<ItemIx>)> {
        let kinds = &self.state.settings.kinds;
        let kind = kinds.id_of(&event.kind)?;
        let item = event.item_id.as_deref().and_then(|name| self.dictionary.get(name));
        self.state.item_count = self.state.item_count.max(item.map_or(0, |item| item as usize + 1));
        let value = kinds.step_value(kind, event.value);
        let step = Step { item, kind, starts_session: false, at: event.timestamp, value };
        Some((step, step.target_item(kinds)))
    }

    /// Adds the test of event `number` to the metrics. The live metrics and the watchdog ignore events
    /// that were held back, because the model is not meant to predict them.
    fn record_test(&mut self, number: u64, test: TestedEvent) {
        let TestedEvent { kind, rank, is_held_back, begins_session, is_new_item } = test;
        let state = &mut self.state;
        self.monitoring.count_kind_test(kind, rank, !is_held_back, number >= state.settings.evaluate_from);
        state.total.record_rank(rank);
        if !is_held_back {
            state.live.record_rank(rank);
            state.health.record_test(rank);
            if is_new_item {
                state.new_items.live.record_rank(rank);
            }
        }
        state.curve.record_step(number, rank);
        if number >= state.settings.evaluate_from {
            state.evaluated.record_rank(rank);
            if begins_session {
                state.first_events.record_rank(rank);
            }
            if is_new_item {
                state.new_items.evaluated.record_rank(rank);
            }
        }
    }

    /// Does the work that is due at the next offset. At a training boundary (every
    /// `learning.interval` entries), puts the weights of the training that began at the previous
    /// boundary into use. Then begins the next training, if `may_begin` is true. Also does the
    /// clustering work that is due.
    fn run_boundary_work(&mut self, may_begin: bool) -> Result<(), LearnerError> {
        let LearnerState {
            settings,
            next_offset: next,
            item_count: items,
            catalog,
            training,
            clustering,
            health,
            projections,
            ..
        } = &mut self.state;
        health.advance_to(*next);
        let Some(training) = training else { return Ok(()) };
        if next.is_multiple_of(settings.learning.interval) {
            let (boundary, begun) = (*next / settings.learning.interval, self.training_begun_after);
            let lost = |source| LearnerError::BackgroundJobLost { begun, source };
            training.use_finished_weights(self.training.as_mut()).map_err(lost)?;
            health.record_training(training.totals());
            projections.learn_touched_items(catalog.vectors(), training.weights());
            if may_begin {
                let predict_row = |item| projections.predict_row(catalog.vectors().vectors_of(item));
                let (kinds, learning) = (&settings.kinds, &settings.learning);
                let (jobs, exchange) = (self.training.as_mut(), self.training_exchange.clone());
                let begun = training.begin_training((boundary, *items), kinds, learning, predict_row, jobs, exchange);
                begun.map_err(lost)?;
                self.training_begun_after = next.saturating_sub(1);
            } else {
                training.discard_touched_sessions();
            }
        }
        clustering.run_due_work(
            *next,
            training.weights(),
            &settings.clusters,
            settings.learning.seed,
            self.clustering.as_mut(),
        );
        self.order_rows_by_cluster();
        Ok(())
    }

    /// Orders the rows of the network's quantised index by the clusters in use, if the catalog is
    /// large and the clusters are enabled. Does nothing if the rows already have this order.
    fn order_rows_by_cluster(&mut self) {
        let LearnerState { settings, training, clustering, .. } = &mut self.state;
        let Some(training) = training else { return };
        let is_enabled = training.weights().item_count() > settings.clusters.exact_up_to
            && !settings.candidates.without.contains(&SourceName::Clusters);
        let ordered = clustering.take_ordered_weights();
        training.order_rows(clustering.current_clusters().filter(|_| is_enabled), ordered);
    }
}

#[cfg(test)]
mod tests;
