//! Error responses as RFC 9457 `application/problem+json`.

use crate::auth::Scope;
use crate::http::middleware::request_id::RequestId;
use crate::http::schema::problem_type::ProblemType;
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
/// `detail` never contains personal data, because it may be logged.
// Handlers can return a problem as an error or as a response.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(schema_with = ProblemType::schema)]
    problem_type: ProblemType,
    /// A short description of the type of problem. All problems of a type have the same title.
    title: &'static str,
    /// The status of the response.
    #[serde(serialize_with = "serialize_status_as_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// The cause of this problem, and what to do.
    detail: String,
    #[serde(flatten)]
    #[schema(value_type = ProblemMembers)]
    members: Box<ProblemMembers>,
}

/// Members in addition to the members of RFC 9457. A member that does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ProblemMembers)]
struct ProblemMembers {
    /// The invalid field or parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The number of the invalid line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The position of the error in a filter, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The allowed values, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    /// The delay before a retry, in whole seconds. The header `Retry-After` has the same value.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The id of the request. The header `x-request-id` has the same value.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

fn serialize_status_as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        let members =
            ProblemMembers { request_id: RequestId::current().map(|id| id.to_string()), ..ProblemMembers::default() };
        let (title, status) = (problem_type.title(), problem_type.status());
        Self { problem_type, title, status, detail: detail.into(), members: Box::new(members) }
    }

    /// 401: the operation requires an API key, and the request has none.
    #[must_use]
    pub fn missing_key() -> Self {
        let detail = "Send an API key as `Authorization: Bearer`, or as user name or password of `Basic`; `sequor key create` creates one.";
        Self::new(ProblemType::MissingKey, detail)
    }

    /// 401: the API key is unknown or revoked.
    #[must_use]
    pub fn invalid_key() -> Self {
        let detail = "The API key is unknown or revoked; `sequor key list` lists the ids and names of all keys.";
        Self::new(ProblemType::InvalidKey, detail)
    }

    /// 401: the user token does not grant this access.
    #[must_use]
    pub fn invalid_user_token() -> Self {
        let detail = "The user token has expired, belongs to another user, or was signed with a key that is unknown, revoked or without the scope `read-own`. A user token only grants reading the recommendations of its user.";
        Self::new(ProblemType::InvalidKey, detail)
    }

    /// 403: the API key lacks the required scope.
    #[must_use]
    pub fn insufficient_scope(scope: Scope) -> Self {
        let detail = format!("This operation requires an API key with the scope `{scope}`.");
        Self::new(ProblemType::InsufficientScope, detail).with_allowed(scope.as_str())
    }

    /// 400: the body cannot be read.
    #[must_use]
    pub fn invalid_body(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::InvalidBody, detail)
    }

    /// 400: the body is not the JSON that the operation expects. The parser's message may repeat
    /// values, which can be personal data, so only messages about field names are passed on, and the
    /// path of the field with the wrong type.
    #[must_use]
    pub fn invalid_json(error: &serde_json::Error, field: Option<&str>, expected: &str) -> Self {
        let message = error.to_string();
        // These messages repeat only the names of fields.
        let named =
            ["missing field", "unknown field", "duplicate field"].iter().any(|prefix| message.starts_with(prefix));
        let what = match field {
            _ if named => message.split(" at line").next().unwrap_or_default().to_owned(),
            Some(field) => format!("`{field}` has the wrong type or structure"),
            None if error.is_data() => "The body has the wrong structure".to_owned(),
            None => "The body is not JSON".to_owned(),
        };
        let problem =
            Self::invalid_body(format!("{what} (line {}, column {}); send {expected}.", error.line(), error.column()));
        field.into_iter().fold(problem, |problem, field| problem.with_field(field))
    }

    /// 408: the body did not arrive in time.
    #[must_use]
    pub fn body_timeout() -> Self {
        let detail = "The body did not arrive within server.body_timeout; nothing was stored.";
        Self::new(ProblemType::BodyTimeout, detail)
    }

    /// 421: the host is not a name of the admin endpoint.
    #[must_use]
    pub fn unknown_host() -> Self {
        let detail = "The admin endpoint does not accept this host name; use its IP address, or add the name to server.admin_hosts.";
        Self::new(ProblemType::UnknownHost, detail)
    }

    /// 403: a page of another origin sent the request.
    #[must_use]
    pub fn cross_origin() -> Self {
        let detail = "The admin endpoint accepts changes from its own pages only.";
        Self::new(ProblemType::CrossOrigin, detail)
    }

    /// 421: the host is not a name of the public API.
    #[must_use]
    pub fn unknown_api_host() -> Self {
        let detail = "An API that requires no key does not accept this host name; use its IP address, or add the name to server.api_hosts.";
        Self::new(ProblemType::UnknownHost, detail)
    }

    /// 403: a page of an origin that is not allowed sent the request.
    #[must_use]
    pub fn unknown_origin() -> Self {
        let detail = "An API that requires no key does not accept requests from pages of this origin; add the origin to server.cors_origins.";
        Self::new(ProblemType::CrossOrigin, detail)
    }

    /// 413: the body has more than `limit` bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("The body has more than {limit} bytes; split it.");
        Self::new(ProblemType::BodyTooLarge, detail).with_allowed(format!("at most {limit} bytes"))
    }

    /// 413: an entry does not fit into a message of the cluster's servers.
    #[must_use]
    pub fn entry_too_large(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::BodyTooLarge, detail)
    }

    /// 413: the body holds more events than a request may contain.
    #[must_use]
    pub fn too_many_events(events: usize, limit: usize) -> Self {
        let detail = format!("The body holds {events} events; split it.");
        Self::new(ProblemType::TooManyEvents, detail).with_allowed(format!("at most {limit} events"))
    }

    /// 413: the body holds more items than a request may contain.
    #[must_use]
    pub fn too_many_items(items: usize, limit: usize) -> Self {
        let detail = format!("The body holds {items} items; split it.");
        Self::new(ProblemType::TooManyItems, detail).with_allowed(format!("at most {limit} items"))
    }

    /// 400: an item breaks a validation rule.
    #[must_use]
    pub fn invalid_item(error: &ValidationError) -> Self {
        let problem = Self::new(ProblemType::InvalidItem, format!("{}.", error.reason));
        error.field.into_iter().fold(problem, Self::with_field)
    }

    /// 400: a message breaks a validation rule.
    #[must_use]
    pub fn invalid_message(error: &ValidationError) -> Self {
        let problem = Self::new(ProblemType::InvalidMessage, format!("{}.", error.reason));
        error.field.into_iter().fold(problem, Self::with_field)
    }

    /// 404: no event or catalog change has named the item, or it was deleted.
    #[must_use]
    pub fn unknown_item() -> Self {
        let detail = "No event or catalog change has named the item, or it was deleted.";
        Self::new(ProblemType::UnknownItem, detail).with_field("item")
    }

    /// 415: the content type or content encoding of the body is not supported.
    #[must_use]
    pub fn unsupported_media_type(allowed: impl Into<String>) -> Self {
        let detail = "The content type or content encoding of the body is not supported.";
        Self::new(ProblemType::UnsupportedMediaType, detail).with_allowed(allowed)
    }

    /// 400: a parameter has a value that is not allowed.
    #[must_use]
    pub fn out_of_range(field: &str, value: impl Display, allowed: impl Into<String>) -> Self {
        let allowed = allowed.into();
        let detail = format!("`{field}` is {value}; it must be {allowed}.");
        Self::new(ProblemType::OutOfRange, detail).with_field(field).with_allowed(allowed)
    }

    /// 400: a parameter is absent or cannot be read.
    #[must_use]
    pub fn invalid_parameter(field: &str, detail: impl Into<String>) -> Self {
        Self::new(ProblemType::InvalidParameter, detail).with_field(field)
    }

    /// 400: a filter has a syntax error; the member `column` is its position.
    #[must_use]
    pub fn invalid_filter(error: &ItemFilterError) -> Self {
        let detail = format!("At column {}, {}.", error.column, error.reason);
        let mut problem = Self::new(ProblemType::InvalidFilter, detail).with_field("filter");
        problem.members.column = Some(error.column);
        problem
    }

    /// 404: the user has no such recommendation, or it is no longer cached.
    #[must_use]
    pub fn unknown_recommendation() -> Self {
        let detail = "This user has no recent recommendation with this id; request a new one.";
        Self::new(ProblemType::UnknownRecommendation, detail).with_field("recommendation_id")
    }

    /// 404: no event of the user has been accepted.
    #[must_use]
    pub fn unknown_user() -> Self {
        Self::new(ProblemType::UnknownUser, "No event of this user has been accepted.").with_field("user")
    }

    /// 404: no API key has the id.
    #[must_use]
    pub fn unknown_key() -> Self {
        let detail = "No API key has this id; `/admin/keys` lists all keys.";
        Self::new(ProblemType::UnknownKey, detail).with_field("id")
    }

    /// 404: no placement has the name. `known` are the names of all placements.
    #[must_use]
    pub fn unknown_placement<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Self {
        let name: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
        let known = known.collect::<Vec<_>>().join(", ");
        let (known, allowed) = match known.as_str() {
            "" => ("there are no placements yet", "no name, as long as there are no placements"),
            known => (known, known),
        };
        let detail = format!(
            "No placement has the name `{name}`; known placements: {known}. `PUT /v1/placements/NAME` adds one."
        );
        Self::new(ProblemType::UnknownPlacement, detail).with_field("placement").with_allowed(allowed)
    }

    /// 404: no rule has the id.
    #[must_use]
    pub fn unknown_rule() -> Self {
        let detail = "No rule has this id; `GET /v1/rules` lists all rules.";
        Self::new(ProblemType::UnknownRule, detail).with_field("rule")
    }

    /// 404: the path is unknown.
    #[must_use]
    pub fn unknown_path() -> Self {
        Self::new(ProblemType::UnknownPath, "No resource has this path.")
    }

    /// 409: the operation is not possible in the current state.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Conflict, detail)
    }

    /// 405: the path does not allow the method.
    #[must_use]
    pub fn method_not_allowed(allowed: impl Into<String>) -> Self {
        let allowed = allowed.into();
        let detail = format!("This path allows {allowed}.");
        Self::new(ProblemType::MethodNotAllowed, detail).with_allowed(allowed)
    }

    /// 414: the URL has more than `limit` bytes.
    #[must_use]
    pub fn address_too_long(limit: usize) -> Self {
        let detail = format!("The URL has more than {limit} bytes.");
        Self::new(ProblemType::AddressTooLong, detail).with_allowed(format!("at most {limit} bytes"))
    }

    /// 429: the client exceeds a rate limit.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        let detail = "The API key or the client address exceeds its rate limit; slow down.";
        Self::new(ProblemType::TooManyRequests, detail).with_retry_after(retry_after)
    }

    /// 503: a queue is full. Nothing of the request is stored.
    #[must_use]
    pub fn over_capacity(retry_after: Duration) -> Self {
        let detail = "The service has no capacity for this request; nothing was stored.";
        Self::new(ProblemType::OverCapacity, detail).with_retry_after(retry_after)
    }

    /// 503: the largest number of reports is being computed.
    #[must_use]
    pub fn too_many_reports(limit: usize, retry_after: Duration) -> Self {
        let detail = format!("{limit} reports are being computed, which is the largest number; try again later.");
        Self::new(ProblemType::OverCapacity, detail).with_retry_after(retry_after)
    }

    /// 503: the learner is too far behind. Nothing of the request is stored.
    pub(in crate::http) fn learner_behind(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(ProblemType::LearnerBehind, detail).with_retry_after(retry_after)
    }

    /// 503: the request waited longer than `server.queue_wait`.
    #[must_use]
    pub fn queued_too_long(retry_after: Duration) -> Self {
        let detail = "The request waited longer than server.queue_wait; nothing was stored.";
        Self::new(ProblemType::OverCapacity, detail).with_retry_after(retry_after)
    }

    /// 503: the service is not ready.
    #[must_use]
    pub fn not_ready(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(ProblemType::NotReady, detail).with_retry_after(retry_after)
    }

    /// 503: the model has not reached the requested offset yet.
    #[must_use]
    pub fn offset_not_reached(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(ProblemType::OffsetNotReached, detail).with_field("min_offset").with_retry_after(retry_after)
    }

    /// 503: the journal's disk is full. Nothing of the request is stored. Writes succeed again once
    /// there is space, without a restart.
    #[must_use]
    pub fn disk_full(error: impl Display, retry_after: Duration) -> Self {
        let detail = format!("Nothing was stored; retry once the disk has free space: {error}.");
        Self::new(ProblemType::DiskFull, detail).with_retry_after(retry_after)
    }

    /// 500: the service failed. The cause is in the log, not in the response.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "The service failed; its log has the cause.";
        Self::new(ProblemType::Internal, detail)
    }

    /// The title: the type of problem in words.
    pub(in crate::http) fn title_text(&self) -> &'static str {
        self.title
    }

    /// The detail: the cause of this problem, and what to do.
    pub(in crate::http) fn detail_text(&self) -> &str {
        &self.detail
    }

    /// Names the invalid field.
    #[must_use]
    pub fn with_field(mut self, field: &str) -> Self {
        self.members.field = Some(field.to_owned());
        self
    }

    /// Names the invalid line, from 1.
    #[must_use]
    pub fn with_line(mut self, line: u64) -> Self {
        self.members.line = Some(line);
        self
    }

    fn with_allowed(mut self, allowed: impl Into<String>) -> Self {
        self.members.allowed = Some(allowed.into());
        self
    }

    /// Rounds up, so that a client does not retry too early.
    fn with_retry_after(mut self, retry_after: Duration) -> Self {
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
        // The header tells why the token is rejected [RFC 6750, section 3].
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer =
                if self.problem_type == ProblemType::InvalidKey { r#"Bearer error="invalid_token""# } else { "Bearer" };
            response
                .append_header((WWW_AUTHENTICATE, bearer))
                .append_header((WWW_AUTHENTICATE, r#"Basic realm="sequor""#));
        } else if let (true, Some(scope)) = (self.problem_type == ProblemType::InsufficientScope, &self.members.allowed)
        {
            response
                .append_header((WWW_AUTHENTICATE, format!(r#"Bearer error="insufficient_scope", scope="{scope}""#)));
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

    fn rendered_body(problem: &Problem) -> String {
        let body = problem.error_response().into_body().try_into_bytes().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn renders_as_rfc_9457() {
        let problem = Problem::out_of_range("limit", 0, "1 to 1000");
        let response = problem.error_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "application/problem+json");
        assert_eq!(
            rendered_body(&problem),
            concat!(
                r#"{"type":"/problems/out-of-range","title":"A parameter is out of range","status":400,"#,
                r#""detail":"`limit` is 0; it must be 1 to 1000.","field":"limit","allowed":"1 to 1000"}"#
            )
        );
    }

    #[test]
    fn sets_retry_after() {
        for problem in [
            Problem::over_capacity(Duration::from_millis(1200)),
            Problem::too_many_requests(Duration::from_secs(2)),
            Problem::not_ready("The journal is being replayed.", Duration::from_millis(1001)),
            Problem::disk_full("writing: no space", Duration::from_secs(2)),
        ] {
            assert_eq!(problem.error_response().headers().get(RETRY_AFTER).unwrap(), "2");
            assert!(rendered_body(&problem).contains(r#""retry_after":2"#));
        }
    }

    #[test]
    fn method_not_allowed_lists_the_allowed_methods() {
        let response = Problem::method_not_allowed("GET, HEAD").error_response();
        assert_eq!(response.headers().get(ALLOW).unwrap(), "GET, HEAD");
    }

    #[test]
    fn converts_body_errors() {
        let problem = Problem::from(BodyError::TooMany { record: "event", records: 1001, limit: 1000 });
        assert_eq!(problem.status_code(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(Problem::from(BodyError::Empty { record: "event" }).status_code(), StatusCode::BAD_REQUEST);
        assert!(rendered_body(&Problem::invalid_body("torn").with_line(7)).contains(r#""line":7"#));
    }
}
