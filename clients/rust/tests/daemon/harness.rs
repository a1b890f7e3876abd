//! The daemon and the fault proxy as processes, and the events of a journal.

use sequor_client::{Connection, ConnectionOptions, HttpRequest, Method};
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A generous limit for waits. No test is faster or slower with another limit, unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The folder `clients/shared`.
pub(crate) fn shared_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")
}

/// The daemon under test. `None`, with a message, if the test must be skipped.
pub(crate) fn binary_under_test() -> Option<String> {
    let named = env::var("SEQUOR_BINARY").ok();
    if named.is_none() {
        eprintln!("SKIPPED: SEQUOR_BINARY does not name a daemon");
    }
    named
}

/// A free port below the ports of outgoing connections, which could take it during a restart.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests in other processes begin elsewhere.
    let first = (std::process::id() % 200) as u16;
    (0..200)
        .map(|_| 32100 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 200)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// A process that ends with the test, and the first line that it prints.
fn start_process(command: &mut Command) -> (Child, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    // A process that cannot write its output ends.
    thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    (child, line.trim().to_owned())
}

/// A daemon with a data directory and a port that outlive its restarts.
pub(crate) struct Daemon {
    binary: String,
    home: TempDir,
    settings: Vec<String>,
    port: u16,
    process: Option<Child>,
}

impl Daemon {
    /// Starts a daemon. `None` if the test must be skipped.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]).map(str::to_owned).collect();
        let (home, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut daemon = Self { binary: binary_under_test()?, home, settings, port, process: None };
        daemon.start_again();
        Some(daemon)
    }

    /// Starts the daemon after it was killed or stopped.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(&self.binary);
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("SEQUOR_")) {
            command.env_remove(name);
        }
        let address = format!("127.0.0.1:{}", self.port);
        command.args(["serve", "--listen", &address, "--admin-listen", "127.0.0.1:0", "--until-eof", "--data-dir"]);
        let (process, line) = start_process(command.arg(self.data_dir()).args(&self.settings));
        self.process = Some(process);
        assert!(line.contains("is ready"), "the daemon did not start: {line}");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Lets the daemon hang: the system accepts its connections, and it answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Stops the daemon: it ends with its standard input.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().unwrap();
        }
    }

    /// The events in the journal of the stopped daemon.
    pub(crate) fn exported_events(&self) -> Vec<Value> {
        let mut command = Command::new(&self.binary);
        let output = command.args(["export", "--only", "event", "--data-dir"]).arg(self.data_dir()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        events_in(&String::from_utf8(output.stdout).unwrap())
    }

    /// How often each event id is in the journal of the stopped daemon.
    pub(crate) fn exported_event_ids(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for event in self.exported_events() {
            *counts.entry(id_of(&event)).or_default() += 1;
        }
        counts
    }

    /// The ids of a user's events in the journal.
    pub(crate) fn stored_event_ids(&self, user_id: &str) -> Vec<String> {
        let encoded: String = user_id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let entries = read(&self.url(), &HttpRequest::get(&format!("/v1/users/{encoded}")));
        events_in(&entries).iter().map(id_of).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

fn events_in(lines: &str) -> Vec<Value> {
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["entry"] == "event").collect()
}

fn id_of(event: &Value) -> String {
    event["event_id"].as_str().unwrap().to_owned()
}

/// The body of a successful response.
fn read(url: &str, request: &HttpRequest<'_>) -> String {
    let options = ConnectionOptions { timeout: Some(PATIENCE), ..ConnectionOptions::default() };
    let response = Connection::new(url, &options).unwrap().send(request).unwrap();
    assert!(response.status().is_success(), "{}: {}", request.path, response.status());
    let mut text = String::new();
    response.into_reader().read_to_string(&mut text).unwrap();
    text
}

/// The fault proxy in front of a daemon.
pub(crate) struct FaultProxy {
    process: Child,
    url: String,
}

impl FaultProxy {
    pub(crate) fn start(target: &str) -> Self {
        let mut command = Command::new("python3");
        let (process, url) = start_process(command.arg(shared_folder().join("fault_proxy.py")).arg(target));
        assert!(url.starts_with("http://"), "the fault proxy did not start: {url}");
        Self { process, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Plans a fault for each of the following requests.
    pub(crate) fn plan(&self, faults: &Value) {
        let body = faults.to_string();
        read(&self.url, &HttpRequest::new(Method::PUT, "/faults", body.as_bytes()));
    }

    /// The requests since the last plan.
    pub(crate) fn requests(&self) -> Vec<String> {
        serde_json::from_str(&read(&self.url, &HttpRequest::get("/requests"))).unwrap()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// Polls a condition. Fails after a long time.
pub(crate) fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {description}");
        thread::sleep(Duration::from_millis(10));
    }
}
