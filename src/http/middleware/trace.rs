//! The trace span of a request. The span follows OpenTelemetry's conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>), except that it omits the URL,
//! which may contain a user id.

use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode};
use tracing::Span;
use tracing::field::Empty;

use crate::http::middleware::request_id::RequestId;
use crate::telemetry::{self, span};

/// The name of a method. An unknown method is recorded as `_OTHER`, because a client can send any
/// word as a method, including personal data.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// Starts the span of a request. If the request has the header `traceparent`, the span continues
/// the client's trace.
pub(in crate::http) fn start_request_span(request: &ServiceRequest, id: &RequestId) -> Span {
    let span = span!(
        "server",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method_name(request.method()),
        http.route = Empty,
        http.response.status_code = Empty,
        "error.type" = Empty,
        sequor.request_id = id.as_str(),
    );
    if !span.is_disabled()
        && let Some(parent) = request.headers().get("traceparent").and_then(|parent| parent.to_str().ok())
    {
        telemetry::set_remote_parent(&span, parent);
    }
    span
}

/// Records the status and the path pattern in a request's span.
pub(in crate::http) fn finish_request_span(span: &Span, method: &Method, pattern: Option<&str>, status: StatusCode) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR").record("error.type", status.as_str());
    }
    if let Some(pattern) = pattern {
        span.record("http.route", pattern);
    }
    telemetry::rename_span(span, || match pattern {
        Some(pattern) => format!("{} {pattern}", method_name(method)),
        None => method_name(method).replace("_OTHER", "HTTP"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_method_is_named_other() {
        assert_eq!(
            (method_name(&Method::PATCH), method_name(&Method::from_bytes(b"ANN").unwrap())),
            ("PATCH", "_OTHER")
        );
    }
}
