//! The admin endpoint: what watches and steers the service.

pub(super) mod items;
mod keys;
pub(super) mod model;
mod query;
pub(super) mod recall;
pub(super) mod sessions;
mod settings;
pub(super) mod status;
pub(super) mod store;

use actix_web::HttpResponse;
use actix_web::rt::time::timeout;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;
use std::time::Duration;

use super::api::{ApiState, RETRY_DELAY};
use super::lock::RequiredAccess;
use super::problem::Problem;
use super::watch::protected_resource;
use crate::actors::learner::LearnerStatus;
use crate::auth::Scope;

pub(super) fn routes(config: &mut ServiceConfig) {
    // What watches a service often asks with HEAD.
    let read = |at, needs| protected_resource(at, "GET, HEAD", needs);
    config
        .service(read("/metrics", RequiredAccess::Scope(Scope::Metrics)).route(web::get().to(exposition)).route(web::head().to(exposition)))
        .service(read("/healthz", RequiredAccess::Public).route(web::get().to(alive)).route(web::head().to(alive)))
        .service(read("/readyz", RequiredAccess::Public).route(web::get().to(ready)).route(web::head().to(ready)))
        .configure(model::routes)
        .configure(settings::routes)
        .configure(keys::routes)
        .configure(status::routes)
        .configure(store::routes)
        .configure(sessions::routes)
        .configure(items::routes)
        .configure(recall::routes);
}

/// How long the metrics wait for the learner's word on whether it is ready; none is none.
const READY_PATIENCE: Duration = Duration::from_secs(5);

async fn exposition(api: Data<ApiState>) -> HttpResponse {
    let ready = timeout(READY_PATIENCE, ready(api.clone())).await.is_ok_and(|ready| ready.is_ok());
    api.metrics().ready.set(f64::from(u8::from(ready)));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(api.system.refresh_metrics().render())
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// Ready once learning stands and the journal takes writes.
async fn ready(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    match not_ready_reason(&api, &api.system.learner_status().await?) {
        Some(trouble) => Err(Problem::not_ready(trouble, RETRY_DELAY)),
        None => Ok(HttpResponse::Ok().json(json!({ "status": "ready" }))),
    }
}

/// What keeps the service from being ready, if anything does.
fn not_ready_reason(api: &ApiState, standing: &LearnerStatus) -> Option<&'static str> {
    if standing.failed {
        return Some("learning has stopped for an error and is tried again; the log names it");
    }
    if api.system.is_draining() {
        return Some("the daemon is being drained: it takes nothing any more, and answers go on");
    }
    if api.system.store().has_failed() {
        return Some("the journal takes no writes since one failed; the log tells why, and it is tried again");
    }
    None
}
