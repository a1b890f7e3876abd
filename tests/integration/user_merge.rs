//! Merging users, across shards and crashes.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::journal_dump::JournalDump;
use crate::random::TestRng;

/// With several shards, the two users of a merge are mostly on different shards.
const DAEMON_SETTINGS: [&str; 2] = ["session.shards=3", "learning.interval=64"];

fn merge_users(daemon: &Daemon, into: &str, from: &str) -> (u16, Value) {
    let response = daemon.post(&format!("/v1/users/{into}/merge"), &json!({ "from": from }).to_string());
    (response.status, response.json())
}

fn event_at(second: i64, user: &str, item: &str) -> Value {
    let mut event = view_event(&format!("{user}-{second}"), user, item);
    event["timestamp"] = json!(1_700_000_000_000_i64 + second * 1000);
    event
}

/// The items of a user's sequence, oldest first.
fn user_items(daemon: &Daemon, user: &str) -> Vec<String> {
    let response = daemon.get_admin(&format!("/admin/sessions/{user}"));
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["sequence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["item"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn merged_user_takes_over_the_visitors_sequence() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&[
        event_at(1, "ann", "a"),
        event_at(2, "visitor", "b"),
        event_at(3, "ann", "c"),
        event_at(4, "visitor", "d"),
    ]);
    let (status, receipt) = merge_users(&daemon, "ann", "visitor");
    assert_eq!((status, &receipt["accepted"], &receipt["duplicates"]), (200, &json!(1), &json!(0)), "{receipt}");
    assert_eq!(user_items(&daemon, "ann"), ["a", "b", "c", "d"]);
    // Repeated and conflicting merges have no effect.
    for (into, from) in [("ann", "visitor"), ("bob", "visitor"), ("visitor", "ann")] {
        assert_eq!(merge_users(&daemon, into, from).1["duplicates"], 1, "{from} into {into}");
    }
    assert_eq!(merge_users(&daemon, "ann", "ann").0, 400);
    assert_eq!(merge_users(&daemon, "ann", "").0, 400);
    // Later events and requests under a merged id belong to the merged user. Segment's `identify`
    // and `alias` merge users too.
    daemon.send_events(&[event_at(5, "visitor", "e")]);
    let identify = json!({ "batch": [
        { "type": "identify", "anonymousId": "phone", "userId": "ann" },
        { "type": "track", "anonymousId": "phone", "event": "Product Viewed", "properties": { "product_id": "f" } },
        { "type": "alias", "previousId": "ann", "userId": "anna" },
    ]});
    assert_eq!(daemon.post("/v1/batch", &identify.to_string()).status, 200);
    let anna = ["a", "b", "c", "d", "e", "f"];
    for id in ["visitor", "phone", "ann", "anna"] {
        assert_eq!(user_items(&daemon, id), anna, "requested as {id}");
    }
    daemon.wait_until_learned(9);
    for id in ["visitor", "phone", "ann", "anna"] {
        let response = daemon.get(&format!("/v1/users/{id}/recommendations"));
        assert_ne!(response.json()["fallback"], "unknown_user", "{id}: {}", response.body);
    }
    daemon.kill();
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(user_items(&daemon, "anna"), anna);
    assert_eq!(merge_users(&daemon, "bob", "visitor").1["duplicates"], 1, "the merge is known after a restart");
    daemon.send_events(&[event_at(6, "phone", "g")]);
    // Event "f" has no timestamp, so its time of arrival applies and it is the latest.
    assert_eq!(user_items(&daemon, "anna"), ["a", "b", "c", "d", "e", "g", "f"]);
    assert!(daemon.terminate().success());
    // After a clean stop, aliases are read from the store instead of the journal's tail.
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(merge_users(&daemon, "bob", "visitor").1["duplicates"], 1);
    assert!(daemon.terminate().success());
    JournalDump::read_from_copy(&home.data_dir());
}

#[test]
fn random_merges_and_kills_keep_sessions_consistent() {
    let home = DaemonHome::new();
    let mut random = TestRng(11);
    let mut second = 0;
    for round in 0..4 {
        let daemon = home.start(&DAEMON_SETTINGS);
        for _ in 0..40 {
            let events: Vec<_> = (0..1 + random.number_below(6))
                .map(|_| {
                    second += 1;
                    let number = random.number_below(20);
                    let user = if random.number_below(2) == 0 {
                        format!("user{}", number % 5)
                    } else {
                        format!("visitor{round}-{number}")
                    };
                    // Some gaps are hours long, and some events arrive late.
                    let at_second = second * 60 + random.number_below(3) as i64 * 1500;
                    let mut event = event_at(at_second, &user, &format!("item{}", random.number_below(30)));
                    event["event_id"] = json!(format!("e{second}"));
                    event
                })
                .collect();
            daemon.send_events(&events);
            if random.number_below(3) == 0 {
                // Includes users who were merged before, and regular users.
                let from = if random.number_below(8) == 0 {
                    format!("user{}", random.number_below(5))
                } else {
                    format!("visitor{round}-{}", random.number_below(20))
                };
                let into = if random.number_below(3) == 0 {
                    format!("visitor{round}-{}", random.number_below(20))
                } else {
                    format!("user{}", random.number_below(5))
                };
                let (status, receipt) = merge_users(&daemon, &into, &from);
                assert!(status == 200 || from == into, "{receipt}");
            }
        }
        if round == 1 {
            // Waits until session records are stored after a merge.
            let stored = || daemon.metric_value("sequor_session_events_total") > 0.0;
            wait_for("the sessions", || stored().then_some(()));
            std::thread::sleep(std::time::Duration::from_millis(2500));
        }
        daemon.kill();
        JournalDump::read_from_copy(&home.data_dir());
    }
    assert!(home.start(&DAEMON_SETTINGS).terminate().success());
    JournalDump::read_from_copy(&home.data_dir());
    let data = home.data_dir();
    let mut on = ["verify", "--data-dir", data.to_str().unwrap()];
    let settings: Vec<_> = crate::daemon::SMALL_NETWORK_SETTINGS
        .iter()
        .chain(&DAEMON_SETTINGS)
        .flat_map(|setting| ["--set", setting])
        .collect();
    let verified = run_sequor(&[&on[..], &settings].concat());
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    let before = std::fs::read(newest_checkpoint(&home)).unwrap();
    on[0] = "rebuild";
    let rebuilt = run_sequor(&[&on[..], &settings].concat());
    assert!(
        rebuilt.status.success(),
        "{}{}",
        String::from_utf8_lossy(&rebuilt.stdout),
        String::from_utf8_lossy(&rebuilt.stderr)
    );
    assert!(before == std::fs::read(newest_checkpoint(&home)).unwrap(), "a rebuild gives an identical checkpoint");
    JournalDump::read_from_copy(&home.data_dir());
}

/// The newest checkpoint.
fn newest_checkpoint(home: &DaemonHome) -> std::path::PathBuf {
    let files = home.data_dir().join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "checkpoint")).max().unwrap()
}

/// Regression test: a site whose template printed `undefined` for every visitor without an id
/// merged all these visitors permanently.
#[test]
fn placeholder_ids_are_never_merged() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    daemon.send_events(&[event_at(1, "undefined", "a"), event_at(2, "ann", "b"), event_at(3, "bob", "c")]);
    for id in ["undefined", "null", "NULL", "0", "Guest", " ", "[object Object]"] {
        let batch = json!({ "batch": [
            { "type": "identify", "anonymousId": id, "userId": "ann" },
            { "type": "alias", "previousId": "bob", "userId": id },
        ]});
        let answer = daemon.post("/v1/batch", &batch.to_string());
        let warnings = answer.json()["warnings"].clone();
        assert_eq!(
            (answer.status, warnings[0]["index"].clone(), warnings[1]["index"].clone()),
            (200, json!(0), json!(1)),
            "{id}: {}",
            answer.body
        );
        assert_eq!((&warnings[0]["code"], &warnings[0]["field"]), (&json!("placeholder_id"), &json!("anonymousId")));
        let answer = daemon.post("/v1/identify", &json!({ "anonymousId": id, "userId": "ann" }).to_string());
        assert!(
            answer.status == 200
                && answer.json()["warnings"][0]["reason"].as_str().unwrap().contains("events.placeholder_ids")
        );
        if !id.trim().is_empty() {
            assert_eq!(merge_users(&daemon, "ann", id).0, 400, "{id}");
        }
    }
    // The next requests contain a JSON number as an id, and an id that is not on the placeholder
    // list.
    let zero = daemon.post("/v1/identify", r#"{"anonymousId":0,"userId":"ann"}"#).json();
    assert_eq!(zero["warnings"][0]["code"], "placeholder_id", "{zero}");
    assert_eq!(daemon.next_offset(), 3, "nothing was merged");
    assert_eq!(daemon.metric_value("sequor_refused_merges_total"), 7.0 * 3.0 + 6.0 + 1.0);
    assert_eq!(daemon.read_home_log().matches("asked to merge a placeholder id").count(), 1);
    drop(daemon);

    let daemon = home.start(&["events.placeholder_ids=[\"demo\"]"]);
    assert_eq!((merge_users(&daemon, "ann", "demo").0, merge_users(&daemon, "ann", "guest").0), (400, 200));
}
