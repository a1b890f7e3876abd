//! Consent: the effect of each level on stored data, learning and recommendations, for every way to
//! set it and after crashes.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, run_sequor};

/// Frequent training boundaries, so that the tests have learned state to compare.
const DAEMON_SETTINGS: [&str; 2] = ["session.shards=2", "learning.interval=16"];

fn view_at(second: i64, user: &str, item: &str) -> Value {
    json!({ "event_id": format!("{user}-{second}"), "user_id": user, "type": "view", "item_id": item, "timestamp": 1_700_000_000_000_i64 + second * 1000 })
}

fn with_field(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

/// Sets a user's consent and returns the receipt.
fn set_consent(daemon: &Daemon, user: &str, consent: &str) -> Value {
    let response =
        daemon.request("PUT", &format!("/v1/users/{user}/consent"), &json!({ "consent": consent }).to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn get_consent(daemon: &Daemon, user: &str) -> (String, bool) {
    let response = daemon.get(&format!("/v1/users/{user}/consent")).json();
    (response["consent"].as_str().unwrap().to_owned(), response["said"].as_bool().unwrap())
}

/// The files below a directory that contain a text.
pub(crate) fn files_containing(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_containing(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

/// The newest checkpoint.
fn newest_checkpoint(home: &DaemonHome) -> PathBuf {
    let files = home.data_dir().join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "checkpoint")).max().unwrap()
}

/// Sends events of users with full consent, and calls `more` with the current second between the
/// batches.
fn send_shop_events(daemon: &Daemon, mut more: impl FnMut(&Daemon, i64)) {
    for second in 0..96 {
        let (user, item) = (second * 7 % 12, second * 5 % 9);
        daemon.send_events(&[view_at(second, &format!("u{user}"), &format!("i{item}"))]);
        if second % 4 == 3 && second > 20 {
            more(daemon, second);
        }
    }
}

#[test]
fn consent_levels_limit_storage_learning_and_recommendations() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    send_shop_events(&daemon, |daemon, second| {
        let private = view_at(second, "served-7f3a", &format!("i{}", second % 9));
        daemon.send_events(&[with_field(private, "consent", json!("session"))]);
        let none = with_field(view_at(second, "nobody-5c1d", "i1"), "properties", json!({ "said": "unsaid-9e2b" }));
        let receipt = daemon.send_events(&[with_field(none, "consent", json!("none"))]);
        assert_eq!(
            (&receipt["accepted"], &receipt["duplicates"], &receipt["withheld"]),
            (&json!(0), &json!(0), &json!(1)),
            "{receipt}"
        );
    });
    let learned = daemon.next_offset();
    daemon.wait_until_learned(learned);

    // Recommendations with consent `session` use the user's events. With `none`, they do not use
    // any.
    let list = |path: &str| daemon.get(path).json();
    assert_eq!(list("/v1/users/served-7f3a/recommendations?consent=session")["fallback"], "none");
    assert_eq!(list("/v1/users/nobody-5c1d/recommendations?consent=none")["fallback"], "unknown_user");
    assert_eq!(
        list("/v1/users/served-7f3a/recommendations?consent=none")["fallback"],
        "unknown_user",
        "stored data is not used"
    );
    assert_eq!(daemon.get_admin("/admin/sessions/nobody-5c1d").status, 404, "no session exists");
    let with_recommendations = daemon.post(
        "/v1/events?recommend=3",
        &json!([with_field(view_at(200, "nobody-5c1d", "i1"), "consent", json!("none"))]).to_string(),
    );
    let response = with_recommendations.json();
    assert_eq!(
        (with_recommendations.status, &response["withheld"], &response["offset"]),
        (200, &json!(1), &Value::Null),
        "{response}"
    );
    assert_eq!(
        (response["recommendations"]["items"].as_array().unwrap().len(), &response["recommendations"]["fallback"]),
        (3, &json!("none"))
    );
    assert_eq!(daemon.get_admin("/admin/sessions/nobody-5c1d").status, 404);
    // Lists requested with less than full consent are not recorded as impressions.
    for level in ["none", "session"] {
        assert_eq!(daemon.get(&format!("/v1/users/u1/recommendations?consent={level}")).status, 200);
    }
    assert_eq!(daemon.get("/v1/users/u1/recommendations?consent=all").status, 400);
    let metrics = daemon.get_admin("/metrics").body;
    assert!(metrics.contains("sequor_events_total{outcome=\"withheld\"} 20"), "{metrics}");
    assert!(daemon.terminate().success());

    // Stored data.
    for text in ["nobody-5c1d", "unsaid-9e2b"] {
        assert_eq!(files_containing(home.dir(), text), Vec::<PathBuf>::new(), "{text}");
    }
    assert!(!files_containing(&home.data_dir(), "served-7f3a").is_empty());
    let data = home.data_dir();
    let exported = run_sequor(&["export", "--data-dir", data.to_str().unwrap()]);
    let exported: Vec<Value> =
        String::from_utf8(exported.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(exported.len() as u64, learned, "no impression was recorded");
    let private = exported.iter().filter(|entry| entry["user_id"] == "served-7f3a" && entry["entry"] == "event");
    assert!(private.clone().count() == 19 && private.clone().all(|entry| entry["consent"] == "session"));

    // The learned state is identical to the state from a journal with consent changes in place of
    // the private events.
    let other = DaemonHome::new();
    let daemon = other.start(&DAEMON_SETTINGS);
    let mut level = ["session", "full"].into_iter().cycle();
    send_shop_events(&daemon, |daemon, _| {
        assert_eq!(set_consent(daemon, "somebody", level.next().unwrap())["accepted"], 1)
    });
    daemon.wait_until_learned(learned);
    assert!(daemon.terminate().success());
    let [one, two] = [&home, &other].map(newest_checkpoint);
    assert_eq!(one.file_name(), two.file_name());
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap(), "weights, counts and metrics are identical");
}

fn setting_flags() -> Vec<&'static str> {
    SMALL_NETWORK_SETTINGS.iter().chain(&DAEMON_SETTINGS).flat_map(|setting| ["--set", *setting]).collect()
}

#[test]
fn consent_persists_across_crashes_backup_and_rebuild() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(get_consent(&daemon, "ann"), ("full".to_owned(), false));
    assert_eq!(set_consent(&daemon, "ann", "full")["duplicates"], 1, "the level equals the default");
    daemon.send_events(&[view_at(1, "ann", "a")]);
    assert_eq!(set_consent(&daemon, "ann", "session")["accepted"], 1);
    assert_eq!(set_consent(&daemon, "ann", "session")["duplicates"], 1);
    assert_eq!(set_consent(&daemon, "bob", "none")["accepted"], 1);
    for invalid in [r#"{"consent":"all"}"#, r#"{"consent":7}"#, "{}", "ann@example.com", r#""ann@example.com""#] {
        let response = daemon.request("PUT", "/v1/users/ann/consent", invalid);
        assert!(response.status == 400 && !response.body.contains("ann@"), "{}", response.body);
    }
    let check = |daemon: &Daemon, second: i64, known: u64| {
        assert_eq!(get_consent(daemon, "ann"), ("session".to_owned(), true));
        assert_eq!(get_consent(daemon, "bob"), ("none".to_owned(), true));
        // An event's consent can restrict the stored consent but not extend it.
        let receipt = daemon.send_events(&[
            view_at(second, "ann", "b"),
            with_field(view_at(second, "bob", "b"), "consent", json!("full")),
            with_field(view_at(second + 1, "ann", "c"), "consent", json!("none")),
        ]);
        assert_eq!((&receipt["accepted"], &receipt["withheld"]), (&json!(1), &json!(2)), "{receipt}");
        assert_eq!(daemon.next_offset(), known + 1);
        for user in ["ann", "bob"] {
            assert_eq!(daemon.get(&format!("/v1/users/{user}/recommendations")).status, 200);
        }
        assert_eq!(daemon.next_offset(), known + 1, "no impression is recorded");
        assert_eq!(daemon.get_admin("/admin/sessions/bob").status, 404);
    };
    check(&daemon, 10, 3);
    daemon.kill();
    let daemon = home.start(&DAEMON_SETTINGS);
    check(&daemon, 20, 4);
    assert!(daemon.terminate().success());
    // After a clean stop, consent is read from the store instead of the journal's tail.
    let daemon = home.start(&DAEMON_SETTINGS);
    check(&daemon, 30, 5);
    let backup = home.dir().join("backup");
    let response = run_sequor(&["backup", backup.to_str().unwrap(), "--url", daemon.admin_url()]);
    assert!(response.status.success(), "{}", String::from_utf8_lossy(&response.stderr));
    assert!(daemon.terminate().success());
    let data = home.data_dir();
    for command in ["verify", "rebuild"] {
        let done = run_sequor(&[&[command, "--data-dir", data.to_str().unwrap()][..], &setting_flags()].concat());
        assert!(
            done.status.success(),
            "{command}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    let daemon = home.start(&DAEMON_SETTINGS);
    check(&daemon, 40, 6);
    // A merged user gets the lower of the two consent levels.
    assert_eq!(daemon.post("/v1/users/carl/merge", &json!({ "from": "ann" }).to_string()).json()["accepted"], 1);
    assert_eq!(get_consent(&daemon, "carl"), ("session".to_owned(), true));
    assert_eq!(get_consent(&daemon, "ann"), ("session".to_owned(), true));
    assert_eq!(set_consent(&daemon, "ann", "full")["accepted"], 1);
    assert_eq!(get_consent(&daemon, "carl"), ("full".to_owned(), true));
    // A merge would store the id of a user without consent.
    assert_eq!(daemon.post("/v1/users/carl/merge", &json!({ "from": "bob" }).to_string()).json()["withheld"], 1);
    assert!(daemon.terminate().success());
    let restored = DaemonHome::new();
    let target = restored.data_dir();
    let done = run_sequor(
        &[&["restore", backup.to_str().unwrap(), "--data-dir", target.to_str().unwrap()][..], &setting_flags()]
            .concat(),
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let daemon = restored.start(&DAEMON_SETTINGS);
    check(&daemon, 50, 6);
}

#[test]
fn configured_default_consent_applies_to_other_users() {
    let home = DaemonHome::new();
    let daemon = home.start(&["privacy.consent=none"]);
    assert_eq!(daemon.send_events(&[view_at(1, "quiet-3b7e", "a")])["withheld"], 1);
    assert_eq!(daemon.send_events(&[with_field(view_at(2, "ann", "a"), "consent", json!("full"))])["accepted"], 1);
    assert_eq!(set_consent(&daemon, "bob", "full")["accepted"], 1);
    assert_eq!(daemon.send_events(&[view_at(3, "bob", "a")])["accepted"], 1);
    let track = json!({ "userId": "quiet-3b7e", "event": "Product Viewed", "properties": { "product_id": "a" } });
    assert_eq!(daemon.post("/v1/track", &track.to_string()).status, 200);
    assert_eq!(daemon.next_offset(), 3);
    let csv = home.dir().join("rows.csv");
    fs::write(
        &csv,
        "user,item,event,timestamp,consent\nquiet-3b7e,a,view,1700000000,\ncarl,a,view,1700000001,session\n",
    )
    .unwrap();
    let imported = run_sequor(&["import", csv.to_str().unwrap(), "--url", daemon.api_url(), "--json"]);
    let summary: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!((&summary["taken"], &summary["withheld"]), (&json!(1), &json!(1)), "{summary}");
    fs::remove_file(csv).unwrap();
    assert!(daemon.terminate().success());
    assert_eq!(files_containing(home.dir(), "quiet-3b7e"), Vec::<PathBuf>::new());
}
