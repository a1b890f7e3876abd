//! Changed session settings: the stored sequences follow the new settings from the next start on.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, SMALL_NETWORK_SETTINGS, sequor_command, view_event};

const START_MS: i64 = 1_700_000_000_000;

/// An event `minute` minutes after the start.
fn event_at_minute(id: usize, user: &str, kind: &str, item: &str, minute: i64) -> Value {
    let mut event = view_event(&format!("e{id}"), user, item);
    event["type"] = json!(kind);
    event["timestamp"] = json!(START_MS + minute * 60_000);
    event
}

/// A user's steps: item, kind, value, and whether a session starts there.
fn user_steps(daemon: &Daemon, user: &str) -> Value {
    let answer = daemon.get_admin(&format!("/admin/sessions/{user}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let view = answer.json();
    let step = |step: &Value| json!([step["item"], step["type"], step["value"], step["boundary"]]);
    view["sequence"].as_array().unwrap().iter().map(step).collect()
}

fn run_verify(home: &DaemonHome, settings: &[&str]) -> (Option<i32>, String) {
    let mut command = sequor_command();
    command.args(["verify", "--data-dir"]).arg(home.data_dir());
    for setting in SMALL_NETWORK_SETTINGS.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    let output = command.output().unwrap();
    (
        output.status.code(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// Regression test: after a change of the idle gap or of kinds, the stored sequences kept their old
/// session boundaries, kinds and values, and `verify` reported damage.
#[test]
fn stored_sequences_follow_changed_settings_and_are_never_reported_as_damaged() {
    let wish = "events.kinds.wish={ value = 2.0 }";
    let zest = "events.kinds.zest={ value = 7.0 }";
    let events: Vec<_> = (0..120_usize)
        .map(|n| {
            let kind = ["view", "wish", "cart", "zest"][n % 4];
            event_at_minute(n, &format!("user{}", n % 5), kind, &format!("item{}", n % 17), n as i64 * 3)
        })
        .collect();
    let home = DaemonHome::new();
    let daemon = home.start(&[wish, zest]);
    daemon.send_events(&events);
    let before = user_steps(&daemon, "user1");
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(run_verify(&home, &[wish, zest]).0, Some(0));

    // Applies each change of settings in turn to the same store. The result must equal that of a
    // daemon that had these settings from the start.
    let changes: [&[&str]; 3] = [
        &[wish, zest, "session.idle_gap=10m"],
        &["events.kinds.wish={ value = 3.5 }", zest, "events.kinds.view={ value = 0.5 }"],
        &[zest],
    ];
    for settings in changes {
        let (status, report) = run_verify(&home, settings);
        assert_eq!(status, Some(0), "{report}");
        assert!(
            report.contains("settings: the sessions were computed with another")
                && report.contains("damages                      0")
        );
        let daemon = home.start(settings);
        let fresh = DaemonHome::new();
        let other = fresh.start(settings);
        let is_taken =
            |event: &&Value| settings.iter().any(|setting| setting.contains("wish")) || event["type"] != "wish";
        other.send_events(&events.iter().filter(is_taken).cloned().collect::<Vec<_>>());
        for user in 0..5 {
            let (found, expected) =
                (user_steps(&daemon, &format!("user{user}")), user_steps(&other, &format!("user{user}")));
            assert_eq!(found, expected, "user{user} under {settings:?}");
        }
        assert_ne!(user_steps(&daemon, "user1"), before);
        daemon.assert_healthy();
        assert_eq!(daemon.terminate().code(), Some(0));
        let (status, report) = run_verify(&home, settings);
        assert_eq!(status, Some(0), "{report}");
        assert!(!report.contains("settings:"), "{report}");
    }
    let log = std::fs::read_to_string(home.dir().join("log")).unwrap();
    assert_eq!(log.matches("the sessions are recomputed from the journal").count(), 3, "{log}");
}
