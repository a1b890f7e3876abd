//! Shows a list without and with a rule. Nothing is stored, and no impression is journalled.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

use crate::domain::{ItemIx, RankingRule, RuleChange, RuleOperation, SourceName, Timestamp};
use crate::http::schema::error_mapping::parse_json_body;
use crate::http::schema::placement_body::check_name;
use crate::http::schema::problem::Problem;
use crate::http::schema::query::{self, RecommendationQuery};
use crate::http::schema::rule_body::{RuleBody, parse_time};
use crate::http::state::ApiState;
use crate::ingest::parse_context;
use crate::learner::RankedItem;
use crate::services::placements::{RequestContext, RuleApplication};
use crate::services::rule_preview::{ChangeReason, ListChange, list_changes};

/// The id of a rule in a request without `rule_id`. No stored rule has it, because ids do not contain
/// this character.
const DRAFT_ID: &str = "~draft";

/// A rule and a list. The rule is a draft in the request, a stored rule, or a draft that replaces a
/// stored rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RulePreviewRequest {
    rule: Option<RuleBody>,
    rule_id: Option<String>,
    /// The user of the list. Absent: a visitor without events.
    user_id: Option<String>,
    placement: Option<String>,
    limit: Option<usize>,
    item: Option<String>,
    items: Option<Vec<String>>,
    context: Option<Value>,
    /// The time of the list. Absent: now.
    at: Option<String>,
}

/// A list without and with a rule.
#[derive(Debug, Serialize)]
pub(in crate::http) struct RulePreview {
    rule_id: String,
    /// Whether the rule applies to the list.
    applies: bool,
    /// Why the rule does not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Probable mistakes of the rule, in words.
    warnings: Vec<String>,
    without: Vec<PreviewItem>,
    with: Vec<PreviewItem>,
    /// The items that have different positions in the two lists.
    changes: Vec<PreviewChange>,
}

/// An item of a list.
#[derive(Debug, Serialize)]
struct PreviewItem {
    item_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    score: f32,
    source: SourceName,
    /// All rules that moved the item.
    rules: Vec<String>,
}

/// An item that has different positions in the two lists.
#[derive(Debug, Serialize)]
struct PreviewChange {
    item_id: String,
    /// The position without the rule, counted from 1. `null` if the list does not contain the item.
    position_without: Option<usize>,
    /// The position with the rule.
    position_with: Option<usize>,
    reason: &'static str,
}

impl RulePreviewRequest {
    /// The id of the rule, and the rule.
    fn take_rule(&mut self, api: &ApiState) -> Result<(String, RankingRule), Problem> {
        let id = self.rule_id.take().map(|id| check_name("rule_id", id)).transpose()?;
        match (id, self.rule.take()) {
            (id, Some(draft)) => Ok((id.unwrap_or_else(|| DRAFT_ID.to_owned()), draft.into_rule()?)),
            (Some(id), None) => {
                let current = api.placements.current();
                let rule = current.table().rules().get(&id).cloned().ok_or_else(Problem::unknown_rule)?;
                Ok((id, rule))
            }
            (None, None) => {
                let detail = "Send a draft as `rule`, the id of a stored rule as `rule_id`, or both.";
                Err(Problem::invalid_parameter("rule", detail))
            }
        }
    }

    /// The user, the time and the parameters of the list.
    fn into_list(self, api: &ApiState) -> Result<(Option<String>, Timestamp, RecommendationQuery), Problem> {
        let user = self
            .user_id
            .map(|user| query::validate_user_id(api, user).map_err(|problem| problem.with_field("user_id")));
        let at = self.at.map(|text| parse_time("at", &text)).transpose()?;
        let context =
            parse_context(self.context.unwrap_or_default()).map_err(|error| query::invalid_context(&error))?;
        let list = RecommendationQuery {
            limit: self.limit,
            placement: self.placement,
            item: self.item,
            items: self.items.unwrap_or_default(),
            context,
            ..RecommendationQuery::default()
        };
        Ok((user.transpose()?, at.unwrap_or_else(|| api.clock.now()), list))
    }
}

/// Shows the list of a user and a placement without and with a rule.
pub(in crate::http) async fn preview_rule(
    api: Data<ApiState>,
    body: Result<Bytes, Error>,
) -> Result<Json<RulePreview>, Problem> {
    let mut request: RulePreviewRequest = parse_json_body(body, api.max_body_bytes)?;
    let (rule_id, rule) = request.take_rule(&api)?;
    let (user, now, list) = request.into_list(&api)?;
    let change = |operation| RuleChange { id: rule_id.clone(), timestamp: now, operation };
    let without_rule = api.placements.current().with_change(change(RuleOperation::Delete));
    let with_rule = without_rule.with_change(change(RuleOperation::Put(rule.clone())));
    let (before, after) =
        (list.to_request_with(&api, &without_rule, now)?, list.to_request_with(&api, &with_rule, now)?);
    let bound_rules = match &user {
        Some(user) => api.recommendations.with_user(Arc::clone(&after.rules), user),
        None => Arc::clone(&after.rules),
    };
    let without = api.recommendations.preview(user.as_deref(), before).await?.items;
    let with = api.recommendations.preview(user.as_deref(), after).await?.items;
    let catalog = api.system.recommender.catalog();
    let context = RequestContext { item: list.context_items(&api)?.last().copied(), values: &list.context };
    let placement = list.placement.as_deref().and_then(|name| with_rule.find(name));
    let application = with_rule.rule_application(&rule_id, placement, context, &catalog, now);
    let reason = application.and_then(application_reason);
    let hiding = bound_rules.hide.iter().find(|hide| *hide.rule == *rule_id);
    let hides = |item: ItemIx| hiding.zip(catalog.get(item)).is_some_and(|(hide, item)| hide.filter.matches(item));
    let changes = list_changes(&without, &with, (&rule_id, &rule), hides);
    Ok(Json(RulePreview {
        applies: application == Some(RuleApplication::Applies),
        reason,
        warnings: api.placements.warnings_of(&rule_id, &rule, without_rule.table(), now),
        without: without.into_iter().filter_map(|listed| to_preview_item(&api, listed)).collect(),
        with: with.into_iter().filter_map(|listed| to_preview_item(&api, listed)).collect(),
        changes: changes.into_iter().filter_map(|change| to_preview_change(&api, change)).collect(),
        rule_id,
    }))
}

/// Why a rule does not apply; `None` if it does.
fn application_reason(application: RuleApplication) -> Option<&'static str> {
    match application {
        RuleApplication::Applies => None,
        RuleApplication::Disabled => Some("the rule is disabled"),
        RuleApplication::OutOfTime => Some("the rule is not valid at this time"),
        RuleApplication::OtherPlacement => Some("the rule is for other placements"),
        RuleApplication::OtherContext => Some("no context item satisfies the condition of the rule"),
    }
}

fn to_preview_item(api: &ApiState, RankedItem { candidate, rules, .. }: RankedItem) -> Option<PreviewItem> {
    let recommender = &api.system.recommender;
    let catalog = recommender.catalog();
    let details = catalog.get(candidate.item).and_then(|item| item.details());
    let text = |text: Option<&std::sync::Arc<str>>| text.map(|text| text.to_string());
    Some(PreviewItem {
        item_id: recommender.dictionary().name(candidate.item)?.to_string(),
        title: text(details.and_then(|details| details.title.as_ref())),
        image: text(details.and_then(|details| details.image.as_ref())),
        score: candidate.score,
        source: candidate.source,
        rules: rules.iter().map(ToString::to_string).collect(),
    })
}

fn to_preview_change(api: &ApiState, change: ListChange) -> Option<PreviewChange> {
    let ListChange { item, position_without, position_with, reason } = change;
    let reason = match reason {
        ChangeReason::Promoted => "promoted",
        ChangeReason::Boosted => "boosted",
        ChangeReason::Required => "required",
        ChangeReason::Hidden => "hidden",
        ChangeReason::Displaced => "displaced",
    };
    let item_id = api.system.recommender.dictionary().name(item)?.to_string();
    Some(PreviewChange { item_id, position_without, position_with, reason })
}
