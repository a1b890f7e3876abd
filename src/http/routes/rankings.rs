//! Ranking of a list that the request contains.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

use crate::domain::{
    Attributes, Candidate, Catalog, Consent, Impression, ImpressionItem, ItemExplanation, ItemIx, Objective, Offset,
    PredictedInterest, RuleRemovals, SourceName, Timestamp,
};
use crate::http::middleware::queue_wait::MaxQueueWait;
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::domain_schemas::{
    ItemExplanationSchema, PredictedInterestSchema, RuleRemovalsSchema, SourceNameSchema,
};
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::quoted::quoted;
use crate::http::schema::request_digest::RequestDigest;
use crate::http::schema::responses::{
    BadRequestResponse, ContextValueBody, IdString, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::parse_context;
use crate::learner::{ListRules, ListScores, ListScoringRequest, RuleTrace, ScoreScale, ScoredListItem};
use crate::services::placements::RequestContext;
use crate::services::recommendation::{ListOwner, to_item_explanation};

/// The largest number of items in a list, and in a session of the request.
const MAX_ITEMS: usize = 1000;
/// The largest absolute value of a relevance.
pub(super) const MAX_RELEVANCE: f64 = 1e9;

/// A list of items to rank, and the user or the session for which to rank it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RankRequest, example = json!({ "user_id": "ann", "items": [{ "item_id": "tea" }, { "item_id": "coffee" }] }))]
pub(in crate::http) struct RankRequest {
    /// The items, in the order of the site.
    #[schema(min_items = 1, max_items = 1000)]
    items: Vec<ListedItem>,
    /// The user for whom to rank the list.
    #[schema(value_type = Option<IdString>)]
    user_id: Option<String>,
    /// Instead of a user: the items of a session, oldest first.
    #[schema(max_items = 1000)]
    items_in_session: Option<Vec<String>>,
    /// Explain each item by the evidence of every source for it, and by the event that improved its
    /// rank the most.
    explain: Option<bool>,
    /// The consent level of this request. If the user's level is lower, the user's level applies.
    #[schema(value_type = Option<ConsentBody>)]
    consent: Option<Consent>,
    /// Wait until the model and the sessions include every journal entry before this offset. With
    /// the `offset` of a receipt, they include the records of that receipt.
    #[schema(value_type = Option<u64>)]
    min_offset: Option<Offset>,
    /// The placement for which the list is. It selects rules, and its boosts apply.
    placement: Option<String>,
    /// The context of the request, for declared features: at most 8 names of `a-z`, `0-9` and `_`,
    /// with texts of at most 64 bytes, numbers or booleans.
    #[schema(value_type = Option<BTreeMap<String, ContextValueBody>>)]
    context: Option<Value>,
    /// Record the ranked list as shown to the user, so that clicks and purchases can be attributed
    /// to it. Needs `user_id`.
    log: Option<bool>,
}

/// An item to rank.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ListedItem)]
pub(in crate::http) struct ListedItem {
    /// The item's id.
    item_id: String,
    /// What the site knows of the item.
    features: Option<ListedItemFeatures>,
}

/// What the site knows of an item of a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ListedItemFeatures)]
pub(in crate::http) struct ListedItemFeatures {
    /// The relevance of the item, such as its score in the site's search. A higher relevance is
    /// better.
    #[schema(value_type = f64, minimum = -1e9, maximum = 1e9)]
    relevance: Value,
}

/// How the score of an item follows from the model's score and from the relevance that the site gave.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = ScoreCombination)]
pub(in crate::http) struct ScoreCombination {
    /// The model's score.
    model_score: f32,
    /// The weight of the model's score, after it is standardised within the list.
    model_weight: f32,
    /// The relevance in the request; `null` if the request gives none.
    relevance: Option<f32>,
    /// The weight of the relevance, after it is standardised within the list.
    relevance_weight: f32,
    /// What the relevance adds to the score.
    relevance_contribution: f32,
}

/// What the model knows of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ListedItemStatus)]
pub(in crate::http) enum ListedItemStatus {
    /// The model has learned from events with the item.
    Learned,
    /// The item has no events yet. Its score depends on its attributes alone.
    New,
    /// No event and no change of the catalog has named the item. It has no score, and follows all
    /// other items.
    Unknown,
}

/// A ranked list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RankedList)]
pub(in crate::http) struct RankedListResponse {
    /// The version of the weights that scored the items.
    weights_version: u64,
    /// Whether the order depends on the user. Without an event of the user, the items are in the
    /// order of their popularity.
    is_personalised: bool,
    /// The items of the request that no rule hides, best first. Among equal scores, and among unknown
    /// items, in the order of the request.
    items: Vec<RankedListItem>,
    /// The placement that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    /// The rules that removed items. Present only if the request asks for an explanation and a rule
    /// removed items.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<RuleRemovalsSchema>)]
    removed_by_rules: Vec<RuleRemovals>,
    /// The id of the recorded list, which events can name. Absent if the request does not ask for
    /// the record, or the user does not consent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation_id: Option<String>,
}

/// An item of a ranked list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RankedListItem)]
pub(in crate::http) struct RankedListItem {
    /// The item's id.
    item_id: String,
    /// The position of the item in the request, counted from 0.
    position: usize,
    /// The score. A higher score is better. Scores of different responses are not comparable. `null`
    /// for an unknown item.
    score: Option<f32>,
    /// What the model knows of the item.
    status: ListedItemStatus,
    /// Whether the item can be recommended now: whether it is available, published and not expired.
    /// An item that cannot be recommended keeps its place.
    is_available: bool,
    /// The candidate source that generates the item for the user. Absent if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SourceNameSchema>)]
    source: Option<SourceName>,
    /// The predicted value (rating, seconds played, …) of an event of the user with the item. Absent
    /// before the first event with a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PredictedInterestSchema>)]
    interest: Option<PredictedInterest>,
    /// The explanation, if the request asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ItemExplanationSchema>)]
    explanation: Option<ItemExplanation>,
    /// The combination with the relevance. Present only if the request asks for an explanation and
    /// gives a relevance.
    #[serde(skip_serializing_if = "Option::is_none")]
    combination: Option<ScoreCombination>,
}

impl RankRequest {
    /// The relevance of the items that the model knows, in their order. `numbers` are the numbers of
    /// all items. Empty if the request gives no relevance.
    fn relevance_of_known_items(&self, numbers: &[Option<ItemIx>]) -> Result<Vec<Option<f32>>, Problem> {
        if self.items.iter().all(|listed| listed.features.is_none()) {
            return Ok(Vec::new());
        }
        let relevance = |(position, listed): (usize, &ListedItem)| {
            let Some(ListedItemFeatures { relevance }) = &listed.features else { return Ok(None) };
            match relevance.as_f64().filter(|relevance| relevance.abs() <= MAX_RELEVANCE) {
                Some(relevance) => Ok(Some(relevance as f32)),
                None => {
                    let field = format!("items[{position}].features.relevance");
                    let given = quoted(&relevance.to_string());
                    Err(Problem::out_of_range(&field, given, "a number from -1000000000 to 1000000000"))
                }
            }
        };
        let relevance = self.items.iter().enumerate().map(relevance).collect::<Result<Vec<_>, Problem>>()?;
        Ok(relevance.into_iter().zip(numbers).filter_map(|(relevance, number)| number.map(|_| relevance)).collect())
    }

    /// The user or the session for which to rank the list.
    fn owner(&mut self, api: &ApiState) -> Result<ListOwner, Problem> {
        match (self.user_id.take(), self.items_in_session.take()) {
            (Some(_), Some(_)) => Err(Problem::invalid_parameter(
                "items_in_session",
                "The list is ranked either for a user or for the items of a session; send only one of `user_id` and `items_in_session`.",
            )),
            (Some(user), None) => {
                let user = api.rules.validate_user_id("user_id", user);
                let user = user.map_err(|error| Problem::invalid_parameter("user_id", format!("{}.", error.reason)))?;
                Ok(ListOwner::User { user, consent: self.consent })
            }
            (None, Some(session)) if session.len() > MAX_ITEMS => {
                let given = format!("a list of {}", session.len());
                Err(Problem::out_of_range("items_in_session", given, "a list of at most 1000"))
            }
            (None, session) => Ok(ListOwner::Session(session.unwrap_or_default())),
        }
    }

    /// The user for whom to record the list, and the consent of the request. `None` if the list is
    /// not to be recorded.
    fn log_owner(&self, owner: &ListOwner) -> Result<Option<(String, Option<Consent>)>, Problem> {
        match owner {
            _ if self.log != Some(true) => Ok(None),
            ListOwner::User { user, consent } => Ok(Some((user.clone(), *consent))),
            ListOwner::Session(_) => {
                let detail = "A list is recorded for a user; send `user_id`, or leave out `log`.";
                Err(Problem::invalid_parameter("log", detail))
            }
        }
    }

    /// A digest of the parameters that determine the list.
    fn digest(&self, context: &Attributes) -> u64 {
        let mut digest = RequestDigest::default();
        self.items.iter().for_each(|listed| digest.add("rank", &listed.item_id));
        self.placement.iter().for_each(|placement| digest.add("placement", placement));
        for (name, value) in context.views() {
            digest.add(&format!("context.{name}"), &serde_json::to_string(&value).unwrap_or_default());
        }
        digest.finish()
    }
}

/// The items of a ranked list as those of an impression.
fn shown_items(items: &[RankedListItem], rules_of: impl Fn(&RankedListItem) -> Vec<String>) -> Vec<ImpressionItem> {
    let to_shown = |(position, item): (u32, &RankedListItem)| ImpressionItem {
        score: item.score.unwrap_or_default(),
        position,
        rules: rules_of(item),
        relevance: item.combination.and_then(|combination| combination.relevance),
        model_score: item.combination.map(|combination| combination.model_score),
        ..ImpressionItem::new(item.item_id.clone(), item.source.unwrap_or(SourceName::Trending))
    };
    (1..).zip(items).map(to_shown).collect()
}

/// Rank a list
///
/// Orders the items of the request for a user, for example the results of a search. Every item of
/// the request is in the response, unless a rule hides it. Nothing is stored, unless the request
/// asks for it with `log`. Any content type is accepted.
#[utoipa::path(post, path = "/v1/rank", operation_id = "rank", tag = "recommendations", request_body = RankRequest,
    responses((status = 200, description = "The ranked list.", body = RankedListResponse), BadRequestResponse, NotFoundResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn rank_list(
    api: Data<ApiState>,
    queue_wait: Data<MaxQueueWait>,
    body: Result<Bytes, Error>,
) -> Result<Json<RankedListResponse>, Problem> {
    let mut request: RankRequest = parse_json_body(body, api.max_body_bytes)?;
    if !(1..=MAX_ITEMS).contains(&request.items.len()) {
        let given = format!("a list of {}", request.items.len());
        return Err(Problem::out_of_range("items", given, "a list of 1 to 1000"));
    }
    let session_item = request.items_in_session.as_ref().and_then(|items| items.last().cloned());
    let context = request.context.take().unwrap_or_default();
    let context = parse_context(context).map_err(|error| query::invalid_context(&error))?;
    let placement = request.placement.as_deref();
    let (rules, objective) = rules_of_request(&api, placement, session_item.as_deref(), &context)?;
    let owner = request.owner(&api)?;
    let rules = match &owner {
        ListOwner::User { user, .. } => api.recommendations.with_user(rules, user),
        ListOwner::Session(_) => rules,
    };
    let log_for = request.log_owner(&owner)?;
    let digest = if log_for.is_some() { request.digest(&context) } else { 0 };
    let recommender = &api.system.recommender;
    recommender.wait_for_offset(request.min_offset.unwrap_or_default(), api.read_wait).await?;
    // This thread computes the scores. A request that has already waited too long for the thread is
    // refused instead.
    queue_wait.wait_for_turn().await?;
    let numbers: Vec<_> = request.items.iter().map(|listed| recommender.dictionary().get(&listed.item_id)).collect();
    let scoring = ListScoringRequest {
        items: numbers.iter().flatten().copied().collect(),
        now: api.clock.now(),
        objective,
        explain: request.explain.unwrap_or_default(),
        context,
    };
    let relevance = request.relevance_of_known_items(&numbers)?;
    let (now, explain) = (scoring.now, scoring.explain);
    let mut scores = api.recommendations.score_list(owner, scoring, request.placement.as_deref()).await?;
    let combinations = combine_scores(&mut scores, &relevance);
    let mut items = to_ranked_items(&api, request.items, &numbers, scores.items, combinations, now);
    let scale =
        if scores.is_personalised || !relevance.is_empty() { ScoreScale::Logarithmic } else { ScoreScale::Linear };
    let (catalog, mut trace) = (recommender.catalog(), RuleTrace::default());
    let removed_by_rules = apply_rules(&catalog, &rules, scale, &mut trace, &numbers, &mut items);
    let rules_of = |item: &RankedListItem| -> Vec<String> {
        let number = numbers.get(item.position).copied().flatten();
        let moved_by = number.map(|number| rules.rules_that_moved(number, &catalog, &trace)).unwrap_or_default();
        moved_by.iter().map(ToString::to_string).collect()
    };
    let recommendation_id = log_for.and_then(|(user, consent)| {
        let impression = Impression {
            weights_version: scores.weights_version,
            items: shown_items(&items, rules_of),
            placement: request.placement.clone(),
            snapshot_offset: scores.snapshot_offset,
            request_digest: digest,
            ..Impression::default()
        };
        api.recommendations.journal_scored_list(&user, consent, impression)
    });
    if explain {
        for item in &mut items {
            let moved_by = rules_of(item);
            if !moved_by.is_empty() {
                item.explanation.get_or_insert_with(ItemExplanation::default).rules = moved_by;
            }
        }
    } else {
        items.iter_mut().for_each(|item| item.combination = None);
    }
    Ok(Json(RankedListResponse {
        recommendation_id,
        weights_version: scores.weights_version,
        is_personalised: scores.is_personalised,
        items,
        placement: request.placement,
        removed_by_rules: if explain { removed_by_rules } else { Vec::new() },
    }))
}

/// Combines the scores with the relevance of the items, unless it is empty. Returns how each score
/// was combined.
fn combine_scores(scores: &mut ListScores, relevance: &[Option<f32>]) -> Vec<ScoreCombination> {
    if relevance.is_empty() {
        return Vec::new();
    }
    let model_scores: Vec<_> = scores.items.iter().map(|item| item.score).collect();
    let contributions = scores.relevance.relevance_contributions(relevance);
    scores.combine_with_relevance(relevance);
    let combination =
        |((model_score, relevance), relevance_contribution): ((f32, &Option<f32>), f32)| ScoreCombination {
            model_score,
            model_weight: scores.relevance.score_weight(),
            relevance: *relevance,
            relevance_weight: scores.relevance.relevance_weight(),
            relevance_contribution,
        };
    model_scores.into_iter().zip(relevance).zip(contributions).map(combination).collect()
}

/// The items of a request with their scores, best first. `numbers` are the numbers of the items,
/// and `scored` the scores of the known items. `combinations` says how these were combined with a
/// relevance; it is empty without relevance.
fn to_ranked_items(
    api: &ApiState,
    listed: Vec<ListedItem>,
    numbers: &[Option<ItemIx>],
    scored: Vec<ScoredListItem>,
    combinations: Vec<ScoreCombination>,
    now: Timestamp,
) -> Vec<RankedListItem> {
    let recommender = &api.system.recommender;
    let (catalog, mut scored, mut combinations) = (recommender.catalog(), scored.into_iter(), combinations.into_iter());
    let to_item = |(position, (listed, number)): (usize, (ListedItem, Option<ItemIx>))| {
        let known = number.and_then(|number| Some((number, scored.next()?)));
        let is_available = known.as_ref().is_none_or(|(number, _)| catalog.get_recommendable(*number, now).is_some());
        let status = match &known {
            None => ListedItemStatus::Unknown,
            Some((_, ScoredListItem { is_new: true, .. })) => ListedItemStatus::New,
            Some(_) => ListedItemStatus::Learned,
        };
        let combination = known.as_ref().and_then(|_| combinations.next());
        let scored = known.map(|(_, scored)| scored);
        RankedListItem {
            item_id: listed.item_id,
            position,
            score: scored.as_ref().map(|scored| scored.score),
            status,
            is_available,
            source: scored.as_ref().and_then(|scored| scored.source),
            interest: scored.as_ref().and_then(|scored| scored.interest),
            explanation: scored
                .and_then(|scored| scored.explanation)
                .map(|explanation| to_item_explanation(recommender, &explanation)),
            combination,
        }
    };
    let mut items: Vec<_> = listed.into_iter().zip(numbers.iter().copied()).enumerate().map(to_item).collect();
    items.sort_by(|a, b| match (a.score, b.score) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    items
}

/// The rules that apply to a list of a placement after an item of a session, and the objective of the
/// placement.
fn rules_of_request(
    api: &ApiState,
    placement: Option<&str>,
    session_item: Option<&str>,
    values: &Attributes,
) -> Result<(Arc<ListRules>, Option<Objective>), Problem> {
    let placements = api.placements.current();
    let placement =
        placement.map(|name| placements.find(name).ok_or_else(|| Problem::unknown_placement(name, placements.names())));
    let placement = placement.transpose()?;
    let (catalog, dictionary) = (api.system.recommender.catalog(), api.system.recommender.dictionary());
    let number_of = |item: &str| dictionary.get(item);
    let context = RequestContext { item: session_item.and_then(number_of), values };
    let rules = placements.rules_of_list(placement, context, &catalog, number_of, api.clock.now());
    Ok((rules, placement.and_then(|placement| placement.config.objective)))
}

/// Applies rules to ranked items. `numbers` are the numbers of the items by their position in the
/// request. Unknown items stay at the end. Returns the rules that removed items; `trace` gets the
/// rules that moved items.
fn apply_rules(
    catalog: &Catalog,
    rules: &ListRules,
    scale: ScoreScale,
    trace: &mut RuleTrace,
    numbers: &[Option<ItemIx>],
    items: &mut Vec<RankedListItem>,
) -> Vec<RuleRemovals> {
    if rules.is_empty() {
        return Vec::new();
    }
    let number_of = |item: &RankedListItem| numbers.get(item.position).copied().flatten();
    // The request may name an item several times. Its occurrences stay together.
    let mut seen = FxHashSet::default();
    let to_candidate = |item: &RankedListItem| {
        let number = number_of(item).filter(|number| seen.insert(*number))?;
        let source = item.source.unwrap_or(SourceName::Trending);
        Some(Candidate { item: number, score: item.score?, source })
    };
    let mut list: Vec<_> = items.iter().filter_map(to_candidate).collect();
    let removed = rules.apply_to_list(catalog, scale, &mut list, trace);
    let places: FxHashMap<_, _> =
        list.iter().enumerate().map(|(place, candidate)| (candidate.item, (place, candidate.score))).collect();
    items.retain(|item| number_of(item).is_none_or(|number| places.contains_key(&number)));
    for item in items.iter_mut() {
        let Some(number) = number_of(item) else { continue };
        item.score = places.get(&number).map(|(_, score)| *score);
    }
    items.sort_by_key(|item| {
        number_of(item).and_then(|number| places.get(&number)).map_or(usize::MAX, |(place, _)| *place)
    });
    removed.into_iter().map(|(rule, count)| RuleRemovals { rule: rule.to_string(), count }).collect()
}
