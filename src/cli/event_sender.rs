//! Sends entries to a daemon and retries until the daemon has acknowledged them.

use anyhow::{Context, bail};
use clap::Args;
use sequor_client::{
    Connection, ConnectionError, ConnectionOptions, HttpRequest, HttpResponse, Method, Receipt, Rejection, RetryPolicy,
    StatusCode, random_fraction,
};
use serde::Deserialize;
use std::time::{Duration, Instant, SystemTime};

use super::client_auth::ClientAuth;
use super::data_dir::UNKNOWN_PATH;
use super::error_text::{describe_error, is_permanent};
use crate::domain::{Entry, EventKind, EventKinds, KindRule, WithConsent};
use crate::ingest::{write_entry, write_entry_with_consent};
use crate::settings::Period;

/// Delays before retries.
const BACKOFF: RetryPolicy = RetryPolicy {
    attempts: None,
    base_delay: Duration::from_millis(100),
    max_delay: Duration::from_secs(5),
    max_retry_after: Duration::MAX,
};
/// Time limits for a request with its response: the usual one, and the least one if
/// `--give-up-after` is short.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const SHORTEST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// If the learner is this many entries behind, the daemon lets the sender wait. The number is low
/// enough that the daemon does not reduce training.
const MAX_LEARNER_LAG: u64 = 1024;
/// The type of the problem that says that the learner is behind.
const LEARNER_BEHIND: &str = "/problems/learner-behind";
/// Delay before a retry if the learner is behind.
const LEARNER_BEHIND_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Flags of commands that send entries to a daemon.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct RetryFlags {
    /// How long to retry while the daemon does not answer, or answers with an error of the server,
    /// such as 30s or 1h; `off` retries without end. A wrong certificate ends the command at once.
    /// While the daemon answers that it is overloaded, the command waits without end.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    give_up_after: Period,
}

impl RetryFlags {
    /// Whether a failure of this length ends the command.
    pub(super) fn is_exceeded_by(self, failing_for: Duration) -> bool {
        self.give_up_after.get().is_some_and(|limit| failing_for >= limit)
    }

    /// Time limit for an answer, at most `longest`. A server that accepts connections and never
    /// answers must not delay the end.
    pub(super) fn limited(self, longest: Duration) -> Duration {
        self.give_up_after.get().unwrap_or(longest).clamp(SHORTEST_RESPONSE_TIMEOUT, longest)
    }
}

/// Shortest time between two messages on standard error that the daemon is unavailable.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

/// A longer delay that a daemon asks for is reported.
const LONGEST_QUIET_DELAY: Duration = Duration::from_secs(10);

/// How much of the response of another server an error shows.
const MAX_SHOWN_BODY_BYTES: usize = 500;

/// Client that sends batches of entries to the API of a daemon.
pub(super) struct EventSender {
    connection: Connection,
    url: String,
    retry: RetryFlags,
}

/// The daemon's answer to a batch of Segment calls.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SegmentReceipt {
    #[serde(default)]
    pub(super) rejected: Vec<Rejection>,
    /// Calls that yield no event, because their event name is mapped to no kind.
    #[serde(default)]
    pub(super) warnings: Vec<Rejection>,
}

/// The event kinds and limits that a daemon accepts.
#[derive(Debug, Deserialize)]
pub(super) struct IngestInfo {
    /// The kinds of event.
    pub(super) kinds: Vec<String>,
    /// Identifies the journal.
    pub(super) journal_id: Option<String>,
}

impl IngestInfo {
    /// Adds the event kinds of the daemon to the kinds of a client. Only the names matter: a client
    /// does not use the other properties of a kind.
    pub(super) fn add_kinds(&self, kinds: &mut EventKinds) {
        for kind in self.kinds.iter().map(|name| EventKind::from_name(name)) {
            if kinds.id_of(&kind).is_none() {
                let rule = KindRule::new(&kind, false, 1.0);
                kinds.set_rule(kind, rule);
            }
        }
    }
}

impl EventSender {
    /// A sender for the API at `url`.
    pub(super) fn new(url: &str, auth: &ClientAuth, retry: RetryFlags) -> anyhow::Result<Self> {
        let timeout = Some(retry.limited(RESPONSE_TIMEOUT));
        let limits = ConnectionOptions { connect_timeout: timeout, timeout, ..ConnectionOptions::default() };
        let connection = auth.connect(url, limits)?;
        Ok(Self { connection, url: url.to_owned(), retry })
    }

    /// The event kinds and limits that the daemon accepts. `None` if the daemon does not support
    /// this request, or the key does not allow it.
    pub(super) fn ingest_info(&self) -> anyhow::Result<Option<IngestInfo>> {
        let (status, body) = self.send_until_final_status(&HttpRequest::get("/v1/events/rules"), |status| {
            status.is_success()
                || [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED].contains(&status)
        })?;
        if !status.is_success() {
            return Ok(None);
        }
        let info = serde_json::from_slice(&body);
        Ok(Some(info.with_context(|| format!("{} is not the API of a Sequor daemon; check the URL", self.url))?))
    }

    /// Sends a batch that contains either events or items, and retries until the daemon has
    /// answered. The daemon may receive a batch twice, so the entries must be idempotent (by event
    /// id).
    pub(super) fn send_batch(&self, entries: &[WithConsent<Entry>]) -> anyhow::Result<Receipt> {
        let mut body = Vec::new();
        let path = match entries.first().map(|first| &first.value) {
            Some(Entry::Item(_)) => {
                entries.iter().try_for_each(|entry| write_entry(0, &entry.value, &mut body))?;
                "/v1/items".to_owned()
            }
            Some(_) => {
                entries.iter().try_for_each(|entry| write_entry_with_consent(entry, &mut body))?;
                format!("/v1/events?max_lag={MAX_LEARNER_LAG}")
            }
            None => return Ok(Receipt::default()),
        };
        let request =
            HttpRequest { content_type: "application/x-ndjson", ..HttpRequest::new(Method::POST, &path, &body) };
        // If the daemon rejects every entry of a batch, it answers 400 with the same body.
        let (status, body) = self.send_until_final_status(&request, |status| {
            status == StatusCode::OK || status == StatusCode::BAD_REQUEST
        })?;
        serde_json::from_slice(&body).with_context(|| {
            format!("unexpected answer of {} ({status}): {}", self.url, String::from_utf8_lossy(&body))
        })
    }

    /// Sends calls of Segment's API, and retries until the daemon has answered. `None` if the calls
    /// hold more events than the daemon takes in one request.
    pub(super) fn send_segment_batch(&self, calls: &[serde_json::Value]) -> anyhow::Result<Option<SegmentReceipt>> {
        let body = serde_json::json!({ "batch": calls }).to_string();
        let request = HttpRequest::new(Method::POST, "/v1/batch?verbose=1", body.as_bytes());
        let (status, body) = self.send_until_final_status(&request, |status| {
            [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status)
        })?;
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(None);
        }
        let receipt = serde_json::from_slice(&body).with_context(|| {
            format!("unexpected answer of {} ({status}): {}", self.url, String::from_utf8_lossy(&body))
        })?;
        Ok(Some(receipt))
    }

    /// Sends a request repeatedly, until `is_final` accepts the status of the daemon's answer.
    fn send_until_final_status(
        &self,
        request: &HttpRequest<'_>,
        is_final: impl Fn(StatusCode) -> bool,
    ) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let (mut failures, mut last_reminder) = (0_u32, None::<Instant>);
        let mut silent_since = None;
        loop {
            let mut retry_after = None;
            let sent_at = Instant::now();
            let message = match self.send_once(request) {
                Ok((response, body)) => {
                    let status = response.status();
                    if is_final(status) {
                        return Ok((status, body));
                    }
                    // The learner is behind: waits without a message, because the progress display
                    // shows the wait.
                    if status == StatusCode::SERVICE_UNAVAILABLE && response.problem(&body).kind == LEARNER_BEHIND {
                        std::thread::sleep(LEARNER_BEHIND_RETRY_DELAY);
                        continue;
                    }
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        bail!("{}", self.refusal(&response, &body));
                    }
                    // Other errors than an overload count like silence.
                    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
                        silent_since = None;
                    } else if self.retry.is_exceeded_by(silent_since.get_or_insert(sent_at).elapsed()) {
                        let limit = self.retry.give_up_after;
                        bail!("gave up after {limit} (--give-up-after): {} answers {status}", self.url);
                    }
                    // An overload can pass before the whole seconds of `Retry-After`, but a rate
                    // limit cannot.
                    if status == StatusCode::TOO_MANY_REQUESTS {
                        retry_after = response.retry_after(SystemTime::now());
                    }
                    match retry_after.filter(|delay| *delay > LONGEST_QUIET_DELAY) {
                        Some(delay) => {
                            Some(format!("{} refuses requests for {} s ({status}); waiting", self.url, delay.as_secs()))
                        }
                        // A short overload needs no message.
                        None => (failures >= 3).then(|| format!("{} is unavailable ({status}); retrying", self.url)),
                    }
                }
                Err(error) => Some(self.check_retry_limit(error, silent_since.get_or_insert(sent_at).elapsed())?),
            };
            if let Some(message) = message
                && last_reminder.is_none_or(|at| at.elapsed() >= REMINDER_INTERVAL)
            {
                eprintln!("{message}");
                last_reminder = Some(Instant::now());
            }
            failures = failures.saturating_add(1);
            let delay = BACKOFF.delay(failures, retry_after, random_fraction());
            std::thread::sleep(delay.unwrap_or(BACKOFF.max_delay));
        }
    }

    /// Why the server refuses a request, and what helps.
    fn refusal(&self, response: &HttpResponse, body: &[u8]) -> String {
        let (url, status) = (&self.url, response.status());
        if let Some(location) = response.header("location").filter(|_| status.is_redirection()) {
            return format!("{url} redirects to {location} ({status}); use the URL that answers there");
        }
        let problem = response.problem(body);
        let detail = match problem.detail.as_str() {
            "" => String::from_utf8_lossy(body.get(..MAX_SHOWN_BODY_BYTES).unwrap_or(body)).into_owned(),
            detail => detail.to_owned(),
        };
        let hint = if problem.kind == UNKNOWN_PATH {
            " Check that this is the URL of the API, and not of the admin endpoint."
        } else {
            ""
        };
        format!("{url} refused ({status}): {detail}{hint}")
    }

    /// Sends a request once and reads the whole response.
    fn send_once(&self, request: &HttpRequest<'_>) -> Result<(HttpResponse, Vec<u8>), ConnectionError> {
        let mut response = self.connection.send(request)?;
        let body = response.bytes()?;
        Ok((response, body))
    }

    /// Returns the message to print before the next retry. Returns the error if a retry cannot
    /// help, or if the daemon has not answered for too long.
    fn check_retry_limit(&self, error: ConnectionError, silent_for: Duration) -> anyhow::Result<String> {
        let is_permanent = is_permanent(&error);
        let error = anyhow::Error::new(error).context(format!("{} does not answer", self.url));
        let limit = self.retry.give_up_after;
        match limit.get() {
            _ if is_permanent => Err(error),
            _ if self.retry.is_exceeded_by(silent_for) => {
                Err(error.context(format!("gave up after {limit} (--give-up-after)")))
            }
            Some(_) => Ok(format!("{}; retrying for {limit} (--give-up-after)", describe_error(&error))),
            None => Ok(format!("{}; retrying", describe_error(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_no_longer_than_the_retries() {
        let timeout = |give_up_after: &str| {
            RetryFlags { give_up_after: give_up_after.parse().unwrap() }.limited(RESPONSE_TIMEOUT).as_millis()
        };
        assert_eq!(["3s", "5m", "off", "0s", "20ms"].map(timeout), [3000, 30_000, 30_000, 1000, 1000]);
    }
}
