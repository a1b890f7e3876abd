//! Pages of one list, dismissals, and the items that a user dismissed or purchased.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event_of_kind, run_sequor, view_event};

fn send_in_batches(daemon: &Daemon, events: &[Value]) {
    for batch in events.chunks(500) {
        daemon.send_events(batch);
    }
    daemon.wait_until_learned(events.len() as u64);
}

/// Visits of 40 users over `items` items.
fn visit_events(items: usize) -> Vec<Value> {
    (0..items * 2)
        .map(|number| {
            view_event(
                &format!("v{number}"),
                &format!("user {}", number % 40),
                &format!("item {}", number * 11 % items),
            )
        })
        .collect()
}

/// The item ids of all pages, and the number of pages with items.
fn item_ids_of_all_pages(daemon: &Daemon, user: &str, query: &str) -> (Vec<String>, usize) {
    let mut page = daemon.get(&format!("/v1/users/{user}/recommendations?{query}"));
    let (mut items, mut pages) = (Vec::new(), 0);
    while !page.item_ids().is_empty() {
        items.extend(page.item_ids());
        pages += 1;
        let id = page.json()["recommendation_id"].as_str().unwrap().to_owned();
        let limit = query.split('&').find(|pair| pair.starts_with("limit")).unwrap();
        page = daemon.get(&format!("/v1/users/{user}/recommendations?recommendation_id={id}&{limit}"));
        assert_eq!(page.status, 200, "{}", page.body);
    }
    (items, pages)
}

#[test]
fn pages_together_contain_the_whole_list() {
    for (items, limit) in [(100, 10), (2_100, 100)] {
        let home = DaemonHome::new();
        let daemon = home.start(&[]);
        send_in_batches(&daemon, &visit_events(items));
        let one = daemon.get("/v1/users/user%203/recommendations?limit=1000&consent=session").item_ids();
        assert_eq!(one.len(), items.min(1000));
        let (paged, pages) = item_ids_of_all_pages(&daemon, "user%203", &format!("limit={limit}&consent=session"));
        assert_eq!(paged[..one.len()], one, "{items} items");
        let mut unique = paged.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!((unique.len(), paged.len(), pages), (items, items, items.div_ceil(limit)));
    }
}

#[test]
fn pages_of_a_filtered_list_hold_every_item_that_qualifies() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let items: Vec<_> =
        (0..100).map(|number| json!({ "item_id": format!("item {number}"), "price": number })).collect();
    assert_eq!(daemon.post("/v1/items", &json!(items).to_string()).status, 200);
    let visits = visit_events(100);
    daemon.send_events(&visits);
    daemon.wait_until_learned(300);
    let (paged, pages) = item_ids_of_all_pages(&daemon, "user%203", "limit=10&consent=session&filter=price%20%3C%2060");
    assert_eq!((paged.len(), pages), (60, 6));
}

#[test]
fn a_later_page_omits_items_dismissed_since() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    send_in_batches(&daemon, &visit_events(100));
    let first = daemon.get("/v1/users/user%203/recommendations?limit=10&consent=session");
    let id = first.json()["recommendation_id"].as_str().unwrap().to_owned();
    let second = |daemon: &Daemon| {
        daemon.get(&format!("/v1/users/user%203/recommendations?recommendation_id={id}&limit=10")).item_ids()
    };
    let before = second(&daemon);
    daemon.send_events(&[event_of_kind("d", "user 3", &before[4], "dismiss")]);
    let after = second(&daemon);
    assert!(!after.contains(&before[4]), "{after:?}");
    assert_eq!(after[..4], before[..4]);
    assert_eq!(after[4..9], before[5..]);
}

#[test]
fn negative_value_of_any_kind_and_low_rating_are_dismissals() {
    for (kind, values) in
        [("view", [-1.0, -0.5]), ("cart", [-1.0, -3.0]), ("purchase", [-1.0, -20.0]), ("rate", [1.0, 2.0])]
    {
        let home = DaemonHome::new();
        let daemon = home.start(&["events.kinds.rate.midpoint=3"]);
        let mut events = Vec::new();
        for user in 0..400 {
            events.push(view_event(&format!("a{user}"), &format!("user {user}"), "A"));
            // Most users dismiss the item `BAD`; the others view a good item.
            if user % 4 == 0 {
                events.push(view_event(&format!("g{user}"), &format!("user {user}"), &format!("good {}", user % 3)));
            } else {
                let mut bad = event_of_kind(&format!("b{user}"), &format!("user {user}"), "BAD", kind);
                bad["value"] = json!(values[user % 2]);
                events.push(bad);
            }
        }
        send_in_batches(&daemon, &events);
        daemon.send_events(&[view_event("new", "fresh", "A")]);
        daemon.wait_until_learned(events.len() as u64 + 1);
        let list = daemon.get("/v1/users/fresh/recommendations?exclude=A").item_ids();
        let position = |item: &str| list.iter().position(|listed| listed == item).unwrap_or(usize::MAX);
        assert!((0..3).all(|good| position(&format!("good {good}")) < position("BAD")), "{kind}: {list:?}");
        let similar = daemon.get("/v1/items/A/similar").item_ids();
        assert_ne!(similar.first().map(String::as_str), Some("BAD"), "{kind}: {similar:?}");
        let trending = daemon.get("/v1/trending").item_ids();
        assert_ne!(trending.first().map(String::as_str), Some("BAD"), "{kind}: {trending:?}");
    }
}

#[test]
fn segment_calls_with_low_rating_or_negative_quantity_are_dismissals() {
    let bad_calls = [
        ("Product Reviewed", json!({ "product_id": "BAD", "rating": 2 })),
        ("Product Added", json!({ "product_id": "BAD", "price": 4, "quantity": -1 })),
        ("Order Completed", json!({ "products": [{ "product_id": "BAD", "price": 4, "quantity": -2 }] })),
    ];
    for (name, bad) in bad_calls {
        let home = DaemonHome::new();
        let daemon = home.start(&["events.kinds.rate.midpoint=3"]);
        let call = |user: usize, name: &str, properties: &Value| json!({ "type": "track", "userId": format!("user {user}"), "event": name, "properties": properties });
        let mut calls = Vec::new();
        for user in 0..400 {
            calls.push(call(user, "Product Viewed", &json!({ "product_id": "A" })));
            calls.push(match user % 4 {
                0 => call(user, "Product Viewed", &json!({ "product_id": format!("good {}", user % 3) })),
                _ => call(user, name, &bad),
            });
        }
        for batch in calls.chunks(100) {
            assert_eq!(daemon.post("/v1/batch", &json!({ "batch": batch }).to_string()).status, 200);
        }
        daemon.send_events(&[view_event("new", "fresh", "A")]);
        daemon.wait_until_learned(calls.len() as u64 + 1);
        let list = daemon.get("/v1/users/fresh/recommendations?exclude=A").item_ids();
        let position = |item: &str| list.iter().position(|listed| listed == item).unwrap_or(usize::MAX);
        assert!((0..3).all(|good| position(&format!("good {good}")) < position("BAD")), "{name}: {list:?}");
    }
}

#[test]
fn dismissed_and_purchased_items_stay_hidden_for_the_configured_time() {
    let home = DaemonHome::new();
    let daemon = home.start(&["session.idle_gap=1m"]);
    send_in_batches(&daemon, &visit_events(30));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let at = |mut event: Value, minutes_ago: u64| {
        event["timestamp"] = json!(now - minutes_ago * 60_000);
        event
    };
    daemon.send_events(&[
        at(view_event("1", "ann", "item 1"), 3_000),
        at(event_of_kind("2", "ann", "item 2", "dismiss"), 2_999),
        at(event_of_kind("3", "ann", "item 3", "purchase"), 100),
        // A later session.
        at(view_event("4", "ann", "item 4"), 2),
    ]);
    let list = |query: &str| daemon.get(&format!("/v1/users/ann/recommendations?limit=100&{query}")).item_ids();
    let has = |list: &[String], item: &str| list.iter().any(|listed| listed == item);
    let default = list("");
    assert!(!has(&default, "item 2") && !has(&default, "item 3"), "{default:?}");
    let shorter = list("dismissed_for=1d&purchased_for=1h");
    assert!(has(&shorter, "item 2") && has(&shorter, "item 3"), "{shorter:?}");
    let bad = daemon.get("/v1/users/ann/recommendations?purchased_for=soon");
    assert_eq!((bad.status, &bad.json()["field"]), (400, &json!("purchased_for")), "{}", bad.body);
    // After the user selects the item again, it is no longer dismissed.
    daemon.send_events(&[view_event("5", "ann", "item 2")]);
    assert!(has(&list(""), "item 2"));
}

/// Regression test: only the user's last 50 steps were checked, so a dismissed item was recommended
/// again after 51 views.
#[test]
fn dismissed_and_purchased_items_stay_hidden_after_many_events() {
    let home = DaemonHome::new();
    let settings = ["session.shards=2"];
    let daemon = home.start(&settings);
    let mut events = visit_events(30);
    events.extend([
        event_of_kind("d", "visitor", "item 2", "dismiss"),
        event_of_kind("p", "visitor", "item 3", "purchase"),
        event_of_kind("d2", "visitor", "item 4", "dismiss"),
        view_event("again", "visitor", "item 4"),
    ]);
    events.extend(
        (0..61).map(|number| view_event(&format!("w{number}"), "visitor", &format!("item {}", 5 + number % 9))),
    );
    send_in_batches(&daemon, &events);
    let list = |daemon: &Daemon, user: &str| {
        daemon.get(&format!("/v1/users/{user}/recommendations?limit=100&consent=session")).item_ids()
    };
    let has = |list: &[String], item: &str| list.iter().any(|listed| listed == item);
    let check = |daemon: &Daemon, user: &str| {
        let list = list(daemon, user);
        assert!(!has(&list, "item 2") && !has(&list, "item 3") && has(&list, "item 4"), "{list:?}");
    };
    check(&daemon, "visitor");
    daemon.kill();
    let daemon = home.start(&settings);
    daemon.wait_until_learned(events.len() as u64);
    check(&daemon, "visitor");
    // A merge transfers dismissals and purchases to the other user. An erasure removes them.
    daemon.send_events(&[view_event("a", "ann", "item 20")]);
    let merged = daemon.post("/v1/users/ann/merge", &json!({ "from": "visitor" }).to_string());
    assert_eq!(merged.status, 200, "{}", merged.body);
    check(&daemon, "ann");
    assert_eq!(daemon.terminate().code(), Some(0));
    let verified = run_sequor(&["verify", "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let daemon = home.start(&settings);
    daemon.wait_until_learned(events.len() as u64);
    check(&daemon, "ann");
    assert_eq!(daemon.request("DELETE", "/v1/users/ann", "").status, 200);
    daemon.send_events(&[view_event("b", "ann", "item 20")]);
    let list = list(&daemon, "ann");
    assert!(has(&list, "item 2") && has(&list, "item 3"), "{list:?}");
}
