//! Shows the effective settings, and changes settings of the running daemon.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use serde::Deserialize;
use serde_json::json;

use crate::http::routes::admin::query::EmptyBody;
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::settings::LogLevel;

pub(in crate::http) async fn get_settings(api: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "settings": api.live_settings.effective_settings() }))
}

pub(in crate::http) async fn reload_settings(api: Data<ApiState>, _: Json<EmptyBody>) -> Result<HttpResponse, Problem> {
    let reloaded = api
        .live_settings
        .reload()
        .map_err(|error| Problem::conflict(format!("The settings are unchanged: {error}.")))?;
    tracing::info!(changed = ?reloaded.changed, waiting = ?reloaded.waiting, "reloaded the settings");
    Ok(HttpResponse::Ok().json(reloaded))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct LogLevelRequest {
    level: LogLevel,
}

pub(in crate::http) async fn set_log_level(
    api: Data<ApiState>,
    Json(LogLevelRequest { level }): Json<LogLevelRequest>,
) -> HttpResponse {
    api.live_settings.set_log_level(level);
    HttpResponse::Ok().json(json!({ "level": level }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DrainRequest {
    #[serde(default = "drain_by_default")]
    on: bool,
}

fn drain_by_default() -> bool {
    true
}

/// Starts or ends draining. A draining daemon accepts no writes. If draining starts, this request
/// stores everything that the daemon has accepted and learned, and then responds. The daemon can
/// then be stopped, and its next start is quick.
pub(in crate::http) async fn set_draining(
    api: Data<ApiState>,
    Json(DrainRequest { on }): Json<DrainRequest>,
) -> Result<HttpResponse, Problem> {
    api.system.maintenance.set_draining(on);
    tracing::info!(on, "changed draining");
    let offset = if on { Some(api.system.maintenance.persist_derived_state().await?) } else { None };
    Ok(HttpResponse::Ok().json(json!({ "draining": on, "offset": offset })))
}
