//! Users who turn out to be one.

use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{ApiState, IngestReceipt, ingest, unreadable_body};
use super::lock::RequiredAccess;
use super::openapi::{BadRequestResponse, InvalidBodyResponse, IdString, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use crate::auth::Scope;
use crate::domain::Entry;

/// Where a user takes in another one.
pub(super) const MERGE: &str = "/v1/users/{user}/merge";

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(protected_resource(MERGE, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(merge)));
}

/// Who is taken in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Other)]
pub(super) struct MergeRequest {
    /// The user that is no more from then on.
    #[schema(value_type = IdString)]
    from: String,
}

/// Merges two users
///
/// What the user `from` did becomes this one's. The body's type may be any: a beacon can say none.
#[utoipa::path(post, path = MERGE, tag = "events", params(("user" = IdString, Path, description = "Who goes on.")), request_body(content = MergeRequest),
    responses((status = 200, description = "The receipt.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn merge(api: Data<ApiState>, user: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let MergeRequest { from } = serde_json::from_slice(&body).map_err(|error| Problem::invalid_json(&error, r#"{"from": "…"}"#))?;
    let into = user.into_inner();
    if from == into {
        return Err(Problem::out_of_range("from", "the user itself", "another user"));
    }
    let merge = api
        .rules
        .validate_merge(["from", "user"], from.into(), into.into(), api.clock.now())
        .map_err(|fault| Problem::invalid_message(&fault))?;
    ingest(&api, vec![Entry::Merge(merge)], Vec::new(), Vec::new()).await
}
