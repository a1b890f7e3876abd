//! Maps errors of lower layers to problems.

use actix_web::Error;
use actix_web::error::{JsonPayloadError, PayloadError};
use actix_web::web::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::actors::error::StoreError;
use crate::actors::error::{ClusterProblem, MaintenanceError, RequestError};
use crate::domain::describe_type_error;
use crate::http::middleware::body_timeout::is_body_timeout;
use crate::http::schema::problem::{Problem, RETRY_DELAY};
use crate::http::schema::query_pairs::repeated_parameter;

/// What a body must be that does not match the schema of its request.
const JSON_OF_THE_SCHEMA: &str = "JSON that matches the API's schema";

/// The problem response for a body that could not be received.
pub(in crate::http) fn unreadable_body(error: &Error, max_body_bytes: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(error) => payload_problem(error, max_body_bytes),
        None => Problem::invalid_body(error.to_string()),
    }
}

/// Parses the JSON body of a request of any content type.
///
/// # Errors
/// 400, 408 or 413 if the body cannot be received or does not match the schema.
pub(in crate::http) fn parse_json_body<T: DeserializeOwned>(
    body: Result<Bytes, Error>,
    max_body_bytes: usize,
) -> Result<T, Problem> {
    let body = body.map_err(|error| unreadable_body(&error, max_body_bytes))?;
    parse_json(&body, JSON_OF_THE_SCHEMA)
}

/// Parses a JSON body. `expected` says what to send instead of a body that does not match.
///
/// # Errors
/// 400 if the body does not match. The problem names the field, if the body is JSON.
pub(in crate::http) fn parse_json<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        let field = Some(&*path).filter(|path| is_json && *path != "." && !path.contains('?'));
        Problem::invalid_json(error.inner(), field, expected)
    })?;
    deserializer.end().map_err(|error| Problem::invalid_json(&error, None, expected))?;
    Ok(parsed)
}

fn payload_problem(error: &PayloadError, max_body_bytes: usize) -> Problem {
    match error {
        error if is_body_timeout(error) => Problem::body_timeout(),
        PayloadError::Overflow => Problem::body_too_large(max_body_bytes),
        PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted | PayloadError::Io(_) => {
            Problem::invalid_body("The body is incomplete or does not match its Content-Encoding.")
        }
        other => Problem::invalid_body(other.to_string()),
    }
}

/// The problem of a query that does not match the parameters, from the message of serde.
pub(in crate::http) fn query_problem(message: &str) -> Problem {
    let reason = message.strip_prefix("Query deserialize error: ").unwrap_or(message);
    let name_after = |prefix: &str| reason.strip_prefix(prefix)?.split('`').next();
    if let Some(name) = name_after("duplicate field `") {
        return repeated_parameter(name);
    }
    let field = name_after("unknown field `").or_else(|| name_after("missing field `")).unwrap_or("query");
    Problem::invalid_parameter(field, format!("{}.", describe_type_error(reason, "a list of parameters")))
}

/// The problem response for a JSON body that could not be received or parsed.
pub(in crate::http) fn json_problem(error: &JsonPayloadError, max_body_bytes: usize) -> Problem {
    match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            Problem::body_too_large(max_body_bytes)
        }
        JsonPayloadError::Payload(error) => payload_problem(error, max_body_bytes),
        JsonPayloadError::ContentType => Problem::unsupported_media_type("application/json"),
        JsonPayloadError::Deserialize(error) => Problem::invalid_json(error, None, JSON_OF_THE_SCHEMA),
        other => Problem::invalid_body(other.to_string()),
    }
}

fn store_problem(error: &StoreError) -> Problem {
    if error.is_disk_full() {
        Problem::disk_full(error.to_string(), RETRY_DELAY)
    } else {
        Problem::not_ready(format!("The journal does not accept writes: {error}."), RETRY_DELAY)
    }
}

/// Logs a failure that a retry cannot resolve, and returns the problem response.
fn internal_problem(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a request failed");
    Problem::internal()
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::QueuedTooLong => Self::queued_too_long(RETRY_DELAY),
            RequestError::Busy(_) => Self::over_capacity(RETRY_DELAY),
            RequestError::LearnerBehind { .. } => Self::learner_behind(format!("{error}."), RETRY_DELAY),
            RequestError::NotReached { .. } => Self::offset_not_reached(format!("{error}."), RETRY_DELAY),
            RequestError::Store(source) => store_problem(&source),
            RequestError::Draining => Self::not_ready(format!("{error}."), RETRY_DELAY),
            RequestError::Cluster(ClusterProblem::TooLarge(detail)) => Self::entry_too_large(format!("{detail}.")),
            RequestError::Cluster(ClusterProblem::Unsupported(detail)) => Self::conflict(format!("{detail}.")),
            RequestError::Cluster(_) => Self::not_ready(format!("{error}."), RETRY_DELAY),
            RequestError::ActorStopped(_) => internal_problem(&error),
        }
    }
}

impl From<MaintenanceError> for Problem {
    fn from(error: MaintenanceError) -> Self {
        match error {
            MaintenanceError::Request(error) => error.into(),
            MaintenanceError::NoRestorePoint { .. } => Self::conflict(format!("{error}.")),
            MaintenanceError::Store(source) => store_problem(&source),
            MaintenanceError::Running | MaintenanceError::Stopping => Self::not_ready(format!("{error}."), RETRY_DELAY),
            MaintenanceError::Checkpoint(source) if source.is_disk_full() => {
                Self::disk_full(source.to_string(), RETRY_DELAY)
            }
            MaintenanceError::Checkpoint(_) => internal_problem(&error),
        }
    }
}
