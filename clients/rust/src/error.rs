//! Errors of the client. Error responses are RFC 9457 problems.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection::ConnectionError;
use crate::receipts::Rejection;

/// An error response without a problem document is quoted up to this many bytes.
const QUOTED_BYTES: usize = 200;

/// An error response of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `/problems/` and a code. A response without a problem document, such as that of a reverse
    /// proxy, has the type `about:blank`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A summary of the type.
    pub title: String,
    /// The status of the response.
    pub status: u16,
    /// What is wrong with this request.
    pub detail: String,
    /// The invalid field or parameter.
    pub field: Option<String>,
    /// The line of an invalid body, from 1.
    pub line: Option<u64>,
    /// The column of a syntax error, from 1.
    pub column: Option<u64>,
    /// The allowed values, in words.
    pub allowed: Option<String>,
    /// The seconds after which a retry can succeed.
    pub retry_after: Option<u64>,
    /// The id of the request in the log of the daemon.
    pub request_id: Option<String>,
}

impl Problem {
    /// The problem document in the body of a response, or a description of a response without one.
    pub(crate) fn from_response(
        status: u16,
        content_type: Option<&str>,
        request_id: Option<&str>,
        body: &[u8],
    ) -> Self {
        let is_problem = content_type.is_some_and(|kind| kind.starts_with("application/problem+json"));
        let document = if is_problem { serde_json::from_slice(body).ok() } else { None };
        document.unwrap_or_else(|| Self {
            kind: "about:blank".to_owned(),
            title: format!("HTTP status {status}"),
            status,
            detail: String::from_utf8_lossy(body.get(..QUOTED_BYTES).unwrap_or(body)).into_owned(),
            field: None,
            line: None,
            column: None,
            allowed: None,
            retry_after: None,
            request_id: request_id.map(str::to_owned),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.kind.strip_prefix("/problems/").unwrap_or(&self.kind);
        write!(formatter, "{} {code}: {}", self.status, self.detail)?;
        match &self.allowed {
            Some(allowed) => write!(formatter, " (allowed: {allowed})"),
            None => Ok(()),
        }
    }
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SequorError {
    /// The daemon answered with an error response.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The daemon sent no response, or a part of one.
    #[error("no response: {0}")]
    NoResponse(#[from] ConnectionError),
    /// A successful response has an unexpected form.
    #[error("unexpected response to {path}: {source}")]
    UnexpectedResponse {
        /// The path of the request.
        path: String,
        /// What is unexpected.
        source: serde_json::Error,
    },
    /// The daemon rejected records. See [`Receipt::ok`](crate::Receipt::ok).
    #[error("{}", describe_rejections(.0))]
    Rejected(Vec<Rejection>),
    /// An argument is invalid. The client sent nothing.
    #[error("{0}")]
    InvalidArgument(String),
    /// The buffer was closed, and its time to send the rest was over.
    #[error("not sent within {0:?} after close")]
    NotSent(Duration),
    /// The buffer was closed, and a request had no response within its time. The daemon may have
    /// stored the events. It ignores their ids if they are sent again.
    #[error(
        "no response within {0:?} after close: the daemon may have stored the events. \
         It is safe to send them again with the same `event_id`."
    )]
    UnknownOutcome(Duration),
    /// An event was tracked after the client was closed.
    #[error("the client is closed")]
    Closed,
    /// The thread of the buffer cannot start.
    #[error("cannot start the thread that sends events: {0}")]
    NoThread(#[source] io::Error),
}

impl SequorError {
    /// The error response. `None` if there was none.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The type of the problem, such as `/problems/out-of-range`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.problem().map(|problem| problem.kind.as_str())
    }

    /// The status of the error response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// The invalid field or parameter.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.problem()?.field.as_deref()
    }

    /// The allowed values, in words.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        self.problem()?.allowed.as_deref()
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidArgument(message.into())
    }
}

fn describe_rejections(rejected: &[Rejection]) -> String {
    let first = rejected.first().map(|first| format!("; record {}: {}", first.index, first.reason));
    format!("{} records rejected{}", rejected.len(), first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_without_a_problem_document_is_quoted() {
        let long = "x".repeat(300);
        for (content_type, body) in [
            (Some("application/problem+json"), "{\"type\": \"/problems/…"),
            (Some("text/html"), long.as_str()),
            (None, "upstream failed"),
        ] {
            let problem = Problem::from_response(502, content_type, Some("r1"), body.as_bytes());
            assert_eq!((problem.kind.as_str(), problem.status), ("about:blank", 502));
            assert_eq!(problem.detail, body.chars().take(200).collect::<String>());
            assert_eq!(problem.request_id.as_deref(), Some("r1"));
        }
    }

    #[test]
    fn a_problem_is_described_with_the_allowed_values() {
        let body = br#"{"type":"/problems/out-of-range","title":"t","status":400,"detail":"`limit` is 0","allowed":"1 to 1000"}"#;
        let problem = Problem::from_response(400, Some("application/problem+json"), None, body);
        let error = SequorError::Problem(Box::new(problem));
        assert_eq!(error.to_string(), "400 out-of-range: `limit` is 0 (allowed: 1 to 1000)");
        assert_eq!((error.kind(), error.status()), (Some("/problems/out-of-range"), Some(400)));
        assert_eq!((error.field(), error.allowed()), (None, Some("1 to 1000")));
    }
}
