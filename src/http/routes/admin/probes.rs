//! Metrics, liveness and readiness.

use actix_web::HttpResponse;
use actix_web::rt::time::timeout;
use actix_web::web::Data;
use serde_json::json;
use std::time::Duration;

use crate::http::schema::problem::{Problem, RETRY_DELAY};
use crate::http::state::ApiState;
use crate::http::status::readiness::not_ready_reason;

/// Longest time that a metrics request waits for the readiness check. If the check takes longer,
/// the service is reported as not ready.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);

pub(in crate::http) async fn get_metrics(api: Data<ApiState>) -> HttpResponse {
    let ready = timeout(READINESS_TIMEOUT, get_readiness(api.clone())).await.is_ok_and(|ready| ready.is_ok());
    api.metrics().ready.set(f64::from(u8::from(ready)));
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(api.system.inspection.refresh_metrics().render())
}

pub(in crate::http) async fn get_liveness() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// Responds with 200 if the scrub (the background check of the journal) has found no damage. Damage
/// does not make the service unready, because the daemon can serve without an entry that it learned
/// long ago.
pub(in crate::http) async fn get_journal_health(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let report = api.system.scrub.load();
    let Some(first) = report.damaged.first() else {
        return Ok(HttpResponse::Ok()
            .json(json!({ "status": "intact", "passes": report.passes, "progress": report.progress() })));
    };
    let reason = format!(
        "The journal is damaged: {} entries cannot be read, the first at offset {}. Restore a backup, or run `sequor rebuild --accept-loss`.",
        report.damaged_entries(),
        first.start
    );
    Err(Problem::not_ready(reason, RETRY_DELAY))
}

/// Responds with 200 if learning works and the journal accepts writes.
pub(in crate::http) async fn get_readiness(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    match not_ready_reason(&api.system, &api.system.model.status()) {
        Some(reason) => Err(Problem::not_ready(reason, RETRY_DELAY)),
        None => Ok(HttpResponse::Ok().json(json!({ "status": "ready" }))),
    }
}
