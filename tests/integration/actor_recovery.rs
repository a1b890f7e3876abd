//! What strikes one actor hurts nobody else: faults are asked for, and the daemon heals itself from
//! the store and the journal.

#![cfg(debug_assertions)]

use std::fs;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event, wait_for};
use crate::random::random_visits;

const SETTINGS: [&str; 2] = ["learning.interval=16", "store.checkpoint_every=100"];
/// Where in the stream the item stands at which faults strike.
const POISON: usize = 150;
const EVENTS: usize = 400;

/// A stream of events, one of them on the item `poison`.
fn stream() -> Vec<Value> {
    let as_event = |(number, visit): (usize, crate::random::Visit)| {
        let item = if number == POISON { "poison".to_owned() } else { visit.item };
        json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": item, "timestamp": visit.at })
    };
    random_visits(3, EVENTS).into_iter().enumerate().map(as_event).collect()
}

fn start(home: &DaemonHome, fault: Option<&str>) -> Daemon {
    let fault = fault.map(|fault| format!("SEQUOR_FAULT={fault}"));
    let settings: Vec<&str> = SETTINGS.into_iter().chain(fault.as_deref()).collect();
    home.start(&settings)
}

fn send_all(daemon: &Daemon, events: &[Value]) {
    for batch in events.chunks(50) {
        daemon.send_events(batch);
    }
}

/// What is in the checkpoint that a daemon leaves which has learned everything.
fn learned_by(home: &DaemonHome, daemon: Daemon) -> Vec<u8> {
    daemon.wait_until_learned(EVENTS as u64);
    assert_eq!(daemon.terminate().code(), Some(0));
    fs::read(home.data_dir().join(format!("checkpoints/{EVENTS:020}.checkpoint"))).unwrap()
}

/// Waits until so many panics have struck an actor.
fn struck(daemon: &Daemon, actor: &str, times: u64) {
    wait_for("the panics in the metrics", || (panics(daemon, actor) == times).then_some(()));
}

fn panics(daemon: &Daemon, actor: &str) -> u64 {
    let text = daemon.get_admin("/metrics").body;
    let series = format!("sequor_panics_total{{actor=\"{actor}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

fn quarantined(daemon: &Daemon) -> Vec<Value> {
    daemon.get_admin("/admin/quarantine").json()["entries"].as_array().unwrap().clone()
}

#[test]
fn a_fold_that_is_struck_once_ends_in_the_same_bytes() {
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    let (daemon, twin) = (start(&home, Some("model:poison:1")), start(&undisturbed, None));
    send_all(&daemon, &stream());
    send_all(&twin, &stream());
    daemon.wait_until_learned(EVENTS as u64);
    assert_eq!((panics(&daemon, "model"), quarantined(&daemon)), (1, vec![]));
    daemon.assert_healthy();
    assert!(learned_by(&home, daemon) == learned_by(&undisturbed, twin), "the two have learned different things");
}

#[test]
fn an_entry_that_cannot_be_learned_from_is_passed_over() {
    let (home, killed) = (DaemonHome::new(), DaemonHome::new());
    let fault = Some("model:poison");
    let (daemon, other) = (start(&home, fault), start(&killed, fault));
    send_all(&daemon, &stream());
    daemon.wait_until_learned(EVENTS as u64);
    daemon.assert_healthy();
    assert_eq!(panics(&daemon, "model"), 2, "once is an accident, twice is the entry");
    let noted = quarantined(&daemon);
    assert_eq!(noted.len(), 1);
    assert_eq!((&noted[0]["offset"], &noted[0]["reader"]), (&json!(POISON), &json!("learner")));
    assert_eq!(noted[0]["entry"]["Event"]["item_id"], "poison");
    assert!(noted[0]["reason"].as_str().unwrap().contains("injected fault"), "{}", noted[0]);
    // Asked without a user: an impression in the journal would move the offset of the checkpoint
    // that is compared below.
    assert_eq!(daemon.post("/v1/recommendations", r#"{"items":["item1"]}"#).item_ids().len(), 20, "answers go on");
    let learned = learned_by(&home, daemon);

    // One that dies on the way, before or after the fault, learns the same.
    send_all(&other, &stream()[..POISON + 10]);
    other.kill();
    let other = start(&killed, fault);
    send_all(&other, &stream()[POISON + 10..]);
    assert!(learned_by(&killed, other) == learned, "the two have learned different things");
    let again = start(&killed, None);
    assert_eq!(quarantined(&again).len(), 1, "it stays out");
}

#[test]
fn an_event_that_a_session_cannot_take_is_passed_over_by_that_session_alone() {
    let home = DaemonHome::new();
    let daemon = start(&home, Some("session:poison"));
    daemon.send_events(&[event("a1", "ann", "one"), event("a2", "ann", "poison"), event("a3", "ann", "two"), event("b1", "ben", "one")]);
    daemon.wait_until_learned(4);
    daemon.assert_healthy();
    struck(&daemon, "session", 1);
    assert_eq!((&quarantined(&daemon)[0]["offset"], &quarantined(&daemon)[0]["reader"]), (&json!(1), &json!("session")));
    let list = |parameters: &str| daemon.get(&format!("/v1/users/ann/recommendations?{parameters}")).item_ids();
    assert!(list("").contains(&"poison".to_owned()), "everybody else knows of it");
    assert_eq!(list("exclude_seen=true"), ["poison"], "she has seen one and two");
}

#[test]
fn a_shard_that_is_struck_begins_again_with_what_is_stored() {
    // No border, so that lists depend on the journal alone.
    let quiet = "learning.interval=4096";
    let (home, undisturbed) = (DaemonHome::new(), DaemonHome::new());
    let (daemon, twin) = (home.start(&[quiet, "SEQUOR_FAULT=shard:poison:1"]), undisturbed.start(&[quiet]));
    for daemon in [&daemon, &twin] {
        send_all(daemon, &stream());
        daemon.wait_until_learned(EVENTS as u64);
    }
    struck(&daemon, "shard", 1);
    for user in 0..12 {
        let path = format!("/v1/users/user{user}/recommendations?exclude_seen=true");
        let lists = [&daemon, &twin].map(|daemon| {
            let list = daemon.get(&path).item_ids();
            wait_for("the impression in the journal", || (daemon.next_offset() == (EVENTS + user + 1) as u64).then_some(()));
            daemon.wait_until_learned((EVENTS + user + 1) as u64);
            list
        });
        assert_eq!(lists[0], lists[1], "user{user}");
    }
    daemon.assert_healthy();
}

#[test]
fn a_commit_that_is_struck_takes_nothing_and_the_next_one_everything() {
    let home = DaemonHome::new();
    let daemon = start(&home, Some("committer:poison:1"));
    let events = [event("a1", "ann", "one"), event("a2", "ann", "poison")];
    let refused = daemon.post("/v1/events", &json!(events).to_string());
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(daemon.next_offset(), 0);
    assert_eq!(daemon.send_events(&events)["accepted"], 2);
    assert_eq!((daemon.next_offset(), panics(&daemon, "committer")), (2, 1));
    daemon.assert_healthy();
}
