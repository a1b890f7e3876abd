//! A user's consent.

use actix_web::web::{Bytes, Data, Json, Path};
use actix_web::{Error, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::Entry;
use crate::http::schema::consent::ConsentBody;
use crate::http::schema::error_mapping::{parse_json, unreadable_body};
use crate::http::schema::problem::Problem;
use crate::http::schema::query;
use crate::http::schema::receipt::IngestReceipt;
use crate::http::schema::responses::{BadRequestResponse, IdString, InvalidBodyResponse, UnavailableResponse};
use crate::http::state::ApiState;
use crate::services::ingest::{FullQueuePolicy, ingest};

/// A change of a user's consent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsentRequest)]
pub(in crate::http) struct ConsentRequest {
    /// The new level.
    #[schema(value_type = ConsentBody)]
    consent: String,
}

/// A user's consent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConsentState)]
pub(in crate::http) struct ConsentState {
    /// The level.
    consent: ConsentBody,
    /// Whether this level was set for the user. If not, the level is the default of the settings.
    said: bool,
}

/// Set a user's consent
///
/// The level applies to all later events of the user. An event can have a lower level, but not a
/// higher level. Data that was stored before is kept.
#[utoipa::path(put, path = "/v1/users/{user}/consent", operation_id = "say", tag = "users", params(("user" = IdString, Path, description = "The user.")), request_body(content = ConsentRequest),
    responses((status = 200, description = "The receipt. Setting the current level again counts as a duplicate.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn set_consent(
    api: Data<ApiState>,
    user: Path<String>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let ConsentRequest { consent } = parse_json(&body, r#"{"consent": "session"}"#)?;
    let change = api
        .rules
        .validate_consent(user.into_inner().into(), &consent, api.clock.now())
        .map_err(|error| Problem::invalid_message(&error))?;
    let outcome = ingest(&api.system.ingest, [Entry::Consent(change)], None, FullQueuePolicy::Fail).await?;
    Ok(IngestReceipt::new(outcome, Vec::new(), Vec::new()).into_response())
}

/// Get a user's consent
#[utoipa::path(get, path = "/v1/users/{user}/consent", operation_id = "consent", tag = "users", params(("user" = IdString, Path, description = "The user.")),
    responses((status = 200, description = "The consent.", body = ConsentState), BadRequestResponse, UnavailableResponse))]
pub(in crate::http) async fn get_consent(
    api: Data<ApiState>,
    user: Path<String>,
) -> Result<Json<ConsentState>, Problem> {
    let user = query::validate_user_id(&api, user.into_inner())?;
    let recorded = api.system.ingest.recorded_consent(&user);
    Ok(Json(ConsentState {
        consent: api.system.ingest.effective_consent(&user, None).into(),
        said: recorded.is_some(),
    }))
}
