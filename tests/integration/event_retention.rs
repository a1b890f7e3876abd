//! Event retention: expired events are removed from every file of the data directory, even if the
//! daemon is killed during the removal.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::erasure::{dir_contains, export_user};

const DAEMON_SETTINGS: [&str; 5] = [
    "session.shards=3",
    "learning.interval=64",
    "session.passivate_after=2s",
    "events.kinds.search={ retain_for = \"1m\" }",
    "events.retain_impressions=1m",
];
const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn search_event(id: &str, user: &str, at: i64) -> Value {
    json!({ "event_id": id, "user_id": user, "type": "search", "timestamp": at, "properties": { "words": format!("words-{id}") } })
}

/// Sends views and searches of twenty users: most from two hours ago, some from now.
fn send_activity(daemon: &Daemon) {
    for round in 0..12 {
        let at = now_ms() - if round < 10 { 2 * HOUR_MS } else { 0 };
        let mut events = Vec::new();
        for user in 0..20 {
            let name = format!("user{user}");
            let mut view = view_event(&format!("v{round}-{user}"), &name, &format!("item{}", (user + round) % 15));
            view["timestamp"] = json!(at);
            // Sessions begin with an event that expires.
            events.extend([
                search_event(&format!("{}-{round}-{user}", if round < 10 { "old" } else { "young" }), &name, at),
                view,
            ]);
        }
        daemon.send_events(&events);
    }
}

/// The number of views and searches of a user in the journal, and the length of its sequence.
fn event_and_step_counts(daemon: &Daemon, user: &str) -> (usize, usize, usize) {
    let lines = export_user(daemon, user);
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    (count("view"), count("search"), lines[0]["sequence"].as_array().unwrap().len())
}

/// Asserts that verification finds no damage and no warning.
fn assert_verified(home: &DaemonHome) {
    let report = run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
    let report_text = String::from_utf8(report.stdout).unwrap();
    assert!(
        report.status.success() && !report_text.contains("sessions, user"),
        "{report_text}{}",
        String::from_utf8_lossy(&report.stderr)
    );
}

#[test]
fn expired_events_are_removed_and_others_are_kept() {
    let home = DaemonHome::new();
    let mut daemon = home.start(&DAEMON_SETTINGS);
    send_activity(&daemon);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(dir_contains(&home.data_dir(), "words-old-3-4"));
    // By now some sessions are passivated and others live. The daemon is killed while it removes
    // expired events.
    wait_for("the expired entries to be counted", || {
        daemon.get_admin("/metrics").body.contains("sequor_expired_entries_total 200").then_some(())
    });
    daemon.kill();
    daemon = home.start(&DAEMON_SETTINGS);
    wait_for("the expired events to be removed", || (!dir_contains(&home.data_dir(), "words-old-")).then_some(()));
    assert!(dir_contains(&home.data_dir(), "words-young-11-4"));
    for user in 0..20 {
        assert_eq!(event_and_step_counts(&daemon, &format!("user{user}")), (12, 2, 14));
    }
    assert!(!daemon.recommended_items("user3").is_empty());
    daemon.assert_healthy();
    daemon.terminate();
    assert_verified(&home);
}

#[test]
fn late_and_restored_events_expire_too() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    send_activity(&daemon);
    let backup = home.data_dir().with_file_name("backup.tar.gz");
    let request = json!({ "target": backup });
    assert_eq!(daemon.admin_request("POST", "/admin/backup", &request.to_string()).status, 200);
    daemon.terminate();

    let restored = DaemonHome::new();
    let [from, to] = [&backup, &restored.data_dir()].map(|path| path.to_str().unwrap().to_owned());
    std::fs::remove_dir_all(restored.data_dir()).ok();
    assert!(run_sequor(&["restore", &from, "--data-dir", &to]).status.success());
    assert!(dir_contains(&restored.data_dir(), "words-old-"));
    let daemon = restored.start(&DAEMON_SETTINGS);
    wait_for("the expired events to be removed", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    daemon.send_events(&[search_event("old-again", "user3", now_ms() - 2 * HOUR_MS)]);
    assert_eq!(event_and_step_counts(&daemon, "user3"), (12, 3, 15));
    wait_for("the late event to be removed", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    wait_for("the sequence to be updated", || (event_and_step_counts(&daemon, "user3") == (12, 2, 14)).then_some(()));
    daemon.assert_healthy();
    daemon.terminate();
    assert_verified(&restored);
}
