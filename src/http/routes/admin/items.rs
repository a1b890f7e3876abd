//! Searches items, and shows the state of one item.

use actix_web::web::{self, Data, Json, Path, Query};
use serde::{Deserialize, Serialize};

use crate::domain::{Item, ItemIx, RecommendedItem};
use crate::http::routes::admin::query::ListLimit;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::learner::{ItemCounts, RankedItem};
use crate::services::recommendation::to_recommended_item;

/// The query of an item search.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::http) struct ItemSearchQuery {
    pub(in crate::http) limit: ListLimit,
    /// Text that must occur in the id of an item, case-insensitive.
    pub(in crate::http) query: String,
}

/// The matching items, most popular first.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ItemSearchResult {
    pub(in crate::http) items: Vec<ItemSummary>,
    /// The number of all matching items, of which `items` contains the first ones.
    pub(in crate::http) matching: usize,
}

/// One item in a list.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ItemSummary {
    pub(in crate::http) item: String,
    /// The attributes in the catalog; absent for a deleted item.
    pub(in crate::http) attributes: Option<Item>,
    /// Counts of the item's target events (the events that the model learns to predict); absent if
    /// it has none.
    pub(in crate::http) counts: Option<ItemCounts>,
}

impl ItemSearchResult {
    /// Searches all items.
    ///
    /// # Errors
    /// A problem if the limit is out of range.
    pub(in crate::http) async fn collect(api: Data<ApiState>, search: &ItemSearchQuery) -> Result<Self, Problem> {
        let (limit, query) = (search.limit.validate()?, search.query.to_lowercase());
        let read = move || {
            let (snapshot, dictionary) = (api.system.recommender.snapshot(), api.system.recommender.dictionary());
            let numbers = (0..dictionary.len()).filter_map(|number| ItemIx::try_from(number).ok());
            let mut found: Vec<(f32, ItemIx)> = numbers
                .filter(|item| {
                    query.is_empty() || dictionary.name(*item).is_some_and(|name| name.to_lowercase().contains(&query))
                })
                .map(|item| (snapshot.item_counts(item).map_or(-1.0, |counts| counts.day), item))
                .collect();
            let best_first = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            let matching = found.len();
            if limit < matching {
                found.select_nth_unstable_by(limit, best_first);
                found.truncate(limit);
            }
            found.sort_unstable_by(best_first);
            let catalog = api.system.recommender.catalog();
            let summary = |item| {
                let (attributes, counts) = (catalog.get(item).map(Item::from), snapshot.item_counts(item));
                Some(ItemSummary { item: dictionary.name(item)?.to_string(), attributes, counts })
            };
            Self { items: found.into_iter().filter_map(|(_, item)| summary(item)).collect(), matching }
        };
        web::block(read).await.map_err(|_| Problem::internal())
    }
}

/// The state of one item.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ItemView {
    pub(in crate::http) item: String,
    /// The number of the item. Items are numbered in the order of their first occurrence in the
    /// journal.
    pub(in crate::http) number: ItemIx,
    /// The attributes in the catalog; absent for a deleted item.
    pub(in crate::http) attributes: Option<Item>,
    /// Counts of the item's target events (the events that the model learns to predict); absent if
    /// it has none.
    pub(in crate::http) counts: Option<ItemCounts>,
    /// The nearest cluster.
    pub(in crate::http) cluster: Option<usize>,
    /// The embedding of the item in the network; absent if the network has none for it yet.
    pub(in crate::http) embedding: Option<Vec<f32>>,
    pub(in crate::http) similar: Vec<RecommendedItem>,
}

/// Largest number of similar items in the response.
const MAX_SIMILAR_ITEMS: usize = 20;

impl ItemView {
    /// Reads the state of an item.
    ///
    /// # Errors
    /// A problem if the item is unknown.
    pub(in crate::http) async fn collect(api: Data<ApiState>, item: String) -> Result<Self, Problem> {
        let number = api.system.recommender.dictionary().get(&item).ok_or_else(Problem::unknown_item)?;
        let read = move || {
            let (snapshot, now) = (api.system.recommender.snapshot(), api.clock.now());
            let similar = api.system.recommender.similar_items(number, MAX_SIMILAR_ITEMS, now).into_iter();
            Self {
                item,
                number,
                attributes: api.system.recommender.catalog().get(number).map(Item::from),
                counts: snapshot.item_counts(number),
                cluster: snapshot.cluster_of(number),
                embedding: snapshot.weights().and_then(|weights| weights.scaled_embedding(number)),
                similar: similar
                    .filter_map(|candidate| {
                        to_recommended_item(&api.system.recommender, RankedItem::from(candidate), false)
                    })
                    .collect(),
            }
        };
        web::block(read).await.map_err(|_| Problem::internal())
    }
}

pub(in crate::http) async fn list_items(
    api: Data<ApiState>,
    search: Query<ItemSearchQuery>,
) -> Result<Json<ItemSearchResult>, Problem> {
    Ok(Json(ItemSearchResult::collect(api, &search).await?))
}

pub(in crate::http) async fn get_item_view(api: Data<ApiState>, item: Path<String>) -> Result<Json<ItemView>, Problem> {
    Ok(Json(ItemView::collect(api, item.into_inner()).await?))
}
