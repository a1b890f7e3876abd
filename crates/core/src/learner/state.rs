//! The learner's state, its configuration and its report.

use crate::candidates::{
    BasketStatistics, CandidateSettings, CandidateSources, ClusterSettings, ProfileSettings, SessionIx, UserProfiles,
};
use crate::domain::{Catalog, EventKinds, ItemVectors, KindId, ModelChange, Offset, SourceName};
use crate::evaluation::{LearningCurve, RankingMetrics, SlidingRankingMetrics};
use crate::interest::InterestSettings;
use crate::nn::NetworkSettings;
use crate::ranking::{FeatureDeclarations, Ranker, SourceAffinity};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::error::LearnerError;
use crate::learner::attribution::{ClickThrough, POSITION_BUCKETS};
use crate::learner::clustering::ClusteringSchedule;
use crate::learner::declared_features::LearnedFeatures;
use crate::learner::influence::{HeldBack, InfluenceLimits, UserHistory};
use crate::learner::interests::{InterestModels, InterestReport};
use crate::learner::item_history::ItemHistories;
use crate::learner::model_health::ModelHealth;
use crate::learner::new_item_tests::NewItemTests;
use crate::learner::objective_heads::{HeadQuality, ObjectiveHeads};
use crate::learner::pretrained::PretrainedNetwork;
use crate::learner::relevance_lists::RelevanceLists;
use crate::learner::sequence_state::SequenceParams;
use crate::learner::session_owners::SessionOwnerIndex;
use crate::learner::settings::LearningSettings;
use crate::learner::source_affinities::SourceAffinities;
use crate::learner::training::OnlineTraining;
use crate::learner::training_report::TrainingReport;
use crate::learner::user_table::{EarlierSessions, UserTable};
use crate::learner::vector_projections::VectorProjections;
use crate::learner::vocabulary::AttributeVocabulary;

/// The configuration of the learner: all settings on which the learned state depends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LearnerConfig {
    /// Settings of online learning: training boundaries, training windows, replay.
    pub learning: LearningSettings,
    /// Settings of the network.
    pub network: NetworkSettings,
    /// Settings of item clustering.
    pub clusters: ClusterSettings,
    /// The event kinds and their rules.
    pub kinds: EventKinds,
    /// Parameters of the users' sequence states: when a session ends, and when a hidden state is
    /// recomputed.
    pub sequence: SequenceParams,
    /// Settings of the candidate sources, including which sources are disabled.
    pub candidates: CandidateSettings,
    /// Tests count in [`LearningReport::evaluated`] from the event with this number on.
    pub evaluate_from: u64,
    /// Whether to measure each source alone from the event `evaluate_from` on.
    pub evaluate_sources: bool,
    /// From the event with this number on, learning is frozen: user sequences still advance, but
    /// the model does not change. Published benchmarks evaluate a frozen model in this way.
    pub freeze_from: Option<u64>,
    /// Settings of the interest models. Checkpoints store them with the models.
    #[serde(skip)]
    pub interest: InterestSettings,
    /// Settings of the long-term profiles. Checkpoints store them with the profiles.
    #[serde(skip)]
    pub profiles: ProfileSettings,
    /// The declared features. Checkpoints store them with their weights.
    #[serde(skip)]
    pub features: FeatureDeclarations,
}

/// Ranking quality over the tests whose target event is of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KindQuality {
    /// The kind.
    pub kind: KindId,
    /// Ranking metrics over the tests from event `evaluate_from` on.
    pub evaluated: RankingMetrics,
    /// Ranking metrics over the latest tests (live metrics).
    pub live: RankingMetrics,
}

/// Measurements and training totals so far.
#[derive(Debug, Clone)]
pub struct LearningReport {
    /// Number of applied events.
    pub events: u64,
    /// Number of known items.
    pub items: usize,
    /// Number of users in the user table.
    pub users: usize,
    /// Number of clusters in use.
    pub clusters: usize,
    /// Ranking metrics over all tests.
    pub total: RankingMetrics,
    /// Number of tests whose target item had a rank in the top 20, by the source that generated the
    /// item, in the order of [`SourceName::ALL`]. Counts only tests since the learner started.
    pub hits_by_source: [u64; SourceName::ALL.len()],
    /// Ranking metrics of each source alone, in the order of [`SourceName::ALL`]. They cover the
    /// latest of the sampled tests in which the sources are measured. Counts only tests since the
    /// learner started.
    pub live_by_source: [RankingMetrics; SourceName::ALL.len()],
    /// Ranking metrics by the kind of the target event, for the kinds with tests. Counts only tests
    /// since the learner started.
    pub by_kind: Vec<KindQuality>,
    /// Ranking metrics over the latest tests (live metrics).
    pub live: RankingMetrics,
    /// Ranking metrics over the tests from event `evaluate_from` on.
    pub evaluated: RankingMetrics,
    /// Ranking metrics over those of these tests whose event begins a session of a returning user.
    pub evaluated_first_events: RankingMetrics,
    /// Ranking metrics over those of these tests whose target item was new: fewer than 5 of its
    /// target events had been learned.
    pub evaluated_new_items: RankingMetrics,
    /// Ranking metrics over the latest tests whose target item was new (live metrics).
    pub live_new_items: RankingMetrics,
    /// Ranking metrics of each source alone over the same tests as `evaluated`, in the order of
    /// [`SourceName::ALL`]. Empty unless `evaluate_sources` is set.
    pub by_source: [RankingMetrics; SourceName::ALL.len()],
    /// Errors of the interest models, in the order of the kinds. Kinds without values are absent.
    pub interest: Vec<InterestReport>,
    /// Numbers of displayed and of clicked items.
    pub clickthrough: ClickThrough,
    /// Ranking metrics for consecutive intervals of the event stream.
    pub curve: LearningCurve,
    /// Totals over all trainings of the network.
    pub training: TrainingReport,
    /// The learning rate of the network; `None` without a network.
    pub learning_rate: Option<f32>,
    /// Whether learning is paused.
    pub is_paused: bool,
    /// Events held back from learning, by reason, in the order of [`HeldBack::ALL`].
    pub held_back: [u64; HeldBack::ALL.len()],
    /// The quality of the head of each objective.
    pub objectives: Vec<HeadQuality>,
}

/// The complete learned state, as stored in checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LearnerState {
    pub(super) settings: LearnerConfig,
    pub(super) next_offset: Offset,
    pub(super) event_count: u64,
    pub(super) item_count: usize,
    pub(super) catalog: Catalog,
    pub(super) vocabulary: AttributeVocabulary,
    pub(super) next_session: SessionIx,
    pub(super) users: UserTable<SourceAffinity>,
    pub(super) affinities: SourceAffinities,
    pub(super) session_owners: SessionOwnerIndex,
    pub(super) sources: CandidateSources,
    pub(super) ranker: Ranker,
    pub(super) training: Option<OnlineTraining>,
    pub(super) clustering: ClusteringSchedule,
    pub(super) total: RankingMetrics,
    pub(super) live: SlidingRankingMetrics,
    pub(super) evaluated: RankingMetrics,
    #[serde(with = "super::encoded_sources")]
    pub(super) by_source: [RankingMetrics; SourceName::ALL.len()],
    /// An error that earlier versions measured. It is part of the encoding.
    pub(super) unused_error: (u64, f64, f64),
    pub(super) clickthrough: ClickThrough,
    pub(super) curve: LearningCurve,
    pub(super) is_paused: bool,
    /// The latest operations on the model, with their journal offsets.
    pub(super) operations: VecDeque<(Offset, ModelChange)>,
    pub(super) health: ModelHealth,
    /// The limits on the influence of single users and of new users. Checkpoints store them in the
    /// extension.
    #[serde(skip)]
    pub(super) influence: InfluenceLimits,
    /// The newer parts. Checkpoints store them after the extension.
    #[serde(skip)]
    pub(super) supplement: LearnerStateSupplement,
    /// The long-term profiles. Checkpoints store them after the supplement.
    #[serde(skip)]
    pub(super) profiles: UserProfiles,
    /// Metrics of the first events of sessions. Checkpoints store them with the profiles.
    #[serde(skip)]
    pub(super) first_events: RankingMetrics,
    /// Metrics of new items. Checkpoints store them after the profiles.
    #[serde(skip)]
    pub(super) new_items: NewItemTests,
    /// The projections of item vectors. Checkpoints store them with the vectors, after the new
    /// items.
    #[serde(skip)]
    pub(super) projections: VectorProjections,
    /// The item histories of the users. Checkpoints store them after the vectors.
    #[serde(skip)]
    pub(super) item_histories: ItemHistories,
    /// The baskets. Checkpoints store them after the item histories.
    #[serde(skip)]
    pub(super) baskets: BasketStatistics,
    /// The declared features. Checkpoints store them after the baskets.
    #[serde(skip)]
    pub(super) features: LearnedFeatures,
    /// The heads of the ranker. Checkpoints store them after the declared
    /// features.
    #[serde(skip)]
    pub(super) objectives: ObjectiveHeads,
    /// The combination of scores with the relevance of a site. Checkpoints store it after the
    /// objectives.
    #[serde(skip)]
    pub(super) relevance: RelevanceLists,
}

/// The part of the state that checkpoints store after the [`LearnerState`], whose encoding is
/// fixed. Checkpoints of earlier versions end before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LearnerStateExtension {
    earlier_sessions: EarlierSessions,
    influence: InfluenceLimits,
    /// Histories of the users, in the order in which the [`LearnerState`] stores the users.
    histories: Vec<UserHistory>,
}

/// The part of the state that checkpoints store after the [`LearnerStateExtension`]. Checkpoints of
/// earlier versions end before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LearnerStateSupplement {
    /// The interest models.
    pub(super) interests: InterestModels,
    /// Number of entries that were applied while learning was paused or frozen.
    pub(super) frozen_entries: u64,
}

/// The part of the state that checkpoints store after the [`LearnerStateSupplement`]. Checkpoints of
/// earlier versions end before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LearnerStateProfiles {
    profiles: UserProfiles,
    first_events: RankingMetrics,
    /// [`LearnerState::by_source`] of the profiles.
    profile_source: RankingMetrics,
    /// Displayed and clicked items of the profiles, see [`ClickThrough`].
    profile_clicks: [[u64; POSITION_BUCKETS.len()]; 2],
}

/// The part of the state that checkpoints store after the [`NewItemTests`]. Checkpoints of earlier
/// versions end before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LearnerStateVectors {
    /// The vectors of the [`LearnerState::catalog`].
    vectors: ItemVectors,
    projections: VectorProjections,
}

impl LearnerState {
    /// The time of the candidate sources, in journal entries: the number of entries before the next
    /// entry, without those that arrived while learning was paused or frozen. While nothing is
    /// learned, the sources therefore do not age.
    pub(super) fn source_time(&self) -> u64 {
        self.next_offset.saturating_sub(self.supplement.frozen_entries)
    }

    /// Whether learning is paused or frozen.
    pub(super) fn is_frozen(&self) -> bool {
        self.is_paused || self.settings.freeze_from.is_some_and(|from| self.event_count >= from)
    }

    /// The part that checkpoints store after this state.
    #[must_use]
    pub fn extension(&self) -> LearnerStateExtension {
        LearnerStateExtension {
            earlier_sessions: self.users.earlier_sessions(),
            influence: self.influence.clone(),
            histories: self.users.histories(),
        }
    }

    /// Restores the part that checkpoints store after this state.
    pub fn set_extension(&mut self, extension: LearnerStateExtension) {
        let LearnerStateExtension { earlier_sessions, influence, histories } = extension;
        self.users.restore_earlier_sessions(earlier_sessions);
        self.influence = influence;
        self.users.set_histories(&histories);
    }

    /// The part that checkpoints store after the extension.
    #[must_use]
    pub fn supplement(&self) -> &LearnerStateSupplement {
        &self.supplement
    }

    /// Restores the part that checkpoints store after the extension.
    pub fn set_supplement(&mut self, supplement: LearnerStateSupplement) {
        self.settings.interest = *supplement.interests.settings();
        self.supplement = supplement;
    }

    /// The part that checkpoints store after the supplement.
    #[must_use]
    pub fn profiles_part(&self) -> LearnerStateProfiles {
        LearnerStateProfiles {
            profiles: self.profiles.clone(),
            first_events: self.first_events,
            profile_source: self.by_source[SourceName::Profile as usize],
            profile_clicks: [&self.clickthrough.displayed, &self.clickthrough.clicked]
                .map(|counts| counts[SourceName::Profile as usize]),
        }
    }

    /// Restores the part that checkpoints store after the supplement.
    pub fn set_profiles_part(&mut self, part: LearnerStateProfiles) {
        self.settings.profiles = *part.profiles.settings();
        (self.profiles, self.first_events) = (part.profiles, part.first_events);
        self.by_source[SourceName::Profile as usize] = part.profile_source;
        let [displayed, clicked] = part.profile_clicks;
        self.clickthrough.displayed[SourceName::Profile as usize] = displayed;
        self.clickthrough.clicked[SourceName::Profile as usize] = clicked;
    }

    /// The part that checkpoints store after the profiles.
    #[must_use]
    pub fn new_items_part(&self) -> &NewItemTests {
        &self.new_items
    }

    /// Restores the part that checkpoints store after the profiles. `None` for a checkpoint of an
    /// earlier version: the counts of events are then estimated.
    pub fn set_new_items_part(&mut self, part: Option<NewItemTests>) {
        let live_window = self.settings.learning.live_window;
        self.new_items =
            part.unwrap_or_else(|| NewItemTests::from_sources(&self.sources, self.item_count, live_window));
    }

    /// The part that checkpoints store after the new items.
    #[must_use]
    pub fn vectors_part(&self) -> LearnerStateVectors {
        LearnerStateVectors { vectors: self.catalog.vectors().clone(), projections: self.projections.clone() }
    }

    /// Restores the part that checkpoints store after the new items.
    pub fn set_vectors_part(&mut self, part: LearnerStateVectors) {
        self.catalog.set_vectors(part.vectors);
        self.projections = part.projections;
    }

    /// The part that checkpoints store after the vectors.
    #[must_use]
    pub fn item_histories_part(&self) -> &ItemHistories {
        &self.item_histories
    }

    /// Restores the part that checkpoints store after the vectors.
    pub fn set_item_histories_part(&mut self, part: ItemHistories) {
        self.item_histories = part;
    }

    /// The part that checkpoints store after the item histories.
    #[must_use]
    pub fn baskets_part(&self) -> &BasketStatistics {
        &self.baskets
    }

    /// Restores the part that checkpoints store after the item histories.
    pub fn set_baskets_part(&mut self, part: BasketStatistics) {
        self.baskets = part;
    }

    /// The part that checkpoints store after the baskets.
    #[must_use]
    pub fn features_part(&self) -> &LearnedFeatures {
        &self.features
    }

    /// Restores the part that checkpoints store after the baskets.
    pub fn set_features_part(&mut self, part: LearnedFeatures) {
        self.settings.features = part.declarations().clone();
        self.features = part;
    }

    /// The part that checkpoints store after the declared features.
    #[must_use]
    pub fn objectives_part(&self) -> &ObjectiveHeads {
        &self.objectives
    }

    /// Restores the part that checkpoints store after the declared features.
    pub fn set_objectives_part(&mut self, part: ObjectiveHeads) {
        self.objectives = part.with_all_objectives();
    }

    /// The part that checkpoints store after the objectives.
    #[must_use]
    pub fn relevance_part(&self) -> &RelevanceLists {
        &self.relevance
    }

    /// Restores the part that checkpoints store after the objectives.
    pub fn set_relevance_part(&mut self, part: RelevanceLists) {
        self.relevance = part;
    }

    /// Whether the state was learned with these settings. Only then can a learner continue from the
    /// state.
    #[must_use]
    pub fn matches_settings(&self, settings: &LearnerConfig) -> bool {
        self.settings == *settings
    }

    /// The offset of the next entry to apply.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    pub(super) fn new(settings: LearnerConfig, pretrained: Option<PretrainedNetwork>) -> Result<Self, LearnerError> {
        let learning = &settings.learning;
        if pretrained
            .as_ref()
            .is_some_and(|pretrained| !pretrained.matches_settings(&settings.network, &settings.kinds))
        {
            return Err(LearnerError::PretrainedMismatch);
        }
        let items = pretrained.as_ref().map_or(0, |pretrained| pretrained.item_names().len());
        let with_network = !settings.candidates.without.contains(&SourceName::Network);
        let training = match pretrained.map(PretrainedNetwork::into_trainer) {
            _ if !with_network => None,
            Some(trainer) => Some(OnlineTraining::with_trainer(trainer, learning)),
            None => Some(OnlineTraining::new(settings.network.clone(), settings.kinds.len(), learning)?),
        };
        Ok(Self {
            next_offset: 0,
            event_count: 0,
            item_count: items,
            catalog: Catalog::default(),
            vocabulary: AttributeVocabulary::new(settings.network.attributes_max),
            next_session: 0,
            affinities: SourceAffinities::default(),
            session_owners: SessionOwnerIndex::new(settings.learning.history.max(settings.candidates.sessions)),
            users: UserTable::new(learning.hidden_kept, learning.users_kept),
            sources: CandidateSources::new(&settings.candidates, &settings.kinds)?,
            ranker: Ranker::new(learning.seed),
            training,
            clustering: ClusteringSchedule::default(),
            total: RankingMetrics::default(),
            live: SlidingRankingMetrics::new(learning.live_window),
            evaluated: RankingMetrics::default(),
            by_source: Default::default(),
            unused_error: Default::default(),
            clickthrough: ClickThrough::default(),
            curve: LearningCurve::new(1000),
            is_paused: false,
            operations: VecDeque::new(),
            health: ModelHealth::default(),
            influence: InfluenceLimits::default(),
            supplement: LearnerStateSupplement { interests: InterestModels::new(settings.interest), frozen_entries: 0 },
            profiles: UserProfiles::new(settings.profiles),
            first_events: RankingMetrics::default(),
            new_items: NewItemTests::new(settings.learning.live_window),
            projections: VectorProjections::default(),
            item_histories: ItemHistories::default(),
            baskets: BasketStatistics::default(),
            features: LearnedFeatures::new(settings.features.clone()),
            objectives: ObjectiveHeads::default(),
            relevance: RelevanceLists::default(),
            settings,
        })
    }

    /// Measurements and training totals so far.
    pub(super) fn report(&self) -> LearningReport {
        let state = self;
        LearningReport {
            events: state.event_count,
            items: state.item_count,
            users: state.users.user_count(),
            clusters: state.clustering.current_clusters().map_or(0, |clusters| clusters.len()),
            total: state.total,
            hits_by_source: Default::default(),
            live_by_source: Default::default(),
            by_kind: Vec::new(),
            live: state.live.metrics(),
            evaluated: state.evaluated,
            evaluated_first_events: state.first_events,
            evaluated_new_items: state.new_items.evaluated,
            live_new_items: state.new_items.live.metrics(),
            by_source: state.by_source,
            interest: state.supplement.interests.reports(),
            clickthrough: state.clickthrough,
            curve: state.curve.clone(),
            training: state.training.as_ref().map(|training| *training.totals()).unwrap_or_default(),
            learning_rate: state.training.as_ref().map(OnlineTraining::learning_rate),
            is_paused: state.is_paused,
            held_back: state.influence.held_back(),
            objectives: state.objectives.qualities(),
        }
    }
}
