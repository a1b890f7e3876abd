//! Segment's tracking API.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Query};
use actix_web::{Error, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::domain::Origin;
use crate::http::middleware::auth::GrantedAccess;
use crate::http::routes::merges;
use crate::http::schema::domain_schemas::ValidationErrorSchema;
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::responses::{
    BadRequestResponse, InvalidBodyResponse, SegmentBatchBody, SegmentMessageBody, UnavailableResponse,
};
use crate::http::state::ApiState;
use crate::ingest::{ParsedSegmentBatch, SegmentCall, ValidationError, read_segment_batch, read_segment_call};
use crate::metrics::SegmentMessageOutcome;
use crate::services::ingest::{FullQueuePolicy, count_event_outcomes, ingest};
use crate::telemetry::span;

/// The response of Segment's API, extended by errors and warnings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SegmentResponse)]
pub(in crate::http) struct SegmentResponse {
    /// Whether the request succeeded. `false` if all messages are invalid.
    success: bool,
    /// The invalid messages, each with its error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    rejected: Vec<ValidationError>,
    /// Merges that were skipped because an id is a placeholder. With `verbose=1`, also messages
    /// whose event name is not mapped to a kind of event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<ValidationErrorSchema>)]
    warnings: Vec<ValidationError>,
}

/// Declares one handler per kind of Segment call, so that the OpenAPI document lists each path.
macro_rules! calls {
    ($($name:ident, $path:literal, $call:ident, $title:literal;)*) => {$(
        #[doc = $title]
        #[utoipa::path(post, path = $path, tag = "segment", request_body(content = SegmentMessageBody),
            responses((status = 200, description = "The message was accepted or ignored.", body = SegmentResponse), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
        pub(in crate::http) async fn $name(api: Data<ApiState>, access: GrantedAccess, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
            ingest_call(api, &access, body, SegmentCall::$call).await
        }
    )*};
}

calls! {
    track, "/v1/track", Track, "Ingest a `track` call";
    page, "/v1/page", Page, "Ingest a `page` call";
    screen, "/v1/screen", Screen, "Ingest a `screen` call";
    identify, "/v1/identify", Identify, "Ingest an `identify` call";
    alias, "/v1/alias", Alias, "Ingest an `alias` call";
    group, "/v1/group", Group, "Ingest a `group` call";
}

async fn ingest_call(
    api: Data<ApiState>,
    access: &GrantedAccess,
    body: Result<Bytes, Error>,
    call: SegmentCall,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let messages = span!("capture").in_scope(|| read_segment_call(&body, call, &api.rules, api.clock.now()))?;
    let origin = access.origin(&api.origins, api.clock.now());
    let error = messages.errors.first().map(Problem::invalid_message);
    let success = ingest_messages(&api, messages, origin, false).await?;
    error.map_or_else(|| Ok(HttpResponse::Ok().json(success)), Err)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct SegmentQuery {
    /// `1` adds a warning for each message whose event name is not mapped to a kind of event.
    verbose: Option<String>,
}

/// Ingest a batch of calls
///
/// Invalid messages are reported in `rejected`; the others are stored.
#[utoipa::path(post, path = "/v1/batch", operation_id = "batch", tag = "segment", params(SegmentQuery),
    request_body(content = SegmentBatchBody),
    responses((status = 200, description = "A message was accepted or ignored, or the batch is empty.", body = SegmentResponse),
        (status = 400, description = "No message is valid, or the request cannot be read.", content((SegmentResponse = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn ingest_segment_batch(
    api: Data<ApiState>,
    access: GrantedAccess,
    query: Query<SegmentQuery>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let messages = span!("capture").in_scope(|| read_segment_batch(&body, &api.rules, api.clock.now()))?;
    access.charge_batch(messages.entries.len() + messages.errors.len())?;
    let origin = access.origin(&api.origins, api.clock.now());
    let shows_unmapped = matches!(query.verbose.as_deref(), Some("1" | "true"));
    let success = ingest_messages(&api, messages, origin, shows_unmapped).await?;
    Ok(HttpResponse::build(if success.success { StatusCode::OK } else { StatusCode::BAD_REQUEST }).json(success))
}

/// Ingests messages. If all messages are invalid, `success` is `false` in the response.
async fn ingest_messages(
    api: &ApiState,
    messages: ParsedSegmentBatch,
    origin: Option<Origin>,
    shows_unmapped: bool,
) -> Result<SegmentResponse, Problem> {
    let ParsedSegmentBatch { entries, errors, unmapped, mut unmerged, ignored, accepted } = messages;
    let metrics = api.metrics();
    let ignored = ignored + unmerged.len() as u64;
    let success = errors.is_empty() || !unmapped.is_empty() || ignored + accepted > 0;
    merges::record_refused_merges(api, unmerged.len());
    let outcome = ingest(&api.system.ingest, entries, origin, FullQueuePolicy::Fail).await?;
    for (outcome, count) in [
        (SegmentMessageOutcome::Accepted, accepted),
        (SegmentMessageOutcome::Ignored, ignored),
        (SegmentMessageOutcome::UnknownEvent, unmapped.len() as u64),
        (SegmentMessageOutcome::Rejected, errors.len() as u64),
    ] {
        metrics.segment_messages.with_label(outcome).increment(count);
    }
    count_event_outcomes(&api.system.ingest, outcome.events);
    if shows_unmapped {
        unmerged.extend(unmapped);
        unmerged.sort_by_key(|warning| warning.index);
    }
    Ok(SegmentResponse { success, rejected: errors, warnings: unmerged })
}
