//! Lists, creates and revokes API keys.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{ApiKey, KeyError, KeyId, Scopes};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// An API key as JSON, without its secret and the digest of the secret.
fn key_to_json(key: &ApiKey) -> Value {
    json!({ "id": key.id, "name": key.name, "scopes": key.scopes, "created": key.created, "rate": key.rate })
}

pub(in crate::http) async fn list_keys(api: Data<ApiState>) -> HttpResponse {
    let ring = api.key_store.key_ring();
    let keys: Vec<_> = ring.all().into_iter().map(key_to_json).collect();
    HttpResponse::Ok().json(json!({ "keys": keys }))
}

/// The request for a new key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewKeyRequest {
    name: String,
    scopes: Scopes,
    #[serde(default)]
    rate: Option<u32>,
}

/// Creates an API key. Only this response contains the key in clear text.
pub(in crate::http) async fn create_key(
    api: Data<ApiState>,
    Json(request): Json<NewKeyRequest>,
) -> Result<HttpResponse, Problem> {
    let (key, secret) =
        api.key_store.create(&request.name, request.scopes, request.rate, api.clock.now()).map_err(key_problem)?;
    tracing::info!(id = %key.id, scopes = %key.scopes, "created an API key");
    let mut response = key_to_json(&key);
    response["key"] = secret.reveal().into();
    Ok(HttpResponse::Ok().json(response))
}

pub(in crate::http) async fn revoke_key(api: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id: KeyId = id.parse().map_err(key_problem)?;
    let key = api.key_store.revoke(&id).map_err(key_problem)?;
    tracing::info!(id = %key.id, "revoked an API key");
    Ok(HttpResponse::Ok().json(json!({ "revoked": key_to_json(&key) })))
}

fn key_problem(error: KeyError) -> Problem {
    match error {
        KeyError::InvalidName => {
            Problem::out_of_range("name", "invalid", "1 to 64 characters without control characters")
        }
        KeyError::InvalidId => Problem::out_of_range("id", "invalid", "8 hexadecimal digits"),
        KeyError::NotFound(_) => Problem::unknown_key(),
        error => {
            let mut message = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                message.push_str(&format!(": {source}"));
            }
            Problem::conflict(format!("{message}."))
        }
    }
}
