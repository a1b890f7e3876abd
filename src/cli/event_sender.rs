//! Sends entries to a daemon and retries until the daemon has acknowledged them.

use anyhow::{Context, bail, ensure};
use awc::http::StatusCode;
use clap::Args;
use serde::Deserialize;
use std::time::{Duration, Instant};

use super::client_auth::ClientAuth;
use super::daemon_client::{ApiRequest, DaemonClient, NoAnswerError};
use super::error_text::describe_error;
use crate::domain::{Entry, EventKind, EventKinds, KindRule, VectorError, WithConsent};
use crate::ingest::ValidationError;
use crate::settings::Period;

/// First delay before a retry. Each further delay is twice as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// Delay before a retry if the learner is behind.
const LEARNER_BEHIND_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Longest delay before a retry.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Flags of commands that send entries to a daemon.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct RetryFlags {
    /// How long to retry while the daemon does not answer, such as 30s or 1h; `off` retries without
    /// end. A wrong certificate ends the command at once. While the daemon answers that it is
    /// overloaded, the command waits without end.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    give_up_after: Period,
}

impl RetryFlags {
    /// Whether a failure of this length ends the command.
    pub(super) fn is_exceeded_by(self, failing_for: Duration) -> bool {
        self.give_up_after.get().is_some_and(|limit| failing_for >= limit)
    }
}

/// Shortest time between two messages on standard error that the daemon is unavailable.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

/// Client that sends batches of entries to the API of a daemon.
pub(super) struct EventSender {
    runner: actix::SystemRunner,
    daemon: DaemonClient,
    url: String,
    give_up_after: Period,
}

/// The daemon's answer to a batch.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SendReceipt {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    /// Number of entries that were not stored because their users do not consent.
    #[serde(default)]
    pub(super) withheld: u64,
    pub(super) rejected: Vec<SendRejection>,
}

/// The daemon's answer to a batch of Segment calls.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SegmentReceipt {
    #[serde(default)]
    pub(super) rejected: Vec<SendRejection>,
    /// Calls that yield no event, because their event name is mapped to no kind.
    #[serde(default)]
    pub(super) warnings: Vec<SendRejection>,
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

/// A rejected entry.
#[derive(Debug, Deserialize)]
pub(super) struct SendRejection {
    /// Index of the entry in the batch.
    pub(super) index: usize,
    pub(super) field: Option<String>,
    pub(super) code: String,
    pub(super) reason: String,
}

impl SendRejection {
    /// The rejection of an item change at a position of the batch, because of its vectors.
    pub(super) fn from_vector_error((index, error): &(usize, VectorError)) -> Self {
        let ValidationError { field, code, reason, .. } = ValidationError::from_vector_error(error);
        let code = serde_json::to_value(code).ok().and_then(|code| code.as_str().map(str::to_owned));
        Self { index: *index, field: field.map(str::to_owned), code: code.unwrap_or_default(), reason }
    }
}

/// Whether a problem response says that the learner is behind.
fn is_learner_behind(body: &[u8]) -> bool {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    problem.is_some_and(|problem| problem["type"].as_str().is_some_and(|kind| kind.ends_with("/learner-behind")))
}

impl EventSender {
    /// A sender for the API at `url`.
    pub(super) fn new(url: &str, auth: &ClientAuth, retry: RetryFlags) -> anyhow::Result<Self> {
        let address: awc::http::Uri =
            url.parse().with_context(|| format!("invalid --url {url}: write http://HOST:PORT or https://HOST:PORT"))?;
        ensure!(
            matches!(address.scheme_str(), Some("http" | "https")) && address.host().is_some(),
            "invalid --url {url}: write http://HOST:PORT or https://HOST:PORT"
        );
        Ok(Self {
            runner: actix::System::new(),
            daemon: DaemonClient::new(url, None, 1, auth)?,
            url: url.to_owned(),
            give_up_after: retry.give_up_after,
        })
    }

    /// The event kinds and limits that the daemon accepts. `None` if the daemon does not support
    /// this request, or the key does not allow it.
    pub(super) fn ingest_info(&self) -> anyhow::Result<Option<IngestInfo>> {
        let (status, body) = self.send_until_final_status(&ApiRequest::ingest_info_request(), |status| {
            status.is_success()
                || [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED].contains(&status)
        })?;
        if status.is_success() { Ok(Some(serde_json::from_slice(&body)?)) } else { Ok(None) }
    }

    /// Sends a batch that contains either events or items, and retries until the daemon has
    /// answered. The daemon may receive a batch twice, so the entries must be idempotent (by event
    /// id).
    pub(super) fn send_batch(&self, entries: &[WithConsent<Entry>]) -> anyhow::Result<SendReceipt> {
        let request = match entries.first().map(|first| &first.value) {
            Some(Entry::Item(_)) => ApiRequest::items_request(entries.iter().map(|entry| &entry.value))?,
            Some(_) => ApiRequest::events_with_consent_request(entries)?,
            None => return Ok(SendReceipt::default()),
        };
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
        let request = ApiRequest::segment_batch_request(calls);
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
        request: &ApiRequest,
        is_final: impl Fn(StatusCode) -> bool,
    ) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let (mut backoff, mut last_reminder) = (INITIAL_BACKOFF, None::<Instant>);
        let mut silent_since = None;
        loop {
            let message = match self.runner.block_on(self.daemon.send_request(request.clone())) {
                Ok((status, body)) if is_final(status) => return Ok((status, body)),
                // The learner is behind: waits without a message, because the progress display
                // shows the wait.
                Ok((status, body)) if status == StatusCode::SERVICE_UNAVAILABLE && is_learner_behind(&body) => {
                    std::thread::sleep(LEARNER_BEHIND_RETRY_DELAY);
                    continue;
                }
                Ok((status, _)) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    silent_since = None;
                    // A short overload needs no message.
                    (backoff > INITIAL_BACKOFF * 4).then(|| format!("{} is unavailable ({status}); retrying", self.url))
                }
                Ok((status, body)) => bail!("{} refused ({status}): {}", self.url, String::from_utf8_lossy(&body)),
                Err(error) => Some(self.check_retry_limit(error, silent_since.get_or_insert_with(Instant::now))?),
            };
            if let Some(message) = message
                && last_reminder.is_none_or(|at| at.elapsed() >= REMINDER_INTERVAL)
            {
                eprintln!("{message}");
                last_reminder = Some(Instant::now());
            }
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Returns the message to print before the next retry. Returns the error if a retry cannot
    /// help, or if the daemon has not answered for too long.
    fn check_retry_limit(&self, error: anyhow::Error, silent_since: &Instant) -> anyhow::Result<String> {
        if error.downcast_ref::<NoAnswerError>().is_some_and(|error| error.is_permanent) {
            return Err(error);
        }
        let limit = self.give_up_after;
        match limit.get() {
            Some(period) if silent_since.elapsed() >= period => {
                Err(error.context(format!("gave up after {limit} (--give-up-after)")))
            }
            Some(_) => Ok(format!("{}; retrying for {limit} (--give-up-after)", describe_error(&error))),
            None => Ok(format!("{}; retrying", describe_error(&error))),
        }
    }
}
