//! Placements.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json, Path};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::domain::{PlacementChange, PlacementOperation};
use crate::http::schema::change_receipt::{ChangeReceipt, change_problem};
use crate::http::schema::error_mapping::{parse_json, unreadable_body};
use crate::http::schema::placement_body::{PlacementBody, check_name};
use crate::http::schema::problem::Problem;
use crate::http::schema::query::check_excluded_kinds;
use crate::http::schema::responses::{
    BadRequestResponse, ConflictResponse, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;

/// What the body of a placement must be.
const EXPECTED_BODY: &str = r#"a placement, such as {"type": "similar", "limit": 8}"#;

/// All placements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlacementList)]
pub(in crate::http) struct PlacementListResponse {
    /// The placements by name.
    placements: BTreeMap<String, PlacementBody>,
}

fn unknown_placement(api: &ApiState, name: &str) -> Problem {
    Problem::unknown_placement(name, api.placements.current().names())
}

/// List placements
#[utoipa::path(get, path = "/v1/placements", operation_id = "list_placements", tag = "placements",
    responses((status = 200, description = "All placements.", body = PlacementListResponse), UnavailableResponse))]
pub(in crate::http) async fn list_placements(api: Data<ApiState>) -> Json<PlacementListResponse> {
    let current = api.placements.current();
    let to_body = |(name, config)| (String::clone(name), PlacementBody::from(config));
    Json(PlacementListResponse { placements: current.table().placements().iter().map(to_body).collect() })
}

/// Get a placement
///
/// Returns the configuration, as a put takes it.
#[utoipa::path(get, path = "/v1/placements/{placement}", operation_id = "get_placement", tag = "placements",
    params(("placement" = String, Path, description = "The name of the placement.")),
    responses((status = 200, description = "The placement.", body = PlacementBody), NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_placement(
    api: Data<ApiState>,
    name: Path<String>,
) -> Result<Json<PlacementBody>, Problem> {
    let current = api.placements.current();
    let config = current.table().placements().get(&*name).ok_or_else(|| unknown_placement(&api, &name))?;
    Ok(Json(PlacementBody::from(config)))
}

/// Put a placement
///
/// Creates the placement, or replaces its configuration. The change applies to every list that is
/// requested after the response. There can be 64 placements.
#[utoipa::path(put, path = "/v1/placements/{placement}", operation_id = "put_placement", tag = "placements",
    params(("placement" = String, Path, description = "The name of the placement: 1 to 64 characters of a-z, 0-9, `_` and `-`. The name `none` is reserved.", pattern = "^[a-z0-9_-]{1,64}$")),
    request_body = PlacementBody,
    responses((status = 200, description = "The receipt.", body = ChangeReceipt), BadRequestResponse, ConflictResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn put_placement(
    api: Data<ApiState>,
    name: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<Json<ChangeReceipt>, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let name = check_name("placement", name.into_inner())?;
    let body: PlacementBody = parse_json(&body, EXPECTED_BODY)?;
    let config = body.into_config()?;
    check_excluded_kinds(config.exclude_events.iter().map(|(kind, _)| &**kind), &api)?;
    change(&api, name, PlacementOperation::Put(config)).await
}

/// Delete a placement
///
/// Rules that name the placement stay.
#[utoipa::path(delete, path = "/v1/placements/{placement}", operation_id = "delete_placement", tag = "placements",
    params(("placement" = String, Path, description = "The name of the placement.")),
    responses((status = 200, description = "The receipt.", body = ChangeReceipt), NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn delete_placement(
    api: Data<ApiState>,
    name: Path<String>,
) -> Result<Json<ChangeReceipt>, Problem> {
    change(&api, name.into_inner(), PlacementOperation::Delete).await
}

async fn change(api: &ApiState, name: String, operation: PlacementOperation) -> Result<Json<ChangeReceipt>, Problem> {
    let change = PlacementChange { name: name.clone(), timestamp: api.clock.now(), operation };
    let receipt = api.placements.change_placement(change).await;
    receipt.map(|receipt| Json(receipt.into())).map_err(|error| change_problem(error, unknown_placement(api, &name)))
}
