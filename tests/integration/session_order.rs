//! The sessions of events that come late, out of order, or from several visits at once.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// The start of the tests' day.
const TODAY: i64 = 1_700_000_000_000;

/// A view at a time in minutes from [`TODAY`]. The item is named after this time.
fn view_at(user: &str, minute: i64, session_id: Option<&str>) -> Value {
    let mut view = json!({
        "event_id": format!("{user} {minute}"), "user_id": user, "type": "view", "item_id": format!("at {minute}"),
        "timestamp": TODAY + minute * MINUTE,
    });
    if let Some(id) = session_id {
        view["session_id"] = json!(id);
    }
    view
}

/// The minutes of the user's steps, by session, as the export shows them.
fn sessions(daemon: &Daemon, user: &str) -> Vec<Vec<i64>> {
    let export = daemon.get(&format!("/v1/users/{user}")).body;
    let first: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    let mut sessions: Vec<Vec<i64>> = Vec::new();
    for step in first["sequence"].as_array().unwrap_or_else(|| panic!("{first}")) {
        if step["boundary"] == true || sessions.is_empty() {
            sessions.push(Vec::new());
        }
        let minute = (step["timestamp"].as_i64().unwrap() - TODAY) / MINUTE;
        sessions.last_mut().unwrap().push(minute);
    }
    sessions
}

/// Sends the events one by one, then checks the users' sessions three times: immediately, after a
/// kill, and after a stop. `sequor verify` computes the same sessions from the journal.
fn assert_sessions(events: &[Value], merge: Option<(&str, &str)>, expected: &[(&str, &[&[i64]])]) {
    for shards in ["session.shards=1", "session.shards=4"] {
        let home = DaemonHome::new();
        let settings = [shards, "learning.interval=4", "session.live_max=1"];
        let daemon = home.start(&settings);
        events.iter().for_each(|event| drop(daemon.send_events(std::slice::from_ref(event))));
        let mut entries = events.len() as u64;
        if let Some((from, into)) = merge {
            let merged = daemon.post(&format!("/v1/users/{into}/merge"), &json!({ "from": from }).to_string());
            assert_eq!(merged.status, 200, "{}", merged.body);
            entries += 1;
        }
        daemon.wait_until_learned(entries);
        let check = |daemon: &Daemon| {
            for (user, expected) in expected {
                assert_eq!(sessions(daemon, user), *expected, "{shards}");
            }
        };
        check(&daemon);
        daemon.kill();
        let daemon = home.start(&settings);
        check(&daemon);
        assert_eq!(daemon.terminate().code(), Some(0));
        let verified = run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        // The learner continues from its checkpoint with the same sessions.
        let daemon = home.start(&settings);
        check(&daemon);
        daemon.assert_healthy();
    }
}

/// Regression test: late events were appended to the current session, so the next event that was on
/// time started a new session.
#[test]
fn late_events_of_a_phone_do_not_tear_the_session_of_today() {
    const DAYS_AGO: i64 = -3 * DAY / MINUTE;
    let minutes = [0, 1, DAYS_AGO, DAYS_AGO + 1, 2, DAYS_AGO + 2, 3];
    let events: Vec<_> = minutes.iter().map(|minute| view_at("ann", *minute, None)).collect();
    assert_sessions(&events, None, &[("ann", &[&[DAYS_AGO, DAYS_AGO + 1, DAYS_AGO + 2], &[0, 1, 2, 3]])]);
}

/// Regression test: each change of the `session_id` started a session. If a user alternated between
/// two tabs, every event became its own session.
#[test]
fn two_tabs_in_turn_are_two_sessions() {
    let events: Vec<_> =
        (0..6).map(|minute| view_at("ann", minute, Some(if minute % 2 == 0 { "a" } else { "b" }))).collect();
    assert_sessions(&events, None, &[("ann", &[&[0, 2, 4], &[1, 3, 5]])]);
}

#[test]
fn order_of_arrival_does_not_change_the_sessions() {
    let minutes = [200, 5, 0, 205, 100, 10, 203, 102, 60, 35];
    let events: Vec<_> = minutes.iter().map(|minute| view_at("ann", *minute, None)).collect();
    // The event at minute 35 fills the gap between two sessions.
    assert_sessions(&events, None, &[("ann", &[&[0, 5, 10, 35, 60], &[100, 102], &[200, 203, 205]])]);
}

/// Regression test: a merge assumed that each user's steps are in time order. If a user had late
/// events, the merged sequence was out of order.
#[test]
fn merged_sequence_is_in_the_order_of_time() {
    let mut events: Vec<_> = [9, 3, 100, 6].iter().map(|minute| view_at("visitor", *minute, None)).collect();
    events.extend([105, 0, 8, 110].iter().map(|minute| view_at("ann", *minute, None)));
    assert_sessions(&events, Some(("visitor", "ann")), &[("ann", &[&[0, 3, 6, 8, 9], &[100, 105, 110]])]);
}

#[test]
fn learned_state_does_not_depend_on_restarts_if_events_come_late() {
    let events: Vec<Value> = (0..600_i64)
        .map(|number| {
            let (user, tab) = (number % 7, ["a", "b", "c"][number as usize / 7 % 3]);
            let late = if number % 5 == 0 { number * 37 % 400 } else { 0 };
            let mut view = view_at(&format!("user{user}"), number - late, (user < 4).then_some(tab));
            (view["event_id"], view["item_id"]) =
                (json!(format!("e{number}")), json!(format!("item{}", number * 7 % 23)));
            view
        })
        .collect();
    let settings = ["learning.interval=16", "store.checkpoint_every=100", "safety.training_share_min=1"];
    let checkpoint = |kills: bool| {
        let home = DaemonHome::new();
        let mut daemon = home.start(&settings);
        for (number, chunk) in events.chunks(50).enumerate() {
            daemon.send_events(chunk);
            daemon.wait_until_learned((number as u64 + 1) * 50);
            if kills {
                daemon.kill();
                daemon = home.start(&settings);
            }
        }
        assert_eq!(daemon.terminate().code(), Some(0));
        std::fs::read(home.data_dir().join(format!("checkpoints/{:020}.checkpoint", events.len()))).unwrap()
    };
    let (whole, parts) = (checkpoint(false), checkpoint(true));
    assert!(whole == parts, "{} and {} bytes", whole.len(), parts.len());
}
