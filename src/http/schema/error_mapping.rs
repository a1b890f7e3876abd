//! Errors of the layers below, as problems.

use actix_web::Error;
use actix_web::error::{JsonPayloadError, PayloadError};

use crate::actors::error::SystemError;
use crate::http::middleware::body_timeout::is_body_timeout;
use crate::http::schema::problem::{Problem, RETRY_DELAY};

/// The problem of a body that could not be received.
pub(in crate::http) fn unreadable_body(error: &Error, max_body_bytes: usize) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(error) => payload_problem(error, max_body_bytes),
        None => Problem::invalid_body(error.to_string()),
    }
}

fn payload_problem(error: &PayloadError, max_body_bytes: usize) -> Problem {
    match error {
        error if is_body_timeout(error) => Problem::body_timeout(),
        PayloadError::Overflow => Problem::body_too_large(max_body_bytes),
        PayloadError::Incomplete(_) | PayloadError::EncodingCorrupted | PayloadError::Io(_) => {
            Problem::invalid_body("The body is incomplete, or is not encoded as its Content-Encoding says.")
        }
        other => Problem::invalid_body(other.to_string()),
    }
}

/// The problem of a JSON body.
pub(in crate::http) fn json_problem(error: &JsonPayloadError, max_body_bytes: usize) -> Problem {
    match error {
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => Problem::body_too_large(max_body_bytes),
        JsonPayloadError::Payload(error) => payload_problem(error, max_body_bytes),
        JsonPayloadError::ContentType => Problem::unsupported_body("application/json"),
        JsonPayloadError::Deserialize(error) => Problem::invalid_json(error, "what the API's description says"),
        other => Problem::invalid_body(other.to_string()),
    }
}

impl From<SystemError> for Problem {
    fn from(error: SystemError) -> Self {
        match error {
            SystemError::Busy(_) => Self::over_capacity(RETRY_DELAY),
            SystemError::NotReached { .. } => Self::offset_not_reached(format!("{error}."), RETRY_DELAY),
            SystemError::NoRestorePoint { .. } => Self::conflict(format!("{error}.")),
            SystemError::Store(source) if source.is_disk_full() => Self::disk_full(source.to_string(), RETRY_DELAY),
            SystemError::Store(source) => Self::not_ready(format!("The journal does not accept writes: {source}."), RETRY_DELAY),
            SystemError::Draining | SystemError::MaintenanceRunning | SystemError::Stopping => {
                Self::not_ready(format!("{error}."), RETRY_DELAY)
            }
            SystemError::LearnerActor(source) if source.is_disk_full() => Self::disk_full(source.to_string(), RETRY_DELAY),
            // A retry does not help against these.
            SystemError::LearnerActor(_)
            | SystemError::Learner(_)
            | SystemError::PretrainedMismatch { .. }
            | SystemError::PretrainedItemsMismatch { .. }
            | SystemError::ActorStopped(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request failed");
                Self::internal()
            }
        }
    }
}
