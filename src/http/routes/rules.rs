//! Rules.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json, Path};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::domain::{RuleChange, RuleOperation};
use crate::http::schema::change_receipt::{ChangeReceipt, change_problem};
use crate::http::schema::error_mapping::{parse_json, unreadable_body};
use crate::http::schema::placement_body::check_name;
use crate::http::schema::problem::Problem;
use crate::http::schema::responses::{
    BadRequestResponse, ConflictResponse, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::schema::rule_body::RuleBody;
use crate::http::state::ApiState;

/// What the body of a rule must be.
const EXPECTED_BODY: &str = r#"a rule, such as {"condition": {"placements": ["home"]}, "consequence": {"hide": {"filter": "brand = leaf"}}}; a consequence is `promote`, `boost`, `hide` or `require`"#;

/// All rules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RuleList)]
pub(in crate::http) struct RuleListResponse {
    /// The rules by id.
    rules: BTreeMap<String, RuleBody>,
}

/// List rules
#[utoipa::path(get, path = "/v1/rules", operation_id = "list_rules", tag = "placements",
    responses((status = 200, description = "All rules.", body = RuleListResponse), UnavailableResponse))]
pub(in crate::http) async fn list_rules(api: Data<ApiState>) -> Json<RuleListResponse> {
    let current = api.placements.current();
    let to_body = |(id, rule)| (String::clone(id), RuleBody::from(rule));
    Json(RuleListResponse { rules: current.table().rules().iter().map(to_body).collect() })
}

/// Get a rule
///
/// Returns the rule, as a put takes it.
#[utoipa::path(get, path = "/v1/rules/{rule}", operation_id = "get_rule", tag = "placements",
    params(("rule" = String, Path, description = "The id of the rule.")),
    responses((status = 200, description = "The rule.", body = RuleBody), NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_rule(api: Data<ApiState>, id: Path<String>) -> Result<Json<RuleBody>, Problem> {
    let current = api.placements.current();
    let rule = current.table().rules().get(&*id).ok_or_else(Problem::unknown_rule)?;
    Ok(Json(RuleBody::from(rule)))
}

/// Put a rule
///
/// Creates or replaces the rule. The change applies to every list that is requested after the
/// response. The receipt warns of conflicts with other rules. There can be 256 rules.
#[utoipa::path(put, path = "/v1/rules/{rule}", operation_id = "put_rule", tag = "placements",
    params(("rule" = String, Path, description = "The id of the rule: 1 to 64 characters of a-z, 0-9, `_` and `-`. The id `none` is reserved.", pattern = "^[a-z0-9_-]{1,64}$")),
    request_body = RuleBody,
    responses((status = 200, description = "The receipt.", body = ChangeReceipt), BadRequestResponse, ConflictResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn put_rule(
    api: Data<ApiState>,
    id: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<Json<ChangeReceipt>, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let id = check_name("rule", id.into_inner())?;
    let body: RuleBody = parse_json(&body, EXPECTED_BODY)?;
    change(&api, id, RuleOperation::Put(body.into_rule()?)).await
}

/// Delete a rule
#[utoipa::path(delete, path = "/v1/rules/{rule}", operation_id = "delete_rule", tag = "placements",
    params(("rule" = String, Path, description = "The id of the rule.")),
    responses((status = 200, description = "The receipt.", body = ChangeReceipt), NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn delete_rule(
    api: Data<ApiState>,
    id: Path<String>,
) -> Result<Json<ChangeReceipt>, Problem> {
    change(&api, id.into_inner(), RuleOperation::Delete).await
}

async fn change(api: &ApiState, id: String, operation: RuleOperation) -> Result<Json<ChangeReceipt>, Problem> {
    let receipt = api.placements.change_rule(RuleChange { id, timestamp: api.clock.now(), operation }).await;
    receipt.map(|receipt| Json(receipt.into())).map_err(|error| change_problem(error, Problem::unknown_rule()))
}
