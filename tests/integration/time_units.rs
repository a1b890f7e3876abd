//! The units of timestamps, with the real binary. Regression tests: seconds in place of
//! milliseconds became times in January 1970 without an error, over HTTP, in NDJSON files and in
//! catalogs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor};

fn write_file(home: &DaemonHome, name: &str, text: &str) -> PathBuf {
    let file = home.dir().join(name);
    fs::write(&file, text).unwrap();
    file
}

/// Imports a file into a daemon. Returns the exit code and standard error.
fn run_import(daemon: &Daemon, file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run_sequor(&[&["import", file.to_str().unwrap(), "--url", daemon.api_url()], arguments].concat());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The item and the timestamp of each event in the journal.
fn journal_items_and_times(daemon: &Daemon) -> Vec<(String, Value)> {
    let output = run_sequor(&["export", "--url", daemon.admin_url(), "--only", "event"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    lines
        .lines()
        .map(event)
        .map(|event| (event["item_id"].as_str().unwrap().to_owned(), event["timestamp"].clone()))
        .collect()
}

#[test]
fn a_number_in_another_unit_is_refused_over_http() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (number, code, hint) in [
        (1_600_000_000_i64, "too_early", "in seconds it is 2020-09-13T12:26:40Z"),
        (0, "too_early", "in milliseconds is 1970-01-01T00:00:00Z"),
        (1_600_000_000_000_000, "too_late", "in microseconds it is 2020-09-13T12:26:40Z"),
        (1_600_000_000_000_000_000, "too_late", "in nanoseconds it is 2020-09-13T12:26:40Z"),
    ] {
        let event = json!({ "user_id": "u", "type": "view", "item_id": "i", "timestamp": number });
        for path in ["/v1/events", "/v1/events/validate"] {
            let rejected = daemon.post(path, &event.to_string()).json()["rejected"][0].clone();
            assert_eq!(
                (&rejected["field"], &rejected["code"]),
                (&json!("timestamp"), &json!(code)),
                "{path}: {rejected}"
            );
            assert!(rejected["reason"].as_str().unwrap().contains(hint), "{path}: {rejected}");
        }
        let item = daemon.request("PUT", "/v1/items/tea", &json!({ "expires": number }).to_string());
        assert!(item.status == 400 && item.body.contains(hint), "{}: {}", item.status, item.body);
        let call = json!({ "type": "track", "userId": "u", "event": "Product Viewed", "properties": { "product_id": "i" }, "timestamp": number });
        let batch = daemon.post("/v1/batch?verbose=1", &json!({ "batch": [call] }).to_string());
        assert!(batch.body.contains(hint), "{}", batch.body);
    }
    assert_eq!(daemon.next_offset(), 0);
    // A time in 1970 is accepted as RFC 3339 text.
    let event = json!({ "user_id": "u", "type": "view", "item_id": "i", "timestamp": "1970-01-02T00:00:00Z" });
    assert_eq!(daemon.post("/v1/events", &event.to_string()).status, 200);
}

#[test]
fn files_of_every_unit_give_the_same_times() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let header = "user,item,event,timestamp\n";
    let json = |item: &str, at: &str| {
        format!("{{\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"{item}\",\"timestamp\":{at}}}\n")
    };
    let csv = |item: &str, at: &str| format!("{header}u,{item},view,{at}\n");
    let files = [
        ("seconds.ndjson", json("a", "1600000000"), &[][..]),
        ("milliseconds.ndjson", json("b", "1600000000000"), &[]),
        ("microseconds.ndjson", json("c", "\"1600000000000000\""), &[]),
        ("named.ndjson", json("d", "1600000000"), &["--time-unit", "s"]),
        ("nanoseconds.csv", csv("e", "1600000000000000000"), &["--time-unit", "ns"]),
        ("us.csv", csv("f", "1600000000000000"), &["--time-unit", "us"]),
        ("utc.csv", csv("g", "2020-09-13 12:26:40 UTC"), &[]),
        ("berlin.csv", csv("h", "2020-09-13 14:26:40"), &["--time-zone", "Europe/Berlin"]),
        ("naive.csv", csv("i", "2020-09-13 12:26:40"), &["--time-unit", "iso"]),
    ];
    for (name, text, arguments) in &files {
        let (code, error) = run_import(&daemon, &write_file(&home, name, text), arguments);
        assert_eq!(code, Some(0), "{name}: {error}");
    }
    let expected: Vec<_> = ('a'..='i').map(|item| (item.to_string(), json!(1_600_000_000_000_i64))).collect();
    assert_eq!(journal_items_and_times(&daemon), expected);
    let (code, error) =
        run_import(&daemon, &write_file(&home, "date.csv", &csv("j", "2020-09-13")), &["--time-zone", "+02:00"]);
    assert_eq!(code, Some(0), "{error}");
    // date -u -d 2020-09-12T22:00:00Z +%s gives 1599948000.
    assert_eq!(journal_items_and_times(&daemon).last().unwrap().1, json!(1_599_948_000_000_i64));
    // Without a zone, a time without an offset has no meaning.
    let (code, error) = run_import(&daemon, &write_file(&home, "nowhere.csv", &csv("k", "2020-09-13 12:26:40")), &[]);
    assert!(code == Some(2) && error.contains("name a --time-zone"), "{error}");
    let (code, error) =
        run_import(&daemon, &write_file(&home, "zone.csv", &csv("k", "2020-09-13")), &["--time-zone", "Mars/Olympus"]);
    assert!(code == Some(1) && error.contains("unknown time zone `Mars/Olympus`"), "{error}");
}

#[test]
fn a_time_in_1970_needs_an_explicit_unit() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let rows = "user,item,event,timestamp\nu,a,view,1\nu,b,view,2\n";
    let file = write_file(&home, "relative.csv", rows);
    let (code, error) = run_import(&daemon, &file, &[]);
    assert!(
        code == Some(2) && error.contains("1 in seconds is 1970-01-01T00:00:01Z; if that is meant, name the unit"),
        "{error}"
    );
    assert_eq!(daemon.next_offset(), 0);
    let (code, error) = run_import(&daemon, &write_file(&home, "meant.csv", rows), &["--time-unit", "s"]);
    assert_eq!((code, daemon.next_offset()), (Some(0), 2), "{error}");
    let stored = journal_items_and_times(&daemon);
    assert_eq!(
        stored,
        [("a".to_owned(), json!("1970-01-01T00:00:01Z")), ("b".to_owned(), json!("1970-01-01T00:00:02Z"))]
    );
    for command in ["replay", "train"] {
        let output = run_sequor(&[command, file.to_str().unwrap(), "--set", "network.hidden=8"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && error.contains("name the unit with --time-unit"),
            "{command}: {error}"
        );
    }
}

#[test]
fn a_catalog_in_seconds_does_not_expire() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (name, text) in [
        ("a.csv", "item_id,expires\ntea,4102444800\n"),
        ("a.ndjson", "{\"item_id\":\"cup\",\"expires\":4102444800000000}\n"),
    ] {
        let (code, error) = run_import(&daemon, &write_file(&home, name, text), &["--items"]);
        assert_eq!(code, Some(0), "{error}");
    }
    for item in ["tea", "cup"] {
        assert_eq!(daemon.get(&format!("/v1/items/{item}")).json()["expires"], json!(4_102_444_800_000_i64), "{item}");
    }
    let (code, error) = run_import(
        &daemon,
        &write_file(&home, "b.csv", "item_id,expires\npot,2099-12-31\n"),
        &["--items", "--time-zone", "UTC"],
    );
    assert_eq!(code, Some(0), "{error}");
}

/// Regression test: in NDJSON, seconds were read as milliseconds, so the replay never found an idle
/// gap.
#[test]
fn a_replay_of_seconds_finds_the_same_sessions_as_one_of_milliseconds() {
    let home = DaemonHome::new();
    let report = |name: &str, unit: u64| {
        let visits = crate::random::random_visits(5, 300);
        let rows = visits.iter().enumerate().map(|(row, visit)| {
            // Every seventh event comes an hour after the previous event.
            let at = (visit.at + (row as u64 / 7) * 3_600_000) / unit;
            format!(
                "{{\"user_id\":\"{}\",\"type\":\"view\",\"item_id\":\"{}\",\"timestamp\":{at}}}\n",
                visit.user, visit.item
            )
        });
        let file = write_file(&home, name, &rows.collect::<String>());
        let output = run_sequor(&["replay", file.to_str().unwrap(), "--idle-gap", "30m", "--without", "network"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| line.contains("Recall") || line.contains("evaluated"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(report("seconds.ndjson", 1000), report("milliseconds.ndjson", 1));
}
