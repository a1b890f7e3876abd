//! systemd notifications, with the test in the role of systemd.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonHome, run_sequor, sequor_command, view_event, wait_for};
use crate::journal_dump::JournalDump;

/// The socket that receives the daemon's notifications.
struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// Starts a daemon that notifies the returned socket. With a `limit`, the daemon must send a
    /// watchdog ping at least that often.
    fn start_supervised_daemon(home: &DaemonHome, limit: Option<Duration>, settings: &[&str]) -> (Self, Daemon) {
        let path = home.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut wrapper = vec!["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display())];
        wrapper.extend(limit.map(|limit| format!("WATCHDOG_USEC={}", limit.as_micros())));
        let daemon = home.start_under_wrapper(&wrapper, settings);
        (Self(socket), daemon)
    }

    /// The lines received since the last call.
    fn received_lines(&self) -> Vec<String> {
        let (mut lines, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length) = self.0.recv(&mut buffer) {
            lines.extend(String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(ToOwned::to_owned));
        }
        lines
    }

    /// Waits for a line with this prefix and returns it.
    fn wait_for_line(&self, beginning: &str) -> String {
        wait_for(beginning, || self.received_lines().into_iter().find(|line| line.starts_with(beginning)))
    }
}

#[test]
fn notifications_are_sent_and_a_stop_under_load_loses_nothing() {
    let home = DaemonHome::new();
    let (supervisor, daemon) =
        NotifySocket::start_supervised_daemon(&home, Some(Duration::from_millis(400)), &["session.shards=2"]);
    supervisor.wait_for_line("READY=1");
    for _ in 0..3 {
        supervisor.wait_for_line("WATCHDOG=1");
    }
    daemon.send_events(&[view_event("first", "ann", "tea")]);
    daemon.wait_until_learned(1);
    let status = wait_for("the status line", || {
        supervisor.received_lines().into_iter().find(|line| line.contains("1 entries, 0 yet to be learned"))
    });
    assert!(
        status.starts_with(&format!("STATUS=API {}", daemon.api_url()))
            && status.ends_with("the journal accepts writes"),
        "{status}"
    );

    // Stops under load.
    let (acknowledged, sent) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    thread::scope(|scope| {
        for sender in 0..4 {
            let (daemon, acknowledged, sent) = (&daemon, &acknowledged, &sent);
            scope.spawn(move || {
                for number in 0.. {
                    let ids = [0, 1, 2].map(|index| format!("{sender}-{number}-{index}"));
                    let body =
                        serde_json::json!(ids.clone().map(|id| view_event(&id, &format!("user{sender}"), "tea")))
                            .to_string();
                    // The daemon no longer responds after the stop.
                    let Ok(response) = daemon.try_post("/v1/events", &[], body.as_bytes()) else { return };
                    assert_eq!(response.status, 200, "{}", response.body);
                    acknowledged.lock().unwrap().extend(ids);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_for("some load", || (sent.load(Ordering::Relaxed) > 40).then_some(()));
        daemon.signal("TERM");
        supervisor.wait_for_line("STOPPING=1");
    });
    assert_eq!(daemon.terminate().code(), Some(0));
    let dump = JournalDump::read_from_copy(&home.data_dir());
    let counts = dump.event_ids();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 120);
    assert!(
        acknowledged.iter().all(|id| counts.get(id.as_str()) == Some(&1)),
        "an acknowledged event is lost or duplicated"
    );
}

#[test]
fn without_a_watchdog_only_readiness_and_stop_are_notified() {
    let home = DaemonHome::new();
    let (supervisor, daemon) = NotifySocket::start_supervised_daemon(&home, None, &[]);
    supervisor.wait_for_line("READY=1");
    assert_eq!(daemon.terminate().code(), Some(0));
    supervisor.wait_for_line("STOPPING=1");
}

/// A supervisor that receives STOPPING expects the process to exit.
#[test]
fn restart_for_unlearning_does_not_notify_a_stop() {
    let home = DaemonHome::new();
    let (supervisor, daemon) = NotifySocket::start_supervised_daemon(&home, None, &["learning.interval=64"]);
    supervisor.wait_for_line("READY=1");
    daemon.send_events(&[view_event("a", "ann", "tea"), view_event("b", "bob", "cup")]);
    assert_eq!(daemon.request("DELETE", "/v1/users/ann?unlearn=true", "").status, 200);
    let mut received = Vec::new();
    wait_for("readiness after the restart", || {
        received.extend(supervisor.received_lines());
        received.iter().any(|line| line == "READY=1").then_some(())
    });
    assert!(!received.iter().any(|line| line == "STOPPING=1"), "{received:?}");
    assert_eq!(daemon.terminate().code(), Some(0));
    supervisor.wait_for_line("STOPPING=1");
}

#[test]
#[cfg(debug_assertions)]
fn stuck_actor_stops_the_watchdog_pings() {
    let home = DaemonHome::new();
    let limit = Duration::from_millis(400);
    let (supervisor, daemon) =
        NotifySocket::start_supervised_daemon(&home, Some(limit), &["SEQUOR_FAULT=committer:poison:stall"]);
    supervisor.wait_for_line("WATCHDOG=1");
    // Does not wait for the response, which never comes.
    let body = view_event("stuck", "ann", "poison").to_string();
    let mut connection = TcpStream::connect(daemon.api_url().trim_start_matches("http://")).unwrap();
    write!(connection, "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    wait_for("the stuck actor to be detected", || {
        std::fs::read_to_string(home.dir().join("log")).unwrap().contains("an actor does not answer").then_some(())
    });
    supervisor.received_lines();
    thread::sleep(limit * 3);
    assert_eq!(supervisor.received_lines(), Vec::<String>::new(), "a watchdog ping was sent");
    // The rest of the daemon still responds.
    assert_eq!(daemon.get_admin("/healthz").status, 200);
}

#[test]
fn health_command_sets_the_exit_code() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let address = daemon.admin_url().to_owned();
    for (flags, state) in
        [(&["health", "--url", &address][..], "ready"), (&["health", "--url", &address, "--alive"], "alive")]
    {
        // A daemon on this machine is reached without the proxy, and nothing listens on port 1.
        let output = sequor_command().args(flags).env("HTTP_PROXY", "http://127.0.0.1:1").output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stdout).unwrap()),
            (Some(0), format!("{address} is {state}\n"))
        );
    }
    daemon.kill();
    let output = run_sequor(&["health", "--url", &address]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("sequor: {address} does not answer")), "{stderr}");
}
