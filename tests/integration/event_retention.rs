//! What is kept for a set time only: once it is over nothing of it is in any byte of the data
//! directory, whatever dies on the way.

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

/// Twenty users who look at items and search for them two hours ago, and a little now.
fn live(daemon: &Daemon) {
    for round in 0..12 {
        let at = now() - if round < 10 { 2 * HOUR } else { 0 };
        let mut events = Vec::new();
        for user in 0..20 {
            let name = format!("user{user}");
            let mut view = event(&format!("v{round}-{user}"), &name, &format!("item{}", (user + round) % 15));
            view["timestamp"] = json!(at);
            // Visits begin with what will be gone.
            events.extend([search(&format!("{}-{round}-{user}", if round < 10 { "old" } else { "young" }), &name, at), view]);
        }
        daemon.send_events(&events);
    }
}

/// How many views and searches the journal holds of a user, and how many steps its sequence has.
fn counts(daemon: &Daemon, user: &str) -> (usize, usize, usize) {
    let lines = export_user(daemon, user);
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    (of("view"), of("search"), lines[0]["sequence"].as_array().unwrap().len())
}

/// Nothing is found to be wrong, not even to be looked at.
fn assert_sound(home: &DaemonHome) {
    let report = run(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
    let said = String::from_utf8(report.stdout).unwrap();
    assert!(report.status.success() && !said.contains("sessions, user"), "{said}{}", String::from_utf8_lossy(&report.stderr));
}

#[test]
fn what_was_kept_long_enough_goes_and_the_rest_stays() {
    let home = DaemonHome::new();
    let mut daemon = home.start(&SETTINGS);
    live(&daemon);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(dir_contains(&home.data_dir(), "words-old-3-4"));
    // Some sessions are at rest by then, others at work; and it dies on the way.
    wait_for("it to be found", || daemon.get_admin("/metrics").body.contains("sequor_expired_entries_total 200").then_some(()));
    daemon.kill();
    daemon = home.start(&SETTINGS);
    wait_for("nothing to be left", || (!dir_contains(&home.data_dir(), "words-old-")).then_some(()));
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
fn what_comes_late_goes_the_next_time_and_a_backup_does_not_bring_it_back() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    live(&daemon);
    let backup = home.data_dir().with_file_name("backup.tar.gz");
    let asked = json!({ "target": backup });
    assert_eq!(daemon.admin_request("POST", "/admin/backup", &asked.to_string()).status, 200);
    daemon.terminate();

    let restored = DaemonHome::new();
    let [from, to] = [&backup, &restored.data_dir()].map(|path| path.to_str().unwrap().to_owned());
    std::fs::remove_dir_all(restored.data_dir()).ok();
    assert!(run(&["restore", &from, "--data-dir", &to]).status.success());
    assert!(dir_contains(&restored.data_dir(), "words-old-"));
    let daemon = restored.start(&SETTINGS);
    wait_for("nothing to be left", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    daemon.send_events(&[search("old-again", "user3", now() - 2 * HOUR)]);
    assert_eq!(counts(&daemon, "user3"), (12, 3, 15));
    wait_for("nothing to be left again", || (!dir_contains(&restored.data_dir(), "words-old-")).then_some(()));
    wait_for("it to be forgotten", || (counts(&daemon, "user3") == (12, 2, 14)).then_some(()));
    daemon.assert_healthy();
    daemon.terminate();
    assert_sound(&restored);
}
