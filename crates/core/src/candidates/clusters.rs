//! k-means clusters of item embeddings. A query scores only the items of the few clusters that fit
//! it best (an inverted file for maximum inner product search).

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::domain::ItemIx;

/// Settings of item clustering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Number of journal entries between the starts of two clusterings. At least 1. A multiple of it
    /// applies to a large catalog, see [`ClusterSettings::interval_factor`].
    pub every: u64,
    /// Number of journal entries from the start of a clustering until the learner uses its
    /// clusters. Less than `every`. The same multiple applies.
    pub lag: u64,
    /// Maximum number of clusters, 1..=4096. The number of clusters is the square root of the
    /// number of items, but at most this maximum.
    pub most: usize,
    /// Number of clusters whose items a query scores (the probed clusters). At least 1.
    pub probes: usize,
    /// In a catalog of at most this many items, the network scores all items. In a larger catalog,
    /// it scores only the items of the probed clusters and the items newer than the clustering.
    pub exact_up_to: usize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { every: 16_384, lag: 4_096, most: 1_024, probes: 32, exact_up_to: 20_000 }
    }
}

impl ClusterSettings {
    /// At least one journal entry per this many items arrives between two clusterings, because the
    /// cost of a clustering grows with the catalog.
    const ITEMS_PER_ENTRY: u64 = 8;

    /// The factor by which `every` and `lag` grow in a catalog of `items` items: the smallest power
    /// of two with which at least one entry per 8 items arrives between two clusterings.
    #[must_use]
    pub fn interval_factor(&self, items: usize) -> u64 {
        (items as u64).div_ceil(Self::ITEMS_PER_ENTRY).div_ceil(self.every.max(1)).max(1).next_power_of_two()
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn check(&self) -> Result<(), ClusterSettingsError> {
        let rules = [
            (
                self.every >= 1 && self.lag < self.every,
                "lag",
                self.lag as u128,
                "numbers below clusters.every, which is at least 1",
            ),
            ((1..=4096).contains(&self.most), "most", self.most as u128, "1..=4096"),
            (self.probes >= 1, "probes", self.probes as u128, "1 and above"),
        ];
        match rules.into_iter().find(|(fits, ..)| !fits) {
            Some((_, key, value, allowed)) => Err(ClusterSettingsError { key, value: value.to_string(), allowed }),
            None => Ok(()),
        }
    }
}

/// Error: a cluster setting is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("clusters.{key} = {value}: allowed are {allowed}")]
pub struct ClusterSettingsError {
    /// Key within `clusters`.
    pub key: &'static str,
    /// Rejected value.
    pub value: String,
    /// Allowed values.
    pub allowed: &'static str,
}

/// The reason why a clustering failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// linfa's k-means failed.
    #[error("k-means failed")]
    KMeans(#[source] linfa_clustering::KMeansError),
}

/// The embeddings to cluster.
pub struct ClusterInput<'a> {
    /// Number of items.
    pub items: usize,
    /// Length of an embedding.
    pub dimension: usize,
    /// Copies the embedding of an item.
    pub copy_embedding: &'a dyn Fn(ItemIx, &mut [f32]),
}

impl ClusterInput<'_> {
    /// Copies the embeddings of `items` into a matrix, `(items, dimension)`.
    fn select(&self, items: impl ExactSizeIterator<Item = usize>) -> Array2<f32> {
        let mut rows = Array2::zeros((items.len(), self.dimension));
        for (item, mut row) in items.zip(rows.rows_mut()) {
            if let Some(row) = row.as_slice_mut() {
                (self.copy_embedding)(item as ItemIx, row);
            }
        }
        rows
    }
}

/// Clusters of item embeddings: the centroids and the items nearest to each centroid. A query
/// selects the clusters whose centroids have the largest inner products with it, and scores their
/// items (inverted file [Sivic & Zisserman 2003]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    /// `(clusters, dimension)`, row-major.
    centroids: Vec<f32>,
    dimension: usize,
    members: Vec<Vec<ItemIx>>,
    /// Cluster number by item number.
    of_item: Vec<u32>,
}

impl Clusters {
    /// Maximum number of k-means (Lloyd) iterations from random items. The clusters need to be of
    /// similar size, but not optimal.
    const MAX_KMEANS_ITERATIONS: u64 = 6;
    /// Maximum number of k-means iterations from the centroids of an earlier clustering. The
    /// embeddings have changed little since then.
    const MAX_UPDATE_ITERATIONS: u64 = 2;
    /// k-means runs on a sample of this many items per cluster. A larger sample hardly changes the
    /// centroids.
    const SAMPLED_ITEMS_PER_CLUSTER: usize = 24;

    /// Clusters the items by their embeddings into at most `most` clusters.
    ///
    /// Runs the k-means [Lloyd 1982] of linfa on a random sample of the items. The initial centroids
    /// are those of the `previous` clusters, and the first sampled embeddings for further clusters.
    /// Then assigns every item to its nearest centroid. The result depends only on the arguments.
    ///
    /// # Errors
    /// [`ClusterError::KMeans`] if linfa rejects the sample.
    pub fn build(
        input: &ClusterInput<'_>,
        most: usize,
        seed: u64,
        previous: Option<&Self>,
    ) -> Result<Self, ClusterError> {
        let (items, dimension) = (input.items, input.dimension);
        let count = (items as f64).sqrt().ceil().clamp(1.0, most as f64) as usize;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let sample_size = items.min(count * Self::SAMPLED_ITEMS_PER_CLUSTER);
        let mut order: Vec<ItemIx> = (0..items as ItemIx).collect();
        for position in 0..sample_size {
            let other = position + (rng.next_u64() % (items - position) as u64) as usize;
            order.swap(position, other);
        }
        let sampled = order.get(..sample_size).unwrap_or_default();
        let sample = input.select(sampled.iter().map(|item| *item as usize));
        let mut initial_centroids = sample.select(Axis(0), &(0..count.min(sample_size)).collect::<Vec<_>>());
        let previous = previous.filter(|previous| previous.dimension == dimension);
        let previous_centroids = previous.map_or(&[][..], |previous| &previous.centroids);
        for (mut to, from) in
            initial_centroids.rows_mut().into_iter().zip(previous_centroids.chunks_exact(dimension.max(1)))
        {
            to.assign(&ArrayView1::from(from));
        }
        let iterations = if previous.is_some() { Self::MAX_UPDATE_ITERATIONS } else { Self::MAX_KMEANS_ITERATIONS };
        let fitted = KMeans::params_with_rng(initial_centroids.nrows(), rng)
            .init_method(KMeansInit::Precomputed(initial_centroids))
            .n_runs(1)
            .max_n_iterations(iterations)
            .tolerance(1e-3)
            .fit(&DatasetBase::from(sample))
            .map_err(ClusterError::KMeans)?;
        Ok(Self::assign_items(input, fitted.centroids()))
    }

    fn assign_items(input: &ClusterInput<'_>, centroids: &Array2<f32>) -> Self {
        const ITEMS_PER_BLOCK: usize = 1024;
        let half_norms: Array1<f32> = centroids.map_axis(Axis(1), |row| row.dot(&row) / 2.0);
        let mut members = vec![Vec::new(); centroids.nrows()];
        let mut of_item = Vec::with_capacity(input.items);
        // The nearest centroid c of an embedding e has the largest e·c − ‖c‖²/2. One matrix product
        // computes e·c for a block of items.
        for first in (0..input.items).step_by(ITEMS_PER_BLOCK) {
            let block = input.select(first..input.items.min(first + ITEMS_PER_BLOCK));
            let products = block.dot(&centroids.t());
            for row in products.rows() {
                let nearest = argmax(row.iter().zip(&half_norms).map(|(product, half_norm)| product - half_norm));
                if let Some(list) = members.get_mut(nearest) {
                    list.push(of_item.len() as ItemIx);
                }
                of_item.push(nearest as u32);
            }
        }
        Self { centroids: centroids.iter().copied().collect(), dimension: input.dimension, members, of_item }
    }

    /// Number of clusters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no clusters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Number of clustered items. The clusters contain the items with lower numbers; items with
    /// this number or a higher one are newer than the clustering.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.of_item.len()
    }

    /// Cluster of an item. For an item newer than the clustering, this is the cluster whose
    /// centroid has the largest inner product with `embedding`.
    #[must_use]
    pub fn cluster_of(&self, item: ItemIx, embedding: &[f32]) -> usize {
        match self.of_item.get(item as usize) {
            Some(&cluster) => cluster as usize,
            None => argmax(self.inner_products(embedding).into_iter()),
        }
    }

    /// Cluster of an item; `None` for an item newer than the clustering.
    #[must_use]
    pub fn assigned_cluster(&self, item: ItemIx) -> Option<usize> {
        self.of_item.get(item as usize).map(|cluster| *cluster as usize)
    }

    /// Items of a cluster, in ascending order.
    #[must_use]
    pub fn items_in_cluster(&self, cluster: usize) -> &[ItemIx] {
        self.members.get(cluster).map_or(&[], Vec::as_slice)
    }

    /// The items of each cluster, in ascending order.
    pub fn items_by_cluster(&self) -> impl Iterator<Item = &[ItemIx]> + Clone {
        self.members.iter().map(Vec::as_slice)
    }

    /// Centroid of a cluster, `(dimension)`.
    #[must_use]
    pub fn centroid_of(&self, cluster: usize) -> Option<&[f32]> {
        self.centroids.chunks_exact(self.dimension.max(1)).nth(cluster)
    }

    /// The `probes` clusters whose centroids have the largest inner products with the query, the
    /// largest first.
    #[must_use]
    pub fn nearest_clusters(&self, query: &[f32], probes: usize) -> Vec<usize> {
        let products = self.inner_products(query);
        let mut order: Vec<usize> = (0..products.len()).collect();
        let by_product = |a: &usize, b: &usize| {
            let of = |position: &usize| products.get(*position).copied().unwrap_or(f32::NEG_INFINITY);
            of(b).total_cmp(&of(a)).then(a.cmp(b))
        };
        if probes < order.len() {
            order.select_nth_unstable_by(probes, by_product);
            order.truncate(probes);
        }
        order.sort_unstable_by(by_product);
        order
    }

    /// The inner product of a query and each centroid.
    fn inner_products(&self, query: &[f32]) -> Vec<f32> {
        let mut products = vec![f32::NEG_INFINITY; self.members.len()];
        if query.len() == self.dimension {
            crate::simd::arch().dispatch(CentroidKernel { centroids: &self.centroids, query, products: &mut products });
        }
        products
    }
}

/// Writes the inner product of the query and each centroid to `products`.
struct CentroidKernel<'a> {
    centroids: &'a [f32],
    query: &'a [f32],
    products: &'a mut [f32],
}

impl pulp::NullaryFnOnce for CentroidKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { centroids, query, products } = self;
        let (query_chunks, query_rest) = query.as_chunks::<16>();
        for (product, centroid) in products.iter_mut().zip(centroids.chunks_exact(query.len().max(1))) {
            let (chunks, rest) = centroid.as_chunks::<16>();
            let mut sums = [0.0_f32; 16];
            for (a, b) in chunks.iter().zip(query_chunks) {
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum = a.mul_add(*b, *sum);
                }
            }
            let tail: f32 = rest.iter().zip(query_rest).map(|(a, b)| a * b).sum();
            *product = sums.iter().sum::<f32>() + tail;
        }
    }
}

/// Index of the largest value: the first one if several values are equally large, and 0 if there
/// are no values.
fn argmax(values: impl Iterator<Item = f32>) -> usize {
    let start = (0, f32::NEG_INFINITY);
    values.enumerate().fold(start, |best, next| if next.1 > best.1 { next } else { best }).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_clusters(rows: &Array2<f32>, most: usize, seed: u64, previous: Option<&Clusters>) -> Clusters {
        let copy = |item: ItemIx, out: &mut [f32]| out.copy_from_slice(rows.row(item as usize).as_slice().unwrap());
        let input = ClusterInput { items: rows.nrows(), dimension: rows.ncols(), copy_embedding: &copy };
        Clusters::build(&input, most, seed, previous).unwrap()
    }

    #[test]
    fn clusterings_become_rarer_from_131072_items_on() {
        let settings = ClusterSettings::default();
        let factor = |items| settings.interval_factor(items);
        assert_eq!([0, 42_000, 131_072, 131_073, 262_144, 1_000_000].map(factor), [1, 1, 1, 2, 2, 8]);
    }

    /// Embeddings in two groups: even items near (10, 0) and odd items near (0, 10).
    fn two_groups_of_embeddings() -> Array2<f32> {
        Array2::from_shape_fn((40, 2), |(item, axis)| if item % 2 == axis { 10.0 + item as f32 / 100.0 } else { 0.0 })
    }

    #[test]
    fn similar_items_share_a_cluster_and_every_item_has_one() {
        let clusters = build_clusters(&two_groups_of_embeddings(), 2, 1, None);
        assert_eq!(clusters.len(), 2);
        let even = clusters.cluster_of(0, &[]);
        assert!((0..40).step_by(2).all(|item| clusters.cluster_of(item, &[]) == even));
        assert!((1..40).step_by(2).all(|item| clusters.cluster_of(item, &[]) != even));
        assert_eq!(clusters.items_in_cluster(0).len() + clusters.items_in_cluster(1).len(), 40);
    }

    #[test]
    fn nearest_clusters_starts_with_the_cluster_in_the_query_direction() {
        let clusters = build_clusters(&two_groups_of_embeddings(), 2, 1, None);
        let best = clusters.nearest_clusters(&[1.0, 0.1], 1);
        assert_eq!(best, [clusters.cluster_of(0, &[])]);
        assert_eq!(
            clusters.cluster_of(99, &[0.0, 9.0]),
            clusters.cluster_of(1, &[]),
            "an item newer than the clustering goes to the centroid with the largest inner product"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_clusters() {
        let rows = Array2::from_shape_fn((500, 8), |(item, axis)| ((item * 31 + axis * 17) % 101) as f32 / 10.0);
        assert_eq!(build_clusters(&rows, 64, 7, None), build_clusters(&rows, 64, 7, None));
    }

    #[test]
    fn a_clustering_continues_from_the_previous_clusters() {
        let group = |item: usize| item % 4;
        let rows = |items| {
            Array2::from_shape_fn((items, 4), |(item, axis)| {
                f32::from(u8::from(group(item) == axis)) * 10.0 + (item * 31 % 7) as f32 / 10.0
            })
        };
        let before = build_clusters(&rows(16), 8, 1, None);
        for seed in 0..20 {
            let after = build_clusters(&rows(81), 8, seed, Some(&before));
            assert_eq!((before.len(), after.len()), (4, 8), "further clusters are added");
            for cluster in 0..4 {
                let Some(&item) = before.items_in_cluster(cluster).first() else { continue };
                let members = after.items_in_cluster(cluster);
                assert!(members.iter().all(|other| group(*other as usize) == group(item as usize)), "seed {seed}");
            }
        }
        let other_dimension = Array2::ones((16, 3));
        assert_eq!(build_clusters(&other_dimension, 8, 1, Some(&before)).len(), 4);
    }

    #[test]
    fn the_numbers_of_clusters_and_of_probed_clusters_are_bounded() {
        for items in [1, 10, 63, 64, 65, 2_000] {
            let rows = Array2::from_shape_fn((items, 4), |(item, axis)| ((item * 31 + axis * 17) % 101) as f32);
            let clusters = build_clusters(&rows, 8, 3, None);
            assert!((1..=8).contains(&clusters.len()), "{} clusters of {items} items", clusters.len());
            for probes in 1..20 {
                let probed = clusters.nearest_clusters(&[1.0, 2.0, 3.0, 4.0], probes);
                assert_eq!(probed.len(), probes.min(clusters.len()));
            }
        }
    }

    #[test]
    fn a_single_item_forms_its_own_cluster() {
        let clusters = build_clusters(&Array2::ones((1, 4)), 8, 1, None);
        assert_eq!(clusters.items_in_cluster(0), [0]);
    }
}
