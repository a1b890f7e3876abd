//! Calls: requests with retries, and the responses as types.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use std::time::Duration;

use crate::connection::{Connection, ConnectionError, HttpRequest, HttpResponse, Method, parse_json};
use crate::environment::Environment;
use crate::error::SequorError;
use crate::json;
use crate::retry::{RetryPolicy, is_retryable_status};

/// The characters of paths and queries that are encoded: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request of a call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path with the query.
    pub(crate) path: String,
    /// JSON; empty for none.
    pub(crate) body: Vec<u8>,
    /// A request that is not idempotent is not sent again after a lost response.
    pub(crate) is_idempotent: bool,
    /// Whether a batch without valid records gets 400 with a receipt.
    pub(crate) has_receipt_on_400: bool,
}

impl Call {
    /// A call to `/v1/` and the segments.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if a segment is empty, `.` or `..`, which servers and proxies
    /// drop.
    pub(crate) fn new(method: Method, segments: &[&str]) -> Result<Self, SequorError> {
        if let Some(id) = segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(SequorError::invalid(format!(
                "the id `{id}` cannot be in a URL; an id is a text of 1 to 256 bytes other than `.` and `..`"
            )));
        }
        let encoded: String = segments.iter().flat_map(|segment| ["/".to_owned(), encode(segment)]).collect();
        Ok(Self::to_path(method, format!("/v1{encoded}")))
    }

    /// A call to a path that is encoded already.
    pub(crate) fn to_path(method: Method, path: String) -> Self {
        Self { method, path, body: Vec::new(), is_idempotent: true, has_receipt_on_400: false }
    }

    pub(crate) fn with_query(mut self, query: &[(impl AsRef<str>, impl AsRef<str>)]) -> Self {
        for (name, value) in query {
            self.path.push(if self.path.contains('?') { '&' } else { '?' });
            self.path.extend([&encode(name.as_ref()), "=", &encode(value.as_ref())]);
        }
        self
    }

    pub(crate) fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Sets a JSON body.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if the value has no JSON form, or a number that is not finite.
    pub(crate) fn with_json(self, value: &(impl serde::Serialize + ?Sized)) -> Result<Self, SequorError> {
        Ok(self.with_body(json::encode(value)?))
    }

    pub(crate) fn request(&self) -> HttpRequest<'_> {
        HttpRequest::new(self.method.clone(), &self.path, &self.body)
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A failed attempt.
pub(crate) struct Failure {
    error: SequorError,
    is_retryable: bool,
    retry_after: Option<Duration>,
}

impl Failure {
    /// The failure of an attempt without a response. If the connection was never made, the daemon
    /// has not seen the request.
    pub(crate) fn of_connection(error: ConnectionError, is_idempotent: bool) -> Self {
        let is_retryable = (is_idempotent || error.was_not_sent()) && !error.is_invalid_request();
        Self { error: error.into(), is_retryable, retry_after: None }
    }
}

impl From<SequorError> for Failure {
    /// A failure that is not retried.
    fn from(error: SequorError) -> Self {
        Self { error, is_retryable: false, retry_after: None }
    }
}

/// Sends calls to a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) retry: RetryPolicy,
    pub(crate) environment: Environment,
}

impl Caller {
    /// Sends a call with the client's policy.
    pub(crate) fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, SequorError> {
        let sleep = |delay| {
            self.environment.sleep(delay);
            true
        };
        self.call_with(call, &self.retry, &sleep)
    }

    /// Sends a call. `sleep` waits before a retry; it returns false to end the call.
    pub(crate) fn call_with<T: DeserializeOwned>(
        &self,
        call: &Call,
        policy: &RetryPolicy,
        sleep: &dyn Fn(Duration) -> bool,
    ) -> Result<T, SequorError> {
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            let failure = match self.attempt(call) {
                Ok(body) => return parse_json(&call.path, &body),
                Err(failure) => failure,
            };
            let (delay, error) = self.delay_before_retry(policy, attempt, failure)?;
            if !sleep(delay) {
                return Err(error);
            }
        }
    }

    /// Sends a call once. Returns the body of a response that has the result.
    fn attempt(&self, call: &Call) -> Result<Vec<u8>, Failure> {
        let lost = |error| Failure::of_connection(error, call.is_idempotent);
        let mut response = self.connection.send(&call.request()).map_err(lost)?;
        let body = response.bytes().map_err(lost)?;
        let has_receipt = call.has_receipt_on_400
            && response.status().as_u16() == 400
            && response.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if response.status().is_success() || has_receipt {
            return Ok(body);
        }
        Err(self.failure_of_response(&response, &body, call.is_idempotent))
    }

    /// The failure of an error response.
    pub(crate) fn failure_of_response(&self, response: &HttpResponse, body: &[u8], is_idempotent: bool) -> Failure {
        let problem = response.problem(body);
        let header = response.retry_after((self.environment.now)());
        let retry_after = header.or(problem.retry_after.map(Duration::from_secs));
        let is_retryable = is_retryable_status(response.status().as_u16(), is_idempotent);
        Failure { error: SequorError::Problem(Box::new(problem)), is_retryable, retry_after }
    }

    /// The delay before the next attempt, and the error of the failure.
    ///
    /// # Errors
    /// The error of the failure, if there is no further attempt.
    pub(crate) fn delay_before_retry(
        &self,
        policy: &RetryPolicy,
        attempt: u32,
        failure: Failure,
    ) -> Result<(Duration, SequorError), SequorError> {
        let Failure { error, is_retryable, retry_after } = failure;
        let delay = if is_retryable { policy.delay(attempt, retry_after, (self.environment.random)()) } else { None };
        match delay {
            Some(delay) => Ok((delay, error)),
            None => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_encoded() {
        let call = Call::new(Method::GET, &["users", "ü/ %?#", "recommendations"])
            .unwrap()
            .with_query(&[("item", "grün & co"), ("limit", "5")]);
        assert_eq!(call.path, "/v1/users/%C3%BC%2F%20%25%3F%23/recommendations?item=gr%C3%BCn%20%26%20co&limit=5");
        assert_eq!(Call::new(Method::GET, &["items", "a-b_c.d~1"]).unwrap().path, "/v1/items/a-b_c.d~1");
    }
}
