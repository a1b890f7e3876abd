//! Lists of items that are bought together, and of items that are due to be bought again.

use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::daemon::{Daemon, DaemonHome, event_of_kind};

const DAY_MS: u64 = 86_400_000;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn put_placement(daemon: &Daemon, name: &str, kind: &str) {
    let response = daemon.request("PUT", &format!("/v1/placements/{name}"), &json!({ "type": kind }).to_string());
    assert_eq!(response.status, 200, "{}", response.body);
}

/// Sixty carts. Every cart has `bread`; every third cart has `tea` and `cup`, and the others have one of
/// five more items.
fn start_with_carts(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&["store.checkpoint_every=100"]);
    let mut events = Vec::new();
    for cart in 0..60 {
        let other = format!("other{}", cart % 5);
        let items = if cart % 3 == 0 { vec!["bread", "tea", "cup"] } else { vec!["bread", &other] };
        for (step, item) in items.into_iter().enumerate() {
            let mut event = event_of_kind(&format!("{cart}-{step}"), &format!("u{cart}"), item, "cart");
            event["timestamp"] = json!(now_ms() - DAY_MS + cart * 1_000 + step as u64);
            events.push(event);
        }
    }
    events.chunks(50).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(events.len() as u64);
    daemon
}

#[test]
fn items_of_a_cart_are_completed_by_what_belongs_to_them_also_after_a_restart() {
    let home = DaemonHome::new();
    let daemon = start_with_carts(&home);
    put_placement(&daemon, "cart", "bought-together");
    let learned = daemon.next_offset();
    let check = |daemon: &Daemon| {
        let list = daemon.get("/v1/users/zoe/recommendations?placement=cart&item=tea&limit=3").item_ids();
        assert_eq!(list[0], "cup", "the bestseller does not come first: {list:?}");
        let list = daemon.get("/v1/users/zoe/recommendations?placement=cart&items=bread,tea").item_ids();
        assert_eq!(list[0], "cup", "{list:?}");
        assert!(!list.contains(&"tea".to_owned()) && !list.contains(&"bread".to_owned()), "{list:?}");
        let mut distinct = list.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), list.len(), "{list:?}");
    };
    check(&daemon);
    let response = daemon.get("/v1/users/zoe/recommendations?placement=cart");
    assert!(response.status == 400 && response.body.contains("bought-together"), "{}", response.body);
    daemon.kill();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    daemon.wait_until_learned(learned);
    check(&daemon);
}

#[test]
fn items_are_due_again_after_their_interval() {
    let home = DaemonHome::new();
    let daemon = home.start(&["session.purchased_for=0s"]);
    put_placement(&daemon, "again", "buy-again");
    let mut events = Vec::new();
    let mut buy = |user: &str, item: &str, days_ago: u64| {
        let mut event = event_of_kind(&format!("p{}", events.len()), user, item, "purchase");
        event["timestamp"] = json!(now_ms() - days_ago * DAY_MS);
        events.push(event);
    };
    // Milk is bought weekly, a kettle every 200 days.
    for week in (1..=8).rev() {
        (0..5).for_each(|user| buy(&format!("u{user}"), "milk", 7 * week));
    }
    for days_ago in [401, 201] {
        (0..5).for_each(|user| buy(&format!("u{user}"), "kettle", days_ago));
    }
    buy("ann", "kettle", 20);
    buy("ann", "milk", 10);
    daemon.send_events(&events);
    daemon.wait_until_learned(daemon.next_offset());
    let list = daemon.get("/v1/users/ann/recommendations?placement=again").item_ids();
    assert_eq!(list, ["milk", "kettle"], "the milk is due, the kettle is not");
    assert!(daemon.get("/v1/users/nobody/recommendations?placement=again").item_ids().is_empty());
}
