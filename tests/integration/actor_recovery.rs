//! Actor recovery: an injected fault in one actor does not affect the others, and the daemon
//! recovers from the store and the journal.

#![cfg(debug_assertions)]

use std::fs;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};
use crate::random::random_visits;

const DAEMON_SETTINGS: [&str; 2] = ["learning.interval=16", "store.checkpoint_every=100"];
/// Position of the item that triggers the faults.
const POISON_POSITION: usize = 150;
const EVENT_COUNT: usize = 400;

/// A stream of events, one of them on the item `poison`.
fn events_with_poison() -> Vec<Value> {
    let as_event = |(number, visit): (usize, crate::random::Visit)| {
        let item = if number == POISON_POSITION { "poison".to_owned() } else { visit.item };
        json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": item, "timestamp": visit.at })
    };
    random_visits(3, EVENT_COUNT).into_iter().enumerate().map(as_event).collect()
}

fn start_daemon(home: &DaemonHome, fault: Option<&str>) -> Daemon {
    let fault = fault.map(|fault| format!("SEQUOR_FAULT={fault}"));
    let settings: Vec<&str> = DAEMON_SETTINGS.into_iter().chain(fault.as_deref()).collect();
    home.start(&settings)
}

fn send_all(daemon: &Daemon, events: &[Value]) {
    for batch in events.chunks(50) {
        daemon.send_events(batch);
    }
}

/// Waits until everything is learned, stops the daemon and returns its checkpoint.
fn stop_and_read_checkpoint(home: &DaemonHome, daemon: Daemon) -> Vec<u8> {
    daemon.wait_until_learned(EVENT_COUNT as u64);
    assert_eq!(daemon.terminate().code(), Some(0));
    fs::read(home.data_dir().join(format!("checkpoints/{EVENT_COUNT:020}.checkpoint"))).unwrap()
}

/// Waits until an actor has panicked this many times.
fn wait_for_panics(daemon: &Daemon, actor: &str, times: u64) {
    wait_for("the panics in the metrics", || (panic_count(daemon, actor) == times).then_some(()));
}

fn panic_count(daemon: &Daemon, actor: &str) -> u64 {
    let text = daemon.get_admin("/metrics").body;
    let series = format!("sequor_panics_total{{actor=\"{actor}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

fn quarantined_entries(daemon: &Daemon) -> Vec<Value> {
    daemon.get_admin("/admin/quarantine").json()["entries"].as_array().unwrap().clone()
}

#[test]
fn learner_panic_does_not_change_the_learned_state() {
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    let (daemon, twin) = (start_daemon(&home, Some("model:poison:1")), start_daemon(&undisturbed, None));
    send_all(&daemon, &events_with_poison());
    send_all(&twin, &events_with_poison());
    daemon.wait_until_learned(EVENT_COUNT as u64);
    assert_eq!((panic_count(&daemon, "model"), quarantined_entries(&daemon)), (1, vec![]));
    daemon.assert_healthy();
    assert!(
        stop_and_read_checkpoint(&home, daemon) == stop_and_read_checkpoint(&undisturbed, twin),
        "the learned states differ"
    );
}

#[test]
fn entry_that_panics_twice_is_quarantined() {
    let (home, killed) = (DaemonHome::new(), DaemonHome::new());
    let fault = Some("model:poison");
    let (daemon, other) = (start_daemon(&home, fault), start_daemon(&killed, fault));
    send_all(&daemon, &events_with_poison());
    daemon.wait_until_learned(EVENT_COUNT as u64);
    daemon.assert_healthy();
    assert_eq!(panic_count(&daemon, "model"), 2, "an entry is quarantined after its second panic");
    let entries = quarantined_entries(&daemon);
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["offset"], &entries[0]["reader"]), (&json!(POISON_POSITION), &json!("learner")));
    assert_eq!(entries[0]["entry"]["Event"]["item_id"], "poison");
    assert!(entries[0]["reason"].as_str().unwrap().contains("injected fault"), "{}", entries[0]);
    // A request without a user, because an impression would move the offset of the checkpoint
    // compared below.
    assert_eq!(
        daemon.post("/v1/recommendations", r#"{"items":["item1"]}"#).item_ids().len(),
        20,
        "recommendations are still served"
    );
    let learned = stop_and_read_checkpoint(&home, daemon);

    // A daemon that is killed between these steps learns the same state.
    send_all(&other, &events_with_poison()[..POISON_POSITION + 10]);
    other.kill();
    let other = start_daemon(&killed, fault);
    send_all(&other, &events_with_poison()[POISON_POSITION + 10..]);
    assert!(stop_and_read_checkpoint(&killed, other) == learned, "the learned states differ");
    let restarted = start_daemon(&killed, None);
    assert_eq!(quarantined_entries(&restarted).len(), 1, "the entry stays quarantined");
}

#[test]
fn session_panic_skips_the_event_for_that_session_only() {
    let home = DaemonHome::new();
    let daemon = start_daemon(&home, Some("session:poison"));
    daemon.send_events(&[
        view_event("a1", "ann", "one"),
        view_event("a2", "ann", "poison"),
        view_event("a3", "ann", "two"),
        view_event("b1", "ben", "one"),
    ]);
    daemon.wait_until_learned(4);
    daemon.assert_healthy();
    wait_for_panics(&daemon, "session", 1);
    assert_eq!(
        (&quarantined_entries(&daemon)[0]["offset"], &quarantined_entries(&daemon)[0]["reader"]),
        (&json!(1), &json!("session"))
    );
    let list = |parameters: &str| daemon.get(&format!("/v1/users/ann/recommendations?{parameters}")).item_ids();
    assert!(list("").contains(&"poison".to_owned()), "the learner knows the item");
    assert_eq!(list("exclude_seen=true"), ["poison"], "only items one and two are seen");
}

#[test]
fn shard_panic_restarts_from_stored_sessions() {
    // The training interval is so long that no training takes place. Lists therefore depend only on
    // the journal.
    let untrained = "learning.interval=4096";
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    let (daemon, twin) = (home.start(&[untrained, "SEQUOR_FAULT=shard:poison:1"]), undisturbed.start(&[untrained]));
    for daemon in [&daemon, &twin] {
        send_all(daemon, &events_with_poison());
        daemon.wait_until_learned(EVENT_COUNT as u64);
    }
    wait_for_panics(&daemon, "shard", 1);
    for user in 0..12 {
        let path = format!("/v1/users/user{user}/recommendations?exclude_seen=true");
        let lists = [&daemon, &twin].map(|daemon| {
            let list = daemon.get(&path).item_ids();
            wait_for("the impression in the journal", || {
                (daemon.next_offset() == (EVENT_COUNT + user + 1) as u64).then_some(())
            });
            daemon.wait_until_learned((EVENT_COUNT + user + 1) as u64);
            list
        });
        assert_eq!(lists[0], lists[1], "user{user}");
    }
    daemon.assert_healthy();
}

#[test]
fn failed_commit_accepts_nothing_and_a_retry_succeeds() {
    let home = DaemonHome::new();
    let daemon = start_daemon(&home, Some("committer:poison:1"));
    let events = [view_event("a1", "ann", "one"), view_event("a2", "ann", "poison")];
    let rejected = daemon.post("/v1/events", &json!(events).to_string());
    assert_eq!(rejected.status, 503, "{}", rejected.body);
    assert!(rejected.headers.contains_key("retry-after"));
    assert_eq!(daemon.next_offset(), 0);
    assert_eq!(daemon.send_events(&events)["accepted"], 2);
    assert_eq!((daemon.next_offset(), panic_count(&daemon, "committer")), (2, 1));
    daemon.assert_healthy();
}
