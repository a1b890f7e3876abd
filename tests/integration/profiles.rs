//! Long-term profiles of users: candidates from earlier sessions, over restarts and erasures.

use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::daemon::{Daemon, DaemonHome, event_of_kind};

const HOUR_MS: u64 = 3_600_000;

/// Three sessions of each of twenty users, two hours apart and three items each. The last one ended an
/// hour ago.
fn visits() -> Vec<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut events = Vec::new();
    for session in 0..3 {
        for user in 0..20 {
            for step in 0..3 {
                let (id, item) = (format!("{session}-{user}-{step}"), format!("i{}", (3 * session + user + step) % 12));
                let mut event = event_of_kind(&id, &format!("u{user}"), &item, "view");
                event["timestamp"] = json!(now - HOUR_MS - (2 - session) * 2 * HOUR_MS + step * 1_000);
                events.push(event);
            }
        }
    }
    events
}

/// The items of the earlier sessions of a user, as the candidates of the source `profile`.
fn profile_candidates(daemon: &Daemon, user: &str) -> Vec<String> {
    let inspected = daemon.get_admin(&format!("/admin/sessions/{user}")).json();
    let sources = inspected["candidates"]["sources"].as_array().unwrap();
    let profile = sources.iter().find(|source| source["source"] == "profile").unwrap();
    let items = profile["items"].as_array().unwrap().iter();
    let mut items: Vec<_> = items.map(|item| item["item"].as_str().unwrap().to_owned()).collect();
    items.sort_unstable();
    items
}

#[test]
fn profiles_survive_restarts_and_end_with_an_erasure() {
    let home = DaemonHome::new();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    let events = visits();
    // The sessions are learned one after the other, so the last one is not yet part of the profile.
    events.chunks(60).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(events.len() as u64);
    let profile = profile_candidates(&daemon, "u1");
    assert_eq!(profile, ["i1", "i2", "i3", "i4", "i5", "i6"]);
    let other = profile_candidates(&daemon, "u2");
    daemon.kill();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    daemon.wait_until_learned(events.len() as u64);
    assert_eq!(profile_candidates(&daemon, "u1"), profile);
    assert!(daemon.recommended_items("u1").len() >= 10);

    // A merged user has the items of both; an erased user has none.
    assert_eq!(daemon.post("/v1/users/u1/merge", r#"{"from":"u2"}"#).status, 200);
    daemon.wait_until_learned(events.len() as u64 + 1);
    let merged = profile_candidates(&daemon, "u1");
    assert!(profile.iter().chain(&other).all(|item| merged.contains(item)), "{merged:?}");
    assert_eq!(daemon.request("DELETE", "/v1/users/u1", "").status, 200);
    assert_eq!(daemon.get_admin("/admin/sessions/u1").status, 404);
    let again = event_of_kind("again", "u1", "i0", "view");
    daemon.send_events(&[again]);
    daemon.wait_until_learned(daemon.next_offset());
    assert!(profile_candidates(&daemon, "u1").is_empty());
}
