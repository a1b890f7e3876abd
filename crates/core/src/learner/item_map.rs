//! The item map: a two-dimensional projection of the item embeddings.

use ndarray::Array2;

use crate::candidates::PcaProjection;
use crate::domain::ItemIx;

use super::snapshot::ModelSnapshot;

/// The item map: positions of the clusters and of the most popular items, projected to the first
/// two principal components of the embeddings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemMap {
    /// Clusters, the largest first.
    pub clusters: Vec<ItemMapCluster>,
    /// Items with their positions, the most popular first.
    pub items: Vec<(ItemIx, [f32; 2])>,
}

/// A cluster on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemMapCluster {
    /// The cluster number.
    pub cluster: usize,
    /// Number of items in the cluster.
    pub size: usize,
    /// The most popular items of the cluster, the most popular first.
    pub top: Vec<ItemIx>,
    /// The position of the centroid of the cluster.
    pub position: [f32; 2],
}

/// Number of most popular items that are listed per cluster.
const TOP_ITEMS_PER_CLUSTER: usize = 5;

/// Computes the item map with at most `max_points` points. At most half of the points are clusters,
/// the largest ones; the others are items.
#[must_use]
pub fn compute_item_map(snapshot: &ModelSnapshot, max_points: usize) -> ItemMap {
    let Some(weights) = snapshot.weights() else { return ItemMap::default() };
    let popularity = |item: ItemIx| snapshot.sources.popularity(item, snapshot.source_time);
    let best_first = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let best = |items: &mut dyn Iterator<Item = ItemIx>, count: usize| {
        let mut items: Vec<(f32, ItemIx)> = items.map(|item| (popularity(item), item)).collect();
        if count < items.len() {
            items.select_nth_unstable_by(count, best_first);
            items.truncate(count);
        }
        items.sort_unstable_by(best_first);
        items.into_iter().map(|(_, item)| item).collect::<Vec<_>>()
    };
    let mut clusters_by_size = Vec::new();
    if let Some(clusters) = snapshot.clusters.as_deref() {
        let mut by_size: Vec<usize> = (0..clusters.len()).collect();
        by_size
            .sort_unstable_by_key(|cluster| (std::cmp::Reverse(clusters.items_in_cluster(*cluster).len()), *cluster));
        clusters_by_size.extend(by_size.into_iter().take(max_points / 2).filter_map(|cluster| {
            let members = clusters.items_in_cluster(cluster);
            Some((
                cluster,
                members.len(),
                best(&mut members.iter().copied(), TOP_ITEMS_PER_CLUSTER),
                clusters.centroid_of(cluster)?,
            ))
        }));
    }
    let item_numbers = (0..weights.item_count()).filter_map(|item| ItemIx::try_from(item).ok());
    let shown = best(&mut item_numbers.into_iter(), max_points - clusters_by_size.len());
    let items: Vec<_> = shown.into_iter().filter_map(|item| Some((item, weights.scaled_embedding(item)?))).collect();

    let rows: Vec<&[f32]> =
        clusters_by_size.iter().map(|(.., centroid)| *centroid).chain(items.iter().map(|(_, row)| &**row)).collect();
    let value_at =
        |(row, column): (usize, usize)| rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default();
    let projection = PcaProjection::fit(Array2::from_shape_fn((rows.len(), weights.dimension()), value_at).view());
    let to_map_cluster =
        |(cluster, size, top, centroid)| ItemMapCluster { cluster, size, top, position: projection.project(centroid) };
    ItemMap {
        items: items.iter().map(|(item, row)| (*item, projection.project(row))).collect(),
        clusters: clusters_by_size.into_iter().map(to_map_cluster).collect(),
    }
}
