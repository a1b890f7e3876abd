//! What every request passes on its way, wherever it is going.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data};
use actix_web::{Error, HttpResponse, Resource, ResponseError};
use percent_encoding::percent_decode_str;
use std::time::Instant;
use tracing::Instrument;

use super::api::ApiState;
use super::events::EVENTS;
use super::items::{ITEM, ITEMS};
use super::lists::{INLINE_RECOMMENDATIONS, RECOMMENDATIONS, SIMILAR_ITEMS, TRENDING_ITEMS};
use super::lock::{self, RequiredAccess};
use super::problem::Problem;
use super::request_id::{self, RequestId};
use super::segment;
use super::stream::STREAM;
use super::traced;
use crate::auth::Scope;
use crate::metrics::{Endpoint, RecommendationOutcome, StatusClass};

/// The encodings that a body may be packed in.
const ENCODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "identity"];

/// The longest address. Beyond 64 KiB it is no address to the library that reads requests, which
/// says nothing but 400.
const MAX_ADDRESS: usize = 60 * 1024;

/// A path, what who comes there `needs`, and the `methods` that it takes: any other is told them.
/// Its routes are the caller's to add.
pub(super) fn protected_resource(
    path: &'static str,
    methods: &'static str,
    needs: RequiredAccess,
) -> Resource<impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()> + use<>> {
    web::resource(path)
        .default_service(web::to(move || async move { Err::<HttpResponse, _>(Problem::method_not_allowed(methods)) }))
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| lock::require_access(needs, request, next)))
}

/// A path of the admin endpoint, which only its own keys open.
pub(super) fn admin_resource(
    at: &'static str,
    methods: &'static str,
) -> Resource<impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()> + use<>> {
    protected_resource(at, methods, RequiredAccess::Scope(Scope::Admin))
}

/// Names and measures every request, also one that was refused before its handler ran. Its id is in
/// every line that it logs and in its answer.
///
/// # Errors
/// Whatever `next` says.
pub(super) async fn measure_request(
    api: Data<ApiState>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let began = Instant::now();
    let otherwise = request.app_data::<DefaultEndpoint>().map_or(Endpoint::Other, |otherwise| otherwise.0);
    let id = RequestId::from_headers(request.headers()).unwrap_or_else(|| RequestId::new(&api.request_ids.next()));
    let span = tracing::error_span!("request", id = id.as_str());
    let method = request.method().clone();
    let traced = traced::start_request_span(&request, &id);
    let mut answer = id.scope(next.call(request).instrument(span.clone()).instrument(traced.clone())).await;
    if let (Ok(answer), Some(value)) = (&mut answer, id.to_header_value()) {
        answer.headers_mut().insert(request_id::HEADER, value);
    }
    let (status, pattern) = match &answer {
        Ok(answer) => (answer.status(), answer.request().match_pattern()),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    let (endpoint, seconds) = (endpoint(pattern.as_deref()).unwrap_or(otherwise), began.elapsed());
    // The pattern, not the path: that may name a user.
    traced::finish_request_span(&traced, &method, pattern.as_deref(), status);
    span.in_scope(|| tracing::debug!(%method, path = pattern, status = status.as_u16(), took = ?seconds, "answered"));
    let metrics = api.system.metrics();
    metrics.responses.with_label(StatusClass::from_status(status.as_u16())).increment(1);
    metrics.request_seconds.with_label(endpoint).record(seconds);
    if is_overload(status) {
        metrics.overloaded_requests.with_label(endpoint).increment(1);
    } else if status.is_server_error() {
        metrics.failed_requests.with_label(endpoint).increment(1);
    }
    if let Some(outcome) = unanswered(status)
        && matches!(endpoint, Endpoint::Recommendations | Endpoint::InlineRecommendations)
    {
        metrics.recommendations.with_label(outcome).increment(1);
    }
    answer
}

/// What a server counts requests as that have no kind of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefaultEndpoint(pub(super) Endpoint);

fn endpoint(pattern: Option<&str>) -> Option<Endpoint> {
    match pattern? {
        EVENTS => Some(Endpoint::Events),
        RECOMMENDATIONS => Some(Endpoint::Recommendations),
        STREAM => Some(Endpoint::Streams),
        INLINE => Some(Endpoint::InlineRecommendations),
        SIMILAR_ITEMS | TRENDING_ITEMS => Some(Endpoint::NonPersonalised),
        ITEM | ITEMS => Some(Endpoint::Items),
        pattern if segment::SEGMENT_PATHS.contains(&pattern) => Some(Endpoint::Segment),
        _ => None,
    }
}

fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// What became of a question that got no list.
fn unanswered(status: StatusCode) -> Option<RecommendationOutcome> {
    match status {
        status if is_overload(status) => Some(RecommendationOutcome::Overloaded),
        status if status.is_server_error() => Some(RecommendationOutcome::Failed),
        status if status.is_client_error() => Some(RecommendationOutcome::InvalidRequest),
        _ => None,
    }
}

/// Whether the percent signs of a part of an address are all followed by two hexadecimal digits,
/// and what they encode is UTF-8.
fn is_well_formed(part: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    part.split('%').skip(1).all(digits) && percent_decode_str(part).decode_utf8().is_ok()
}

/// Refuses an address that is too long or not well-formed, and a body in an encoding that is not
/// known, which would otherwise be read as if it were in none.
///
/// # Errors
/// Whatever `next` says.
pub(super) async fn check_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.uri().path_and_query().is_some_and(|address| address.as_str().len() > MAX_ADDRESS) {
        let refusal = Problem::address_too_long(MAX_ADDRESS).error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    let parts = [("path", request.uri().path()), ("query", request.uri().query().unwrap_or_default())];
    let torn = parts.into_iter().find(|(_, text)| !is_well_formed(text)).map(|(part, _)| part);
    if let Some(part) = torn {
        let detail = format!("The {part} of the address is not percent-encoded UTF-8.");
        let refusal = Problem::invalid_parameter(part, detail).error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING) {
        let name = encoding.to_str().unwrap_or_default().trim();
        if !ENCODINGS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let refusal = Problem::unsupported_body(ENCODINGS.join(", ")).error_response();
            return Ok(request.into_response(refusal).map_into_right_body());
        }
    }
    Ok(next.call(request).await?.map_into_left_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_percent_encoded_utf_8() {
        for good in ["", "/v1/users/ann", "/%C3%BC", "a=%25&b=+"] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in ["%", "%2", "%zz", "%C3", "a=%ff", "100%"] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn a_question_without_a_list_has_an_outcome() {
        let outcome = |status: u16| unanswered(StatusCode::from_u16(status).unwrap());
        assert_eq!(outcome(200), None);
        assert_eq!(outcome(404), Some(RecommendationOutcome::InvalidRequest));
        assert_eq!(outcome(503), Some(RecommendationOutcome::Overloaded));
        assert_eq!(outcome(500), Some(RecommendationOutcome::Failed));
    }
}
