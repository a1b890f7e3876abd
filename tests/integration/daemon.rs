//! Runs the real binary: starts, queries, kills and restarts it.
//!
//! Tests wait for a condition by polling it, up to a timeout that only a hang reaches. No test
//! depends on speed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::TlsConfig;

/// Timeout of a condition. Even on a slow machine, every condition needs far less time. The timeout
/// only detects hangs.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings that make learning cheap. The tests that use them do not depend on recommendation
/// quality.
pub(crate) const SMALL_NETWORK_SETTINGS: [&str; 2] = ["network.hidden=8", "network.negatives=32"];

/// Calls `poll` until it returns a value.
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < WAIT_TIMEOUT, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reports a skipped check. Bypasses the capture of test output, so that the message is visible.
pub(crate) fn report_skipped(what: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {what}\n").as_bytes());
}

/// A command of the binary under test, without this process's settings in its environment.
pub(crate) fn sequor_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sequor"));
    for (name, _) in std::env::vars_os()
        .filter(|(name, _)| ["SEQUOR_", "OTEL_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)))
    {
        command.env_remove(name);
    }
    command
}

/// Creates a self-signed certificate for 127.0.0.1 and localhost, and its key. `None` if openssl is
/// not installed.
pub(crate) fn create_certificate(folder: &Path, name: &str, days: u32, is_ca: bool) -> Option<[PathBuf; 2]> {
    let [cert, key] = ["crt", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            &days.to_string(),
            "-subj",
            "/CN=sequor",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext",
            if is_ca { "basicConstraints=critical,CA:TRUE" } else { "basicConstraints=critical,CA:FALSE" },
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    output.is_ok_and(|output| output.status.success()).then_some([cert, key])
}

/// Runs the binary until it exits.
pub(crate) fn run_sequor(arguments: &[&str]) -> Output {
    sequor_command().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A directory for a daemon's data and log, which outlives the daemons that run on it.
pub(crate) struct DaemonHome(TempDir);

impl DaemonHome {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Builds the command line of a daemon on free ports, with settings such as
    /// `server.max_batch=3` or flags such as `--checkpoint=FILE`.
    fn serve_command(&self, settings: &[&str]) -> Command {
        let mut command = sequor_command();
        command.args(["serve", "--data-dir"]).arg(self.data_dir());
        for flag in ["--listen", "--admin-listen"] {
            if !settings.iter().any(|setting| setting.split('=').next() == Some(flag)) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        for setting in SMALL_NETWORK_SETTINGS.iter().chain(settings) {
            // Flags such as `--checkpoint=FILE` and environment variables are passed as they are.
            if setting.starts_with("--") {
                command.arg(setting)
            } else if let Some((name, value)) =
                setting.split_once('=').filter(|(name, _)| name.starts_with("SEQUOR_") || name.starts_with("OTEL_"))
            {
                command.env(name, value)
            } else {
                command.args(["--set", setting])
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(&self, settings: &[&str]) -> Daemon {
        self.start_under_wrapper(&[], settings)
    }

    /// Starts a daemon through a wrapper command, which gets the daemon's command line as its last
    /// arguments and must `exec` it.
    pub(crate) fn start_under_wrapper(&self, wrapper: &[String], settings: &[&str]) -> Daemon {
        let daemon = self.launch(wrapper, settings);
        wait_for("readiness", || (daemon.get_admin("/readyz").status == 200).then_some(()));
        daemon
    }

    /// Starts a daemon and waits until it responds, even if it is not ready yet.
    pub(crate) fn start_not_ready(&self, settings: &[&str]) -> Daemon {
        self.launch(&[], settings)
    }

    fn launch(&self, wrapper: &[String], settings: &[&str]) -> Daemon {
        self.try_launch(wrapper, settings).unwrap_or_else(|failure| panic!("the daemon did not start: {failure}"))
    }

    /// Starts a daemon and waits until it responds; `Err` with its log if it exits instead.
    pub(crate) fn try_launch(&self, wrapper: &[String], settings: &[&str]) -> Result<Daemon, String> {
        let addresses = self.data_dir().join("addresses.json");
        // The addresses of an earlier daemon are no longer valid.
        let _ = fs::remove_file(&addresses);
        let log = self.dir().join("log");
        let written = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.serve_command(settings);
        if let Some((program, arguments)) = wrapper.split_first() {
            let mut wrapped = Command::new(program);
            wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => wrapped.env(name, value),
                    // Settings of this process that the daemon must not see.
                    None => wrapped.env_remove(name),
                };
            }
            command = wrapped;
        }
        let mut child = command.stdout(written.try_clone().unwrap()).stderr(written).spawn().unwrap();
        let found: Value = wait_for("addresses.json", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(format!("{status}\n{}", fs::read_to_string(&log).unwrap())));
            }
            // A partly written file is not valid JSON yet.
            serde_json::from_str(&fs::read_to_string(&addresses).ok()?).ok().map(Ok)
        })?;
        let address = |name: &str| found[name].as_str().unwrap().to_owned();
        // Certificates are verified only in the tests of TLS.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(WAIT_TIMEOUT))
            .tls_config(tls)
            .build()
            .into();
        Ok(Daemon { child, api: address("api"), admin: address("admin"), agent, log })
    }

    /// Starts a daemon and kills it after a delay, whatever stage the start has reached.
    pub(crate) fn kill_during_start(&self, settings: &[&str], after: Duration) {
        let mut child = self.serve_command(settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a daemon that is expected to fail, and returns its output.
    pub(crate) fn start_expecting_failure(&self, settings: &[&str]) -> Output {
        self.serve_command(settings).output().unwrap()
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    api: String,
    admin: String,
    agent: Agent,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Daemon {
    /// The base URL of the public API, `http://host:port`.
    pub(crate) fn api_url(&self) -> &str {
        &self.api
    }

    /// The daemon's process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Peak resident memory of the process in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() >> 10
    }

    /// The base URL of the admin endpoint, `http://host:port`.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin
    }

    /// Sends a signal, such as `KILL`. Can be called from any thread.
    pub(crate) fn signal(&self, name: &str) {
        assert!(
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap().success()
        );
    }

    /// Kills the daemon with SIGKILL, unless it has already exited.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the daemon with SIGTERM and waits for its exit.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        wait_for("the daemon to exit", || self.child.try_wait().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        read_response(self.agent.get(format!("{}{path}", self.api)).call()).unwrap()
    }

    pub(crate) fn get_admin(&self, path: &str) -> HttpResponse {
        read_response(self.agent.get(format!("{}{path}", self.admin)).call()).unwrap()
    }

    /// Sends a body with headers such as `("content-encoding", "gzip")`; `Err` if there is no
    /// response.
    pub(crate) fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpResponse, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read_response(request.send(body))
    }

    /// Sends a request by any method, with headers and a body; `Err` if no response came.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpResponse, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read_response(self.agent.run(request.body(body.to_vec()).unwrap()))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> HttpResponse {
        self.try_post(path, &[("content-type", "application/json")], body.as_bytes()).unwrap()
    }

    /// Sends a request with any method and a body; `Err` if there is no response.
    pub(crate) fn try_request(&self, method: &str, path: &str, body: &str) -> Result<HttpResponse, ureq::Error> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.api))
            .body(body.to_owned())
            .unwrap();
        read_response(self.agent.run(request))
    }

    /// Sends a request with any method and a body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        self.try_request(method, path, body).unwrap()
    }

    /// Sends an admin request with any method and a JSON body; `Err` if there is no response.
    pub(crate) fn try_admin_request(&self, method: &str, path: &str, body: &str) -> Result<HttpResponse, ureq::Error> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.admin));
        read_response(self.agent.run(request.header("content-type", "application/json").body(body.to_owned()).unwrap()))
    }

    /// Sends an admin request with any method and a JSON body.
    pub(crate) fn admin_request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        self.try_admin_request(method, path, body).unwrap()
    }

    /// Sends a request to any URL, with a JSON body and an optional API key.
    pub(crate) fn request_with_key(&self, method: &str, url: &str, key: Option<&str>, body: &str) -> HttpResponse {
        let mut request =
            ureq::http::Request::builder().method(method).uri(url).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        read_response(self.agent.run(request.body(body.to_owned()).unwrap())).unwrap()
    }

    /// Opens a streaming response.
    pub(crate) fn open_stream(&self, path: &str) -> impl BufRead + use<> {
        let response = self.agent.get(format!("{}{path}", self.api)).call().unwrap();
        assert_eq!(response.status(), 200);
        BufReader::new(response.into_body().into_reader())
    }

    /// Requests a path and returns the content encoding and the undecoded bytes of the response.
    pub(crate) fn get_encoded(&self, path: &str, encoding: &str) -> (String, Vec<u8>) {
        let mut response =
            self.agent.get(format!("{}{path}", self.api)).header("accept-encoding", encoding).call().unwrap();
        let encoding = response
            .headers()
            .get("content-encoding")
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        (encoding, response.body_mut().read_to_vec().unwrap())
    }

    /// The value of a metric without labels.
    pub(crate) fn metric_value(&self, name: &str) -> f64 {
        let text = self.get_admin("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The sum of a metric over its labels; 0 if it has no series yet.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let text = self.get_admin("/metrics").body;
        let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// The daemon's log so far.
    pub(crate) fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends events, expects none to be rejected, and returns the receipt.
    pub(crate) fn send_events(&self, events: &[Value]) -> Value {
        let response = self.post("/v1/events", &json!(events).to_string());
        assert_eq!((response.status, &response.json()["rejected"]), (200, &json!([])), "{}", response.body);
        response.json()
    }

    /// The recommended item ids of a user.
    pub(crate) fn recommended_items(&self, user: &str) -> Vec<String> {
        self.get(&format!("/v1/users/{user}/recommendations")).item_ids()
    }

    pub(crate) fn status(&self) -> Value {
        self.get_admin("/admin/status").json()
    }

    /// The offset of the journal's next entry.
    pub(crate) fn next_offset(&self) -> u64 {
        self.status()["journal"]["next_offset"].as_u64().unwrap()
    }

    /// Waits until the journal has at least `entries` entries and all entries are learned. There is
    /// no time limit as long as learning progresses.
    pub(crate) fn wait_until_learned(&self, entries: u64) {
        let mut last_offset = None;
        let mut is_done = false;
        while !is_done {
            wait_for("learning to progress", || {
                let status = self.status();
                let at = |part: &str| status[part]["next_offset"].as_u64().unwrap();
                is_done = at("journal") >= entries && at("learning") == at("journal");
                let previous = last_offset.replace(at("learning"));
                (is_done || previous != last_offset).then_some(())
            });
        }
    }

    /// The log of this daemon and of the earlier ones in the same home.
    pub(crate) fn read_home_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asserts that the daemon is alive and ready.
    pub(crate) fn assert_healthy(&self) {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(self.get_admin(path).status, 200, "{path}");
        }
    }
}

/// An HTTP response with any status.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl HttpResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The items of a recommendation, best first.
    pub(crate) fn item_ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["item_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Reads a whole response.
pub(crate) fn read_response(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<HttpResponse, ureq::Error> {
    let mut response = response?;
    let headers = response.headers().clone();
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    Ok(HttpResponse {
        status: response.status().as_u16(),
        content_type,
        headers,
        body: response.body_mut().read_to_string()?,
    })
}

/// A view event with an event id.
pub(crate) fn view_event(id: &str, user: &str, item: &str) -> Value {
    json!({ "event_id": id, "user_id": user, "type": "view", "item_id": item })
}

/// An event of a kind, with an event id.
pub(crate) fn event_of_kind(id: &str, user: &str, item: &str, kind: &str) -> Value {
    let mut typed = view_event(id, user, item);
    typed["type"] = json!(kind);
    typed
}
