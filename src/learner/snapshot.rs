//! What readers see: everything learned up to one offset, immutable.

use crate::candidates::{CandidateSources, ClusterSettings, Clusters, ItemCounts};
use crate::domain::{Catalog, ItemIx, Offset, SourceName};
use crate::nn::Weights;
use crate::ranking::Ranker;
use std::sync::Arc;

use super::scorer::Scorer;
use super::source_affinities::SourceAffinities;

/// Everything that an answer needs, as learned from all entries before one offset. Shares what has
/// not changed with the fold and with other snapshots.
#[derive(Debug, Clone)]
pub struct ModelSnapshot {
    pub(super) offset: Offset,
    pub(super) trained_through: Offset,
    pub(super) weights: Option<Arc<Weights>>,
    pub(super) clusters: Option<Arc<Clusters>>,
    /// Items that are known.
    pub(super) item_count: usize,
    pub(super) catalog: Catalog,
    pub(super) sources: CandidateSources,
    pub(super) ranker: Ranker,
    pub(super) affinities: SourceAffinities,
    pub(super) cluster_settings: Arc<ClusterSettings>,
}

impl ModelSnapshot {
    /// Everything before this offset has been learned from.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// The weights were trained on everything before this offset.
    #[must_use]
    pub fn trained_through(&self) -> Offset {
        self.trained_through
    }

    /// What the catalog says of every item, up to this snapshot's offset.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The network's weights; `None` if the network is left out.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights> {
        self.weights.as_deref()
    }

    /// The version of the weights, 0 before the first training.
    #[must_use]
    pub fn weights_version(&self) -> u64 {
        self.weights().map_or(0, Weights::version)
    }

    /// How many things each candidate source remembers, and the bytes that it takes, about.
    pub fn source_sizes(&self) -> impl Iterator<Item = (SourceName, usize, usize)> {
        self.sources.memory_usage()
    }

    /// What is counted of an item; `None` if nothing ever chose it.
    #[must_use]
    pub fn item_counts(&self, item: ItemIx) -> Option<ItemCounts> {
        self.sources.item_counts(item, self.offset)
    }

    /// How many items are known.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.item_count
    }

    /// The cluster that an item is in, or would be; `None` before there are any, or if the network
    /// does not know the item.
    #[must_use]
    pub fn cluster_of(&self, item: ItemIx) -> Option<usize> {
        Some(self.clusters.as_deref()?.cluster_of(item, self.weights()?.embedding(item)?))
    }

    /// All of it, as who answers needs it.
    #[must_use]
    pub fn scorer(&self) -> Scorer<'_> {
        Scorer {
            weights: self.weights(),
            clusters: self.clusters.as_deref(),
            sources: &self.sources,
            ranker: &self.ranker,
            cluster_settings: &self.cluster_settings,
            now: self.offset,
        }
    }
}
