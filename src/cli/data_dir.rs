//! Helpers for commands that open a data directory or call the admin endpoint of a daemon.

use anyhow::{Context, anyhow, bail, ensure};
use sequor_client::{Connection, ConnectionError, ConnectionOptions, HttpRequest, HttpResponse, Method};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::error_text::describe_error;
use super::flags::{self, RuntimeFlags};
use crate::actors::pretrained::read_pretrained;
use crate::http::OriginRecorder;
use crate::ingest::ValidationRules;
use crate::settings::{RecordedOrigins, Settings, SettingsLayers};
use crate::store::{Store, StoreError, StoreOptions};

/// Loads the settings and starts logging.
pub(super) fn load_settings(flags: &RuntimeFlags) -> anyhow::Result<SettingsLayers<Settings>> {
    let layers = flags.settings_layers(&[])?;
    drop(flags::init_logging(&layers.validated_settings()?.log)?);
    Ok(layers)
}

/// Opens the store in the data directory that the settings name, by calling `open`. If a daemon
/// holds the lock and `command` has a `--url` flag, the error suggests `command` with the URL of
/// the daemon.
pub(super) fn open_store(
    settings: &Settings,
    open: impl FnOnce(&Path, &StoreOptions) -> Result<Store, StoreError>,
    command: Option<&str>,
) -> anyhow::Result<Store> {
    let dir = &settings.store.data_dir;
    open(dir, &flags::store_options(settings)).map_err(|error| match (error, command) {
        (StoreError::Locked { dir }, Some(command)) => {
            let admin = admin_address(&dir).unwrap_or_else(|| "http://127.0.0.1:9090".to_owned());
            anyhow!(
                "the data directory {} is held by another process; if that is a daemon, use its admin endpoint: `{command} --url {admin}`",
                dir.display()
            )
        }
        (error, _) => error.into(),
    })
}

/// A random id for a journal. Its source is the random state of the standard library's hash maps.
pub(super) fn new_journal_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// Gives the journal an id if it has none. If the disk accepts no writes, the journal stays without
/// an id.
pub(super) fn ensure_journal_id(store: &Store) {
    if let Err(error) = store.ensure_journal_id(new_journal_id) {
        tracing::warn!(error = &error as &dyn std::error::Error, "imports cannot recognise this data directory");
    }
}

/// The recorder of the origins of events. If the store has no key for the hashes of origins, the
/// function creates one. If the disk accepts no writes, no origins are recorded until the next
/// start.
pub(super) fn origin_recorder(store: &Store, recorded: RecordedOrigins) -> OriginRecorder {
    let mut random = [0; 16];
    let hasher = match getrandom::fill(&mut random) {
        Ok(()) => store.origin_hasher(random).map_err(anyhow::Error::from),
        Err(error) => Err(anyhow::Error::msg(format!("the system's random source failed: {error}"))),
    };
    match hasher {
        Ok(hasher) => OriginRecorder::new(hasher, recorded),
        Err(error) => {
            tracing::warn!("the origins of events are not recorded: {}", describe_error(&error));
            OriginRecorder::disabled()
        }
    }
}

/// If the data directory has a pretrained network, its network settings replace those in
/// `settings`. An explicit setting that differs is an error.
pub(super) fn apply_pretrained_network(
    layers: &SettingsLayers<Settings>,
    settings: &mut Settings,
    store: &Store,
) -> anyhow::Result<()> {
    if let Some(pretrained) = read_pretrained(store)? {
        flags::ensure_compatible(layers, "network", &settings.network, pretrained.network_settings(), &[])?;
        settings.network = pretrained.network_settings().clone();
    }
    Ok(())
}

/// The validation rules for a store, including its pseudonyms. Checks that the pseudonym settings
/// match those that the store was created with.
pub(super) fn checked_validation_rules(settings: &Settings, store: &Store) -> anyhow::Result<ValidationRules> {
    let rules = flags::server_validation_rules(settings)?;
    store.check_pseudonym_secret(rules.pseudonymiser.as_ref().map(|pseudonymiser| pseudonymiser.fingerprint()))?;
    Ok(rules)
}

/// The admin URL in `addresses.json`. The daemon that serves the directory wrote this file.
fn admin_address(dir: &Path) -> Option<String> {
    daemon_addresses(dir).map(|(_, admin)| admin)
}

/// The API and admin URLs in `addresses.json`. The daemon that serves the directory wrote this
/// file.
pub(super) fn daemon_addresses(dir: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(dir.join("addresses.json")).ok()?;
    let addresses: serde_json::Value = serde_json::from_str(&text).ok()?;
    let address = |name: &str| Some(addresses.get(name)?.as_str()?.to_owned());
    Some((address("api")?, address("admin")?))
}

/// Logs panics only at debug level. The database panics on damaged files; the store catches these
/// panics and reports them as damage.
pub(super) fn log_panics_at_debug_level() {
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
}

/// The type of the problem that says that the daemon does not have the path.
pub(super) const UNKNOWN_PATH: &str = "/problems/unknown-path";
/// Time limit for a connection to an admin endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a request to an admin endpoint and its response. For a response of any number of
/// lines, it is the limit until the response begins.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines of JSON in the response of a daemon.
pub(super) struct JsonLines {
    url: String,
    reader: BufReader<ReaderWithLimit>,
    line: Vec<u8>,
}

/// Size of the pieces that a [`ReaderWithLimit`] reads, and their number that it reads in advance.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_IN_ADVANCE: usize = 4;

/// Reads from a connection on a thread. A connection that sends nothing for a time is an error.
struct ReaderWithLimit {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    limit: Duration,
}

impl ReaderWithLimit {
    fn new(mut source: impl Read + Send + 'static, limit: Duration) -> Self {
        let (sender, pieces) = sync_channel(PIECES_IN_ADVANCE);
        std::thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let read = source.read(&mut piece).map(|length| {
                    piece.truncate(length);
                    piece
                });
                let is_end = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || is_end {
                    break;
                }
            }
        });
        Self { pieces, piece: io::Cursor::default(), limit }
    }
}

impl Read for ReaderWithLimit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_used_up = self.piece.position() == self.piece.get_ref().len() as u64;
        if is_used_up {
            let next = match self.pieces.recv_timeout(self.limit) {
                Ok(piece) => piece?,
                Err(RecvTimeoutError::Timeout) => {
                    let reason = format!("nothing has arrived for {:?}", self.limit);
                    return Err(io::Error::new(ErrorKind::TimedOut, reason));
                }
                // The thread has sent the end, or the error.
                Err(RecvTimeoutError::Disconnected) => Vec::new(),
            };
            self.piece = io::Cursor::new(next);
        }
        self.piece.read(buffer)
    }
}

impl JsonLines {
    /// Reads the next line, with its line break; `None` at the end.
    ///
    /// # Errors
    /// If the response is cut off, or the line is no JSON object.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        if read.with_context(|| format!("the response of {} is cut off; see the daemon's log", self.url))? == 0 {
            return Ok(None);
        }
        ensure!(self.line.ends_with(b"\n"), "the response of {} is cut off in the middle of a line", self.url);
        ensure!(
            serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&self.line).is_ok(),
            "the response of {} has a line that is no JSON object; check that this is the URL of an admin endpoint",
            self.url
        );
        Ok(Some(&self.line))
    }
}

/// How long a request without a time limit waits before it says so.
const QUIET_WAIT: Duration = Duration::from_secs(10);

/// Prints that a command waits, unless it is dropped within [`QUIET_WAIT`].
struct WaitNotice(#[expect(dead_code, reason = "its drop wakes the thread")] Sender<()>);

impl WaitNotice {
    fn begin(url: &str) -> Self {
        let (sender, receiver) = channel::<()>();
        let text = format!("waiting until {url} has done the work; Ctrl-C ends the wait, but not the work");
        std::thread::spawn(move || {
            if receiver.recv_timeout(QUIET_WAIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{text}");
            }
        });
        Self(sender)
    }
}

/// Client of the admin endpoint of a daemon. It sends each request once.
pub(super) struct AdminClient {
    connection: Connection,
    has_time_limit: bool,
}

impl AdminClient {
    /// A client of the admin endpoint at `url`, with a time limit of a minute for each response.
    pub(super) fn new(url: &str, auth: &ClientAuth) -> anyhow::Result<Self> {
        Self::with_limits(url, auth, CONNECT_TIMEOUT, Some(RESPONSE_TIMEOUT))
    }

    /// A client for requests that the daemon answers after work of any duration, such as a backup.
    pub(super) fn for_long_work(url: &str, auth: &ClientAuth) -> anyhow::Result<Self> {
        Self::with_limits(url, auth, CONNECT_TIMEOUT, None)
    }

    /// A client with a time limit for whole requests.
    pub(super) fn with_timeout(url: &str, auth: &ClientAuth, timeout: Duration) -> anyhow::Result<Self> {
        Self::with_limits(url, auth, timeout, Some(timeout))
    }

    fn with_limits(
        url: &str,
        auth: &ClientAuth,
        connect_timeout: Duration,
        timeout: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let limits =
            ConnectionOptions { connect_timeout: Some(connect_timeout), timeout, ..ConnectionOptions::default() };
        Ok(Self { connection: auth.connect(url, limits)?, has_time_limit: timeout.is_some() })
    }

    pub(super) fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<HttpResponse> {
        self.send(&HttpRequest::new(Method::POST, path, body.to_string().as_bytes()))
    }

    pub(super) fn put(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<HttpResponse> {
        self.send(&HttpRequest::new(Method::PUT, path, body.to_string().as_bytes()))
    }

    pub(super) fn delete(&self, path: &str) -> anyhow::Result<HttpResponse> {
        self.send(&HttpRequest::new(Method::DELETE, path, &[]))
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<HttpResponse> {
        self.send(&HttpRequest::get(path))
    }

    /// Reads lines of JSON, of any number. The time limit ends when the response begins.
    pub(super) fn get_lines(&self, path: &str) -> anyhow::Result<JsonLines> {
        let response = self.accept(self.connection.open_stream(&HttpRequest::get(path)))?;
        self.ensure_content_type(&response, "application/x-ndjson")?;
        let url = self.connection.base_url().to_owned();
        let reader = ReaderWithLimit::new(response.into_reader(), RESPONSE_TIMEOUT);
        Ok(JsonLines { url, reader: BufReader::new(reader), line: Vec::new() })
    }

    /// Reads a JSON value.
    pub(super) fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut response = self.get(path)?;
        self.ensure_content_type(&response, "application/json")?;
        Ok(response.json()?)
    }

    fn ensure_content_type(&self, response: &HttpResponse, expected: &str) -> anyhow::Result<()> {
        let content_type = response.header("content-type").unwrap_or_default();
        ensure!(content_type.starts_with(expected), self.unexpected_response());
        Ok(())
    }

    /// The message that another server has answered.
    pub(super) fn unexpected_response(&self) -> String {
        format!("{} is not the admin endpoint of a Sequor daemon; check the URL", self.connection.base_url())
    }

    fn send(&self, request: &HttpRequest<'_>) -> anyhow::Result<HttpResponse> {
        let notice = (!self.has_time_limit).then(|| WaitNotice::begin(self.connection.base_url()));
        let received = self.connection.send(request);
        drop(notice);
        self.accept(received)
    }

    /// Returns a successful response. Any other response becomes an error with the detail of the
    /// problem.
    fn accept(&self, received: Result<HttpResponse, ConnectionError>) -> anyhow::Result<HttpResponse> {
        let url = self.connection.base_url();
        let mut response = received
            .with_context(|| format!("{url} does not answer; check that this is the URL of an admin endpoint"))?;
        let status = response.status();
        if status.is_success() {
            let is_page =
                response.header("content-type").is_some_and(|content_type| content_type.starts_with("text/html"));
            ensure!(!is_page, self.unexpected_response());
            return Ok(response);
        }
        if let Some(location) = response.header("location").filter(|_| status.is_redirection()) {
            bail!("{url} redirects to {location} ({status}); use the URL that answers there");
        }
        let body = response.bytes().unwrap_or_default();
        let problem = response.problem(&body);
        let detail = if problem.detail.is_empty() { "no reason given" } else { problem.detail.as_str() };
        let hint = if problem.kind == UNKNOWN_PATH {
            " Check that this is the URL of the admin endpoint, and not of the API."
        } else {
            ""
        };
        bail!("{url} refused ({status}): {detail}{hint}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_with_a_limit_reads_all_and_ends_a_stall() {
        let text = vec![7; 3 * PIECE_BYTES + 5];
        let mut read = Vec::new();
        ReaderWithLimit::new(io::Cursor::new(text.clone()), RESPONSE_TIMEOUT).read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        let (stalled, mut sender) = io::pipe().unwrap();
        io::Write::write_all(&mut sender, b"begin").unwrap();
        let mut reader = ReaderWithLimit::new(stalled, Duration::from_millis(20));
        let mut begin = [0; 5];
        reader.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"begin");
        assert_eq!(reader.read(&mut begin).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(sender);
        assert_eq!(reader.read(&mut begin).unwrap(), 0);
    }
}
