//! Personalised, inline, similar and trending recommendations.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json, Path};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Offset, Recommendation, RecommendedItem};
use crate::http::middleware::queue_wait::MaxQueueWait;
use crate::http::schema::domain_schemas::{RecommendationSchema, RecommendedItemSchema};
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::exclusion_parameters::parse_period;
use crate::http::schema::problem::Problem;
use crate::http::schema::query::{self, RecommendationQuery};
use crate::http::schema::query_pairs::QueryPairs;
use crate::http::schema::responses::{
    BadRequestResponse, ContextValueBody, IdString, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::parse_context;
use crate::learner::ListBase;
use crate::services::recommendation::{PageRequest, to_recommended_item};

/// The largest number of items in an inline session.
const MAX_INLINE_ITEMS: usize = 1000;

/// The query for a user's recommendations. It asks for a new recommendation, or for a later page of
/// an earlier recommendation.
enum RecommendationsQuery {
    New(Box<RecommendationQuery>),
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
                Ok(Self::New(Box::new(parsed)))
            };
        };
        if parsed != (RecommendationQuery { limit: parsed.limit, ..RecommendationQuery::default() }) {
            let detail = "A later page uses the parameters of the first one; with `recommendation_id` only `offset` and `limit` are allowed.";
            return Err(Problem::invalid_parameter("recommendation_id", detail));
        }
        Ok(Self::Next(PageRequest {
            recommendation_id,
            offset,
            limit: parsed.limit.map(query::validate_limit).transpose()?,
        }))
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
#[schema(as = SessionRequest)]
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
    /// The context of the request, for the filter and for declared features: at most 8 names of
    /// `a-z`, `0-9` and `_`, with texts of at most 64 bytes, numbers or booleans.
    #[schema(value_type = Option<BTreeMap<String, ContextValueBody>>)]
    context: Option<Value>,
    /// The largest number of items per category.
    #[schema(minimum = 1, maximum = 1000)]
    diversity: Option<usize>,
    /// Explain each item by the evidence of every source for it, and by the event that improved its
    /// rank the most.
    explain: Option<bool>,
    /// Add to each item its title, addresses, price, brand, categories and tags.
    details: Option<bool>,
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
    /// The placement for which the list is. It determines the type of the list, and the defaults of
    /// the other fields. The items of the session are the context items.
    placement: Option<String>,
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
        details,
        dismissed_for,
        purchased_for,
        min_offset,
        placement,
    } = request;
    if items.len() > MAX_INLINE_ITEMS {
        return Err(Problem::out_of_range("items", format!("a list of {}", items.len()), "a list of at most 1000"));
    }
    let query = RecommendationQuery {
        limit,
        exclude: exclude.unwrap_or_default(),
        exclude_seen,
        filter,
        diversity,
        explain: explain.unwrap_or_default(),
        details: details.unwrap_or_default(),
        dismissed_for: dismissed_for.map(|value| parse_period("dismissed_for", &value)).transpose()?,
        purchased_for: purchased_for.map(|value| parse_period("purchased_for", &value)).transpose()?,
        min_offset: min_offset.unwrap_or_default(),
        placement,
        items: items.clone(),
        context: parse_context(context.unwrap_or_default()).map_err(|error| query::invalid_context(&error))?,
        // A session in the request has no stored history.
        ..RecommendationQuery::default()
    };
    // This thread computes the list. A request that has already waited too long for the thread is
    // refused instead.
    queue_wait.wait_for_turn().await?;
    Ok(Json(api.recommendations.recommend_for_item_session(&items, &query.to_request_after_offset(&api).await?)))
}

/// A list that is not personalised.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ItemList)]
pub(in crate::http) struct ItemListResponse {
    /// Best first.
    #[schema(value_type = Vec<RecommendedItemSchema>)]
    items: Vec<RecommendedItem>,
    /// The placement that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
}

/// The query parameters of a list that is not personalised.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
struct ItemListQuery {
    /// The length of the list. Default: that of the placement, or else 20.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The placement for which the list is. It supplies the defaults of `limit` and of the filter, and
    /// selects rules.
    placement: Option<String>,
    /// Name the rules that moved an item.
    #[param(required = false, default = false)]
    explain: bool,
    /// Add to each item its title, addresses, price, brand, categories and tags.
    #[param(required = false, default = false)]
    details: bool,
}

impl ItemListQuery {
    const PARAMETER_NAMES: [&str; 4] = ["limit", "placement", "explain", "details"];

    /// Computes the list. `query` has the parameters that only one endpoint has.
    fn respond(
        self,
        api: &ApiState,
        base: ListBase,
        query: RecommendationQuery,
    ) -> Result<Json<ItemListResponse>, Problem> {
        let Self { limit, placement, explain, details } = self;
        let request =
            RecommendationQuery { limit, placement, explain, details, base: Some(base), ..query }.to_request(api)?;
        let list = api.recommendations.non_personalised_list(&request).items.into_iter();
        let items = list.filter_map(|item| to_recommended_item(&api.system.recommender, item, details)).collect();
        Ok(Json(ItemListResponse { items, placement: request.placement.as_deref().map(str::to_owned) }))
    }

    /// Sets the parameter `name` to a value from a query. Returns `false` if there is no such
    /// parameter.
    fn set_parameter(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "limit" => self.limit = Some(query::parse_list_length(name, value)?),
            "placement" => self.placement = Some(value.to_owned()),
            "explain" => self.explain = query::parse_bool(name, value)?,
            "details" => self.details = query::parse_bool(name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// List similar items
///
/// The request also works for an item that was deleted from the catalog.
#[utoipa::path(get, path = "/v1/items/{item}/similar", operation_id = "similar", tag = "recommendations",
    params(("item" = String, Path, description = "The item."), ItemListQuery),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_similar_items(
    api: Data<ApiState>,
    item: Path<String>,
    pairs: QueryPairs,
) -> Result<Json<ItemListResponse>, Problem> {
    let mut query = ItemListQuery::default();
    for (name, value) in pairs.iter() {
        if !query.set_parameter(name, value)? {
            return Err(query::unknown_parameter(name, &ItemListQuery::PARAMETER_NAMES));
        }
    }
    let number = api.system.recommender.dictionary().get(&item).ok_or_else(Problem::unknown_item)?;
    let context = RecommendationQuery { item: Some(item.into_inner()), ..RecommendationQuery::default() };
    query.respond(&api, ListBase::Similar(vec![number]), context)
}

/// List trending items
#[utoipa::path(get, path = "/v1/trending", operation_id = "trending", tag = "recommendations",
    params(ItemListQuery, ("category" = Option<String>, Query, description = "Only items of this category. It replaces the filter of the placement.")),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_trending_items(
    api: Data<ApiState>,
    pairs: QueryPairs,
) -> Result<Json<ItemListResponse>, Problem> {
    let (mut query, mut category) = (ItemListQuery::default(), None);
    for (name, value) in pairs.iter() {
        match name.as_str() {
            "category" => category = Some(value.clone()),
            other if query.set_parameter(other, value)? => {}
            other => {
                let known = [&ItemListQuery::PARAMETER_NAMES[..], &["category"]].concat();
                return Err(query::unknown_parameter(other, &known));
            }
        }
    }
    query.respond(&api, ListBase::Trending, RecommendationQuery { category, ..RecommendationQuery::default() })
}
