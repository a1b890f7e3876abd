//! The current status of the service, its history, and a stream of the status.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING};
use actix_web::web::{Bytes, Data, Json};
use futures_util::stream;
use serde_json::json;

use crate::http::schema::problem::{Problem, RETRY_DELAY};
use crate::http::state::ApiState;
use crate::http::status::service_status::{ServiceHistory, ServiceStatus};
use crate::http::suspicious_senders;

pub(in crate::http) async fn get_history(api: Data<ApiState>) -> Result<Json<ServiceHistory>, Problem> {
    Ok(Json(ServiceHistory::collect(&api)))
}

/// Lists API keys with events that the learner held back in the last 5 to 10 minutes.
pub(in crate::http) async fn list_senders(api: Data<ApiState>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "keys": suspicious_senders::list_senders(&api) }))
}

pub(in crate::http) async fn get_status(api: Data<ApiState>) -> Result<Json<ServiceStatus>, Problem> {
    Ok(Json(ServiceStatus::collect(&api)))
}

/// Streams the status every second as server-sent events [HTML Living Standard, 9.2]. The stream
/// ends when the service stops.
pub(in crate::http) async fn stream_status(api: Data<ApiState>) -> Result<HttpResponse, Problem> {
    let subscription = api.status_sampler.subscribe().ok_or_else(|| Problem::over_capacity(RETRY_DELAY))?;
    let events = stream::unfold(subscription, |(mut status, permit)| async move {
        status.changed().await.ok()?;
        let event = Bytes::from(format!("event: status\ndata: {}\n\n", *status.borrow_and_update()));
        Some((Ok::<_, Problem>(event), (status, permit)))
    });
    // The response is not compressed, because the compressor would delay an event until later
    // events arrive.
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(events))
}
