//! The settings in force, and what can be changed while the daemon runs.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, ServiceConfig};
use serde::Deserialize;
use serde_json::json;

use super::query::EmptyBody;
use crate::http::api::ApiState;
use crate::http::problem::Problem;
use crate::http::watch::admin_resource;
use crate::settings::LogLevel;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(admin_resource("/admin/settings", "GET, HEAD").route(web::get().to(settings)).route(web::head().to(settings)))
        .service(admin_resource("/admin/settings/reload", "POST").route(web::post().to(reload)))
        .service(admin_resource("/admin/log-level", "POST").route(web::post().to(log_level)))
        .service(admin_resource("/admin/drain", "POST").route(web::post().to(drain)));
}

async fn settings(api: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "settings": api.live_settings.effective_settings() }))
}

async fn reload(api: Data<ApiState>, _: Json<EmptyBody>) -> Result<HttpResponse, Problem> {
    let reloaded = api.live_settings.reload().map_err(|error| Problem::conflict(format!("The settings stay as they were: {error}.")))?;
    tracing::info!(changed = ?reloaded.changed, waiting = ?reloaded.waiting, "the settings were read again");
    Ok(HttpResponse::Ok().json(reloaded))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevelRequest {
    level: LogLevel,
}

async fn log_level(api: Data<ApiState>, Json(LogLevelRequest { level }): Json<LogLevelRequest>) -> HttpResponse {
    api.live_settings.set_log_level(level);
    HttpResponse::Ok().json(json!({ "level": level }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    #[serde(default = "yes")]
    on: bool,
}

fn yes() -> bool {
    true
}

/// Nothing is taken any more, and what was is brought to the disk with all that was learned of it:
/// the daemon can be stopped, and starts again at once. Or the other way round.
async fn drain(api: Data<ApiState>, Json(DrainRequest { on }): Json<DrainRequest>) -> Result<HttpResponse, Problem> {
    api.system.set_draining(on);
    tracing::info!(on, "draining");
    let offset = if on { Some(api.system.persist().await?) } else { None };
    Ok(HttpResponse::Ok().json(json!({ "draining": on, "offset": offset })))
}
