//! The items as the network has laid them out, on a plane.

use ndarray::Array2;

use crate::candidates::PcaProjection;
use crate::domain::ItemIx;

use super::snapshot::ModelSnapshot;

/// The clusters and the most popular items, on the plane in which they are spread the widest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemMap {
    /// The clusters, the largest first.
    pub clusters: Vec<ItemMapCluster>,
    /// Items and where they lie, the most popular first.
    pub items: Vec<(ItemIx, [f32; 2])>,
}

/// A cluster on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemMapCluster {
    /// The cluster's number.
    pub cluster: usize,
    /// How many items are in it.
    pub size: usize,
    /// Its most popular items, best first.
    pub top: Vec<ItemIx>,
    /// Where its centre lies.
    pub position: [f32; 2],
}

/// Items named of each cluster.
const NAMED: usize = 5;

/// Draws the map with at most `most` points: the largest clusters take at most half of them, items
/// the rest. Without clusters it shows items alone.
#[must_use]
pub fn item_map(snapshot: &ModelSnapshot, most: usize) -> ItemMap {
    let Some(weights) = snapshot.weights() else { return ItemMap::default() };
    let popularity = |item: ItemIx| snapshot.sources.popularity(item, snapshot.offset);
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
    let mut areas = Vec::new();
    if let Some(clusters) = snapshot.clusters.as_deref() {
        let mut by_size: Vec<usize> = (0..clusters.len()).collect();
        by_size.sort_unstable_by_key(|cluster| (std::cmp::Reverse(clusters.members(*cluster).len()), *cluster));
        areas.extend(by_size.into_iter().take(most / 2).filter_map(|cluster| {
            let members = clusters.members(cluster);
            Some((cluster, members.len(), best(&mut members.iter().copied(), NAMED), clusters.centroid(cluster)?))
        }));
    }
    let known = (0..weights.item_count()).filter_map(|item| ItemIx::try_from(item).ok());
    let shown = best(&mut known.into_iter(), most - areas.len());
    let items: Vec<_> = shown.into_iter().filter_map(|item| Some((item, weights.embedding(item)?))).collect();

    let rows: Vec<&[f32]> = areas.iter().map(|(.., centre)| *centre).chain(items.iter().map(|(_, row)| *row)).collect();
    let cell = |(row, column): (usize, usize)| rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default();
    let plane = PcaProjection::fit(Array2::from_shape_fn((rows.len(), weights.dimension()), cell).view());
    let area = |(cluster, size, top, centre)| ItemMapCluster { cluster, size, top, position: plane.project(centre) };
    ItemMap {
        items: items.iter().map(|(item, row)| (*item, plane.project(row))).collect(),
        clusters: areas.into_iter().map(area).collect(),
    }
}
