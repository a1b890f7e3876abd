//! HTTP requests to one server, without retries.

use serde::de::DeserializeOwned;
use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ureq::http::{Request, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body, Proxy, Timeout};

pub use ureq::http::{Method, StatusCode};

use crate::error::{Problem, SequorError};
use crate::retry::parse_retry_after;

/// Size limit of a response that is read as a whole. Lists are far smaller.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;

/// Certificates of authorities, for `https://` addresses.
#[derive(Debug, Clone)]
pub struct TrustedCertificates(Arc<Vec<Certificate<'static>>>);

impl TrustedCertificates {
    /// Reads the certificates of a PEM file, and ignores other parts of it.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if the text is malformed, or has no certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SequorError> {
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) =
                item.map_err(|error| SequorError::invalid(format!("the certificates are not valid PEM: {error}")))?
            {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            return Err(SequorError::invalid("the PEM text contains no certificate"));
        }
        Ok(Self(Arc::new(certificates)))
    }

    /// Each certificate in DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Certificate::der)
    }
}

/// How a [`Connection`] reaches a server. The default has no key and no time limits, and trusts the
/// root certificates of Mozilla.
#[derive(Clone, Default)]
pub struct ConnectionOptions {
    /// An API key.
    pub key: Option<String>,
    /// The authorities to trust for `https://` addresses. `None` selects the root certificates of
    /// Mozilla.
    pub trusted: Option<TrustedCertificates>,
    /// Time limit for a new connection, including TLS.
    pub connect_timeout: Option<Duration>,
    /// Time limit for a request and its whole response.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for ConnectionOptions {
    /// Leaves out the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectionOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// HTTP connections to one server, which threads can share. It sends each request once and follows
/// no redirect.
///
/// Like other tools, it uses the proxy that `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` names,
/// unless `NO_PROXY` names the server. It reaches a server on the same machine without a proxy.
#[derive(Debug, Clone)]
pub struct Connection {
    base_url: String,
    agent: Agent,
    authorization: Option<HeaderValue>,
}

/// A request to a server.
#[derive(Debug, Clone)]
pub struct HttpRequest<'r> {
    /// The method.
    pub method: Method,
    /// The path after the address of the server, with the query.
    pub path: &'r str,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body; empty for none.
    pub body: &'r [u8],
}

impl<'r> HttpRequest<'r> {
    /// A request with a JSON body; an empty body is none.
    #[must_use]
    pub fn new(method: Method, path: &'r str, body: &'r [u8]) -> Self {
        Self { method, path, content_type: "application/json", body }
    }

    /// A GET request.
    #[must_use]
    pub fn get(path: &'r str) -> Self {
        Self::new(Method::GET, path, &[])
    }
}

impl Connection {
    /// Connections to `base_url`, such as `https://recs.example.com`. Connects at the first
    /// request.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if the address is not a valid `http://` or `https://` URL, has
    /// a user name, a password, a query or a fragment, or if the key has characters that a header
    /// cannot have.
    pub fn new(base_url: &str, options: &ConnectionOptions) -> Result<Self, SequorError> {
        if base_url.contains('@') {
            // The address is not repeated, because it contains a password.
            return Err(SequorError::invalid("the address has a user name or a password; give an API key instead"));
        }
        let address = base_url.parse::<Uri>().ok();
        let host = address.as_ref().filter(|_| !base_url.contains('#')).and_then(server_host).ok_or_else(|| {
            SequorError::invalid(format!(
                "the address is `{base_url}`; it must be http://HOST:PORT or https://HOST:PORT"
            ))
        })?;
        let roots = match &options.trusted {
            Some(TrustedCertificates(certificates)) => RootCerts::Specific(Arc::clone(certificates)),
            None => RootCerts::WebPki,
        };
        // A limit that the clock cannot express, such as `Duration::MAX`, is none.
        let limit = |time: Option<Duration>| time.filter(|time| Instant::now().checked_add(*time).is_some());
        let proxy = if is_this_machine(host) { None } else { Proxy::try_from_env() };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(concat!("sequor-rust/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(limit(options.connect_timeout))
            .timeout_global(limit(options.timeout))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            agent: agent.into(),
            authorization: options.key.as_deref().map(bearer_token).transpose()?,
        })
    }

    /// The address of the server.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends a request once. A response of any status is a success.
    ///
    /// # Errors
    /// [`ConnectionError`] if there is no response.
    pub fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, ConnectionError> {
        self.run(request, false)
    }

    /// Sends a request whose response can take any time. The time limit of a request is the limit
    /// until the response begins.
    ///
    /// # Errors
    /// [`ConnectionError`] if there is no response.
    pub fn open_stream(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, ConnectionError> {
        self.run(request, true)
    }

    fn run(&self, request: &HttpRequest<'_>, is_stream: bool) -> Result<HttpResponse, ConnectionError> {
        let HttpRequest { method, path, content_type, body } = request;
        let has_body = !body.is_empty() || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.base_url));
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if !has_body {
            return self.run_built(builder.body(()), is_stream);
        }
        self.run_built(builder.header(CONTENT_TYPE, *content_type).body(*body), is_stream)
    }

    fn run_built(
        &self,
        built: Result<Request<impl AsSendBody>, ureq::http::Error>,
        is_stream: bool,
    ) -> Result<HttpResponse, ConnectionError> {
        let mut request = built.map_err(ureq::Error::from)?;
        if is_stream {
            let timeout = self.agent.config().timeouts().global;
            request = self
                .agent
                .configure_request(request)
                .timeout_global(None)
                .timeout_recv_response(timeout)
                .timeout_connect(timeout)
                .build();
        }
        let path = request.uri().path().to_owned();
        Ok(HttpResponse { response: self.agent.run(request)?, path })
    }
}

/// The host of the address of a server. `None` if the address has another scheme, an invalid port or
/// a query. (The parser accepts any text as a port, and the HTTP client would use the usual port
/// instead.)
fn server_host(address: &Uri) -> Option<&str> {
    let is_http = matches!(address.scheme_str(), Some("http" | "https"));
    let host = address.host().filter(|host| is_http && !host.is_empty() && address.query().is_none())?;
    let port = address.authority()?.as_str().strip_prefix(host)?;
    let is_valid = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_valid)).then_some(host)
}

/// Whether a host of a URL is certainly the machine of this program.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn bearer_token(key: &str) -> Result<HeaderValue, SequorError> {
    let is_allowed = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let value = is_allowed.then(|| HeaderValue::try_from(format!("Bearer {key}")).ok()).flatten();
    let mut value = value.ok_or_else(|| {
        let reason =
            "the key has a character that a header cannot have, such as a line break or a letter outside ASCII";
        SequorError::invalid(reason)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A response, whose body is read on demand.
#[derive(Debug)]
pub struct HttpResponse {
    response: Response<Body>,
    /// The path of the request, for errors.
    path: String,
}

impl HttpResponse {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The body as a stream of any length.
    pub fn into_reader(self) -> impl Read + Send + 'static {
        self.response.into_body().into_reader()
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// [`ConnectionError`] if the connection ends early, or the body has more than 16 MiB.
    pub fn bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        Ok(self.response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?)
    }

    /// Reads the whole body as JSON.
    ///
    /// # Errors
    /// [`SequorError::NoResponse`] if the connection ends early, or the body has more than 16 MiB.
    /// [`SequorError::UnexpectedResponse`] if the body is not the expected JSON.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, SequorError> {
        let body = self.bytes()?;
        parse_json(&self.path, &body)
    }

    /// The problem of an error response, whose body has been read.
    #[must_use]
    pub fn problem(&self, body: &[u8]) -> Problem {
        let [content_type, request_id] = ["content-type", "x-request-id"].map(|name| self.header(name));
        Problem::from_response(self.status().as_u16(), content_type, request_id, body)
    }

    /// The time that the header `Retry-After` asks to wait. `None` if there is no valid header.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        parse_retry_after(self.header("retry-after")?, now)
    }
}

/// Parses the body of a response. An empty body is `null`.
///
/// # Errors
/// [`SequorError::UnexpectedResponse`] if the body is not the expected JSON.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, SequorError> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|source| SequorError::UnexpectedResponse { path: path.to_owned(), source })
}

/// The daemon sent no response, or a part of one: the connection failed, was reset, or timed out.
#[derive(Debug)]
pub struct ConnectionError(Reason);

#[derive(Debug)]
enum Reason {
    Http(ureq::Error),
    StreamEnded,
}

impl ConnectionError {
    /// The stream of lists ended, although it has no end.
    pub(crate) const STREAM_ENDED: Self = Self(Reason::StreamEnded);

    /// Whether the connection was never made, so that the daemon has not seen the request.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        match &self.0 {
            Reason::Http(ureq::Error::Io(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
            Reason::Http(ureq::Error::Timeout(timeout)) => matches!(timeout, Timeout::Resolve | Timeout::Connect),
            Reason::Http(error) => matches!(
                error,
                ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_)
            ),
            Reason::StreamEnded => false,
        }
    }

    /// Whether the request is invalid, such as a path that is too long, so that no retry can help.
    pub(crate) fn is_invalid_request(&self) -> bool {
        matches!(&self.0, Reason::Http(ureq::Error::Http(_) | ureq::Error::BadUri(_)))
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Http(ureq::Error::Io(error)) => error.fmt(formatter),
            Reason::Http(ureq::Error::Rustls(error)) => error.fmt(formatter),
            Reason::Http(ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)) => {
                formatter.write_str("no connection within the time limit")
            }
            Reason::Http(ureq::Error::Timeout(_)) => formatter.write_str("no response within the time limit"),
            Reason::Http(ureq::Error::Protocol(error)) => {
                write!(formatter, "the response is not HTTP ({error}); a server with TLS has an address with https://")
            }
            Reason::Http(error) => error.fmt(formatter),
            Reason::StreamEnded => formatter.write_str("the stream ended"),
        }
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Reason::Http(ureq::Error::Io(error)) => Some(error),
            Reason::Http(ureq::Error::Rustls(error)) => Some(error),
            Reason::Http(_) | Reason::StreamEnded => None,
        }
    }
}

impl From<ureq::Error> for ConnectionError {
    fn from(error: ureq::Error) -> Self {
        Self(Reason::Http(error))
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self(Reason::Http(error.into()))
    }
}

/// Reads a line without its end, of at most 16 MiB. `None` at the end of the stream.
///
/// # Errors
/// If the connection fails, or the line is longer or not UTF-8.
pub(crate) fn read_line(stream: &mut impl io::BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    stream.by_ref().take(MAX_RESPONSE_BYTES).read_line(&mut line)?;
    if line.ends_with('\n') {
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(Some(line))
    } else if line.len() as u64 == MAX_RESPONSE_BYTES {
        Err(io::Error::other(format!("a line of the stream has more than {MAX_RESPONSE_BYTES} bytes")))
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
