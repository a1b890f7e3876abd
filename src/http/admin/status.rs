//! How everything stands, on one page.

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde_json::json;

use crate::http::api::Api;
use crate::http::problem::Problem;
use crate::http::watch::path;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(path("/admin/status", "GET, HEAD").route(web::get().to(status)).route(web::head().to(status)));
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
            // Over all steps: from two of these follows the quality between them.
            "total": { "recall_at_20": report.total.recall(), "mrr_at_20": report.total.mrr(), "ndcg_at_20": report.total.ndcg() },
        },
        "catalog": { "items": report.items, "clusters": report.clusters },
        "users": report.users,
        "in_flight": { "entries": api.system.gate().inside(), "bound": api.system.gate().bound() },
    })))
}
