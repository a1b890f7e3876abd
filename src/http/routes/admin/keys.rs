//! The keys: seen, made and revoked.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::{ApiKey, KeyError, KeyId, Scopes};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;

/// A key as it is shown: nothing of its secret, not even the digest.
fn shown(key: &ApiKey) -> Value {
    json!({ "id": key.id, "name": key.name, "scopes": key.scopes, "created": key.created, "rate": key.rate })
}

pub(in crate::http) async fn list(api: Data<ApiState>) -> HttpResponse {
    let ring = api.key_store.key_ring();
    let keys: Vec<_> = ring.all().into_iter().map(shown).collect();
    HttpResponse::Ok().json(json!({ "keys": keys }))
}

/// What a key is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewKeyRequest {
    name: String,
    scopes: Scopes,
    #[serde(default)]
    rate: Option<u32>,
}

/// The answer holds the key in clear, this once.
pub(in crate::http) async fn create(api: Data<ApiState>, Json(wanted): Json<NewKeyRequest>) -> Result<HttpResponse, Problem> {
    let (key, secret) = api.key_store.create(&wanted.name, wanted.scopes, wanted.rate, api.clock.now()).map_err(problem)?;
    tracing::info!(id = %key.id, scopes = %key.scopes, "a key was made");
    let mut answer = shown(&key);
    answer["key"] = secret.reveal().into();
    Ok(HttpResponse::Ok().json(answer))
}

pub(in crate::http) async fn revoke(api: Data<ApiState>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let id: KeyId = id.parse().map_err(problem)?;
    let key = api.key_store.revoke(&id).map_err(problem)?;
    tracing::info!(id = %key.id, "a key was revoked");
    Ok(HttpResponse::Ok().json(json!({ "revoked": shown(&key) })))
}

fn problem(error: KeyError) -> Problem {
    match error {
        KeyError::InvalidName => Problem::out_of_range("name", "another", "1 to 64 characters, none that control"),
        KeyError::InvalidId => Problem::out_of_range("id", "another", "8 hexadecimal digits"),
        KeyError::NotFound(_) => Problem::unknown_key(),
        error => {
            let mut said = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                said.push_str(&format!(": {source}"));
            }
            Problem::conflict(format!("{said}."))
        }
    }
}
