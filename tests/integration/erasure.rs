//! Users who are forgotten: nothing of them is left in any byte of the data directory, whatever
//! dies on the way.

use serde_json::{Value, json};
use std::path::Path;

use crate::daemon::{Daemon, DaemonHome, event, run, wait_for};
use crate::journal_dump::JournalDump;

const SETTINGS: [&str; 2] = ["session.shards=3", "learning.interval=64"];

/// Whether any file below a folder holds a text.
pub(crate) fn dir_contains(dir: &Path, wanted: &str) -> bool {
    // A folder, too.
    let Ok(mut listed) = dir.read_dir() else { return false };
    listed.any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            dir_contains(&path, wanted)
        } else {
            // A file may go while it is looked for.
            std::fs::read(&path).unwrap_or_default().windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes())
        }
    })
}

/// Twenty others among whom two of one person, with all that may be known of them: events with
/// properties and ids, lists shown, a merge.
fn live(daemon: &Daemon) {
    for round in 0..30 {
        let events: Vec<_> = (0..20)
            .map(|user| event(&format!("e{round}-{user}"), &format!("user{user}"), &format!("item{}", (user + round) % 15)))
            .collect();
        daemon.send_events(&events);
        for (user, item) in [("visitor-5f3a", "kept"), ("ann@example.org", "kept too")] {
            let mut event = event(&format!("secret-id-{user}-{round}"), user, item);
            event["properties"] = json!({ "note": format!("secret-note-{round}") });
            event["session_id"] = json!(format!("secret-visit-{}", round / 7));
            daemon.send_events(&[event]);
            assert_eq!(daemon.get(&format!("/v1/users/{user}/recommendations")).status, 200);
        }
    }
    assert_eq!(daemon.post("/v1/users/ann@example.org/merge", &json!({ "from": "visitor-5f3a" }).to_string()).status, 200);
}

/// What must be in no file any more.
const SECRETS: [&str; 5] = ["visitor-5f3a", "ann@example.org", "secret-id-", "secret-note-", "secret-visit-"];

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of what is known of a user.
pub(crate) fn export_user(daemon: &Daemon, user: &str) -> Vec<Value> {
    let answer = daemon.get(&format!("/v1/users/{user}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    lines(&answer.body)
}

#[test]
fn an_erased_user_is_in_no_byte_and_the_others_are_as_before() {
    let home = DaemonHome::new();
    let daemon = home.start(&SETTINGS);
    live(&daemon);
    let before = export_user(&daemon, "visitor-5f3a");
    assert_eq!(before[0]["entry"], "user");
    assert_eq!(before[0]["ids"], json!(["ann@example.org", "visitor-5f3a"]));
    assert_eq!(before[0]["sequence"].as_array().unwrap().len(), 50, "the last fifty steps");
    assert_eq!(before.iter().filter(|line| line["entry"] == "event").count(), 60);
    assert_eq!(export_user(&daemon, "nobody"), [] as [Value; 0]);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(SECRETS.iter().all(|secret| dir_contains(&home.data_dir(), secret)));
    let sequences = |daemon: &Daemon| (0..20).map(|user| export_user(daemon, &format!("user{user}"))[0].clone()).collect::<Vec<_>>();
    let others = sequences(&daemon);
    // Nothing is to be learned from the lists that are asked for here.
    assert_eq!(daemon.admin_request("POST", "/admin/model/pause", "{}").status, 200);
    // And what was begun comes into use, some borders on.
    (0..200).for_each(|_| drop(daemon.recommended_items("user0")));
    daemon.wait_until_learned(daemon.next_offset());
    let lists = |daemon: &Daemon| (0..20).map(|user| daemon.recommended_items(&format!("user{user}"))).collect::<Vec<_>>();
    let answers = lists(&daemon);

    let answer = daemon.request("DELETE", "/v1/users/visitor-5f3a", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let receipt = answer.json();
    assert_eq!((&receipt["done"], &receipt["ids"]), (&json!(true), &json!(2)));
    assert_eq!(receipt["gone"]["events"], 60);
    assert!(receipt["gone"]["impressions"].as_u64().unwrap() >= 60, "{receipt}");
    for secret in SECRETS {
        assert!(!dir_contains(&home.data_dir(), secret), "{secret}");
    }
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(sequences(&daemon), others);
    assert_eq!(lists(&daemon), answers);
    // Later events under the id belong to a new user.
    daemon.send_events(&[event("secret-id-visitor-5f3a-3", "visitor-5f3a", "item3")]);
    let back = export_user(&daemon, "visitor-5f3a");
    assert_eq!((back.len(), &back[0]["ids"], back[0]["sequence"].as_array().unwrap().len()), (2, &json!(["visitor-5f3a"]), 1));
    daemon.terminate();
    let report = run(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(report.status.success(), "{}{}", String::from_utf8_lossy(&report.stdout), String::from_utf8_lossy(&report.stderr));
    JournalDump::read(&home.data_dir());
    let daemon = home.start(&SETTINGS);
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "visitor-5f3a"), back);
    daemon.assert_healthy();
}

#[test]
fn whoever_dies_on_the_way_goes_on_with_it() {
    let home = DaemonHome::new();
    let mut daemon = home.start(&SETTINGS);
    live(&daemon);
    // Asked and killed, at a few moments of the work; the answer may never come.
    for pause in [0, 15, 40, 90] {
        let url = format!("{}/v1/users/ann@example.org", daemon.api());
        let asking = std::thread::spawn(move || ureq::delete(&url).call().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(pause));
        daemon.kill();
        let _ = asking.join();
        daemon = home.start(&SETTINGS);
    }
    assert_eq!(daemon.request("DELETE", "/v1/users/ann@example.org", "").status, 200);
    wait_for("nothing is left", || SECRETS.iter().all(|secret| !dir_contains(&home.data_dir(), secret)).then_some(()));
    assert_eq!(export_user(&daemon, "ann@example.org"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "user3")[0]["sequence"].as_array().unwrap().len(), 30);
    daemon.assert_healthy();
    daemon.terminate();
    assert!(run(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]).status.success());
}

/// The checkpoint that a stopped daemon left.
fn learned(data: &Path) -> Vec<u8> {
    let mut checkpoints: Vec<_> = data.join("checkpoints").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    checkpoints.sort();
    std::fs::read(checkpoints.last().unwrap()).unwrap()
}

/// What others do, and, if asked for, one more user among them who is the first to name some of the
/// items.
fn visits(with: bool) -> Vec<Value> {
    let mut events = Vec::new();
    for number in 0..900_i64 {
        let at = |mut event: Value| {
            event["timestamp"] = json!(1_700_000_000_000_i64 + number * 1000);
            event
        };
        if with && number % 7 == 3 {
            events.push(at(event(&format!("x{number}"), "gone@example.org", &format!("item{}", (number * 5) % 40))));
        }
        events.push(at(event(&format!("e{number}"), &format!("user{}", number % 23), &format!("item{}", (number + number / 23) % 30))));
    }
    events
}

#[test]
fn unlearning_gives_what_a_journal_gives_that_never_had_the_user() {
    let never = DaemonHome::new();
    let daemon = never.start(&SETTINGS);
    let all = visits(false);
    all.chunks(90).for_each(|events| drop(daemon.send_events(events)));
    let mut later: Vec<_> = (0..40).map(|number| event(&format!("later{number}"), "user3", "item4")).collect();
    later.iter_mut().for_each(|event| event["timestamp"] = json!(1_700_001_000_000_i64));
    daemon.send_events(&later);
    daemon.wait_until_learned(940);
    daemon.terminate();

    let home = DaemonHome::new();
    let daemon = home.start(&SETTINGS);
    visits(true).chunks(70).for_each(|events| drop(daemon.send_events(events)));
    let answer = daemon.request("DELETE", "/v1/users/gone@example.org?unlearn=true", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Learning anew goes on beside this; what comes meanwhile is not lost.
    daemon.send_events(&later);
    let log = wait_for("it has started again", || {
        let log = daemon.log();
        (log.matches("sequor is ready").count() > 1).then_some(log)
    });
    assert!(log.contains("never had the users"), "{log}");
    let status = daemon.status();
    daemon.wait_until_learned(status["journal"]["next_offset"].as_u64().unwrap());
    daemon.terminate();
    assert_eq!(JournalDump::read(&home.data_dir()).event_ids().len(), 940);
    assert!(learned(&home.data_dir()) == learned(&never.data_dir()), "the weights differ");
    assert!(!dir_contains(&home.data_dir(), "gone@example.org"));
    assert!(run(&["verify", "--data-dir", home.data_dir().to_str().unwrap(), "--set", SETTINGS[1]]).status.success());
}

#[test]
fn a_backup_from_before_does_not_bring_the_user_back() {
    let home = DaemonHome::new();
    let daemon = home.start(&SETTINGS);
    live(&daemon);
    let backup = home.path().join("monday.tar.gz");
    assert_eq!(daemon.admin_request("POST", "/admin/backup", &json!({ "target": backup }).to_string()).status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/users/ann@example.org", "").status, 200);
    let list = daemon.get_admin("/admin/erasures").body;
    assert_eq!(lines(&list).len(), 2);
    daemon.terminate();
    let told = run(&["erasures", "--data-dir", home.data_dir().to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&told.stdout), list, "a stopped daemon's directory says the same");
    let file = home.path().join("erasures.ndjson");
    std::fs::write(&file, &list).unwrap();

    let other = DaemonHome::new();
    let restored =
        run(&["restore", backup.to_str().unwrap(), "--data-dir", other.data_dir().to_str().unwrap(), "--erasures", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success(), "{said}{}", String::from_utf8_lossy(&restored.stderr));
    assert!(said.contains("2 of 2 erased ids are in the backup"), "{said}");
    let daemon = other.start(&SETTINGS);
    wait_for("nothing is left", || SECRETS.iter().all(|secret| !dir_contains(&other.data_dir(), secret)).then_some(()));
    assert_eq!(export_user(&daemon, "visitor-5f3a"), [] as [Value; 0]);
    assert_eq!(export_user(&daemon, "user7")[0]["sequence"].as_array().unwrap().len(), 30);
    daemon.terminate();
}
