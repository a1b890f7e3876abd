//! Placements.

use actix_web::Error;
use actix_web::web::{Bytes, Data, Json, Path};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{PlacementChange, PlacementOperation};
use crate::http::schema::change_receipt::{ChangeReceipt, change_problem};
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::placement_body::{PlacementBody, check_name};
use crate::http::schema::problem::Problem;
use crate::http::schema::responses::{
    BadRequestResponse, ConflictResponse, InvalidBodyResponse, NotFoundResponse, UnavailableResponse,
};
use crate::http::state::ApiState;

/// What the body of a placement must be.
const EXPECTED_BODY: &str = r#"a placement, such as {"type": "similar", "limit": 8}"#;

/// A placement with its name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Placement)]
pub(in crate::http) struct PlacementView {
    /// The name of the placement.
    pub(in crate::http) name: String,
    #[serde(flatten)]
    #[schema(value_type = PlacementBody)]
    pub(in crate::http) config: PlacementBody,
}

/// All placements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Placements)]
pub(in crate::http) struct PlacementListResponse {
    /// The placements, by name.
    pub(in crate::http) placements: Vec<PlacementView>,
}

impl PlacementListResponse {
    /// Reads all placements.
    pub(in crate::http) fn collect(api: &ApiState) -> Self {
        let current = api.placements.current();
        let placements = current.table().placements().iter();
        let view = |(name, config)| PlacementView { name: String::clone(name), config: PlacementBody::from(config) };
        Self { placements: placements.map(view).collect() }
    }
}

fn unknown_placement(api: &ApiState, name: &str) -> Problem {
    Problem::unknown_placement(name, api.placements.current().names())
}

/// List placements
#[utoipa::path(get, path = "/v1/placements", operation_id = "list_placements", tag = "placements",
    responses((status = 200, description = "All placements.", body = PlacementListResponse), UnavailableResponse))]
pub(in crate::http) async fn list_placements(api: Data<ApiState>) -> Json<PlacementListResponse> {
    Json(PlacementListResponse::collect(&api))
}

/// Get a placement
#[utoipa::path(get, path = "/v1/placements/{placement}", operation_id = "get_placement", tag = "placements",
    params(("placement" = String, Path, description = "The name of the placement.")),
    responses((status = 200, description = "The placement.", body = PlacementView), NotFoundResponse, UnavailableResponse))]
pub(in crate::http) async fn get_placement(
    api: Data<ApiState>,
    name: Path<String>,
) -> Result<Json<PlacementView>, Problem> {
    let name = name.into_inner();
    let current = api.placements.current();
    let config = current.table().placements().get(&name).ok_or_else(|| unknown_placement(&api, &name))?;
    Ok(Json(PlacementView { config: PlacementBody::from(config), name }))
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
    let body: PlacementBody =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid_json(&error, EXPECTED_BODY))?;
    change(&api, name, PlacementOperation::Put(body.into_config()?)).await
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
