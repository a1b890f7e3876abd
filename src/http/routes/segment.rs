//! Segment's tracking API.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Query};
use actix_web::{Error, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::middleware::auth::GrantedAccess;
use crate::http::schema::error_mapping::unreadable_body;
use crate::http::schema::problem::Problem;
use crate::http::schema::responses::{BadRequestResponse, InvalidBodyResponse, SegmentBatchBody, SegmentMessageBody, UnavailableResponse};
use crate::http::state::ApiState;
use crate::ingest::{ParsedSegmentBatch, SegmentCall, ValidationError, read_segment_batch, read_segment_call};
use crate::metrics::SegmentMessageOutcome;
use crate::services::ingest::{WhenFull, ingest, record_events};
use crate::telemetry::span;

/// The answer that Segment gives, and what it cannot say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Success)]
pub(in crate::http) struct SegmentResponse {
    /// Whether anything of it could be taken.
    success: bool,
    /// What breaks a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<ValidationError>,
    /// Names of events that nobody knows, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<ValidationError>,
}

/// One handler a call, for its place in the description.
macro_rules! calls {
    ($($name:ident, $path:literal, $call:ident, $title:literal;)*) => {$(
        #[doc = $title]
        #[utoipa::path(post, path = $path, tag = "segment", request_body(content = SegmentMessageBody),
            responses((status = 200, description = "It was taken, or means nothing here.", body = SegmentResponse), BadRequestResponse, InvalidBodyResponse, UnavailableResponse))]
        pub(in crate::http) async fn $name(api: Data<ApiState>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
            one(api, body, SegmentCall::$call).await
        }
    )*};
}

calls! {
    track, "/v1/track", Track, "Takes a `track` call";
    page, "/v1/page", Page, "Takes a `page` call";
    screen, "/v1/screen", Screen, "Takes a `screen` call";
    identify, "/v1/identify", Identify, "Takes an `identify` call";
    alias, "/v1/alias", Alias, "Takes an `alias` call";
    group, "/v1/group", Group, "Takes a `group` call";
}

async fn one(api: Data<ApiState>, body: Result<Bytes, Error>, call: SegmentCall) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let messages = span!("capture").in_scope(|| read_segment_call(&body, call, &api.rules, api.clock.now()))?;
    let fault = messages.errors.first().map(Problem::invalid_message);
    let success = take(&api, messages).await?;
    fault.map_or_else(|| Ok(HttpResponse::Ok().json(SegmentResponse { warnings: Vec::new(), ..success })), Err)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct SegmentQuery {
    /// `1` tells names of events that nobody knows.
    verbose: Option<String>,
}

/// Takes many calls
///
/// Those that break a rule cost the others nothing.
#[utoipa::path(post, path = "/v1/batch", operation_id = "batch", tag = "segment", params(SegmentQuery),
    request_body(content = SegmentBatchBody),
    responses((status = 200, description = "Some could be taken, or there were none.", body = SegmentResponse),
        (status = 400, description = "None could be taken; or the request could not be read.", content((SegmentResponse = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(in crate::http) async fn take_segment_batch(
    api: Data<ApiState>,
    access: GrantedAccess,
    wish: Query<SegmentQuery>,
    body: Result<Bytes, Error>,
) -> Result<HttpResponse, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, api.max_body_bytes))?;
    let messages = span!("capture").in_scope(|| read_segment_batch(&body, &api.rules, api.clock.now()))?;
    access.charge_batch(messages.entries.len() + messages.errors.len())?;
    let mut success = take(&api, messages).await?;
    if !matches!(wish.verbose.as_deref(), Some("1" | "true")) {
        success.warnings.clear();
    }
    Ok(HttpResponse::build(if success.success { StatusCode::OK } else { StatusCode::BAD_REQUEST }).json(success))
}

/// Takes what messages say; no success if nothing of any could be taken for their faults.
async fn take(api: &ApiState, messages: ParsedSegmentBatch) -> Result<SegmentResponse, Problem> {
    let ParsedSegmentBatch { entries, errors: faults, unmapped: unknown, ignored, accepted: taken } = messages;
    let metrics = api.metrics();
    let success = faults.is_empty() || !unknown.is_empty() || ignored + taken > 0;
    let outcome = ingest(&api.system.ingest, entries, WhenFull::Fail).await?;
    for (outcome, count) in [
        (SegmentMessageOutcome::Accepted, taken),
        (SegmentMessageOutcome::Ignored, ignored),
        (SegmentMessageOutcome::UnknownEvent, unknown.len() as u64),
        (SegmentMessageOutcome::Rejected, faults.len() as u64),
    ] {
        metrics.segment_messages.with_label(outcome).increment(count);
    }
    record_events(&api.system.ingest, outcome.events);
    Ok(SegmentResponse { success, rejected: faults, warnings: unknown })
}
