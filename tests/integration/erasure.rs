//! Erasure: an erased user is removed from every file of the data directory, even if the daemon is
//! killed during the erasure.

use serde_json::{Value, json};
use std::path::Path;

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::journal_dump::JournalDump;

const DAEMON_SETTINGS: [&str; 2] = ["session.shards=3", "learning.interval=64"];

/// Whether any file below a folder contains a text.
pub(crate) fn dir_contains(dir: &Path, text: &str) -> bool {
    // A folder can also disappear.
    let Ok(mut entries) = dir.read_dir() else { return false };
    entries.any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            dir_contains(&path, text)
        } else {
            // A file can disappear during the search.
            std::fs::read(&path).unwrap_or_default().windows(text.len()).any(|bytes| bytes == text.as_bytes())
        }
    })
}

/// Sends events of twenty users, and of two merged ids of one person with every kind of stored
/// data: properties, ids, impressions, a merge.
fn send_activity(daemon: &Daemon) {
    for round in 0..30 {
        let events: Vec<_> = (0..20)
            .map(|user| {
                view_event(&format!("e{round}-{user}"), &format!("user{user}"), &format!("item{}", (user + round) % 15))
            })
            .collect();
        daemon.send_events(&events);
        for (user, item) in [("visitor-5f3a", "kept"), ("ann@example.org", "kept too")] {
            let mut event = view_event(&format!("secret-id-{user}-{round}"), user, item);
            event["properties"] = json!({ "note": format!("secret-note-{round}") });
            event["session_id"] = json!(format!("secret-visit-{}", round / 7));
            daemon.send_events(&[event]);
            assert_eq!(daemon.get(&format!("/v1/users/{user}/recommendations")).status, 200);
        }
    }
    assert_eq!(
        daemon.post("/v1/users/ann@example.org/merge", &json!({ "from": "visitor-5f3a" }).to_string()).status,
        200
    );
}

/// Texts that must not remain in any file.
const ERASED_TEXTS: [&str; 5] = ["visitor-5f3a", "ann@example.org", "secret-id-", "secret-note-", "secret-visit-"];

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exported lines of a user.
pub(crate) fn export_user(daemon: &Daemon, user: &str) -> Vec<Value> {
    let response = daemon.get(&format!("/v1/users/{user}"));
    assert_eq!(response.status, 200, "{}", response.body);
    json_lines(&response.body)
}

#[test]
fn erased_user_leaves_no_trace_and_others_are_unchanged() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    send_activity(&daemon);
    daemon.wait_until_learned(daemon.next_offset());
    let before = export_user(&daemon, "visitor-5f3a");
    assert_eq!(before[0]["entry"], "user");
    assert_eq!(before[0]["ids"], json!(["ann@example.org", "visitor-5f3a"]));
    assert_eq!(before[0]["sequence"].as_array().unwrap().len(), 50, "a sequence holds the last fifty steps");
    assert_eq!(before.iter().filter(|line| line["entry"] == "event").count(), 60);
    assert_eq!(before[1]["entry"], "profile");
    assert!(before[1]["sessions"].as_u64().unwrap() > 1, "{}", before[1]);
    let profile_counts: Vec<f64> =
        before[1]["items"].as_array().unwrap().iter().map(|item| item["count"].as_f64().unwrap()).collect();
    assert!(!profile_counts.is_empty() && profile_counts.is_sorted_by(|a, b| a >= b), "{}", before[1]);
    assert_eq!(export_user(&daemon, "nobody"), [] as [Value; 0]);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(ERASED_TEXTS.iter().all(|secret| dir_contains(&home.data_dir(), secret)));
    let sequences = |daemon: &Daemon| {
        (0..20).map(|user| export_user(daemon, &format!("user{user}"))[0].clone()).collect::<Vec<_>>()
    };
    let sequences_before = sequences(&daemon);
    // Pauses learning, so that the lists requested below change nothing.
    assert_eq!(daemon.admin_request("POST", "/admin/model/pause", "{}").status, 200);
    // The weights of a training step that is still running are first used some training boundaries
    // later. At a training boundary, a fixed number of entries apart, the learner switches to new
    // weights.
    let end = daemon.next_offset() + 200;
    (0..200).for_each(|_| drop(daemon.recommended_items("user0")));
    wait_for("the impressions", || (daemon.next_offset() == end).then_some(()));
    daemon.wait_until_learned(end);
    let lists =
        |daemon: &Daemon| (0..20).map(|user| daemon.recommended_items(&format!("user{user}"))).collect::<Vec<_>>();
    let lists_before = lists(&daemon);

    let response = daemon.request("DELETE", "/v1/users/visitor-5f3a", "");
    assert_eq!(response.status, 200, "{}", response.body);
    let receipt = response.json();
    assert_eq!((&receipt["done"], &receipt["ids"]), (&json!(true), &json!(2)));
    assert_eq!(receipt["gone"]["events"], 60);
    assert!(receipt["gone"]["impressions"].as_u64().unwrap() >= 60, "{receipt}");
    for secret in ERASED_TEXTS {
        assert!(!dir_contains(&home.data_dir(), secret), "{secret}");
    }
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(sequences(&daemon), sequences_before);
    assert_eq!(lists(&daemon), lists_before);
    // Later events under the id belong to a new user.
    daemon.send_events(&[view_event("secret-id-visitor-5f3a-3", "visitor-5f3a", "item3")]);
    let new_user = export_user(&daemon, "visitor-5f3a");
    assert_eq!(
        (new_user.len(), &new_user[0]["ids"], new_user[0]["sequence"].as_array().unwrap().len()),
        (2, &json!(["visitor-5f3a"]), 1)
    );
    daemon.terminate();
    let report = run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(
        report.status.success(),
        "{}{}",
        String::from_utf8_lossy(&report.stdout),
        String::from_utf8_lossy(&report.stderr)
    );
    JournalDump::read_from_copy(&home.data_dir());
    let daemon = home.start(&DAEMON_SETTINGS);
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "visitor-5f3a"), new_user);
    daemon.assert_healthy();
}

#[test]
fn interrupted_erasure_resumes_after_restart() {
    let home = DaemonHome::new();
    let mut daemon = home.start(&DAEMON_SETTINGS);
    send_activity(&daemon);
    // Kills the daemon at several stages of the erasure; the response may never arrive.
    for pause in [0, 15, 40, 90] {
        let url = format!("{}/v1/users/ann@example.org", daemon.api_url());
        let request = std::thread::spawn(move || ureq::delete(&url).call().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(pause));
        daemon.kill();
        let _ = request.join();
        daemon = home.start(&DAEMON_SETTINGS);
    }
    assert_eq!(daemon.request("DELETE", "/v1/users/ann@example.org", "").status, 200);
    wait_for("all traces to be removed", || {
        ERASED_TEXTS.iter().all(|secret| !dir_contains(&home.data_dir(), secret)).then_some(())
    });
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "user3")[0]["sequence"].as_array().unwrap().len(), 30);
    daemon.assert_healthy();
    daemon.terminate();
    assert!(run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]).status.success());
}

/// The newest checkpoint of a stopped daemon.
fn newest_checkpoint(data: &Path) -> Vec<u8> {
    let mut checkpoints: Vec<_> =
        data.join("checkpoints").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    std::fs::read(checkpoints.last().unwrap()).unwrap()
}

/// Events of several users. With `with_erased_user`, they include a user who is the first to view
/// some of the items.
fn visit_events(with_erased_user: bool) -> Vec<Value> {
    let mut events = Vec::new();
    for number in 0..900_i64 {
        let at = |mut event: Value| {
            event["timestamp"] = json!(1_700_000_000_000_i64 + number * 1000);
            event
        };
        if with_erased_user && number % 7 == 3 {
            events.push(at(view_event(
                &format!("x{number}"),
                "gone@example.org",
                &format!("item{}", (number * 5) % 40),
            )));
        }
        events.push(at(view_event(
            &format!("e{number}"),
            &format!("user{}", number % 23),
            &format!("item{}", (number + number / 23) % 30),
        )));
    }
    events
}

#[test]
fn unlearning_equals_learning_without_the_user() {
    let never_had_user = DaemonHome::new();
    let daemon = never_had_user.start(&DAEMON_SETTINGS);
    let all = visit_events(false);
    all.chunks(90).for_each(|events| drop(daemon.send_events(events)));
    let mut later: Vec<_> = (0..40).map(|number| view_event(&format!("later{number}"), "user3", "item4")).collect();
    later.iter_mut().for_each(|event| event["timestamp"] = json!(1_700_001_000_000_i64));
    daemon.send_events(&later);
    daemon.wait_until_learned(940);
    daemon.terminate();

    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    visit_events(true).chunks(70).for_each(|events| drop(daemon.send_events(events)));
    let response = daemon.request("DELETE", "/v1/users/gone@example.org?unlearn=true", "");
    assert_eq!(response.status, 200, "{}", response.body);
    // Unlearning runs in the background; events that arrive during unlearning are kept.
    daemon.send_events(&later);
    let log = wait_for("the restart", || {
        let log = daemon.read_home_log();
        (log.matches("sequor is ready").count() > 1).then_some(log)
    });
    assert!(log.contains("a journal without the removed events"), "{log}");
    daemon.terminate();
    assert_eq!(JournalDump::read_from_copy(&home.data_dir()).event_ids().len(), 940);
    assert!(newest_checkpoint(&home.data_dir()) == newest_checkpoint(&never_had_user.data_dir()), "the weights differ");
    assert!(!dir_contains(&home.data_dir(), "gone@example.org"));
    assert!(
        run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap(), "--set", DAEMON_SETTINGS[1]])
            .status
            .success()
    );
}

#[test]
fn restored_backup_applies_later_erasures() {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    send_activity(&daemon);
    let backup = home.dir().join("monday.tar.gz");
    assert_eq!(daemon.admin_request("POST", "/admin/backup", &json!({ "target": backup }).to_string()).status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/users/ann@example.org", "").status, 200);
    let list = daemon.get_admin("/admin/erasures").body;
    assert_eq!(json_lines(&list).len(), 2);
    daemon.terminate();
    let listed = run_sequor(&["erasures", "--data-dir", home.data_dir().to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout), list, "the offline command lists the same erasures");
    let file = home.dir().join("erasures.ndjson");
    std::fs::write(&file, &list).unwrap();

    let other = DaemonHome::new();
    let restored = run_sequor(&[
        "restore",
        backup.to_str().unwrap(),
        "--data-dir",
        other.data_dir().to_str().unwrap(),
        "--erasures",
        file.to_str().unwrap(),
    ]);
    let stdout = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success(), "{stdout}{}", String::from_utf8_lossy(&restored.stderr));
    assert!(stdout.contains("2 of 2 erased ids are in the backup"), "{stdout}");
    let daemon = other.start(&DAEMON_SETTINGS);
    wait_for("all traces to be removed", || {
        ERASED_TEXTS.iter().all(|secret| !dir_contains(&other.data_dir(), secret)).then_some(())
    });
    assert_eq!(export_user(&daemon, "visitor-5f3a"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "user7")[0]["sequence"].as_array().unwrap().len(), 30);
    daemon.terminate();
}
