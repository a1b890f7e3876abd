//! Lists of items that somebody may want.

use actix_web::rt;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use utoipa::ToSchema;

use super::api::ApiState;
use super::lock::RequiredAccess;
use super::openapi::{NotFoundResponse, BadRequestResponse, InvalidBodyResponse, IdString, UnavailableResponse};
use super::pages::CachedRanking;
use super::problem::Problem;
use super::watch::protected_resource;
use super::wishes::{self, QueryPairs, RecommendationQuery};
use crate::auth::Scope;
use crate::domain::{
    Candidate, Consent, Entry, Event, Fallback, Impression, ImpressionItem, InfluentialEvent, ItemExplanation, Offset, Recommendation,
    RecommendedItem, RemovalCounts, SourceName,
};
use crate::learner::{Explanation, RankedAnswer, RankedItem, RecommendationRequest};
use crate::metrics::RecommendationOutcome;
use crate::telemetry::span;

/// Where a user's recommendations are asked for.
pub(super) const RECOMMENDATIONS: &str = "/v1/users/{user}/recommendations";
/// Where recommendations for a session sent along are asked for.
pub(super) const INLINE_RECOMMENDATIONS: &str = "/v1/recommendations";

/// Where items like one are asked for.
pub(super) const SIMILAR_ITEMS: &str = "/v1/items/{item}/similar";
/// Where what is trending is asked for.
pub(super) const TRENDING_ITEMS: &str = "/v1/trending";

/// The longest inline session.
const MAX_INLINE: usize = 1000;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(protected_resource(RECOMMENDATIONS, "GET", RequiredAccess::Scope(Scope::Read)).route(web::get().to(recommendations)))
        .service(protected_resource(INLINE_RECOMMENDATIONS, "POST", RequiredAccess::Scope(Scope::Read)).route(web::post().to(inline)))
        .service(protected_resource(SIMILAR_ITEMS, "GET", RequiredAccess::Scope(Scope::Read)).route(web::get().to(similar)))
        .service(protected_resource(TRENDING_ITEMS, "GET", RequiredAccess::Scope(Scope::Read)).route(web::get().to(trending)));
}

/// Which page of an answer is asked for.
struct PageQuery {
    recommendation_id: String,
    offset: Option<usize>,
    limit: usize,
}

/// What a query for a user's recommendations asks.
enum RecommendationsQuery {
    New(RecommendationQuery),
    Next(PageQuery),
}

impl RecommendationsQuery {
    const PAGE: [&str; 2] = ["recommendation_id", "offset"];

    fn read(query: &[(String, String)]) -> Result<Self, Problem> {
        let (mut wishes, mut recommendation_id, mut offset) = (RecommendationQuery::default(), None, None);
        for (name, value) in query {
            match name.as_str() {
                "recommendation_id" => recommendation_id = Some(value.clone()),
                "offset" => offset = Some(wishes::parse_integer(name, value)?),
                other if wishes.take(other, value)? => {}
                other => return Err(wishes::unknown_parameter(other, &[&RecommendationQuery::PARAMETER_NAMES[..], &Self::PAGE].concat())),
            }
        }
        let Some(recommendation_id) = recommendation_id else {
            let detail = "`offset` counts from an answer that was given; name it by `recommendation_id`.";
            return if offset.is_some() { Err(Problem::invalid_parameter("offset", detail)) } else { Ok(Self::New(wishes)) };
        };
        if wishes != (RecommendationQuery { limit: wishes.limit, ..RecommendationQuery::default() }) {
            let detail =
                "The next page of an answer has the wishes of the first; beside `recommendation_id` there may be `offset` and `limit`.";
            return Err(Problem::invalid_parameter("recommendation_id", detail));
        }
        Ok(Self::Next(PageQuery { recommendation_id, offset, limit: wishes::validate_limit(wishes.limit)? }))
    }
}

/// What a user may want next
///
/// Best first; journalled as shown. With `recommendation_id` the next page of an answer given
/// lately.
#[utoipa::path(get, path = RECOMMENDATIONS, tag = "recommendations",
    params(("user" = IdString, Path, description = "The user; one never seen is shown what is liked at the moment."), RecommendationQuery,
        ("recommendation_id" = Option<String>, Query, description = "The answer whose next page is wanted."),
        ("offset" = Option<usize>, Query, description = "The place in that answer that the page begins at; without it the page after it.", minimum = 0)),
    responses((status = 200, description = "The list.", body = Recommendation), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(super) async fn recommendations(api: Data<ApiState>, user: Path<String>, query: QueryPairs) -> Result<Json<Recommendation>, Problem> {
    let user = wishes::validate_user_id(&api, user.into_inner())?;
    match RecommendationsQuery::read(&query)? {
        RecommendationsQuery::New(wishes) => recommend_for_user(&api, user, &wishes).await.map(Json),
        RecommendationsQuery::Next(page) => next(&api, user, &page).map(Json),
    }
}

/// Answers a user: the list is shown, and its next page can be asked for.
pub(super) async fn recommend_for_user(api: &ApiState, user: String, wishes: &RecommendationQuery) -> Result<Recommendation, Problem> {
    let request = wishes.to_request_after_offset(api).await?;
    let consent = api.system.consent(&user, wishes.consent);
    if consent == Consent::None {
        return Ok(recommend_without_consent(api, &[], &request));
    }
    let answer = api.system.recommend(user.clone(), request).await?;
    let ranking = answer.items.iter().map(|pick| pick.candidate).chain(answer.remainder.iter().copied()).collect();
    let (shown, weights_version) = (answer.items.len(), answer.weights_version);
    Ok(given(api, CachedRanking { user, ranking, page_start: 0, page_len: shown, weights_version, consent }, answer))
}

/// Answers somebody of whom nothing is kept, by what the request tells alone. It has no next page.
pub(super) fn recommend_without_consent(api: &ApiState, events: &[Event], request: &RecommendationRequest) -> Recommendation {
    let list = named(api, api.recommendation_ids.next(), api.system.recommend_events(events, request));
    recommended(api, &list);
    list
}

fn next(api: &ApiState, user: String, page: &PageQuery) -> Result<Recommendation, Problem> {
    let first =
        api.pagination.get(&page.recommendation_id, &user).filter(|first| api.system.consent(&user, Some(first.consent)) > Consent::None);
    let first = first.ok_or_else(Problem::unknown_recommendation)?;
    let begin = first.page_start.saturating_add(page.offset.unwrap_or(first.page_len)).min(first.ranking.len());
    let (items, removed) = turn(api, first.ranking.get(begin..).unwrap_or_default(), page.limit);
    let page = CachedRanking { page_start: begin, page_len: items.len() + removed.unavailable, ..first };
    let answer = RankedAnswer { weights_version: page.weights_version, items, removed, ..RankedAnswer::default() };
    Ok(given(api, page, answer))
}

/// Names an answer, keeps what its next page is cut from, and journals what it shows.
fn given(api: &ApiState, given: CachedRanking, answer: RankedAnswer) -> Recommendation {
    let list = named(api, api.recommendation_ids.next(), answer);
    // What was shown teaches.
    if api.system.consent(&given.user, Some(given.consent)) == Consent::Full {
        shown(api, given.user.clone(), &list);
    }
    recommended(api, &list);
    api.pagination.insert(list.recommendation_id.clone(), given);
    list
}

/// The first of these that are still offered, and how many before them are not.
fn turn(api: &ApiState, ranking: &[Candidate], limit: usize) -> (Vec<RankedItem>, RemovalCounts) {
    let (catalog, now) = (api.system.catalog(), api.clock.now());
    let (mut items, mut removed) = (Vec::new(), RemovalCounts::default());
    for candidate in ranking {
        if items.len() >= limit {
            break;
        }
        match catalog.get_recommendable(candidate.item, now) {
            Some(_) => items.push(RankedItem::from(*candidate)),
            None => removed.unavailable += 1,
        }
    }
    (items, removed)
}

/// A session that is sent along, and what is wished of its list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Inline)]
pub(super) struct InlineRequest {
    /// The items that somebody looked at, in their order.
    #[schema(max_items = 1000)]
    items: Vec<String>,
    /// The length of the list.
    #[schema(minimum = 1, maximum = 1000, default = 20)]
    limit: Option<usize>,
    /// Items that are not wanted.
    #[schema(max_items = 1000)]
    exclude: Option<Vec<String>>,
    /// Without the items of the session.
    exclude_seen: Option<bool>,
    /// An expression on attributes that the items must meet.
    filter: Option<String>,
    /// At most so many items of one category.
    #[schema(minimum = 1, maximum = 1000)]
    diversity: Option<usize>,
    /// For each item what every source gives it, and the event that moved it up.
    explain: Option<bool>,
    /// Waits, for a moment, until what answers follow from holds every entry before this offset:
    /// the `offset` of a receipt.
    #[schema(value_type = Option<u64>)]
    min_offset: Option<Offset>,
}

/// What may follow on a session sent along
///
/// Nothing is stored.
#[utoipa::path(post, path = INLINE_RECOMMENDATIONS, tag = "recommendations", request_body = InlineRequest,
    responses((status = 200, description = "The list.", body = Recommendation), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn inline(api: Data<ApiState>, body: Json<InlineRequest>) -> Result<Json<Recommendation>, Problem> {
    let InlineRequest { items, limit, exclude, exclude_seen, filter, diversity, explain, min_offset } = body.into_inner();
    if items.len() > MAX_INLINE {
        return Err(Problem::out_of_range("items", format!("a list of {}", items.len()), "a list of at most 1000"));
    }
    let usual = RecommendationQuery::default();
    let wishes = RecommendationQuery {
        limit: limit.unwrap_or(usual.limit),
        exclude: exclude.unwrap_or_default(),
        exclude_seen: exclude_seen.unwrap_or_default(),
        filter,
        diversity,
        explain: explain.unwrap_or_default(),
        min_offset: min_offset.unwrap_or_default(),
        consent: None,
    };
    let answer = api.system.recommend_inline(&items, &wishes.to_request_after_offset(&api).await?);
    let list = named(&api, api.recommendation_ids.next(), answer);
    recommended(&api, &list);
    Ok(Json(list))
}

/// A list that is nobody's own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Listing)]
pub(super) struct ItemListResponse {
    /// Best first.
    items: Vec<RecommendedItem>,
}

impl ItemListResponse {
    fn new(api: &ApiState, list: Vec<Candidate>) -> Json<Self> {
        Json(Self { items: list.into_iter().filter_map(|candidate| to_recommended_item(api, RankedItem::from(candidate))).collect() })
    }
}

/// Items like one
///
/// Also like one that was deleted: whoever looks for it may want another.
#[utoipa::path(get, path = SIMILAR_ITEMS, tag = "recommendations",
    params(("item" = String, Path, description = "The item."), ("limit" = Option<usize>, Query, description = "The length of the list; 20 if left out.", minimum = 1, maximum = 1000)),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, NotFoundResponse, UnavailableResponse))]
pub(super) async fn similar(api: Data<ApiState>, item: Path<String>, query: QueryPairs) -> Result<Json<ItemListResponse>, Problem> {
    let mut limit = RecommendationQuery::default().limit;
    for (name, value) in query.iter() {
        match name.as_str() {
            "limit" => limit = wishes::parse_integer(name, value)?,
            other => return Err(wishes::unknown_parameter(other, &["limit"])),
        }
    }
    let item = api.system.dictionary().get(&item).ok_or_else(Problem::unknown_item)?;
    Ok(ItemListResponse::new(&api, api.system.similar(item, wishes::validate_limit(limit)?, api.clock.now())))
}

/// What is liked at the moment
#[utoipa::path(get, path = TRENDING_ITEMS, tag = "recommendations",
    params(("limit" = Option<usize>, Query, description = "The length of the list; 20 if left out.", minimum = 1, maximum = 1000),
        ("category" = Option<String>, Query, description = "Only items of this category.")),
    responses((status = 200, description = "The list.", body = ItemListResponse), BadRequestResponse, UnavailableResponse))]
pub(super) async fn trending(api: Data<ApiState>, query: QueryPairs) -> Result<Json<ItemListResponse>, Problem> {
    let (mut limit, mut category) = (RecommendationQuery::default().limit, None);
    for (name, value) in query.iter() {
        match name.as_str() {
            "limit" => limit = wishes::parse_integer(name, value)?,
            "category" => category = Some(value.as_str()),
            other => return Err(wishes::unknown_parameter(other, &["limit", "category"])),
        }
    }
    Ok(ItemListResponse::new(&api, api.system.trending(category, wishes::validate_limit(limit)?, api.clock.now())))
}

/// The answer with names in place of numbers.
fn named(api: &ApiState, recommendation_id: String, answer: RankedAnswer) -> Recommendation {
    for (source, count) in SourceName::ALL.into_iter().zip(answer.candidates_by_source) {
        api.metrics().candidates.with_label(source).increment(count as u64);
    }
    let items = answer.items.into_iter().filter_map(|pick| to_recommended_item(api, pick));
    let (weights_version, fallback, removed) = (answer.weights_version, answer.fallback, answer.removed);
    Recommendation { recommendation_id, weights_version, items: items.collect(), fallback, removed }
}

pub(super) fn to_recommended_item(api: &ApiState, RankedItem { candidate, interest, explanation }: RankedItem) -> Option<RecommendedItem> {
    let item_id = api.system.dictionary().name(candidate.item)?.to_string();
    let explanation = explanation.map(|explanation| explained(api, &explanation));
    Some(RecommendedItem { item_id, score: candidate.score, source: candidate.source, interest, explanation })
}

fn explained(api: &ApiState, explanation: &Explanation) -> ItemExplanation {
    let dictionary = api.system.dictionary();
    let moved_by = explanation.influence.map(|moved| InfluentialEvent {
        item_id: moved.step.item.and_then(|item| dictionary.name(item)).map(|name| name.to_string()),
        kind: api.system.kinds().names().nth(usize::from(moved.step.kind)).unwrap_or_default().to_owned(),
        events_back: moved.events_back,
        rank: moved.rank,
        rank_without: moved.rank_without,
    });
    ItemExplanation { sources: explanation.sources.iter().map(|(source, share)| (SourceName::as_str(*source), *share)).collect(), moved_by }
}

/// Journals what was shown, without letting the answer wait for it. When the journal has no room,
/// the impression is counted as lost: only a click's credit hangs on it.
fn shown(api: &ApiState, user_id: String, list: &Recommendation) {
    if list.items.is_empty() {
        return;
    }
    let Ok(permit) = api.system.try_admit(1) else {
        api.metrics().impressions_lost.increment(1);
        return;
    };
    let impression = Entry::Impression(Impression {
        recommendation_id: list.recommendation_id.clone(),
        user_id,
        timestamp: api.clock.now(),
        weights_version: list.weights_version,
        items: list.items.iter().map(|item| ImpressionItem { item_id: item.item_id.clone(), source: item.source }).collect(),
    });
    let system = api.system.clone();
    let noted = async move {
        if system.append(vec![impression], permit).await.is_err() {
            system.metrics().impressions_lost.increment(1);
        }
    };
    rt::spawn(noted.instrument(span!("impression")));
}

fn recommended(api: &ApiState, list: &Recommendation) {
    let metrics = api.metrics();
    let outcome = match list.fallback {
        Fallback::UnknownUser | Fallback::UnknownItems | Fallback::EmptyCatalog => RecommendationOutcome::ColdStart,
        Fallback::None | Fallback::FilteredOut => RecommendationOutcome::Answered,
    };
    metrics.recommendations.with_label(outcome).increment(1);
    for item in &list.items {
        metrics.recommended_items.with_label(item.source).increment(1);
    }
}
