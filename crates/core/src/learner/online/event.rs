//! Learning of one event, in seven steps: attribute a click, score the candidates, measure the
//! prediction, train the heads of the event's objectives, train the ranker, learn the event's value,
//! update the state.
//!
//! The order is that of prequential evaluation (test, then train). The candidates are scored and
//! the prediction is measured before any part of the model learns from the event.

use super::{Learner, is_sampled};
use crate::candidates::{
    BasketStatistics, CandidateSources, ClusterSettings, Clusters, QueryContext, SessionIx, UserProfiles,
};
use crate::domain::{
    Catalog, Event, EventKind, ItemIx, ItemVectors, KindId, Offset, Placement, SourceName, Step, Timestamp,
};
use crate::evaluation::RankingMetrics;
use crate::learner::attribution::ClickThrough;
use crate::learner::declared_features::LearnedFeatures;
use crate::learner::influence::{InfluenceLimits, JudgedUser, hash_user};
use crate::learner::interests::{InterestModels, ValuedEvent};
use crate::learner::new_item_tests::NewItemTests;
use crate::learner::objective_heads::{ObjectiveEvent, ObjectiveHeads};
use crate::learner::online::monitoring::MonitoredCounters;
use crate::learner::relevance_lists::RelevanceLists;
use crate::learner::scorer::{ScoredUser, Scorer, ScoringWorkspace};
use crate::learner::session_owners::SessionOwnerIndex;
use crate::learner::source_affinities::SourceAffinities;
use crate::learner::state::LearnerConfig;
use crate::learner::training::OnlineTraining;
use crate::learner::user_table::UserState;
use crate::learner::vector_projections::VectorProjections;
use crate::nn::Weights;
use crate::ranking::{FeatureContext, Ranker, SourceAffinity};
use std::sync::Arc;

/// One event to learn, and the parts of the learner state that are read or changed when the event
/// is learned.
struct EventPass<'l> {
    offset: Offset,
    event: &'l Event,
    /// The number of this event among all events.
    number: u64,
    step: Step,
    /// The target item of the event, if it has one.
    target: Option<ItemIx>,
    /// Whether learning is paused or frozen. User sequences still advance, but nothing is trained.
    is_frozen: bool,
    /// The time of the candidate sources.
    source_time: u64,
    /// Whether the event is in the sample of events on which the model is tested.
    is_tested: bool,
    /// Whether the event is among the share of events to train on (the training share). If so, the
    /// network trains on the session of the event at the next boundary.
    is_in_training_share: bool,
    /// Whether the event is in the sample of events on which the ranker trains.
    trains_ranker: bool,
    settings: &'l LearnerConfig,
    cluster_settings: &'l ClusterSettings,
    weights: Option<Arc<Weights>>,
    clusters: Option<Arc<Clusters>>,
    user: &'l mut UserState<SourceAffinity>,
    affinities: &'l mut SourceAffinities,
    session_owners: &'l mut SessionOwnerIndex,
    next_session: &'l mut SessionIx,
    sources: &'l mut CandidateSources,
    ranker: &'l mut Ranker,
    features: &'l mut LearnedFeatures,
    catalog: &'l Catalog,
    objectives: &'l mut ObjectiveHeads,
    relevance: &'l mut RelevanceLists,
    training: &'l mut Option<OnlineTraining>,
    by_source: &'l mut [RankingMetrics; SourceName::ALL.len()],
    interests: &'l mut InterestModels,
    profiles: &'l mut UserProfiles,
    new_items: &'l mut NewItemTests,
    baskets: &'l mut BasketStatistics,
    /// The user's last purchase of the item, if the event is a purchase.
    last_purchase: Option<Timestamp>,
    vectors: &'l ItemVectors,
    projections: &'l mut VectorProjections,
    clickthrough: &'l mut ClickThrough,
    influence: &'l mut InfluenceLimits,
    monitoring: &'l mut MonitoredCounters,
    workspace: &'l mut ScoringWorkspace,
}

/// The result of one test.
pub(super) struct TestedEvent {
    /// The kind of the target event.
    pub(super) kind: KindId,
    /// The rank of the target item; `None` if it is not a candidate.
    pub(super) rank: Option<usize>,
    /// Whether the event was held back from learning.
    pub(super) is_held_back: bool,
    /// Whether the event begins a session.
    pub(super) begins_session: bool,
    /// Whether the target item was new.
    pub(super) is_new_item: bool,
}

impl Learner {
    /// Learns one event. An event of a kind that is no longer configured has no effect.
    pub(super) fn learn_event(&mut self, offset: Offset, event: &Event) {
        let Some((step, target)) = self.step_and_target(event) else { return };
        let mut last_purchase = None;
        if let Some(item) = step.item {
            let history = self.state.item_histories.get(&event.user_id).filter(|_| event.kind == EventKind::Purchase);
            last_purchase = history.and_then(|history| history.last_event(item, step.kind));
            self.state.item_histories.record_event(&event.user_id, item, step.kind, step.at);
        }
        let number = self.state.event_count;
        let measured = self.prepare_event_pass(offset, event, (step, target), last_purchase).run();
        self.state.event_count += 1;
        if let Some(test) = measured {
            self.record_test(number, test);
        }
    }

    /// Borrows the parts of the learner state that one event reads or changes.
    fn prepare_event_pass<'l>(
        &'l mut self,
        offset: Offset,
        event: &'l Event,
        (step, target): (Step, Option<ItemIx>),
        last_purchase: Option<Timestamp>,
    ) -> EventPass<'l> {
        let halvings = self.training_share_halvings();
        let state = &mut self.state;
        let (settings, number) = (&state.settings, state.event_count);
        let reduced_by_training_share = |every: u64| every.saturating_mul(1 << halvings);
        let with_clusters = !settings.candidates.without.contains(&SourceName::Clusters);
        EventPass {
            offset,
            event,
            number,
            step,
            target,
            is_frozen: state.is_frozen(),
            source_time: state.source_time(),
            is_tested: is_sampled(offset, reduced_by_training_share(settings.learning.evaluate_every)),
            is_in_training_share: is_sampled(offset, reduced_by_training_share(1)),
            trains_ranker: is_sampled(offset, reduced_by_training_share(settings.learning.teach_every)),
            settings,
            cluster_settings: &self.cluster_settings,
            weights: state.training.as_ref().map(|training| Arc::clone(training.weights())),
            clusters: state.clustering.current_clusters().filter(|_| with_clusters).cloned(),
            user: state.users.get_or_create(&event.user_id, offset),
            affinities: &mut state.affinities,
            session_owners: &mut state.session_owners,
            next_session: &mut state.next_session,
            sources: &mut state.sources,
            ranker: &mut state.ranker,
            features: &mut state.features,
            catalog: &state.catalog,
            objectives: &mut state.objectives,
            relevance: &mut state.relevance,
            training: &mut state.training,
            by_source: &mut state.by_source,
            interests: &mut state.supplement.interests,
            profiles: &mut state.profiles,
            new_items: &mut state.new_items,
            baskets: &mut state.baskets,
            last_purchase,
            vectors: state.catalog.vectors(),
            projections: &mut state.projections,
            clickthrough: &mut state.clickthrough,
            influence: &mut state.influence,
            monitoring: &mut self.monitoring,
            workspace: &mut self.workspace,
        }
    }
}

impl EventPass<'_> {
    /// Runs all steps. Returns the result if the event counts as a test.
    fn run(mut self) -> Option<TestedEvent> {
        let is_click = self.attribute_click();
        let sequence = &self.user.state.sequence;
        let (session_id, idle_gap_ms) = (self.event.session_id.as_deref(), self.settings.sequence.idle_gap_ms);
        let placement = sequence.place(self.step.at, session_id, idle_gap_ms);
        // A late event of an earlier session is not scored. A request for recommendations would be
        // answered from the current session, so its list says nothing about this event.
        let has_history = !sequence.steps.is_empty() && placement.is_current;
        let is_predictable = self.target.is_some() || self.step.is_dismissal();
        let is_held_back = self.is_held_back(is_predictable);
        self.trains_ranker &= !is_held_back;
        let is_scored = has_history && is_predictable && (self.is_tested || self.trains_ranker);
        let mut rank = None;
        if let Some(item) = self.step.item.filter(|_| is_scored) {
            self.score_candidates(placement.starts_session());
            rank = self.measure_prediction(item);
            self.measure_features(item, is_held_back);
            if !is_held_back {
                self.learn_objectives(is_click);
            }
            self.train_ranker(item);
        }
        let is_new_item = self.target.is_some_and(|item| self.new_items.is_new(item));
        self.learn_interest(is_held_back);
        if let Some(item) = self.target.filter(|_| !is_held_back && !self.is_frozen) {
            let window_ms = self.settings.learning.credit_window_ms;
            self.relevance.learn_click(&self.event.user_id, item, self.step.at, window_ms);
        }
        self.update_state(&placement, is_held_back);
        let begins_session = placement.starts_session();
        (has_history && self.is_tested && self.target.is_some()).then_some(TestedEvent {
            kind: self.step.kind,
            rank,
            is_held_back,
            begins_session,
            is_new_item,
        })
    }

    /// Whether the event exceeds the limits on its user's influence.
    fn is_held_back(&mut self, is_predictable: bool) -> bool {
        if self.user.state.sequence.steps.is_empty() {
            self.user.history.since = self.influence.counted();
        }
        let user = JudgedUser { hash: hash_user(&self.event.user_id), since: self.user.history.since };
        let judged = self.step.item.filter(|_| is_predictable && !self.is_frozen);
        judged.is_some_and(|item| self.influence.judge(user, item).is_err())
    }

    /// If the target item was recently displayed to the user, counts a click for that display.
    /// Returns whether it did.
    fn attribute_click(&mut self) -> bool {
        let window_ms = self.settings.learning.credit_window_ms;
        self.target
            .is_some_and(|item| self.user.impressions.attribute_click(item, self.step.at, window_ms, self.clickthrough))
    }

    /// Tests and trains the heads of the objectives to which the event belongs.
    fn learn_objectives(&mut self, is_click: bool) {
        let Some(item) = self.target else { return };
        let event = ObjectiveEvent {
            item,
            is_click,
            is_conversion: EventKind::CONVERSIONS.contains(&self.event.kind),
            value: self.event.value,
            is_tested: self.is_tested,
            is_learned: self.trains_ranker && !self.is_frozen,
        };
        self.objectives.learn_event(&event, &mut self.workspace.ranking);
    }

    /// Scores candidates for the user, as a request just before the event would. If the ranker does
    /// not train on the event, restores the cached hidden state afterwards, so that tests do not
    /// affect learning.
    fn score_candidates(&mut self, begins_session: bool) {
        let user = &mut *self.user;
        let hidden = (!self.trains_ranker).then(|| user.state.cached_hidden_state().cloned());
        let scorer = Scorer {
            weights: self.weights.as_deref(),
            clusters: self.clusters.as_deref(),
            sources: self.sources,
            ranker: self.ranker,
            features: self.features.scorer(self.catalog),
            cluster_settings: self.cluster_settings,
            now: self.source_time,
            head: None,
        };
        let about = ScoredUser {
            session: user.session_ix,
            affinity: &user.affinity,
            profile: self.profiles.get(&self.event.user_id),
            begins_session,
            declared: FeatureContext {
                user: self.features.attributes_of(&self.event.user_id),
                context: self.event.details.as_deref().map(|details| &details.context),
            },
        };
        scorer.score(&mut user.state, &about, &self.settings.sequence, self.workspace);
        if let Some(hidden) = hidden {
            user.state.set_hidden_state(hidden);
        }
    }

    /// Measures how well the ranking and each source predicted the event. Returns the rank of the
    /// target item.
    fn measure_prediction(&mut self, item: ItemIx) -> Option<usize> {
        let is_counted = self.number >= self.settings.evaluate_from;
        self.target?;
        if self.is_tested {
            self.measure_sources(item, is_counted && self.settings.evaluate_sources);
        }
        let ranking = &self.workspace.ranking;
        let rank = ranking.rank_of(item);
        if self.is_tested {
            self.monitoring.count_hit(rank, ranking.source_of(item));
        }
        rank
    }

    /// Measures the gains of the declared features, if the event is in their sample.
    fn measure_features(&mut self, item: ItemIx, is_held_back: bool) {
        let is_measured = is_sampled(self.offset, LearnedFeatures::EVENTS_PER_GAIN_SAMPLE);
        if self.target.is_some() && !is_held_back && is_measured {
            let ScoringWorkspace { ranking, features: values, .. } = &mut *self.workspace;
            let target = ranking.candidates().position_of(item);
            self.features.measure(ranking, values, target);
        }
    }

    /// Records the rank that each source alone gave to the target item.
    fn measure_sources(&mut self, item: ItemIx, is_counted: bool) {
        let is_monitored = is_sampled(self.offset, MonitoredCounters::TESTS_PER_SOURCE_SAMPLE);
        if !is_counted && !is_monitored {
            return;
        }
        let ranks = self.workspace.ranking.candidates().source_ranks(item);
        if is_counted {
            self.by_source.iter_mut().zip(ranks).for_each(|(metrics, rank)| metrics.record_rank(rank));
        }
        if is_monitored {
            self.monitoring.count_source_ranks(&ranks);
        }
    }

    /// Trains the ranker: raises the score of a target item, or lowers the score of a dismissed
    /// item. Also updates the source affinity of the session.
    fn train_ranker(&mut self, item: ItemIx) {
        if !self.trains_ranker {
            return;
        }
        let ScoringWorkspace { ranking, features: values, .. } = &mut *self.workspace;
        if self.target.is_some() {
            let is_repeat = self.user.state.sequence.current_session().iter().any(|step| step.item == Some(item));
            self.user.affinity.update(ranking.share_features_of(item), is_repeat);
        }
        match self.target {
            _ if self.is_frozen => {}
            Some(_) => {
                let weight = self.settings.kinds.weight_of(self.step.kind);
                if ranking.train_ranker(self.ranker, item, weight).is_some() {
                    self.features.learn(ranking, values);
                }
            }
            None => ranking.train_dismissal(self.ranker, item),
        }
    }

    /// Tests the interest model of the event's kind on the value that the event carries, and trains
    /// it.
    fn learn_interest(&mut self, is_held_back: bool) {
        let (Some(item), Some(value)) = (self.step.item, self.event.value) else { return };
        let event = ValuedEvent {
            user: &self.event.user_id,
            item,
            kind: self.step.kind,
            scale: self.settings.kinds.rule_of(self.step.kind).interest,
            value,
            at: self.event.timestamp,
            is_learned: !self.is_frozen && !is_held_back,
            is_evaluated: self.number >= self.settings.evaluate_from,
        };
        self.interests.learn_event(&event, self.settings.learning.live_window);
    }

    /// Updates the candidate sources, the user's sequence and hidden state, and the sessions for
    /// the next training.
    fn update_state(&mut self, placement: &Placement, is_held_back: bool) {
        let EventSession { number, session_start, is_new } = self.enter_session(placement);
        self.session_owners.record_step(number, &self.step);
        if !self.is_frozen && !is_held_back {
            let steps = placement.preceding(&self.user.state.sequence);
            let context = QueryContext {
                steps,
                session: number,
                session_start,
                now: self.source_time,
                ..QueryContext::default()
            };
            self.sources.learn(&context, &self.step);
            self.learn_basket(placement);
            if let Some(item) = self.target {
                self.new_items.count_event(item);
                if !self.new_items.is_new(item) && self.vectors.vectors_of(item).next().is_some() {
                    self.projections.add_touched_item(item);
                }
            }
        }
        let user = &mut *self.user;
        if placement.is_kept {
            user.history.add_step(is_held_back, placement.is_appended);
        }
        let (params, network) = (&self.settings.sequence, &mut self.workspace.network);
        let session_id = self.event.session_id.as_deref();
        user.state.advance(self.offset, self.step, session_id, params, self.weights.as_deref(), network);
        if placement.is_current {
            self.affinities.set_affinity(user.state.sequence.session_start, user.affinity);
        }
        if let Some(training) = self.training {
            if is_new {
                training.begin_session(u64::from(number));
            }
            if !self.is_frozen && self.is_in_training_share && placement.is_kept && !is_held_back {
                let steps = user.taught_steps(placement.session_end);
                training.add_touched_session(u64::from(number), &steps, self.target, self.settings.learning.window);
            }
        }
    }

    /// If the event is a purchase or puts an item into the cart, adds the item to the basket of its
    /// session.
    fn learn_basket(&mut self, placement: &Placement) {
        let is_basket_kind = |kind: &EventKind| matches!(kind, EventKind::Purchase | EventKind::Cart);
        let Some(item) = self.target.filter(|_| is_basket_kind(&self.event.kind)) else { return };
        let kinds = [EventKind::Purchase, EventKind::Cart].map(|kind| self.settings.kinds.id_of(&kind));
        let is_basket_event = |step: &Step| kinds.contains(&Some(step.kind)) && !step.is_dismissal();
        self.baskets.learn(placement.preceding(&self.user.state.sequence), item, is_basket_event);
        if let Some(last) = self.last_purchase {
            self.baskets.add_repeat(item, last, self.step.at);
        }
    }

    /// Finds the event's session, or begins one. Makes the session the user's current one if the
    /// event does.
    fn enter_session(&mut self, placement: &Placement) -> EventSession {
        let user = &mut *self.user;
        if placement.continues_current {
            let session_start = user.state.sequence.session_start;
            return EventSession { number: user.session_ix, session_start, is_new: false };
        }
        // The neighbour search keeps only the latest sessions.
        let next = *self.next_session;
        let is_remembered =
            |number: &SessionIx| (next.wrapping_sub(*number) as usize) <= self.settings.candidates.sessions;
        let earlier = placement.session_start.and_then(|start| self.session_owners.session_at(start));
        let earlier = earlier.filter(is_remembered);
        let session = EventSession {
            number: earlier.unwrap_or(next),
            session_start: placement.session_start.unwrap_or(self.offset),
            is_new: earlier.is_none(),
        };
        if session.is_new {
            *self.next_session = next.wrapping_add(1);
            self.session_owners.begin_session(session.number, self.offset, &self.event.user_id);
        }
        if placement.is_current {
            if session.is_new {
                // The session before is finished.
                let finished = user.state.sequence.current_session().iter();
                let kinds = &self.settings.kinds;
                let targets = finished.filter_map(|step| Some((step.target_item(kinds)?, step.kind, step.at)));
                self.profiles.add_session(&self.event.user_id, targets);
            }
            user.session_ix = session.number;
            user.affinity = match placement.starts_session() {
                true => SourceAffinity::default(),
                false => self.affinities.affinity_of_session(session.session_start),
            };
        }
        session
    }
}

/// The session of an event.
struct EventSession {
    number: SessionIx,
    session_start: Offset,
    /// Whether the session begins with the event.
    is_new: bool,
}
