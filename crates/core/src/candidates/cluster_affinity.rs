//! How a user's earlier sessions spread over the clusters of items.

use super::query_context::QueryContext;
use crate::domain::ItemIx;

/// The share of each cluster in a user's earlier sessions: the decayed counts of the profile and, if
/// the next event begins a session, the items of the session before. Items newer than the clusters do
/// not count.
#[derive(Debug, Default)]
pub(super) struct ClusterAffinity {
    /// Clusters with their weights, in the order of the cluster numbers.
    weights: Vec<(usize, f32)>,
    total: f32,
}

impl ClusterAffinity {
    /// Computes the affinity; empty without a profile or clusters.
    pub(super) fn of(context: &QueryContext<'_>) -> Self {
        let (Some(profile), Some(clusters)) = (context.profile, context.clusters) else { return Self::default() };
        let latest = context.recent_items().filter(|_| context.begins_session).map(|item| (item, 1.0));
        let in_cluster = |(item, weight): (ItemIx, f32)| Some((clusters.assigned_cluster(item)?, weight));
        let mut affinity = Self::default();
        for (cluster, weight) in profile.weighted_items().chain(latest).filter_map(in_cluster) {
            affinity.total += weight;
            match affinity.weights.binary_search_by_key(&cluster, |(known, _)| *known) {
                Ok(position) => affinity.weights.iter_mut().skip(position).take(1).for_each(|(_, sum)| *sum += weight),
                Err(position) => affinity.weights.insert(position, (cluster, weight)),
            }
        }
        affinity
    }

    /// The share of a cluster, 0 to 1.
    pub(super) fn share_of(&self, cluster: usize) -> f32 {
        let position = self.weights.binary_search_by_key(&cluster, |(known, _)| *known);
        position.ok().and_then(|position| self.weights.get(position)).map_or(0.0, |(_, weight)| weight / self.total)
    }

    /// Sum of the weights of all clusters.
    pub(super) fn total(&self) -> f32 {
        self.total
    }

    /// The `count` clusters with the largest weights, in descending order. Among equal weights, the
    /// smaller cluster number comes first.
    pub(super) fn heaviest_clusters(&self, count: usize) -> Vec<(usize, f32)> {
        let mut clusters = self.weights.clone();
        clusters.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        clusters.truncate(count);
        clusters
    }
}
