//! Purges: the events and merges of an API key or of a client address are removed and unlearned.

use serde_json::{Value, json};
use std::time::Duration;

use crate::api_keys::{create_key, key_id};
use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::journal_dump::JournalDump;

const DAEMON_SETTINGS: [&str; 2] = ["session.shards=3", "learning.interval=64"];

/// Waits until all purges are complete. The daemon restarts on other free ports during that time.
pub(crate) fn wait_until_purged(home: &DaemonHome) {
    wait_for("the purge to be complete", || {
        let addresses = std::fs::read_to_string(home.data_dir().join("addresses.json")).ok()?;
        let addresses: Value = serde_json::from_str(&addresses).ok()?;
        let url = format!("{}/admin/purge", addresses["admin"].as_str()?);
        let progress: Value = ureq::get(&url).call().ok()?.body_mut().read_json().ok()?;
        (progress == json!({ "in_progress": [], "unlearning": false })).then_some(())
    });
}

fn post_with_key(daemon: &Daemon, key: &str, path: &str, body: &Value) {
    let response =
        daemon.request_with_key("POST", &format!("{}{path}", daemon.api_url()), Some(key), &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
}

fn purge(daemon: &Daemon, body: &Value) -> (u16, Value) {
    let response = daemon.admin_request("POST", "/admin/purge", &body.to_string());
    (response.status, response.json())
}

fn events_of(prefix: &str, users: u64, count: u64) -> Vec<Value> {
    let event = |number: u64| {
        let (user, item) = (format!("{prefix}{}", number % users), format!("item{}", number * 7 % 30));
        let mut event = view_event(&format!("{prefix}-{number}"), &user, &item);
        event["timestamp"] = json!(1_700_000_000_000_u64 + number * 1_000);
        event
    };
    (0..count).map(event).collect()
}

/// The number of steps in a user's sequence.
fn steps_of(daemon: &Daemon, user: &str) -> usize {
    let export = daemon.get(&format!("/v1/users/{user}")).body;
    let first: Value = export.lines().next().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    first["sequence"].as_array().map_or(0, Vec::len)
}

fn assert_verified(home: &DaemonHome) {
    let data = home.data_dir();
    let verified = run_sequor(&["verify", "--data-dir", data.to_str().unwrap(), "--set", DAEMON_SETTINGS[1]]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn merges_and_segment_calls_of_a_key_are_purged_with_its_events() {
    let home = DaemonHome::new();
    let (bad, good) = (create_key(&home, "write"), create_key(&home, "write,read"));
    let daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&events_of("user", 5, 100));
    post_with_key(&daemon, &good, "/v1/events", &json!(events_of("app", 5, 50)));
    post_with_key(&daemon, &bad, "/v1/events", &json!(events_of("fake", 10, 50)));
    post_with_key(&daemon, &bad, "/v1/users/fake1/merge", &json!({ "from": "user1" }));
    let track = json!({ "event": "Product Viewed", "userId": "fake2", "properties": { "product_id": "item3" } });
    post_with_key(&daemon, &bad, "/v1/track", &track);
    post_with_key(
        &daemon,
        &bad,
        "/v1/batch",
        &json!({ "batch": [{ "type": "track", "event": "Product Viewed", "userId": "user2", "properties": { "product_id": "item3" } }] }),
    );
    assert_eq!(steps_of(&daemon, "fake1"), 25, "5 own steps, and 20 of user1");
    let (status, counted) = purge(&daemon, &json!({ "key": key_id(&bad), "dry_run": true }));
    // The users are ten fake users, user1 and user2.
    assert_eq!(
        (status, &counted["events"], &counted["merges"], &counted["users"]),
        (200, &json!(52), &json!(1), &json!(12))
    );
    assert_eq!(daemon.get_admin("/admin/purge").json(), json!({ "in_progress": [], "unlearning": false }));
    let entries = daemon.next_offset();

    let (status, response) = purge(&daemon, &json!({ "key": key_id(&bad) }));
    assert_eq!((status, &response["purge"]), (202, &json!(entries)));
    wait_until_purged(&home);
    daemon.terminate();
    assert_verified(&home);
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(daemon.next_offset(), 150, "the journal holds the other events only");
    assert_eq!((steps_of(&daemon, "fake1"), steps_of(&daemon, "fake2")), (0, 0));
    assert_eq!((steps_of(&daemon, "user1"), steps_of(&daemon, "user2"), steps_of(&daemon, "app1")), (20, 20, 10));
    let (_, counted) = purge(&daemon, &json!({ "key": key_id(&good), "dry_run": true }));
    assert_eq!(counted["events"], 50, "the other events keep their origins");
    // The event ids of removed events can be sent again.
    assert_eq!(daemon.send_events(&events_of("fake", 10, 1))["accepted"], 1);
    assert_eq!(daemon.send_events(&events_of("user", 5, 1))["duplicates"], 1);
}

/// Whether the journal holds the purge of a key, or the purge is complete. Asserts that the daemon
/// executes a purge that is in the journal.
fn is_purge_requested(daemon: &Daemon, key: &str) -> bool {
    let count = json!({ "key": key, "dry_run": true }).to_string();
    let requests =
        [("GET", "/admin/purge", ""), ("GET", "/admin/journal?only=purge", ""), ("POST", "/admin/purge", &count)];
    let responses = requests.map(|(method, path, body)| daemon.try_admin_request(method, path, body));
    // The daemon does not respond while it restarts on the new state, which follows a purge.
    let [Ok(progress), Ok(journalled), Ok(counted)] = responses else { return true };
    if progress.json()["in_progress"].as_array().is_some_and(|purges| !purges.is_empty()) {
        return true;
    }
    let Some(events) = counted.json()["events"].as_u64() else { return true };
    assert!(journalled.body.is_empty() || events == 0, "the daemon has forgotten the purge; {events} events are left");
    events == 0
}

#[test]
fn an_interrupted_purge_resumes_after_restart() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write");
    let mut daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&events_of("user", 20, 400));
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("fake", 50, 300)));
    daemon.send_events(&events_of("late", 20, 200));
    // Kills the daemon at several stages of the purge and of the unlearning.
    for pause in [2, 5, 8, 12, 16, 25, 40, 90, 200, 500, 1_100] {
        let is_requested = is_purge_requested(&daemon, key_id(&key));
        let url = format!("{}/admin/purge", daemon.admin_url());
        let body = json!({ "key": key_id(&key) }).to_string();
        // The response may never arrive.
        let send = move || is_requested || ureq::post(&url).content_type("application/json").send(body).is_ok();
        let request = std::thread::spawn(send);
        std::thread::sleep(Duration::from_millis(pause));
        daemon.kill();
        let _ = request.join();
        daemon = home.start(&DAEMON_SETTINGS);
    }
    assert!(is_purge_requested(&daemon, key_id(&key)));
    wait_until_purged(&home);
    daemon.terminate();
    assert_verified(&home);
    let dump = JournalDump::read_from_copy(&home.data_dir());
    let ids = dump.event_ids();
    assert_eq!(ids.len(), 600);
    assert!(ids.keys().all(|id| !id.starts_with("fake")));
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!((steps_of(&daemon, "user3"), steps_of(&daemon, "late3"), steps_of(&daemon, "fake3")), (20, 10, 0));
    daemon.assert_healthy();
}

/// A purge waits for the learner. The daemon is killed while the learner stalls, so the purge is
/// certain to be unfinished at the restart.
#[test]
#[cfg(debug_assertions)]
fn a_purge_that_was_never_executed_runs_after_restart() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write");
    let stall = ["env".to_owned(), "SEQUOR_FAULT=model:poison:stall".to_owned()];
    let daemon = home.start_under_wrapper(&stall, &DAEMON_SETTINGS);
    daemon.send_events(&events_of("user", 5, 60));
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("fake", 10, 40)));
    daemon.send_events(&[view_event("poison", "user1", "poison")]);
    let (status, response) = purge(&daemon, &json!({ "key": key_id(&key) }));
    assert_eq!((status, &response["purge"]), (202, &json!(101)));
    assert_eq!(daemon.get_admin("/admin/purge").json()["in_progress"].as_array().unwrap().len(), 1);
    daemon.kill();

    let daemon = home.start(&DAEMON_SETTINGS);
    wait_until_purged(&home);
    daemon.terminate();
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!((steps_of(&daemon, "fake3"), daemon.next_offset()), (0, 61));
    let (_, counted) = purge(&daemon, &json!({ "key": key_id(&key), "dry_run": true }));
    assert_eq!(counted["events"], 0);
}

#[test]
fn a_restored_backup_keeps_origins() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write");
    let daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&events_of("user", 5, 60));
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("fake", 10, 40)));
    daemon.admin_request("POST", "/admin/store/compact", "{}");
    let backup = home.dir().join("monday.tar.gz");
    assert_eq!(daemon.admin_request("POST", "/admin/backup", &json!({ "target": backup }).to_string()).status, 200);
    daemon.terminate();

    let other = DaemonHome::new();
    let data = other.data_dir();
    let restored = run_sequor(&["restore", backup.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let rebuilt = run_sequor(&["rebuild", "--data-dir", data.to_str().unwrap()]);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    let daemon = other.start(&DAEMON_SETTINGS);
    // The backup has no keys. The key counts as revoked, and its id suffices.
    let (_, counted) = purge(&daemon, &json!({ "key": key_id(&key), "dry_run": true }));
    assert_eq!((&counted["events"], &counted["users"]), (&json!(40), &json!(10)));
}

#[test]
fn a_purge_selects_by_address_and_time_and_explains_wrong_requests() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write");
    let daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&events_of("user", 5, 60));
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("fake", 10, 40)));
    let events = |body: Value| {
        let (status, counted) = purge(&daemon, &body);
        assert_eq!(status, 200, "{counted}");
        counted["events"].as_u64().unwrap()
    };
    assert_eq!(events(json!({ "address": "127.0.0.1", "dry_run": true })), 100);
    assert_eq!(events(json!({ "address": "::ffff:127.0.0.1", "dry_run": true })), 100);
    assert_eq!(events(json!({ "address": "203.0.113.7", "dry_run": true })), 0);
    assert_eq!(events(json!({ "address": "127.0.0.1", "key": "write", "dry_run": true })), 40);
    // Event timestamps have no effect: the time of arrival counts.
    assert_eq!(events(json!({ "key": "write", "until": "2024-01-01T00:00:00Z", "dry_run": true })), 0);
    assert_eq!(events(json!({ "key": "write", "since": "2024-01-01T00:00:00Z", "dry_run": true })), 40);
    for (wrong, field) in [
        (json!({ "dry_run": true }), "key"),
        (json!({ "key": "nobody" }), "key"),
        (json!({ "address": "example.org" }), "address"),
        (json!({ "key": "write", "since": "yesterday" }), "since"),
        (json!({ "key": "write", "since": 9_000_000_000_000_u64 }), "since"),
    ] {
        let (status, problem) = purge(&daemon, &wrong);
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{problem}");
    }
}

#[test]
fn origins_are_not_recorded_if_the_settings_say_so() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write");
    let daemon = home.start(&["privacy.origins=none"]);
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("fake", 10, 40)));
    let (status, problem) = purge(&daemon, &json!({ "key": "write", "dry_run": true }));
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("privacy.origins"), "{problem}");
    daemon.terminate();
    let daemon = home.start(&["privacy.origins=key"]);
    post_with_key(&daemon, &key, "/v1/events", &json!(events_of("more", 10, 30)));
    assert_eq!(purge(&daemon, &json!({ "key": "write", "dry_run": true })).1["events"], 30);
    assert_eq!(purge(&daemon, &json!({ "address": "127.0.0.1", "dry_run": true })).0, 409);
}
