//! The admin endpoint.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;

use super::api::{Api, RETRY};
use super::problem::Problem;
use super::watch::path;
use crate::actors::system::SystemError;

pub(super) fn routes(config: &mut ServiceConfig) {
    // What watches a service often asks with HEAD.
    let read = |at| path(at, "GET, HEAD");
    config
        .service(read("/metrics").route(web::get().to(exposition)).route(web::head().to(exposition)))
        .service(read("/healthz").route(web::get().to(alive)).route(web::head().to(alive)))
        .service(read("/readyz").route(web::get().to(ready)).route(web::head().to(ready)))
        .service(read("/admin/quarantine").route(web::get().to(quarantine)).route(web::head().to(quarantine)))
        .service(read("/admin/status").route(web::get().to(status)).route(web::head().to(status)));
}

async fn exposition(api: Data<Api>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(api.system.metrics().render())
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// Ready once learning stands and the journal takes writes.
async fn ready(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let standing = api.system.standing().await?;
    if standing.failed {
        return Err(Problem::not_ready("learning has stopped for an error and is tried again; the log names it", RETRY));
    }
    if api.system.store().has_failed() {
        return Err(Problem::not_ready("the journal takes no writes since one failed; the log tells why, and it is tried again", RETRY));
    }
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}

/// The entries that somebody passes over, with what they hold.
async fn quarantine(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let store = api.system.store();
    let noted = store.quarantine().all().map_err(SystemError::from)?;
    let entries = noted.into_iter().map(|noted| {
        let held = store.journal().read(noted.offset, 1).ok().and_then(|mut read| read.pop());
        let entry = held.filter(|(offset, _)| *offset == noted.offset).map(|(_, entry)| entry);
        json!({ "offset": noted.offset, "reader": noted.reader, "reason": noted.reason, "entry": entry })
    });
    Ok(HttpResponse::Ok().json(json!({ "entries": entries.collect::<Vec<_>>() })))
}

async fn status(api: Data<Api>) -> Result<HttpResponse, Problem> {
    let standing = api.system.standing().await?;
    let report = &standing.report;
    let journal = api.system.store().journal().next_offset().unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "journal": { "next_offset": journal, "bytes_on_disk": api.system.store().size_on_disk().unwrap_or_default() },
        "learning": {
            "next_offset": standing.next,
            "lag_entries": journal.saturating_sub(standing.next),
            "failed": standing.failed,
            "weights_version": api.system.snapshot().weights_version(),
            "batches": report.training.batches,
            "skipped_batches": report.training.skipped,
            "examples": report.training.examples,
            "mean_loss": report.training.mean_loss(),
        },
        "quality": {
            "steps": report.total.steps,
            "recall_at_20": report.live.recall(),
            "mrr_at_20": report.live.mrr(),
            "ndcg_at_20": report.live.ndcg(),
        },
        "catalog": { "items": report.items, "clusters": report.clusters },
        "users": report.users,
        "in_flight": { "entries": api.system.gate().inside(), "bound": api.system.gate().bound() },
    })))
}
