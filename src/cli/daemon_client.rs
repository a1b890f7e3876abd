//! Asynchronous HTTP client of a daemon, for `demo`, `bench` and `recommend`. One thread can have
//! many requests in flight, unlike with the blocking `sequor_client`. Idle connections are reused.

use anyhow::{Context, anyhow, bail};
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::AUTHORIZATION;
use awc::http::{Method, StatusCode};
use awc::{Client, Connector};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sequor_client::{ConnectionOptions, Problem};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::client_auth::ClientAuth;
use super::error_text::{escape_control_characters, tls_error_in_io_error};
use crate::domain::Entry;
use crate::http::describe_tls_error;
use crate::ingest::write_entry;
use crate::metrics::ThreadRole;

/// Time limit until a response begins, and then for its body.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// If the daemon rejects a request because of overload, the request is retried after this delay.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// A request that is rejected for this time is reported, and again after each further period.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// How much of the response of another server an error shows.
const MAX_SHOWN_BODY_BYTES: usize = 500;
/// Size limit of a response; pages of recommendations and metrics are far smaller.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Client of one daemon. Must be used within an actix system. Clones share the connections.
#[derive(Clone)]
pub(super) struct DaemonClient {
    client: Client,
    api: String,
    /// URL of the admin endpoint, if known.
    admin: Option<String>,
    /// When a rejected request was last reported. Of many rejected requests, one is reported.
    reported_at: Rc<Cell<Option<Instant>>>,
}

/// A request to a daemon.
#[derive(Debug, Clone)]
pub(super) struct ApiRequest {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl ApiRequest {
    /// A GET request for a path, which may contain a query.
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Vec::new() }
    }

    fn post(path: &str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body }
    }

    /// A request that sends events, one JSON line each.
    pub(super) fn events_request<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Self> {
        Ok(Self::post("/v1/events", json_lines(entries)?))
    }

    /// A request that sends item changes, one JSON line each.
    pub(super) fn items_request<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Self> {
        Ok(Self::post("/v1/items", json_lines(entries)?))
    }

    /// A request for the recommendations of a user.
    pub(super) fn recommendations_request(user: &str, limit: usize) -> Self {
        Self::get(&format!("/v1/users/{}/recommendations?limit={limit}", utf8_percent_encode(user, NON_ALPHANUMERIC)))
    }

    /// A request for the recommendations of a user, without an impression.
    pub(super) fn batch_list_request(user: &str, placement: Option<&str>, limit: Option<usize>) -> Self {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let limit = limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
        let placement = placement.map_or_else(String::new, |name| format!("&placement={}", encode(name)));
        Self::get(&format!("/v1/users/{}/recommendations?consent=session{limit}{placement}", encode(user)))
    }

    /// A request that creates or replaces a placement.
    pub(super) fn put_placement_request(name: &str, placement: &serde_json::Value) -> Self {
        Self { method: Method::PUT, path: format!("/v1/placements/{name}"), body: placement.to_string().into_bytes() }
    }

    /// A request for trending items.
    pub(super) fn trending_request(limit: usize) -> Self {
        Self::get(&format!("/v1/trending?limit={limit}"))
    }
}

fn json_lines<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    for entry in entries {
        write_entry(0, entry, &mut body)?;
    }
    Ok(body)
}

/// A list of recommended items.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RecommendationList {
    pub(super) items: Vec<RecommendationListItem>,
}

/// An item of a [`RecommendationList`].
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RecommendationListItem {
    pub(super) item_id: String,
}

/// The part of `/admin/status` that the demo and the benchmark use.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct DaemonStatus {
    pub(super) learning: LearningFigures,
    pub(super) quality: QualityFigures,
}

/// Learning progress.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct LearningFigures {
    pub(super) lag_entries: u64,
    pub(super) failed: bool,
}

/// Ranking quality over all evaluated steps.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct QualityFigures {
    pub(super) steps: u64,
    pub(super) total: QualityMeans,
}

/// Mean ranking metrics.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct QualityMeans {
    pub(super) recall_at_20: f64,
    pub(super) mrr_at_20: f64,
}

/// Resource usage of the daemon process since its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessUsage {
    pub(super) cpu_seconds: f64,
    /// The part of each role of threads, in the order of [`ThreadRole::ALL`].
    pub(super) role_cpu_seconds: [f64; ThreadRole::ALL.len()],
    pub(super) peak_rss_bytes: u64,
}

impl DaemonClient {
    /// A client for the daemon at these URLs, such as `http://127.0.0.1:8080`, with at most
    /// `connections` connections.
    pub(super) fn new(api: &str, admin: Option<&str>, connections: usize, auth: &ClientAuth) -> anyhow::Result<Self> {
        // Checks the addresses and the key, as all other commands do.
        for address in [Some(api), admin].into_iter().flatten() {
            auth.connect(address, ConnectionOptions::default())?;
        }
        let connector = Connector::new()
            .limit(connections)
            .conn_lifetime(Duration::MAX)
            .timeout(RESPONSE_TIMEOUT)
            .rustls_0_23(auth.awc_tls_config()?);
        let client = Client::builder().connector(connector).timeout(RESPONSE_TIMEOUT).disable_redirects();
        let client = match auth.authorization_header() {
            Some(authorization) => client.add_default_header((AUTHORIZATION, authorization)).finish(),
            None => client.finish(),
        };
        let trimmed = |address: &str| address.trim_end_matches('/').to_owned();
        Ok(Self { client, api: trimmed(api), admin: admin.map(trimmed), reported_at: Rc::default() })
    }

    /// The URL of the API.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Sends a request to the API and reads the whole response.
    pub(super) async fn send_request(&self, request: ApiRequest) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        self.send_to(&self.api, request).await
    }

    async fn send_to(
        &self,
        address: &str,
        ApiRequest { method, path, body }: ApiRequest,
    ) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let outgoing = self.client.request(method, format!("{address}{path}")).no_decompress();
        let response = if body.is_empty() {
            outgoing.send()
        } else {
            outgoing.content_type("application/x-ndjson").send_body(body)
        };
        // The errors of `awc` are not `Send`; only their messages are kept.
        let mut response =
            response.await.map_err(|error| anyhow!("{address} does not answer: {}", describe_send_error(&error)))?;
        let received = actix::clock::timeout(RESPONSE_TIMEOUT, response.body().limit(MAX_RESPONSE_BYTES)).await;
        let body = received
            .with_context(|| format!("{address} has not sent its whole response within {RESPONSE_TIMEOUT:?}"))?
            .map_err(|error| anyhow!("cannot read the whole response of {address}: {error}"))?;
        Ok((response.status(), body.to_vec()))
    }

    /// Sends a request to the API and parses the JSON response. An error status is an error.
    pub(super) async fn request_json<T: DeserializeOwned>(&self, request: ApiRequest) -> anyhow::Result<T> {
        let path = request.path.clone();
        parse_response(&path, self.send_request(request).await?)
    }

    /// Sends a request, and retries while the daemon answers 503 (overloaded) or 429 (too many
    /// requests).
    pub(super) async fn send_until_accepted(&self, request: ApiRequest) -> anyhow::Result<()> {
        self.request_until_accepted(request).await.map(drop)
    }

    /// Like [`Self::send_until_accepted`]. Returns the body of the response.
    pub(super) async fn request_until_accepted(&self, request: ApiRequest) -> anyhow::Result<Vec<u8>> {
        let start = Instant::now();
        loop {
            match self.send_request(request.clone()).await? {
                (status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS), body) => {
                    self.report_rejection(start, status, &body);
                    actix::clock::sleep(RETRY_DELAY).await;
                }
                (status, body) if status.is_success() => return Ok(body),
                (status, body) => bail!("{}", self.refusal(&request.path, status, &body)),
            }
        }
    }

    /// Why the daemon refuses a request. The key and the path are known to the user, so the problem's
    /// detail says the rest.
    fn refusal(&self, path: &str, status: StatusCode, body: &[u8]) -> String {
        let detail = serde_json::from_slice::<Problem>(body).map(|problem| problem.detail);
        let detail = detail
            .ok()
            .filter(|detail| !detail.is_empty())
            .unwrap_or_else(|| String::from_utf8_lossy(body.get(..MAX_SHOWN_BODY_BYTES).unwrap_or(body)).into_owned());
        let hint = if status.is_redirection() { "; use the URL to which it redirects" } else { "" };
        format!("{}{path} refused ({status}){hint}: {detail}", self.api)
    }

    /// Prints why a request that was first sent at `start` is still rejected.
    fn report_rejection(&self, start: Instant, status: StatusCode, body: &[u8]) {
        let since = self.reported_at.get().map_or(start, |reported_at| reported_at.max(start));
        if since.elapsed() >= REPORT_INTERVAL {
            self.reported_at.set(Some(Instant::now()));
            let reason = serde_json::from_slice::<Problem>(body).map(|problem| problem.detail);
            let reason = reason.unwrap_or_else(|_| "no reason given".to_owned());
            let reason = escape_control_characters(&reason);
            eprintln!("{} still refuses requests ({status}): {reason} Trying again until it accepts them.", self.api);
        }
    }

    /// Reads the status of the daemon.
    pub(super) async fn read_status(&self) -> anyhow::Result<DaemonStatus> {
        let admin = self.admin.as_deref().context("the URL of the admin endpoint is not known")?;
        parse_response("/admin/status", self.send_to(admin, ApiRequest::get("/admin/status")).await?)
    }

    /// Waits until all accepted entries are learned. Without a known admin endpoint, it returns at
    /// once.
    pub(super) async fn wait_until_learned(&self) -> anyhow::Result<()> {
        while self.admin.is_some() {
            let status = self.read_status().await?;
            if status.learning.failed {
                bail!("learning stopped after an error; see the log of the daemon");
            }
            if status.learning.lag_entries == 0 {
                break;
            }
            actix::clock::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Reads the resource usage of the daemon process. `None` if the platform does not provide it
    /// or the admin endpoint is not known.
    pub(super) async fn read_process_usage(&self) -> anyhow::Result<Option<ProcessUsage>> {
        let Some(admin) = self.admin.as_deref() else { return Ok(None) };
        let (status, text) = self.send_to(admin, ApiRequest::get("/metrics")).await?;
        if !status.is_success() {
            bail!("{admin}/metrics answers {status}; check that this is the URL of an admin endpoint");
        }
        let text = String::from_utf8_lossy(&text);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let (cpu, peak) = (value("process_cpu_seconds_total "), value("process_peak_resident_memory_bytes "));
        let role_cpu_seconds = ThreadRole::ALL.map(|role| {
            value(&format!("sequor_thread_cpu_seconds_total{{role=\"{}\"}} ", role.as_str())).unwrap_or_default()
        });
        let usage = |(cpu_seconds, peak)| ProcessUsage { cpu_seconds, role_cpu_seconds, peak_rss_bytes: peak as u64 };
        Ok(cpu.zip(peak).map(usage))
    }
}

/// Describes why there is no answer.
fn describe_send_error(error: &SendRequestError) -> String {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) | SendRequestError::Send(error) => {
            tls_error_in_io_error(error).map_or_else(|| error.to_string(), describe_tls_error)
        }
        SendRequestError::Response(error) => {
            format!("the response is not HTTP ({error}); a server with TLS has an address with https://")
        }
        other => other.to_string(),
    }
}

fn parse_response<T: DeserializeOwned>(path: &str, (status, body): (StatusCode, Vec<u8>)) -> anyhow::Result<T> {
    if !status.is_success() {
        bail!("{path} answers {status}: {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body).with_context(|| format!("unexpected response to {path}"))
}
