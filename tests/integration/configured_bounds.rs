//! Configured bounds: each test tries to exceed one of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, run_sequor, wait_for};

/// One event of each of the users `from..to`, on an item that only this user sees.
fn first_events(users: std::ops::Range<u64>, label: &str) -> Vec<Value> {
    let event = |user: u64| json!({ "event_id": format!("{label}{user}"), "user_id": format!("u{user}"), "type": "view", "item_id": format!("{label} of u{user}"), "timestamp": 1_700_000_000_000_u64 + user });
    users.map(event).collect()
}

/// The items that a user saw, as the daemon shows them.
fn seen(view: &Value) -> Vec<String> {
    let steps = view["sequence"].as_array().unwrap_or_else(|| panic!("{view}"));
    steps.iter().map(|step| step["item"].as_str().unwrap().to_owned()).collect()
}

/// Regression test: sessions of new users stayed in memory until their first record was stored,
/// even beyond the limit.
#[test]
fn live_sessions_never_exceed_the_limit() {
    const LIMIT: f64 = 10.0;
    for shards in ["session.shards=1", "session.shards=4", "session.shards=16"] {
        let settings = ["session.live_max=10", shards];
        let home = DaemonHome::new();
        let daemon = home.start(&settings);
        let users = 0..3_000;
        for chunk in first_events(users.clone(), "first").chunks(500) {
            daemon.send_events(chunk);
            let live = daemon.metric_value("sequor_live_sessions");
            assert!(live <= LIMIT, "{shards}: {live} live sessions");
        }
        // Sends events of users whose sessions were stored and removed from memory.
        for chunk in first_events(users.clone(), "second").chunks(500) {
            daemon.send_events(chunk);
        }
        for user in users.clone().step_by(100) {
            assert!(!daemon.recommended_items(&format!("u{user}")).is_empty());
            let live = daemon.metric_value("sequor_live_sessions");
            assert!(live <= LIMIT, "{shards}: {live} live sessions");
        }
        let expect_all = |daemon: &Daemon| {
            for user in users.clone().step_by(100) {
                let view = daemon.get_admin(&format!("/admin/sessions/u{user}")).json();
                assert_eq!(seen(&view), [format!("first of u{user}"), format!("second of u{user}")]);
            }
        };
        expect_all(&daemon);
        daemon.kill();
        let daemon = home.start(&settings);
        expect_all(&daemon);
        assert_eq!(daemon.terminate().code(), Some(0));
        let verified = run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

#[test]
fn events_in_flight_never_exceed_the_limit() {
    const LIMIT: f64 = 50.0;
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_batch=50", "server.max_in_flight_events=50"]);
    let (refused, accepted, is_done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for sender in 0..8 {
            let (daemon, refused, accepted, is_done) = (&daemon, &refused, &accepted, &is_done);
            scope.spawn(move || {
                for round in 0.. {
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                    let events = first_events(0..50, &format!("{sender} {round} "));
                    let response = daemon.post("/v1/events", &json!(events).to_string());
                    match response.status {
                        200 => accepted.fetch_add(50, Ordering::SeqCst),
                        503 => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("{other}: {}", response.body),
                    };
                }
            });
        }
        // Two batches at once exceed the limit.
        let mut samples = 0;
        wait_for("refused batches", || {
            for queue in ["committer", "shards"] {
                let depth = daemon.metric_value(&format!("sequor_queue_depth{{queue=\"{queue}\"}}"));
                if depth > LIMIT {
                    is_done.store(true, Ordering::SeqCst);
                    panic!("{depth} events in the queue {queue}");
                }
            }
            samples += 1;
            (samples >= 50 && refused.load(Ordering::SeqCst) >= 10).then_some(())
        });
        is_done.store(true, Ordering::SeqCst);
    });
    let accepted = accepted.load(Ordering::SeqCst);
    assert!(accepted > 0);
    // The journal may also contain a few entries that change the training share.
    let entries = daemon.next_offset();
    assert!((accepted..accepted + 50).contains(&entries), "{entries} entries, {accepted} events were accepted");
}

#[test]
fn learner_and_store_keep_no_more_users_than_configured() {
    let home = DaemonHome::new();
    let limits = [
        "learning.hidden_kept=500",
        "learning.users_kept=500",
        "store.checkpoint_every=200",
        "session.passivate_after=1s",
    ];
    let daemon = home.start(&limits);
    for chunk in first_events(0..3_000, "first").chunks(500) {
        daemon.send_events(chunk);
    }
    daemon.wait_until_learned(3_000);
    let users = daemon.metric_value("sequor_users");
    assert!(users <= 501.0, "the learner holds {users} users");
    // Each checkpoint removes stale records. The sessions in memory are removed after they are
    // stored.
    let mut sent = 3_000;
    wait_for("stale records to be removed", || {
        daemon.send_events(&first_events(sent..sent + 200, "later"));
        sent += 200;
        daemon.wait_until_learned(sent);
        let early =
            (0..3_000).step_by(50).filter(|user| daemon.get_admin(&format!("/admin/sessions/u{user}")).status == 200);
        (early.count() == 0).then_some(())
    });
}
