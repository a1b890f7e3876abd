//! The real binary: started, asked, killed, started again.
//!
//! Whatever has to happen first is waited for by looking whether it has, up to a bound that only a
//! hang reaches: no test depends on speed.

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

/// How long a condition may take to come true. Far more than any needs on a slow machine: a bound
/// for hangs, not a measure.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings that make learning cheap: these tests are about what is kept and answered, not about
/// how good it is.
pub(crate) const SMALL_NETWORK: [&str; 2] = ["network.hidden=8", "network.negatives=32"];

/// Looks again and again until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < WAIT_TIMEOUT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Says what is left out and why: past the capture of the test's output, so that it is seen.
pub(crate) fn report_skipped(what: &str) {
    let _ = std::io::stderr().write_all(format!("LEFT OUT: {what}\n").as_bytes());
}

/// The binary under test, with nothing of this process's settings in its environment.
pub(crate) fn sequor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sequor"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| ["SEQUOR_", "OTEL_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)))
    {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    sequor().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A data directory that outlives the daemons that run on it.
pub(crate) struct DaemonHome(TempDir);

impl DaemonHome {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The command line that serves from here on free ports, with settings such as
    /// `server.max_batch=3` or flags such as `--checkpoint=FILE`.
    fn serve(&self, settings: &[&str]) -> Command {
        let mut command = sequor();
        command.args(["serve", "--data-dir"]).arg(self.data_dir());
        for door in ["--listen", "--admin-listen"] {
            if !settings.iter().any(|setting| setting.split('=').next() == Some(door)) {
                command.args([door, "127.0.0.1:0"]);
            }
        }
        for setting in SMALL_NETWORK.iter().chain(settings) {
            // A flag of the command's own is given whole, such as `--checkpoint=FILE`, and so is a
            // variable of the environment.
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
        self.start_under(&[], settings)
    }

    /// Starts a daemon by another command, which gets the daemon's as its last arguments and
    /// becomes it.
    pub(crate) fn start_under(&self, wrapper: &[String], settings: &[&str]) -> Daemon {
        let addresses = self.data_dir().join("addresses.json");
        // What an earlier daemon left here leads nowhere.
        let _ = fs::remove_file(&addresses);
        let log = self.path().join("log");
        let written = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.serve(settings);
        if let Some((program, arguments)) = wrapper.split_first() {
            let mut wrapped = Command::new(program);
            wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => wrapped.env(name, value),
                    // Whatever of this process's settings the daemon must not see.
                    None => wrapped.env_remove(name),
                };
            }
            command = wrapped;
        }
        let mut child = command.stdout(written.try_clone().unwrap()).stderr(written).spawn().unwrap();
        let found: Value = wait_for("addresses.json", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon did not start ({status}):\n{}", fs::read_to_string(&log).unwrap());
            }
            // Read while it is being written it is no JSON yet.
            serde_json::from_str(&fs::read_to_string(&addresses).ok()?).ok()
        });
        let address = |name: &str| found[name].as_str().unwrap().to_owned();
        // Whether a certificate is to be trusted is asked where it matters.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(WAIT_TIMEOUT)).tls_config(tls).build().into();
        let daemon = Daemon { child, api: address("api"), admin: address("admin"), agent, log };
        wait_for("readiness", || (daemon.get_admin("/readyz").status == 200).then_some(()));
        daemon
    }

    /// Starts a daemon and kills it after a while, wherever it may be by then.
    pub(crate) fn kill_during_start(&self, settings: &[&str], after: Duration) {
        let mut child = self.serve(settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a daemon that is expected to give up, and returns what it said.
    pub(crate) fn start_expecting_failure(&self, settings: &[&str]) -> Output {
        self.serve(settings).output().unwrap()
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
    /// The public API's address, as `http://host:port`.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    /// The daemon's process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The admin endpoint's address, as `http://host:port`.
    pub(crate) fn admin_address(&self) -> &str {
        &self.admin
    }

    /// Sends a signal, such as `KILL`, from whichever thread.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap().success());
    }

    /// Dies at once, as by `kill -9`, unless it is dead already.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Is asked to stop, and does.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        wait_for("the daemon's end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        read(self.agent.get(format!("{}{path}", self.api)).call()).unwrap()
    }

    pub(crate) fn get_admin(&self, path: &str) -> HttpResponse {
        read(self.agent.get(format!("{}{path}", self.admin)).call()).unwrap()
    }

    /// Sends a body with headers such as `("content-encoding", "gzip")`; `Err` if no answer came.
    pub(crate) fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<HttpResponse, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send(body))
    }

    /// Sends a request by any method, with headers and a body; `Err` if no response came.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<HttpResponse, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(self.agent.run(request.body(body.to_vec()).unwrap()))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> HttpResponse {
        self.try_post(path, &[("content-type", "application/json")], body.as_bytes()).unwrap()
    }

    /// Asks by any method, with a body; `Err` if no answer came.
    pub(crate) fn try_request(&self, method: &str, path: &str, body: &str) -> Result<HttpResponse, ureq::Error> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.api)).body(body.to_owned()).unwrap();
        read(self.agent.run(request))
    }

    /// Asks by any method, with a body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        self.try_request(method, path, body).unwrap()
    }

    /// Asks the admin endpoint by any method, with a JSON body; `Err` if no answer came.
    pub(crate) fn try_admin_request(&self, method: &str, path: &str, body: &str) -> Result<HttpResponse, ureq::Error> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.admin));
        read(self.agent.run(request.header("content-type", "application/json").body(body.to_owned()).unwrap()))
    }

    /// Asks the admin endpoint by any method, with a JSON body.
    pub(crate) fn admin_request(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        self.try_admin_request(method, path, body).unwrap()
    }

    /// Asks at any address, with a key if there is one, and a JSON body.
    pub(crate) fn request_with_key(&self, method: &str, url: &str, key: Option<&str>, body: &str) -> HttpResponse {
        let mut request = ureq::http::Request::builder().method(method).uri(url).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        read(self.agent.run(request.body(body.to_owned()).unwrap())).unwrap()
    }

    /// Begins to read an answer that does not end by itself.
    pub(crate) fn open_stream(&self, path: &str) -> impl BufRead + use<> {
        let answer = self.agent.get(format!("{}{path}", self.api)).call().unwrap();
        assert_eq!(answer.status(), 200);
        BufReader::new(answer.into_body().into_reader())
    }

    /// Asks for something and gets it as it comes over the wire, packed or not: its encoding and
    /// its bytes.
    pub(crate) fn get_encoded(&self, path: &str, encoding: &str) -> (String, Vec<u8>) {
        let mut answer = self.agent.get(format!("{}{path}", self.api)).header("accept-encoding", encoding).call().unwrap();
        let encoding = answer.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        (encoding, answer.body_mut().read_to_vec().unwrap())
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get_admin("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The sum of a metric over its labels; 0 if it has none yet.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let text = self.get_admin("/metrics").body;
        let of_it = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        of_it.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// What it has logged so far.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends events and expects all of them to be taken or known; returns the receipt.
    pub(crate) fn send_events(&self, events: &[Value]) -> Value {
        let answer = self.post("/v1/events", &json!(events).to_string());
        assert_eq!((answer.status, &answer.json()["rejected"]), (200, &json!([])), "{}", answer.body);
        answer.json()
    }

    /// A user's list, as item ids.
    pub(crate) fn recommended_items(&self, user: &str) -> Vec<String> {
        self.get(&format!("/v1/users/{user}/recommendations")).item_ids()
    }

    pub(crate) fn status(&self) -> Value {
        self.get_admin("/admin/status").json()
    }

    /// The offset that the journal's next entry will have.
    pub(crate) fn next_offset(&self) -> u64 {
        self.status()["journal"]["next_offset"].as_u64().unwrap()
    }

    /// Waits until the journal has so many entries and all of them are learned, for as long as that
    /// goes on.
    pub(crate) fn wait_until_learned(&self, entries: u64) {
        let mut reached = None;
        let mut is_done = false;
        while !is_done {
            wait_for("learning to go on", || {
                let status = self.status();
                let at = |part: &str| status[part]["next_offset"].as_u64().unwrap();
                is_done = at("journal") >= entries && at("learning") == at("journal");
                let before = reached.replace(at("learning"));
                (is_done || before != reached).then_some(())
            });
        }
    }

    /// What it has logged, and those that ran here before it.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Still answers, as it should after whatever it was sent.
    pub(crate) fn assert_healthy(&self) {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(self.get_admin(path).status, 200, "{path}");
        }
    }
}

/// An answer over HTTP, whatever its status.
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
        self.json()["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
    }
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<HttpResponse, ureq::Error> {
    let mut answer = answer?;
    let headers = answer.headers().clone();
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    Ok(HttpResponse { status: answer.status().as_u16(), content_type, headers, body: answer.body_mut().read_to_string()? })
}

/// An event with an id of its own.
pub(crate) fn event(id: &str, user: &str, item: &str) -> Value {
    json!({ "event_id": id, "user_id": user, "type": "view", "item_id": item })
}
