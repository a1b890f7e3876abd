//! The daemon under a supervisor that wants to be told how it stands, as systemd does, here played
//! by the test.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, DaemonHome, event, run, wait_for};
use crate::journal_dump::JournalDump;

/// Where the daemon's words arrive.
struct Supervisor(UnixDatagram);

impl Supervisor {
    /// Starts a daemon that is to say so at least every `limit` that it is well.
    fn start(home: &DaemonHome, limit: Option<Duration>, settings: &[&str]) -> (Self, Daemon) {
        let path = home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut wrapper = vec!["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display())];
        wrapper.extend(limit.map(|limit| format!("WATCHDOG_USEC={}", limit.as_micros())));
        let daemon = home.start_under(&wrapper, settings);
        (Self(socket), daemon)
    }

    /// What has come since the last time, line by line.
    fn told(&self) -> Vec<String> {
        let (mut lines, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length) = self.0.recv(&mut buffer) {
            lines.extend(String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(ToOwned::to_owned));
        }
        lines
    }

    /// Waits for such a line, and returns it.
    fn wait_for(&self, beginning: &str) -> String {
        wait_for(beginning, || self.told().into_iter().find(|line| line.starts_with(beginning)))
    }
}

#[test]
fn it_says_when_it_is_ready_that_it_is_well_and_when_it_stops_and_loses_nothing_under_load() {
    let home = DaemonHome::new();
    let (supervisor, daemon) = Supervisor::start(&home, Some(Duration::from_millis(400)), &["session.shards=2"]);
    supervisor.wait_for("READY=1");
    for _ in 0..3 {
        supervisor.wait_for("WATCHDOG=1");
    }
    daemon.send_events(&[event("first", "ann", "tea")]);
    daemon.wait_until_learned(1);
    let status = wait_for("how it stands", || supervisor.told().into_iter().find(|line| line.contains("1 entries, 0 yet to be learned")));
    assert!(status.starts_with(&format!("STATUS=API {}", daemon.api())) && status.ends_with("the journal takes writes"), "{status}");

    // Asked to stop in the midst of a load.
    let (acknowledged, sent) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    thread::scope(|scope| {
        for sender in 0..4 {
            let (daemon, acknowledged, sent) = (&daemon, &acknowledged, &sent);
            scope.spawn(move || {
                for number in 0.. {
                    let ids = [0, 1, 2].map(|place| format!("{sender}-{number}-{place}"));
                    let body = serde_json::json!(ids.clone().map(|id| event(&id, &format!("user{sender}"), "tea"))).to_string();
                    // Nobody answers any more once it has stopped.
                    let Ok(answer) = daemon.try_post("/v1/events", &[], body.as_bytes()) else { return };
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    acknowledged.lock().unwrap().extend(ids);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_for("some load", || (sent.load(Ordering::Relaxed) > 40).then_some(()));
        daemon.signal("TERM");
        supervisor.wait_for("STOPPING=1");
    });
    assert_eq!(daemon.terminate().code(), Some(0));
    let ledger = JournalDump::read(&home.data_dir());
    let counts = ledger.event_ids();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 120);
    assert!(acknowledged.iter().all(|id| counts.get(id.as_str()) == Some(&1)), "an acknowledged event is gone, or there twice");
}

#[test]
fn without_a_watchdog_it_is_only_told_that_it_is_ready() {
    let home = DaemonHome::new();
    let (supervisor, daemon) = Supervisor::start(&home, None, &[]);
    supervisor.wait_for("READY=1");
    assert_eq!(daemon.terminate().code(), Some(0));
    supervisor.wait_for("STOPPING=1");
}

/// A supervisor that hears of a stop sees to it that it is one.
#[test]
fn what_is_unlearned_is_taken_up_without_a_stop() {
    let home = DaemonHome::new();
    let (supervisor, daemon) = Supervisor::start(&home, None, &["learning.interval=64"]);
    supervisor.wait_for("READY=1");
    daemon.send_events(&[event("a", "ann", "tea"), event("b", "bob", "cup")]);
    assert_eq!(daemon.request("DELETE", "/v1/users/ann?unlearn=true", "").status, 200);
    let mut told = Vec::new();
    wait_for("it to be ready again", || {
        told.extend(supervisor.told());
        told.iter().any(|line| line == "READY=1").then_some(())
    });
    assert!(!told.iter().any(|line| line == "STOPPING=1"), "{told:?}");
    assert_eq!(daemon.terminate().code(), Some(0));
    supervisor.wait_for("STOPPING=1");
}

#[test]
#[cfg(debug_assertions)]
fn a_daemon_whose_actor_is_stuck_does_not_say_that_it_is_well() {
    let home = DaemonHome::new();
    let limit = Duration::from_millis(400);
    let (supervisor, daemon) = Supervisor::start(&home, Some(limit), &["SEQUOR_FAULT=committer:poison:stall"]);
    supervisor.wait_for("WATCHDOG=1");
    // Not waited for: the answer never comes.
    let body = event("stuck", "ann", "poison").to_string();
    let mut connection = TcpStream::connect(daemon.api().trim_start_matches("http://")).unwrap();
    write!(connection, "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    wait_for("it to be noticed", || {
        std::fs::read_to_string(home.path().join("log")).unwrap().contains("an actor does not answer").then_some(())
    });
    supervisor.told();
    thread::sleep(limit * 3);
    assert_eq!(supervisor.told(), Vec::<String>::new(), "it says that it is well");
    // Nor does it hinder what else there is: lists are given, and the process answers.
    assert_eq!(daemon.get_admin("/healthz").status, 200);
}

#[test]
fn health_is_an_exit_code_and_a_word() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let address = daemon.admin_address().to_owned();
    for (flags, word) in [(&["health", "--url", &address][..], "ready"), (&["health", "--url", &address, "--alive"], "alive")] {
        let output = run(flags);
        assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), format!("{address} is {word}\n")));
    }
    daemon.kill();
    let output = run(&["health", "--url", &address]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with(&format!("sequor: {address} does not answer")), "{said}");
}
