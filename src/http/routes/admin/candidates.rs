//! Sizes of the candidate sources, item clusters and a map of the items.

use actix_web::web::{self, Data, Json};
use serde::Serialize;

use crate::domain::{ItemIx, SourceName};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::learner::{ItemMapCluster, compute_item_map};

/// Largest number of items on the map.
const MAX_MAP_ITEMS: usize = 2000;

/// The candidate sources, the clusters of items and the map of the items.
#[derive(Debug, Serialize)]
pub(in crate::http) struct CandidateSourcesView {
    pub(in crate::http) weights_version: u64,
    pub(in crate::http) sources: Vec<SourceSize>,
    /// The clusters, largest first.
    pub(in crate::http) clusters: Vec<ClusterView>,
    /// The most popular items, projected on the same plane as the centres of the clusters.
    pub(in crate::http) items: Vec<MapItem>,
}

/// The size of a candidate source. The network and its clusters consist of weights, so their size
/// is reported as zero.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourceSize {
    pub(in crate::http) source: SourceName,
    /// The number of entries: rows, contexts, sessions or items, depending on the source.
    pub(in crate::http) entries: usize,
    pub(in crate::http) bytes: usize,
}

/// A cluster of items.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ClusterView {
    pub(in crate::http) cluster: usize,
    pub(in crate::http) size: usize,
    /// The most popular items of the cluster.
    #[serde(rename = "top")]
    pub(in crate::http) top_items: Vec<String>,
    /// The position of the centre on the map.
    #[serde(rename = "at")]
    pub(in crate::http) position: [f32; 2],
}

/// An item on the map.
#[derive(Debug, Serialize)]
pub(in crate::http) struct MapItem {
    pub(in crate::http) item: String,
    #[serde(rename = "at")]
    pub(in crate::http) position: [f32; 2],
}

impl CandidateSourcesView {
    /// Reads the sizes of the candidate sources, and computes the map.
    ///
    /// # Errors
    /// A problem if the service is stopping.
    pub(in crate::http) async fn collect(api: Data<ApiState>) -> Result<Self, Problem> {
        let read = move || {
            let (snapshot, dictionary) = (api.system.recommender.snapshot(), api.system.recommender.dictionary());
            let map = compute_item_map(&snapshot, MAX_MAP_ITEMS);
            let named = |item: ItemIx| dictionary.name(item).map(|name| name.to_string());
            let cluster = |ItemMapCluster { cluster, size, top, position: at }| ClusterView {
                cluster,
                size,
                top_items: top.into_iter().filter_map(named).collect(),
                position: at,
            };
            Self {
                weights_version: snapshot.weights_version(),
                sources: snapshot
                    .source_sizes()
                    .map(|(source, entries, bytes)| SourceSize { source, entries, bytes })
                    .collect(),
                clusters: map.clusters.into_iter().map(cluster).collect(),
                items: map
                    .items
                    .into_iter()
                    .filter_map(|(item, at)| Some(MapItem { item: named(item)?, position: at }))
                    .collect(),
            }
        };
        web::block(read).await.map_err(|_| Problem::internal())
    }
}

pub(in crate::http) async fn get_candidate_sources(api: Data<ApiState>) -> Result<Json<CandidateSourcesView>, Problem> {
    Ok(Json(CandidateSourcesView::collect(api).await?))
}
