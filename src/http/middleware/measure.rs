//! Request ids, spans and metrics of every request.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use actix_web::web::Data;
use std::time::Instant;
use tracing::Instrument;

use crate::http::middleware::request_id::{self, RequestId};
use crate::http::middleware::trace;
use crate::http::state::ApiState;
use crate::metrics::{Endpoint, RecommendationOutcome, StatusClass};

/// Gives every request an id and measures it, including requests that a later middleware refuses.
/// The id is in the request's log lines and in the response.
///
/// # Errors
/// If `next` returns an error.
pub(in crate::http) async fn measure_request(
    api: Data<ApiState>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let start = Instant::now();
    let labels = request.app_data::<EndpointLabels>().copied();
    let id = RequestId::from_headers(request.headers()).unwrap_or_else(|| RequestId::new(&api.request_ids.next_id()));
    let span = tracing::error_span!("request", id = id.as_str());
    let method = request.method().clone();
    let trace_span = trace::start_request_span(&request, &id);
    let mut response =
        id.run_as_current(next.call(request).instrument(span.clone()).instrument(trace_span.clone())).await;
    if let (Ok(response), Some(value)) = (&mut response, id.to_header_value()) {
        response.headers_mut().insert(request_id::REQUEST_ID_HEADER, value);
    }
    let (status, pattern) = match &response {
        Ok(response) => (response.status(), response.request().match_pattern()),
        Err(error) => (error.as_response_error().status_code(), None),
    };
    let (endpoint, elapsed) =
        (labels.map_or(Endpoint::Other, |labels| labels.label_of_path(pattern.as_deref())), start.elapsed());
    // The span contains the pattern of the path instead of the path, which may contain a user id.
    trace::finish_request_span(&trace_span, &method, pattern.as_deref(), status);
    span.in_scope(|| tracing::debug!(%method, path = pattern, status = status.as_u16(), took = ?elapsed, "answered"));
    let metrics = &api.system.metrics;
    metrics.responses.with_label(StatusClass::from_status(status.as_u16())).increment(1);
    metrics.request_seconds.with_label(endpoint).record(elapsed);
    if matches!(endpoint, Endpoint::Recommendations) {
        api.status_sampler.record_latency(elapsed);
    }
    if is_overload(status) {
        metrics.overloaded_requests.with_label(endpoint).increment(1);
    } else if status.is_server_error() {
        metrics.failed_requests.with_label(endpoint).increment(1);
    }
    if let Some(outcome) = failed_outcome(status)
        && matches!(endpoint, Endpoint::Recommendations | Endpoint::InlineRecommendations)
    {
        metrics.recommendations.with_label(outcome).increment(1);
    }
    response
}

/// Determines the metric label of a request from its path.
#[derive(Clone, Copy)]
pub(in crate::http) struct EndpointLabels {
    /// Returns the label of a path in the route table.
    pub(in crate::http) by_path: fn(&str) -> Option<Endpoint>,
    /// The label of any other path.
    pub(in crate::http) default: Endpoint,
}

impl EndpointLabels {
    fn label_of_path(self, pattern: Option<&str>) -> Endpoint {
        pattern.and_then(self.by_path).unwrap_or(self.default)
    }
}

fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// The outcome that is counted for a failed request for recommendations. `None` if the status is
/// not an error.
fn failed_outcome(status: StatusCode) -> Option<RecommendationOutcome> {
    match status {
        status if is_overload(status) => Some(RecommendationOutcome::Overloaded),
        status if status.is_server_error() => Some(RecommendationOutcome::Failed),
        status if status.is_client_error() => Some(RecommendationOutcome::InvalidRequest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_a_failed_status_to_an_outcome() {
        let outcome = |status: u16| failed_outcome(StatusCode::from_u16(status).unwrap());
        assert_eq!(outcome(200), None);
        assert_eq!(outcome(404), Some(RecommendationOutcome::InvalidRequest));
        assert_eq!(outcome(503), Some(RecommendationOutcome::Overloaded));
        assert_eq!(outcome(500), Some(RecommendationOutcome::Failed));
    }
}
