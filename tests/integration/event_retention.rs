//! Event retention: expired events are removed from every file of the data directory, even if the
//! daemon is killed in between.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event, run, wait_for};
use crate::erasure::{dir_contains, export_user};

const SETTINGS: [&str; 5] = [
    "session.shards=3",
    "learning.interval=64",
    "session.passivate_after=2s",
    "events.kinds.search={ retain_for = \"1m\" }",
    "events.retain_impressions=1m",
];
const HOUR: i64 = 3_600_000;

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn search(id: &str, user: &str, at: i64) -> Value {
    json!({ "event_id": id, "user_id": user, "type": "search", "timestamp": at, "properties": { "words": format!("words-{id}") } })
}

/// Sends views and searches of twenty users: most from two hours ago, some from now.
fn send_activity(daemon: &Daemon) {
    for round in 0..12 {
        let at = now() - if round < 10 { 2 * HOUR } else { 0 };
        let mut events = Vec::new();
        for user in 0..20 {
            let name = format!("user{user}");
            let mut view = event(&format!("v{round}-{user}"), &name, &format!("item{}", (user + round) % 15));
            view["timestamp"] = json!(at);
            // Sessions begin with an event that expires.
            events.extend([
                search(&format!("{}-{round}-{user}", if round < 10 { "old" } else { "young" }), &name, at),
                view,
            ]);
        }
        daemon.send_events(&events);
    }
}

/// The number of views and searches of a user in the journal, and the length of its sequence.
fn counts(daemon: &Daemon, user: &str) -> (usize, usize, usize) {
    let lines = export_user(daemon, user);
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    (count("view"), count("search"), lines[0]["sequence"].as_array().unwrap().len())
}

/// Asserts that verification finds no damage and no warning.
fn assert_sound(home: &DaemonHome) {
    let report = run(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
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
    let mut daemon = home.start(&SETTINGS);
    send_activity(&daemon);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(dir_contains(&home.data_dir(), "words-old-3-4"));
    // By now some sessions are passivated and others live. The daemon is killed during the expiry.
    wait_for("the expired entries to be counted", || {
        daemon.get_admin("/metrics").body.contains("sequor_expired_entries_total 200").then_some(())
    });
    daemon.kill();
    daemon = home.start(&SETTINGS);
    wait_for("the expired events to be removed", || (!dir_contains(&home.data_dir(), "words-old-")).then_some(()));
    assert!(dir_contains(&home.data_dir(), "words-young-11-4"));
    for user in 0..20 {
        assert_eq!(counts(&daemon, &format!("user{user}")), (12, 2, 14));
    }
    assert!(!daemon.recommended_items("user3").is_empty());
    daemon.assert_healthy();
    daemon.terminate();
    assert_sound(&home);
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
    assert!(run(&["restore", &from, "--data-dir", &to]).status.success());
    assert!(dir_contains(&restored.data_dir(), "words-old-"));
    let daemon = restored.start(&SETTINGS);
    wait_for("the expired events to be removed", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    daemon.send_events(&[search("old-again", "user3", now() - 2 * HOUR)]);
    assert_eq!(counts(&daemon, "user3"), (12, 3, 15));
    wait_for("the late event to be removed", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    wait_for("the sequence to be updated", || (counts(&daemon, "user3") == (12, 2, 14)).then_some(()));
    daemon.assert_healthy();
    daemon.terminate();
    assert_sound(&restored);
}
