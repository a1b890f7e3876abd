//! What went wrong, as RFC 9457 `application/problem+json`.

use crate::auth::Scope;
use crate::http::middleware::request_id::RequestId;
use crate::ingest::{BodyError, ValidationError};
use crate::learner::ItemFilterError;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;
use std::fmt::{self, Display};
use std::time::Duration;
use utoipa::ToSchema;

/// The delay after which a client may retry.
pub(in crate::http) const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A problem response (RFC 9457).
///
/// `detail` never repeats what identifies a person: it may be logged.
// It is an error for handlers to return, and a responder.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// A path that names the kind of problem, relative to the service.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem in words; the same for all of its kind.
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// What happened this time, and what can be done.
    detail: String,
    #[serde(flatten)]
    #[schema(value_type = ProblemMembers)]
    members: Box<ProblemMembers>,
}

/// The members beyond those of RFC 9457; absent where they do not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = Members)]
struct ProblemMembers {
    /// The field or parameter at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The line at fault, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// Where in a filter the fault is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// What would be allowed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    /// Whole seconds; the header `Retry-After` too.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The request that it is of, as in the header `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(name: &str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        let members = ProblemMembers { request_id: RequestId::current().map(|id| id.to_string()), ..ProblemMembers::default() };
        Self { kind: format!("/problems/{name}"), title, status, detail: detail.into(), members: Box::new(members) }
    }

    /// 401: a key is asked for, and none was sent.
    #[must_use]
    pub fn missing_key() -> Self {
        let detail = "Send a key as `Authorization: Bearer`, or as user name or password of `Basic`; `sequor key create` makes one.";
        Self::new("no-key", "A key is needed", StatusCode::UNAUTHORIZED, detail)
    }

    /// 401: what was sent is no key, or was one.
    #[must_use]
    pub fn invalid_key() -> Self {
        let detail =
            "What was sent is none of the keys here, or was revoked; `sequor key list` tells those that there are, by id and name.";
        Self::new("wrong-key", "The key is not known", StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: the key opens other things.
    #[must_use]
    pub fn insufficient_scope(scope: Scope) -> Self {
        let detail = format!("This takes a key of the scope `{scope}`.");
        Self::new("other-scope", "The key does not open this", StatusCode::FORBIDDEN, detail).allowed(scope.as_str())
    }

    /// 400: the body cannot be read.
    #[must_use]
    pub fn invalid_body(detail: impl Into<String>) -> Self {
        Self::new("bad-body", "The body cannot be read", StatusCode::BAD_REQUEST, detail)
    }

    /// 400: the body is JSON of another shape than `kind`. What the parser says of it repeats
    /// values, and those may say who somebody is.
    #[must_use]
    pub fn invalid_json(error: &serde_json::Error, wanted: &str) -> Self {
        let said = error.to_string();
        // These repeat the names of fields only.
        let named = ["missing field", "unknown field", "duplicate field"].iter().any(|words| said.starts_with(words));
        let what = match () {
            () if named => said.split(" at line").next().unwrap_or_default(),
            () if error.is_data() => "The body is of another shape",
            () => "The body is not JSON",
        };
        Self::invalid_body(format!("{what} (line {}, column {}); send {wanted}.", error.line(), error.column()))
    }

    /// 408: the body did not come in time.
    #[must_use]
    pub fn body_timeout() -> Self {
        let detail = "The body did not come within server.body_timeout; nothing of it was taken.";
        Self::new("too-slow", "The body takes too long", StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// 421: the admin endpoint is asked for by a name that is not its own.
    #[must_use]
    pub fn unknown_host() -> Self {
        let detail = "The admin endpoint is not known by this name; ask for it by its address, or put the name into server.admin_hosts.";
        Self::new("unknown-host", "The host is not known", StatusCode::MISDIRECTED_REQUEST, detail)
    }

    /// 403: a page of another site made a browser send this.
    #[must_use]
    pub fn cross_origin() -> Self {
        let detail = "Nothing is changed here on behalf of a page of another site.";
        Self::new("other-origin", "The request comes from another site", StatusCode::FORBIDDEN, detail)
    }

    /// 413: the body has more than `limit` bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("The body has more than {limit} bytes; send it in parts.");
        Self::new("body-too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
            .allowed(format!("at most {limit} bytes"))
    }

    /// 413: the body holds more events than one request may.
    #[must_use]
    pub fn too_many_events(events: usize, limit: usize) -> Self {
        let detail = format!("The body holds {events} events; send them in parts.");
        Self::new("too-many-events", "Too many events in one request", StatusCode::PAYLOAD_TOO_LARGE, detail)
            .allowed(format!("at most {limit} events"))
    }

    /// 413: the body holds more items than one request may.
    #[must_use]
    pub fn too_many_items(items: usize, limit: usize) -> Self {
        let detail = format!("The body holds {items} items; send them in parts.");
        Self::new("too-many-items", "Too many items in one request", StatusCode::PAYLOAD_TOO_LARGE, detail)
            .allowed(format!("at most {limit} items"))
    }

    /// 400: what is said of an item breaks a rule.
    #[must_use]
    pub fn invalid_item(fault: &ValidationError) -> Self {
        let problem = Self::new("bad-item", "The item is not taken", StatusCode::BAD_REQUEST, format!("{}.", fault.reason));
        fault.field.into_iter().fold(problem, Self::with_field)
    }

    /// 400: what a call says breaks a rule.
    #[must_use]
    pub fn invalid_message(fault: &ValidationError) -> Self {
        let problem = Self::new("bad-message", "The message is not taken", StatusCode::BAD_REQUEST, format!("{}.", fault.reason));
        fault.field.into_iter().fold(problem, Self::with_field)
    }

    /// 404: neither an event nor the catalog ever named the item, or it was deleted.
    #[must_use]
    pub fn unknown_item() -> Self {
        let detail = "No event and no change of the catalog has named the item, or it was deleted.";
        Self::new("unknown-item", "The item is not known", StatusCode::NOT_FOUND, detail).with_field("item")
    }

    /// 415: the body is in an encoding or of a type that is not understood.
    #[must_use]
    pub fn unsupported_body(allowed: impl Into<String>) -> Self {
        let detail = "The body is of a type or in an encoding that is not understood.";
        Self::new("unsupported-body", "The body is not understood", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).allowed(allowed)
    }

    /// 400: a parameter has a value that is not allowed.
    #[must_use]
    pub fn out_of_range(field: &str, value: impl Display, allowed: impl Into<String>) -> Self {
        let allowed = allowed.into();
        let detail = format!("`{field}` is {value}; it must be {allowed}.");
        Self::new("out-of-range", "A parameter is out of range", StatusCode::BAD_REQUEST, detail).with_field(field).allowed(allowed)
    }

    /// 400: a parameter is absent or cannot be read.
    #[must_use]
    pub fn invalid_parameter(field: &str, detail: impl Into<String>) -> Self {
        Self::new("bad-parameter", "A parameter cannot be read", StatusCode::BAD_REQUEST, detail).with_field(field)
    }

    /// 400: a filter is no expression; the member `column` points at the place.
    #[must_use]
    pub fn invalid_filter(fault: &ItemFilterError) -> Self {
        let detail = format!("At column {}, {}.", fault.column, fault.reason);
        let mut problem = Self::new("bad-filter", "The filter cannot be read", StatusCode::BAD_REQUEST, detail).with_field("filter");
        problem.members.column = Some(fault.column);
        problem
    }

    /// 404: no answer of that id was given to this user, or it was too long ago.
    #[must_use]
    pub fn unknown_recommendation() -> Self {
        let detail = "No answer of this id was given to this user lately; ask for a new one.";
        Self::new("unknown-recommendation", "The answer is not known", StatusCode::NOT_FOUND, detail).with_field("recommendation_id")
    }

    /// 404: no event of this user was ever taken.
    #[must_use]
    pub fn unknown_user() -> Self {
        Self::new("unknown-user", "The user is not known", StatusCode::NOT_FOUND, "No event of this user was taken so far.")
            .with_field("user")
    }

    /// 404: there is no such key.
    #[must_use]
    pub fn unknown_key() -> Self {
        let detail = "There is no key of this id; `/admin/keys` lists those that there are.";
        Self::new("unknown-key", "The key is not there", StatusCode::NOT_FOUND, detail).with_field("id")
    }

    /// 404: the path leads nowhere.
    #[must_use]
    pub fn unknown_path() -> Self {
        Self::new("unknown-path", "There is nothing here", StatusCode::NOT_FOUND, "The path leads to nothing that is served here.")
    }

    /// 409: what was asked for cannot be done as things stand.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new("not-done", "It could not be done", StatusCode::CONFLICT, detail)
    }

    /// 405: the path takes other methods.
    #[must_use]
    pub fn method_not_allowed(allowed: impl Into<String>) -> Self {
        let allowed = allowed.into();
        let detail = format!("This path takes {allowed}.");
        Self::new("method-not-allowed", "The method is not allowed", StatusCode::METHOD_NOT_ALLOWED, detail).allowed(allowed)
    }

    /// 414: the address has more than `limit` bytes.
    #[must_use]
    pub fn address_too_long(limit: usize) -> Self {
        let detail = format!("The address has more than {limit} bytes.");
        Self::new("address-too-long", "The address is too long", StatusCode::URI_TOO_LONG, detail).allowed(format!("at most {limit} bytes"))
    }

    /// 429: this sender asks too often.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        let detail = "More is asked than this sender may; slow down.";
        Self::new("too-many-requests", "Too many requests", StatusCode::TOO_MANY_REQUESTS, detail).retry_after(retry_after)
    }

    /// 503: every place in a queue is taken. Nothing of the request was.
    #[must_use]
    pub fn over_capacity(retry_after: Duration) -> Self {
        let detail = "There is no room for this request now; nothing of it was taken.";
        Self::new("over-capacity", "The service is at capacity", StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
    }

    /// 503: the service starts or stops.
    #[must_use]
    pub fn not_ready(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new("not-ready", "The service is not ready", StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
    }

    /// 503: what was learned does not reach as far yet as the request wants it to.
    #[must_use]
    pub fn offset_not_reached(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new("not-yet", "It is not learned yet", StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_field("min_offset")
            .retry_after(retry_after)
    }

    /// 503: the disk that holds the journal is full. Nothing of the request was taken; it will be
    /// once there is room, without a restart.
    #[must_use]
    pub fn disk_full(said: impl Display, retry_after: Duration) -> Self {
        let detail = format!("Nothing of this request was taken, and it will be once there is room: {said}.");
        Self::new("disk-full", "The disk is full", StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(retry_after)
    }

    /// 500: the fault is the service's. What it is stands in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "The fault is the service's own; its log tells more.";
        Self::new("internal", "The service failed", StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// The kind of problem in words.
    pub(in crate::http) fn title(&self) -> &'static str {
        self.title
    }

    /// What happened this time.
    pub(in crate::http) fn detail(&self) -> &str {
        &self.detail
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_field(mut self, field: &str) -> Self {
        self.members.field = Some(field.to_owned());
        self
    }

    /// Names the line at fault, from 1.
    #[must_use]
    pub fn with_line(mut self, line: u64) -> Self {
        self.members.line = Some(line);
        self
    }

    fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.members.allowed = Some(allowed.into());
        self
    }

    /// Rounds up, so that a client does not retry too early.
    fn retry_after(mut self, retry_after: Duration) -> Self {
        self.members.retry_after = Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0));
        self
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Empty { .. } | BodyError::Unreadable { .. } => Self::invalid_body(error.to_string()),
            BodyError::TooMany { record: "item", records, limit } => Self::too_many_items(records, limit),
            BodyError::TooMany { records, limit, .. } => Self::too_many_events(records, limit),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.members.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allowed) = &self.members.allowed
        {
            response.insert_header((ALLOW, allowed.as_str()));
        }
        // RFC 6750, 3: why a token that was sent does not do.
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = if self.kind.ends_with("wrong-key") { r#"Bearer error="invalid_token""# } else { "Bearer" };
            response.append_header((WWW_AUTHENTICATE, bearer)).append_header((WWW_AUTHENTICATE, r#"Basic realm="sequor""#));
        } else if let (true, Some(scope)) = (self.kind.ends_with("other-scope"), &self.members.allowed) {
            response.append_header((WWW_AUTHENTICATE, format!(r#"Bearer error="insufficient_scope", scope="{scope}""#)));
        }
        let content_type: (HeaderName, &str) = (CONTENT_TYPE, "application/problem+json");
        response.insert_header(content_type).json(self)
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody;

    fn shown(problem: &Problem) -> String {
        let body = problem.error_response().into_body().try_into_bytes().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn is_answered_as_the_standard_says() {
        let problem = Problem::out_of_range("limit", 0, "1 to 1000");
        let response = problem.error_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "application/problem+json");
        assert_eq!(
            shown(&problem),
            concat!(
                r#"{"type":"/problems/out-of-range","title":"A parameter is out of range","status":400,"#,
                r#""detail":"`limit` is 0; it must be 1 to 1000.","field":"limit","allowed":"1 to 1000"}"#
            )
        );
    }

    #[test]
    fn tells_when_to_come_back() {
        for problem in [
            Problem::over_capacity(Duration::from_millis(1200)),
            Problem::too_many_requests(Duration::from_secs(2)),
            Problem::not_ready("The journal is being replayed.", Duration::from_millis(1001)),
            Problem::disk_full("writing: no space", Duration::from_secs(2)),
        ] {
            assert_eq!(problem.error_response().headers().get(RETRY_AFTER).unwrap(), "2");
            assert!(shown(&problem).contains(r#""retry_after":2"#));
        }
    }

    #[test]
    fn a_refused_method_names_the_others() {
        let response = Problem::method_not_allowed("GET, HEAD").error_response();
        assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD");
    }

    #[test]
    fn what_capture_refuses_whole_is_a_problem() {
        let problem = Problem::from(BodyError::TooMany { record: "event", records: 1001, limit: 1000 });
        assert_eq!(problem.status_code(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(Problem::from(BodyError::Empty { record: "event" }).status_code(), StatusCode::BAD_REQUEST);
        assert!(shown(&Problem::invalid_body("torn").with_line(7)).contains(r#""line":7"#));
    }
}
