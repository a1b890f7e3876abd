//! Entries sent to a daemon until it has acknowledged them, however long it is away.

use anyhow::{Context, bail, ensure};
use awc::http::StatusCode;
use serde::Deserialize;
use std::time::{Duration, Instant};

use super::client_auth::ClientAuth;
use super::daemon_client::{ApiRequest, DaemonClient};
use crate::domain::{Entry, WithConsent};

/// The first pause before something is sent again; each is twice as long as the one before.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How often it is said that the daemon is waited for.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

/// A daemon that takes entries.
pub(super) struct EventSender {
    runner: actix::SystemRunner,
    daemon: DaemonClient,
    url: String,
}

/// What the daemon said of a batch.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SendReceipt {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    /// How many were not taken since their users do not let them be kept.
    #[serde(default)]
    pub(super) withheld: u64,
    pub(super) rejected: Vec<SendRejection>,
}

/// One entry that it did not take.
#[derive(Debug, Deserialize)]
pub(super) struct SendRejection {
    /// Its place in the batch.
    pub(super) index: usize,
    pub(super) field: Option<String>,
    pub(super) code: String,
    pub(super) reason: String,
}

impl EventSender {
    /// The daemon whose API has that address.
    pub(super) fn new(url: &str, knock: &ClientAuth) -> anyhow::Result<Self> {
        let address: awc::http::Uri = url.parse().with_context(|| format!("--url {url} is no address"))?;
        ensure!(
            matches!(address.scheme_str(), Some("http" | "https")) && address.host().is_some(),
            "--url {url}: give the API's address as http://HOST:PORT or https://HOST:PORT"
        );
        Ok(Self { runner: actix::System::new(), daemon: DaemonClient::new(url, None, 1, knock)?, url: url.to_owned() })
    }

    /// Sends a batch of events, or of items, again and again until the daemon has answered for it.
    /// It may be sent twice: what it holds must bear that.
    pub(super) fn send(&self, entries: &[WithConsent<Entry>]) -> anyhow::Result<SendReceipt> {
        let question = match entries.first().map(|first| &first.value) {
            Some(Entry::Item(_)) => ApiRequest::items(entries.iter().map(|said| &said.value))?,
            Some(_) => ApiRequest::events_with_consent(entries)?,
            None => return Ok(SendReceipt::default()),
        };
        let (mut pause, mut said) = (INITIAL_BACKOFF, None::<Instant>);
        loop {
            let trouble = match self.runner.block_on(self.daemon.request(question.clone())) {
                Ok((status, body)) if status == StatusCode::OK || status == StatusCode::BAD_REQUEST => {
                    // A batch of which nothing could be taken is answered for, too, in the same
                    // words.
                    return serde_json::from_slice(&body)
                        .with_context(|| format!("{} answers {status}: {}", self.url, String::from_utf8_lossy(&body)));
                }
                Ok((status, _)) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    anyhow::anyhow!("{} takes nothing now ({status})", self.url)
                }
                Ok((status, body)) => bail!("{} refused ({status}): {}", self.url, String::from_utf8_lossy(&body)),
                Err(error) => error,
            };
            // A pause that is over soon is nobody's business.
            if pause > INITIAL_BACKOFF * 4 && said.is_none_or(|at| at.elapsed() >= REMINDER_INTERVAL) {
                eprintln!("{trouble:#}; it is tried again until it does");
                said = Some(Instant::now());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_BACKOFF);
        }
    }
}
