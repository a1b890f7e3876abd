//! A daemon over HTTP, asked by one thread that has many requests under way. Connections stay open.

use anyhow::{Context, bail};
use awc::http::header::AUTHORIZATION;
use awc::http::{Method, StatusCode};
use awc::{Client, Connector};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::time::Duration;

use super::client_auth::ClientAuth;
use crate::domain::{Entry, WithConsent};
use crate::ingest::{write_entry, write_entry_with_consent};

/// An answer that takes longer is not waited for.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Until what was turned away is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The largest answer that is read: pages of lists and of metrics are far smaller.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// A daemon. To be used within an actix system; clones share the connections.
#[derive(Clone)]
pub(super) struct DaemonClient {
    client: Client,
    api: String,
    /// `None` if nothing is known of it.
    admin: Option<String>,
}

/// What is asked of a daemon.
#[derive(Debug, Clone)]
pub(super) struct ApiRequest {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl ApiRequest {
    fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Vec::new() }
    }

    fn post(path: &str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body }
    }

    /// Tells events, a line each.
    pub(super) fn events<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Self> {
        Ok(Self::post("/v1/events", lines(entries)?))
    }

    /// Tells events with what is said of consent, a line each.
    pub(super) fn events_with_consent(said: &[WithConsent<Entry>]) -> anyhow::Result<Self> {
        let mut body = Vec::new();
        said.iter().try_for_each(|said| write_entry_with_consent(said, &mut body))?;
        Ok(Self::post("/v1/events", body))
    }

    /// Tells changes of items, a line each.
    pub(super) fn items<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Self> {
        Ok(Self::post("/v1/items", lines(entries)?))
    }

    /// Asks what a user may want next.
    pub(super) fn recommendations(user: &str, limit: usize) -> Self {
        Self::get(&format!("/v1/users/{}/recommendations?limit={limit}", utf8_percent_encode(user, NON_ALPHANUMERIC)))
    }

    /// Asks what is wanted by many.
    pub(super) fn trending(limit: usize) -> Self {
        Self::get(&format!("/v1/trending?limit={limit}"))
    }
}

fn lines<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    for entry in entries {
        write_entry(0, entry, &mut body)?;
    }
    Ok(body)
}

/// A list of items as it is answered.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RecommendationList {
    pub(super) items: Vec<RecommendationListItem>,
}

/// One of its items.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RecommendationListItem {
    pub(super) item_id: String,
}

/// What the demo and the bench read of `/admin/status`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct DaemonStatus {
    pub(super) learning: LearningFigures,
    pub(super) quality: QualityFigures,
}

/// How far learning is.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct LearningFigures {
    pub(super) lag_entries: u64,
    pub(super) failed: bool,
}

/// The quality over all steps so far.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct QualityFigures {
    pub(super) steps: u64,
    pub(super) total: QualityMeans,
}

/// The means of it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct QualityMeans {
    pub(super) recall_at_20: f64,
    pub(super) mrr_at_20: f64,
}

/// What the daemon's process has taken so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessUsage {
    pub(super) cpu_seconds: f64,
    pub(super) peak_rss_bytes: u64,
}

impl DaemonClient {
    /// The daemon with these addresses, such as `http://127.0.0.1:8080`, over so many connections
    /// at most.
    pub(super) fn new(api: &str, admin: Option<&str>, connections: usize, knock: &ClientAuth) -> anyhow::Result<Self> {
        let connector =
            Connector::new().limit(connections).conn_lifetime(Duration::MAX).timeout(RESPONSE_TIMEOUT).rustls_0_23(knock.awc_tls_config()?);
        let client = Client::builder().connector(connector).timeout(RESPONSE_TIMEOUT).disable_redirects();
        let client = match knock.authorization_header() {
            Some(authorization) => client.add_default_header((AUTHORIZATION, authorization)).finish(),
            None => client.finish(),
        };
        let trimmed = |address: &str| address.trim_end_matches('/').to_owned();
        Ok(Self { client, api: trimmed(api), admin: admin.map(trimmed) })
    }

    /// Asks the API and reads the answer to its end.
    pub(super) async fn request(&self, question: ApiRequest) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        self.send(&self.api, question).await
    }

    async fn send(&self, address: &str, ApiRequest { method, path, body }: ApiRequest) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let request = self.client.request(method, format!("{address}{path}")).no_decompress();
        let answer = if body.is_empty() { request.send() } else { request.content_type("application/x-ndjson").send_body(body) };
        // What the client says of its errors is not to be shared between threads: its words are.
        let mut answer = answer.await.map_err(|error| anyhow::anyhow!("{address} does not answer: {error}"))?;
        let body =
            answer.body().limit(MAX_RESPONSE_BYTES).await.map_err(|error| anyhow::anyhow!("{address} broke off its answer: {error}"))?;
        Ok((answer.status(), body.to_vec()))
    }

    /// Asks the API for what it must be able to answer.
    pub(super) async fn request_json<T: DeserializeOwned>(&self, question: ApiRequest) -> anyhow::Result<T> {
        let path = question.path.clone();
        read(&path, self.request(question).await?)
    }

    /// Tells something that must be taken, again and again while the daemon is at its bound.
    pub(super) async fn send_until_accepted(&self, question: ApiRequest) -> anyhow::Result<()> {
        loop {
            let path = question.path.clone();
            match self.request(question.clone()).await? {
                (StatusCode::SERVICE_UNAVAILABLE, _) => actix::clock::sleep(RETRY_DELAY).await,
                answer => return read::<IgnoredAny>(&path, answer).map(|_| ()),
            }
        }
    }

    /// How everything stands.
    pub(super) async fn status(&self) -> anyhow::Result<DaemonStatus> {
        let admin = self.admin.as_deref().context("no admin endpoint is known")?;
        read("/admin/status", self.send(admin, ApiRequest::get("/admin/status")).await?)
    }

    /// Waits until all that was taken is learned, if the daemon can be asked.
    pub(super) async fn wait_until_learned(&self) -> anyhow::Result<()> {
        while self.admin.is_some() {
            let status = self.status().await?;
            if status.learning.failed {
                bail!("learning has stopped for an error; the daemon's log names it");
            }
            if status.learning.lag_entries == 0 {
                break;
            }
            actix::clock::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// What the daemon's process says that it took; `None` where it cannot say, or no admin
    /// endpoint is known.
    pub(super) async fn process_usage(&self) -> anyhow::Result<Option<ProcessUsage>> {
        let Some(admin) = self.admin.as_deref() else { return Ok(None) };
        let (status, text) = self.send(admin, ApiRequest::get("/metrics")).await?;
        if !status.is_success() {
            bail!("{admin}/metrics answers {status}; is it the address of an admin endpoint?");
        }
        let text = String::from_utf8_lossy(&text);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let (cpu, peak) = (value("process_cpu_seconds_total "), value("process_peak_resident_memory_bytes "));
        Ok(cpu.zip(peak).map(|(cpu_seconds, peak)| ProcessUsage { cpu_seconds, peak_rss_bytes: peak as u64 }))
    }
}

fn read<T: DeserializeOwned>(path: &str, (status, body): (StatusCode, Vec<u8>)) -> anyhow::Result<T> {
    if !status.is_success() {
        bail!("{path} answers {status}: {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body).with_context(|| format!("{path} answers something else than was expected"))
}
