//! Segment's tracking API.

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, Query, ServiceConfig};
use actix_web::{Error, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::api::{ApiState, append, unreadable_body};
use super::lock::{GrantedAccess, RequiredAccess};
use super::openapi::{self, BadRequestResponse, InvalidBodyResponse, SegmentMessageBody, UnavailableResponse};
use super::problem::Problem;
use super::watch::protected_resource;
use crate::actors::system::ConsentedEntries;
use crate::auth::Scope;
use crate::ingest::{ParsedSegmentBatch, SegmentCall, ValidationError, read_segment_batch, read_segment_call};
use crate::metrics::{EventOutcome, SegmentMessageOutcome};
use crate::telemetry::span;

/// Where each call comes in, and where many at once.
pub(super) const SEGMENT_PATHS: [&str; 7] = ["/v1/track", "/v1/page", "/v1/screen", "/v1/identify", "/v1/alias", "/v1/group", "/v1/batch"];

pub(super) fn routes(config: &mut ServiceConfig) {
    let [track_at, page_at, screen_at, identify_at, alias_at, group_at, batch_at] = SEGMENT_PATHS;
    config
        .service(protected_resource(track_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(track)))
        .service(protected_resource(page_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(page)))
        .service(protected_resource(screen_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(screen)))
        .service(protected_resource(identify_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(identify)))
        .service(protected_resource(alias_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(alias)))
        .service(protected_resource(group_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(group)))
        .service(protected_resource(batch_at, "POST", RequiredAccess::Scope(Scope::Write)).route(web::post().to(batch)));
}

/// The answer that Segment gives, and what it cannot say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Success)]
pub(super) struct SegmentResponse {
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
        pub(super) async fn $name(api: Data<ApiState>, body: Result<Bytes, Error>) -> Result<HttpResponse, Problem> {
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
pub(super) struct SegmentQuery {
    /// `1` tells names of events that nobody knows.
    verbose: Option<String>,
}

/// Takes many calls
///
/// Those that break a rule cost the others nothing.
#[utoipa::path(post, path = "/v1/batch", tag = "segment", params(SegmentQuery),
    request_body(content = openapi::SegmentBatchBody),
    responses((status = 200, description = "Some could be taken, or there were none.", body = SegmentResponse),
        (status = 400, description = "None could be taken; or the request could not be read.", content((SegmentResponse = "application/json"), (Problem = "application/problem+json"))),
        InvalidBodyResponse, UnavailableResponse))]
pub(super) async fn batch(
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
    let ConsentedEntries { entries, withheld } = api.system.apply_consent(entries);
    let events: Vec<_> = entries.iter().map(|entry| entry.as_event().is_some()).collect();
    let receipt = append(api, entries).await?;
    for (outcome, count) in [
        (SegmentMessageOutcome::Accepted, taken),
        (SegmentMessageOutcome::Ignored, ignored),
        (SegmentMessageOutcome::UnknownEvent, unknown.len() as u64),
        (SegmentMessageOutcome::Rejected, faults.len() as u64),
    ] {
        metrics.segment_messages.with_label(outcome).increment(count);
    }
    let of_events = |places: &[usize]| places.iter().filter(|place| events.get(**place) == Some(&true)).count();
    let (duplicates, late) = receipt.map_or((0, 0), |receipt| (of_events(&receipt.duplicates), of_events(&receipt.withheld)));
    let accepted = events.iter().filter(|event| **event).count() - duplicates - late;
    metrics.events.with_label(EventOutcome::Withheld).increment((withheld + late) as u64);
    metrics.events.with_label(EventOutcome::Accepted).increment(accepted as u64);
    metrics.events.with_label(EventOutcome::Duplicate).increment(duplicates as u64);
    Ok(SegmentResponse { success, rejected: faults, warnings: unknown })
}
