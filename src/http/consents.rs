//! How far a user's consent goes.

use actix_web::web::{self, Bytes, Data, Json, Path, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::{ApiState, IngestReceipt, ingest, unreadable_body};
use super::lock::RequiredAccess;
use super::openapi::{BadRequestResponse, InvalidBodyResponse, IdString, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use super::wishes;
use crate::auth::Scope;
use crate::domain::{Consent, Entry};

/// Where a user's consent is said and asked for.
pub(super) const CONSENT: &str = "/v1/users/{user}/consent";

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(protected_resource(CONSENT, "GET, PUT", RequiredAccess::Scope(Scope::Users)).route(web::get().to(consent)).route(web::put().to(say)));
}

/// A level of consent: with `none` nothing of the user is kept, with `session` the user's own lists
/// follow from it and nobody else's, with `full` it is learned from.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Consent)]
pub(super) enum ConsentBody {
    /// Nothing is kept.
    None,
    /// The user's own lists follow from it.
    Session,
    /// It is learned from.
    Full,
}

impl From<Consent> for ConsentBody {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::None => Self::None,
            Consent::Session => Self::Session,
            Consent::Full => Self::Full,
        }
    }
}

/// How far consent goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Said)]
pub(super) struct ConsentRequest {
    /// How far.
    #[schema(value_type = ConsentBody)]
    consent: String,
}

/// How far a user's consent goes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Standing)]
pub(super) struct ConsentState {
    /// How far.
    consent: ConsentBody,
    /// Whether the user said so; else it is what holds for everybody.
    said: bool,
}

/// Says how far a user's consent goes
///
/// From then on, whatever an event says beyond it. What was kept before stays.
#[utoipa::path(put, path = CONSENT, tag = "users", params(("user" = IdString, Path, description = "The user.")), request_body(content = ConsentRequest),
    responses((status = 200, description = "The receipt; a consent that went as far before is a duplicate.", body = IngestReceipt), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn say(api: Data<ApiState>, user: Path<String>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let ConsentRequest { consent } =
        serde_json::from_slice(&body).map_err(|error| Problem::invalid_json(&error, r#"{"consent": "session"}"#))?;
    let change =
        api.rules.validate_consent(user.into_inner().into(), &consent, api.clock.now()).map_err(|fault| Problem::invalid_message(&fault))?;
    ingest(&api, vec![Entry::Consent(change)], Vec::new(), Vec::new()).await
}

/// How far a user's consent goes
#[utoipa::path(get, path = CONSENT, tag = "users", params(("user" = IdString, Path, description = "The user.")),
    responses((status = 200, description = "How far it goes.", body = ConsentState), BadRequestResponse, UnavailableResponse))]
pub(super) async fn consent(api: Data<ApiState>, user: Path<String>) -> Result<Json<ConsentState>, Problem> {
    let user = wishes::validate_user_id(&api, user.into_inner())?;
    let said = api.system.recorded_consent(&user);
    Ok(Json(ConsentState { consent: api.system.consent(&user, None).into(), said: said.is_some() }))
}
