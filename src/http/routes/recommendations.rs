//! Personalised, inline, similar and trending recommendations.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json, Path};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::{Candidate, Offset, Recommendation, RecommendedItem};
use crate::http::middleware::queue_wait::MaxQueueWait;
use crate::http::schema::domain_schemas::{RecommendationSchema, RecommendedItemSchema};
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::query::{self, QueryPairs, RecommendationQuery};
use crate::http::schema::responses::{
    BadRequestResponse, ContextValueBody, IdString, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::parse_context;
use crate::learner::RankedItem;
use crate::services::recommendation::{PageRequest, to_recommended_item};

/// The largest number of items in an inline session.
const MAX_INLINE_ITEMS: usize = 1000;

/// The query for a user's recommendations. It asks for a new recommendation, or for a later page of
/// an earlier recommendation.
enum RecommendationsQuery {
    New(RecommendationQuery),
    Next(PageRequest),
}

impl RecommendationsQuery {
    const PAGE_PARAMETERS: [&str; 2] = ["recommendation_id", "offset"];

    fn from_query(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let (mut parsed, mut recommendation_id, mut offset) = (RecommendationQuery::default(), None, None);
        for (name, value) in pairs {
            match name.as_str() {
                "recommendation_id" => recommendation_id = Some(value.clone()),
                "offset" => offset = Some(query::parse_integer(name, value)?),
                other if parsed.set_parameter(other, value)? => {}
                other => {
                    return Err(query::unknown_parameter(
                        other,
                        &[&RecommendationQuery::PARAMETER_NAMES[..], &Self::PAGE_PARAMETERS].concat(),
                    ));
                }
            }
        }
        let Some(recommendation_id) = recommendation_id else {
            let detail = "`offset` is relative to an earlier recommendation; also send its `recommendation_id`.";
            return if offset.is_some() {
                Err(Problem::invalid_parameter("offset", detail))
            } else {
                Ok(Self::New(parsed))
            };
        };
        if parsed != (RecommendationQuery { limit: parsed.limit, ..RecommendationQuery::default() }) {
            let detail = "A later page uses the parameters of the first one; with `recommendation_id` only `offset` and `limit` are allowed.";
            return Err(Problem::invalid_parameter("recommendation_id", detail));
        }
        Ok(Self::Next(PageRequest { recommendation_id, offset, limit: query::validate_limit(parsed.limit)? }))
    }
}

/// Recommend items to a user
///
/// Returns a list of items, best first. The journal records the list as an impression. With
/// `recommendation_id`, the list is a later page of a recent recommendation.
#[utoipa::path(get, path = "/v1/users/{user}/recommendations", operation_id = "recommendations", tag = "recommendations",
    params(("user" = IdString, Path, description = "The user. An unknown user gets trending items."), RecommendationQuery,
        ("recommendation_id" = Option<String>, Query, description = "The id of an earlier response. The new response is a later page of the same ranking."),
        ("offset" = Option<usize>, Query, description = "Position of the first item of the page, counted from the start of the earlier response. Default: the position after the last item of the earlier response.", minimum = 0)),
    responses((status = 200, description = "The list.", body = RecommendationSchema), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_recommendations(
    api: Data<ApiState>,
    user: Path<String>,
    pairs: QueryPairs,
) -> Result<Json<Recommendation>, Problem> {
    let user = query::validate_user_id(&api, user.into_inner())?;
    match RecommendationsQuery::from_query(&pairs)? {
        RecommendationsQuery::New(query) => {
            let request = query.to_request_after_offset(&api).await?;
            Ok(Json(api.recommendations.recommend(user, query.consent, request).await?))
        }
        RecommendationsQuery::Next(page) => {
            api.recommendations.next_page(&user, &page).await?.map(Json).ok_or_else(Problem::unknown_recommendation)
        }
    }
}

/// A session for which to recommend items, and the parameters of the recommendation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Inline)]
pub(in crate::http) struct InlineRequest {
    /// The items of the session, oldest first.
    #[schema(max_items = 1000)]
    items: Vec<String>,
    /// The length of the list.
    #[schema(minimum = 1, maximum = 1000, default = 20)]
    limit: Option<usize>,
    /// Items to exclude.
    #[schema(max_items = 1000)]
    exclude: Option<Vec<String>>,
    /// Exclude the items of the session.
    exclude_seen: Option<bool>,
    /// A filter expression on attributes. Every recommended item satisfies it.
    filter: Option<String>,
    /// The context of the request, for the filter: at most 8 names of `a-z`, `0-9` and `_`, with
    /// texts of at most 64 bytes, numbers or booleans.
    #[schema(value_type = Option<BTreeMap<String, ContextValueBody>>)]
    context: Option<Value>,
    /// The largest number of items per category.
    #[schema(minimum = 1, maximum = 1000)]
    diversity: Option<usize>,
    /// Explain each item by the evidence of every source for it, and by the event that improved its
    /// rank the most.
    explain: Option<bool>,
    /// How long an item is hidden after the user has dismissed it, such as `30d`. `off` hides it
    /// forever.
    dismissed_for: Option<String>,
    /// How long an item is hidden after the user has purchased it, such as `1d`. `0s` does not hide
    /// it.
    purchased_for: Option<String>,
    /// Wait until the model and the sessions include every journal entry before this offset. With
    /// the `offset` of a receipt, they include the records of that receipt.
    #[schema(value_type = Option<u64>)]
    min_offset: Option<Offset>,
}

/// Recommend items for a session in the request
///
/// Nothing is stored. Any content type is accepted.
#[utoipa::path(post, path = "/v1/recommendations", operation_id = "inline", tag = "recommendations", request_body = InlineRequest,
    responses((status = 200, description = "The list.", body = RecommendationSchema), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn recommend_for_item_session(
    api: Data<ApiState>,
    queue_wait: Data<MaxQueueWait>,
    body: Result<Bytes, Error>,
) -> Result<Json<Recommendation>, Problem> {
    let request = parse_json_body(body, api.max_body_bytes)?;
    let InlineRequest {
        items,
        limit,
        exclude,
        exclude_seen,
        filter,
        context,
        diversity,
        explain,
        dismissed_for,
        purchased_for,
        min_offset,
    } = request;
    if items.len() > MAX_INLINE_ITEMS {
        return Err(Problem::out_of_range("items", format!("a list of {}", items.len()), "a list of at most 1000"));
    }
    let default = RecommendationQuery::default();
    let query = RecommendationQuery {
        limit: limit.unwrap_or(default.limit),
        exclude: exclude.unwrap_or_default(),
        exclude_seen: exclude_seen.unwrap_or_default(),
        filter,
        diversity,
        explain: explain.unwrap_or_default(),
        dismissed_for: dismissed_for.map(|value| query::parse_period("dismissed_for", &value)).transpose()?,
        purchased_for: purchased_for.map(|value| query::parse_period("purchased_for", &value)).transpose()?,
        min_offset: min_offset.unwrap_or_default(),
        consent: None,
        context: parse_context(context.unwrap_or_default()).map_err(|error| query::invalid_context(&error))?,
    };
    // This thread computes the list. A request that has already waited too long for the thread is
    // refused instead.
    queue_wait.wait_for_turn().await?;
    Ok(Json(api.recommendations.recommend_for_item_session(&items, &query.to_request_after_offset(&api).await?)))
}

/// A list that is not personalised.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Listing)]
pub(in crate::http) struct ItemListResponse {
    /// Best first.
    #[schema(value_type = Vec<RecommendedItemSchema>)]
    items: Vec<RecommendedItem>,
}

impl ItemListResponse {
    fn new(api: &ApiState, list: Vec<Candidate>) -> Json<Self> {
        let items = list
            .into_iter()
            .filter_map(|candidate| to_recommended_item(&api.system.recommender, RankedItem::from(candidate)));
        Json(Self { items: items.collect() })
    }
}

/// List similar items
///
/// The request also works for an item that was deleted from the catalog.
#[utoipa::path(get, path = "/v1/items/{item}/similar", operation_id = "similar", tag = "recommendations",
    params(("item" = String, Path, description = "The item."), ("limit" = Option<usize>, Query, description = "The length of the list. Default: 20.", minimum = 1, maximum = 1000)),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_similar_items(
    api: Data<ApiState>,
    item: Path<String>,
    pairs: QueryPairs,
) -> Result<Json<ItemListResponse>, Problem> {
    let mut limit = RecommendationQuery::default().limit;
    for (name, value) in pairs.iter() {
        match name.as_str() {
            "limit" => limit = query::parse_integer(name, value)?,
            other => return Err(query::unknown_parameter(other, &["limit"])),
        }
    }
    let item = api.system.recommender.dictionary().get(&item).ok_or_else(Problem::unknown_item)?;
    Ok(ItemListResponse::new(
        &api,
        api.system.recommender.similar_items(item, query::validate_limit(limit)?, api.clock.now()),
    ))
}

/// List trending items
#[utoipa::path(get, path = "/v1/trending", operation_id = "trending", tag = "recommendations",
    params(("limit" = Option<usize>, Query, description = "The length of the list. Default: 20.", minimum = 1, maximum = 1000),
        ("category" = Option<String>, Query, description = "Only items of this category.")),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn get_trending_items(
    api: Data<ApiState>,
    pairs: QueryPairs,
) -> Result<Json<ItemListResponse>, Problem> {
    let (mut limit, mut category) = (RecommendationQuery::default().limit, None);
    for (name, value) in pairs.iter() {
        match name.as_str() {
            "limit" => limit = query::parse_integer(name, value)?,
            "category" => category = Some(value.as_str()),
            other => return Err(query::unknown_parameter(other, &["limit", "category"])),
        }
    }
    Ok(ItemListResponse::new(
        &api,
        api.system.recommender.trending_items(category, query::validate_limit(limit)?, api.clock.now()),
    ))
}
