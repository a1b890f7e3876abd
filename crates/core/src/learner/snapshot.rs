//! Immutable snapshots of the model. Requests are answered from the latest snapshot, so they never
//! wait for the learner.

use crate::candidates::{BasketStatistics, CandidateSources, ClusterSettings, Clusters, ItemCounts, UserProfile};
use crate::domain::{Attributes, Catalog, ItemFlags, ItemIx, Objective, Offset, SharedUsers, SourceName};
use crate::nn::Weights;
use crate::ranking::{ObjectiveHead, Ranker, RelevanceModel};
use std::sync::Arc;

use super::declared_features::LearnedFeatures;
use super::interests::InterestPredictor;
use super::item_history::ItemHistory;
use super::objective_heads::HeadSet;
use super::scorer::Scorer;
use super::source_affinities::SourceAffinities;

/// An immutable snapshot of the model at one journal offset. The snapshot shares unchanged data
/// with the learner and with other snapshots.
#[derive(Debug, Clone)]
pub struct ModelSnapshot {
    pub(super) offset: Offset,
    pub(super) trained_through: Offset,
    pub(super) weights: Option<Arc<Weights>>,
    pub(super) clusters: Option<Arc<Clusters>>,
    /// Number of known items.
    pub(super) item_count: usize,
    pub(super) catalog: Catalog,
    pub(super) sources: CandidateSources,
    pub(super) ranker: Ranker,
    pub(super) features: LearnedFeatures,
    pub(super) affinities: SourceAffinities,
    /// Items without events of an established user, or with remembered events of only one user.
    /// They are not recommended unless the catalog describes them.
    pub(super) unproven: ItemFlags,
    pub(super) interests: InterestPredictor,
    pub(super) profiles: SharedUsers<UserProfile>,
    pub(super) item_histories: SharedUsers<ItemHistory>,
    /// Items that are bought together.
    pub(super) baskets: BasketStatistics,
    /// The heads of the objectives.
    pub(super) heads: HeadSet,
    /// The weights of scores and of a site's relevance.
    pub(super) relevance: RelevanceModel,
    /// The time of the candidate sources, in journal entries.
    pub(super) source_time: u64,
    pub(super) cluster_settings: Arc<ClusterSettings>,
}

/// What a snapshot holds of a user beyond the user's sequence.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserMemory<'a> {
    /// The long-term profile; `None` if the user has no earlier session.
    pub profile: Option<&'a UserProfile>,
    /// The item history; `None` if the user is not known.
    pub item_history: Option<&'a ItemHistory>,
    /// The attributes, if declared features read attributes of users.
    pub attributes: Option<&'a Attributes>,
}

impl ModelSnapshot {
    /// The journal offset of the snapshot: the model includes all entries before this offset.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The journal offset up to which the network was trained: the boundary at which the training
    /// of its weights began.
    #[must_use]
    pub fn trained_through(&self) -> Offset {
        self.trained_through
    }

    /// The catalog at the offset of the snapshot.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The weights of the network; `None` if the network is disabled.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_deref()
    }

    /// The version of the weights; 0 before the first training.
    #[must_use]
    pub fn weights_version(&self) -> u64 {
        self.weights().map_or(0, Weights::version)
    }

    /// For each candidate source, its number of entries and its approximate memory in bytes.
    pub fn source_sizes(&self) -> impl Iterator<Item = (SourceName, usize, usize)> {
        let profile_bytes = || self.profiles.values().map(|profile| profile.memory_bytes()).sum();
        self.sources.memory_usage().map(move |(source, entries, bytes)| match source {
            SourceName::Profile => (source, self.profiles.size(), profile_bytes()),
            _ => (source, entries, bytes),
        })
    }

    /// The counts of an item; `None` if no target event has named the item.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx) -> Option<ItemCounts> {
        self.sources.item_counts(item, self.source_time)
    }

    /// Number of known items.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.item_count
    }

    /// The cluster of an item. An item newer than the clustering gets the nearest cluster. `None`
    /// if there are no clusters or the network does not know the item.
    #[must_use]
    pub fn cluster_of(&self, item: ItemIx) -> Option<usize> {
        Some(self.clusters.as_deref()?.cluster_of(item, self.weights()?.embedding(item)?))
    }

    /// Predicts event values, for example ratings.
    #[must_use]
    pub fn interests(&self) -> &InterestPredictor {
        &self.interests
    }

    /// The long-term profile of a user; `None` if the user has no earlier session.
    #[must_use]
    pub fn profile_of(&self, user: &str) -> Option<&UserProfile> {
        self.profiles.get(user).map(Arc::as_ref)
    }

    /// What the snapshot holds of a user beyond the user's sequence.
    #[must_use]
    pub fn memory_of(&self, user: &str) -> UserMemory<'_> {
        UserMemory {
            profile: self.profile_of(user),
            item_history: self.item_histories.get(user).map(Arc::as_ref),
            attributes: self.features.attributes_of(user),
        }
    }

    /// The declared features.
    #[must_use]
    pub fn features(&self) -> &LearnedFeatures {
        &self.features
    }

    /// Creates a scorer that borrows from this snapshot.
    #[must_use]
    pub fn scorer(&self) -> Scorer<'_> {
        Scorer {
            weights: self.weights(),
            clusters: self.clusters.as_deref(),
            sources: &self.sources,
            ranker: &self.ranker,
            features: self.features.scorer(&self.catalog),
            cluster_settings: &self.cluster_settings,
            now: self.source_time,
            head: None,
        }
    }

    /// Creates a scorer whose scores are for an objective; `None`: for the next event.
    #[must_use]
    pub fn scorer_for(&self, objective: Option<Objective>) -> Scorer<'_> {
        Scorer { head: objective.and_then(|objective| self.head_of(objective)), ..self.scorer() }
    }

    /// The head of an objective.
    fn head_of(&self, objective: Objective) -> Option<&ObjectiveHead> {
        self.heads.get(objective as usize).map(Arc::as_ref)
    }
}
