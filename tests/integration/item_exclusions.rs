//! Exclusion of items by the user's item history: `exclude_events` and `max_impressions`.

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, event_of_kind};

/// An old purchase of each of three items, then 80 views of other items: more than the steps of a
/// sequence. Other users view all items, so that every item is recommended.
fn start_with_old_purchases(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&["store.checkpoint_every=100"]);
    let at = 1_700_000_000_000_u64;
    let mut events = Vec::new();
    let mut add = |user: &str, item: String, kind: &str| {
        let number = events.len() as u64;
        let mut event = event_of_kind(&format!("e{number}"), user, &item, kind);
        event["timestamp"] = json!(at + number * 1_000);
        events.push(event);
    };
    for item in 0..3 {
        add("ann", format!("i{item}"), "purchase");
    }
    for step in 0..80 {
        add("ann", format!("i{}", 3 + step % 5), "view");
    }
    for user in 0..10 {
        for item in 0..12 {
            add(&format!("u{user}"), format!("i{}", (user + item) % 12), "view");
        }
    }
    let count = events.len() as u64;
    events.chunks(40).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(count);
    daemon
}

fn items(daemon: &Daemon, parameters: &str) -> Vec<String> {
    let mut items = daemon.get(&format!("/v1/users/ann/recommendations?consent=session&{parameters}")).item_ids();
    items.sort_unstable();
    items
}

fn is_purchased(item: &str) -> bool {
    ["i0", "i1", "i2"].contains(&item)
}

#[test]
fn events_older_than_the_sequence_exclude_items_until_an_erasure() {
    let home = DaemonHome::new();
    let daemon = start_with_old_purchases(&home);
    let all = items(&daemon, "limit=12");
    assert_eq!(all.iter().filter(|item| is_purchased(item)).count(), 3, "{all:?}");
    let without = |daemon: &Daemon| items(daemon, "limit=12&exclude_events=purchase:10000d,dismiss:30d");
    let expected: Vec<_> = all.iter().filter(|item| !is_purchased(item)).cloned().collect();
    assert_eq!(without(&daemon), expected);
    assert_eq!(items(&daemon, "limit=12&exclude_events=purchase:1h"), all, "the purchases are older");
    let learned = daemon.next_offset();
    daemon.kill();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    daemon.wait_until_learned(learned);
    assert_eq!(without(&daemon), expected, "after a restart");

    // A merge adds the purchases of the other user.
    daemon.send_events(&[event_of_kind("m1", "eve", "i9", "purchase")]);
    assert_eq!(daemon.post("/v1/users/ann/merge", r#"{"from":"eve"}"#).status, 200);
    daemon.wait_until_learned(learned + 2);
    assert!(!without(&daemon).contains(&"i9".to_owned()));
    assert_eq!(daemon.request("DELETE", "/v1/users/ann", "").status, 200);
    daemon.wait_until_learned(daemon.next_offset());
    assert!(without(&daemon).iter().any(|item| is_purchased(item)), "an erasure removes the history");
}

#[test]
fn items_that_were_shown_too_often_make_room_for_others() {
    let home = DaemonHome::new();
    let daemon = start_with_old_purchases(&home);
    let shown = |parameters: &str| {
        let list = daemon.get(&format!("/v1/users/ann/recommendations?{parameters}"));
        let offset = daemon.next_offset();
        daemon.wait_until_learned(offset);
        list
    };
    let first = shown("limit=4").item_ids();
    for _ in 0..2 {
        assert_eq!(shown("limit=4&max_impressions=9/1h").item_ids(), first);
    }
    crate::daemon::wait_for("the impressions", || (daemon.next_offset() == 206).then_some(()));
    daemon.wait_until_learned(206);
    let rotated = shown("limit=4&max_impressions=3/1h");
    assert!(rotated.item_ids().iter().all(|item| !first.contains(item)), "{first:?} {:?}", rotated.item_ids());
    assert_eq!(rotated.json()["removed"]["fatigued"], 4);
    // An event on an item starts its count again.
    daemon.send_events(&[event_of_kind("click", "ann", &first[0], "view")]);
    daemon.wait_until_learned(daemon.next_offset());
    let again = shown("limit=4&max_impressions=3/1h").item_ids();
    assert!(first[1..].iter().all(|item| !again.contains(item)), "{again:?}");
    let all = shown("limit=12&max_impressions=3/1h").item_ids();
    assert!(all.contains(&first[0]), "{all:?}");
}

#[test]
fn items_that_were_shown_too_often_move_behind_the_others() {
    let home = DaemonHome::new();
    let daemon = start_with_old_purchases(&home);
    let before = daemon.next_offset();
    let list = |parameters: &str| daemon.get(&format!("/v1/users/ann/recommendations?{parameters}"));
    let all = list("limit=12&consent=session").item_ids();
    let often = all[..3].to_vec();
    for round in 1..=2 {
        assert_eq!(list("limit=3").item_ids(), often);
        crate::daemon::wait_for("the impression", || (daemon.next_offset() == before + round).then_some(()));
    }
    daemon.wait_until_learned(before + 2);
    let demoted = "consent=session&max_impressions=2/1h&impression_limit_action=demote";
    let rotated: Vec<_> = all[3..].iter().chain(&often).cloned().collect();
    let answer = list(&format!("limit=12&explain=true&{demoted}"));
    assert_eq!(answer.item_ids(), rotated);
    assert_eq!(answer.json()["removed"]["fatigued"], 0, "nothing is left out");
    for (place, item) in answer.json()["items"].as_array().unwrap().iter().enumerate() {
        let rules = &item["explanation"]["rules"];
        let is_named = *rules == json!(["max_impressions:demote"]);
        assert_eq!(is_named, place >= all.len() - 3, "{place}: {rules}");
    }
    for limit in [3, all.len() - 2] {
        let beginning = list(&format!("limit={limit}&{demoted}")).item_ids();
        assert_eq!(beginning, rotated[..limit], "a short list is the beginning of a longer one");
    }
    assert_eq!(list("limit=3&consent=session&max_impressions=3/1h&impression_limit_action=demote").item_ids(), often);

    // A placement keeps the action over a restart. The request overrides it.
    let placement = json!({ "max_impressions": "2/1h", "impression_limit_action": "demote", "limit": 12 });
    assert_eq!(daemon.request("PUT", "/v1/placements/home", &placement.to_string()).status, 200);
    let learned = daemon.next_offset();
    daemon.kill();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    daemon.wait_until_learned(learned);
    let list = |parameters: &str| daemon.get(&format!("/v1/users/ann/recommendations?consent=session&{parameters}"));
    let mut stored = placement;
    stored["type"] = json!("next-items");
    stored["max_impressions"] = json!("2/1h");
    assert_eq!(daemon.get("/v1/placements/home").json(), stored);
    assert_eq!(list("placement=home").item_ids(), rotated);
    let dropped = list("placement=home&impression_limit_action=drop").item_ids();
    assert_eq!(dropped, rotated[..all.len() - 3]);
    let export = daemon.get_admin("/admin/journal?only=placement").body;
    assert!(export.contains(r#""impression_limit_action":"demote""#), "{export}");
    daemon.assert_healthy();
}

#[test]
fn wrong_exclusions_are_named() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (parameters, field) in [
        ("exclude_events=purchase", "purchase:365d"),
        ("exclude_events=teleport:1d", "no kind `teleport`"),
        ("exclude_events=purchase:soon", "soon"),
        ("max_impressions=3", "3/24h"),
        ("max_impressions=0/24h", "1 to 100"),
        ("max_impressions=101/24h", "1 to 100"),
        ("max_impressions=3/soon", "soon"),
        ("max_impressions=3/1h&impression_limit_action=hide", "drop or demote"),
        ("impression_limit_action=demote", "needs a limit"),
    ] {
        let response = daemon.get(&format!("/v1/users/ann/recommendations?{parameters}"));
        assert_eq!(response.status, 400, "{parameters}");
        assert!(response.body.contains(field), "{parameters}: {}", response.body);
    }
    let many = vec!["view:1d"; 17].join(",");
    let response = daemon.get(&format!("/v1/users/ann/recommendations?exclude_events={many}"));
    assert!(response.status == 400 && response.body.contains("at most 16"), "{}", response.body);
}
