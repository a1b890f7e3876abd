//! Attributes of items and users, the context of requests, and the details of events and
//! impressions: stored, exported, filtered by, merged and erased.

use serde_json::{Map, Value, json};
use std::path::Path;

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::erasure::{dir_contains, export_user};

fn change_items(daemon: &Daemon, items: &Value) {
    let receipt = daemon.post("/v1/items", &items.to_string()).json();
    assert_eq!(receipt["rejected"], json!([]), "{receipt}");
    assert!(receipt["warnings"].is_null(), "{receipt}");
}

fn describe_user(daemon: &Daemon, user: &str, attributes: &Value) -> Value {
    let body = json!({ "attributes": attributes }).to_string();
    let response = daemon.request("PATCH", &format!("/v1/users/{user}"), &body);
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

/// The attributes in the export of a user; `null` without attributes.
fn user_attributes(daemon: &Daemon, user: &str) -> Value {
    let lines = export_user(daemon, user);
    lines.iter().find(|line| line["entry"] == "user_attributes").map_or(Value::Null, |line| line["attributes"].clone())
}

/// The exported entries of one kind.
fn exported_entries(home: &DaemonHome, kind: &str) -> Vec<Value> {
    let output = run_sequor(&["export", "--only", kind, "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The recommended items of a query, in alphabetical order.
fn filtered_items(daemon: &Daemon, user: &str, filter: &str, more: &str) -> Vec<String> {
    let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let response = daemon.get(&format!("/v1/users/{user}/recommendations?filter={filter}{more}"));
    assert_eq!(response.status, 200, "{}", response.body);
    let mut items = response.item_ids();
    items.sort();
    items
}

/// Four items with attributes, and views of them.
fn start_shop(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&[]);
    let item = |id: &str, language: &str, price: f64, sizes: &[u32]| {
        json!({
            "item_id": id, "price": price, "title": format!("The {id}"), "url": format!("https://shop.example/{id}"),
            "attributes": { "language": language, "sizes": sizes, "organic": price < 3.0 },
        })
    };
    change_items(
        &daemon,
        &json!([
            item("a", "en", 1.0, &[1, 2]),
            item("b", "en", 5.0, &[2]),
            item("c", "de", 2.0, &[3]),
            item("d", "fr", 9.0, &[])
        ]),
    );
    let views = ["a", "b", "c", "d"].map(|item| view_event(&format!("view of {item}"), "bob", item));
    daemon.send_events(&views);
    daemon.wait_until_learned(daemon.next_offset());
    daemon
}

#[test]
fn item_attributes_are_put_patched_and_kept_across_a_restart() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let get = |daemon: &Daemon| daemon.get("/v1/items/a").json();
    let expected = json!({ "language": "en", "sizes": [1.0, 2.0], "organic": true });
    assert_eq!((&get(&daemon)["attributes"], &get(&daemon)["title"]), (&expected, &json!("The a")));
    let patch = r#"{"title":null,"attributes":{"organic":null,"colour":"red"}}"#;
    assert_eq!(daemon.request("PATCH", "/v1/items/a", patch).status, 200);
    let patched = get(&daemon);
    assert_eq!(patched["attributes"], json!({ "language": "en", "sizes": [1.0, 2.0], "colour": "red" }));
    assert_eq!((patched.get("title"), &patched["price"]), (None, &json!(1.0)));
    assert_eq!(patched["url"], json!("https://shop.example/a"));
    assert_eq!(daemon.request("PUT", "/v1/items/b", r#"{"price":5}"#).status, 200);
    assert_eq!(daemon.get("/v1/items/b").json().get("attributes"), None, "a put replaces all attributes");
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    daemon.terminate();
    let exported = exported_entries(&home, "item");
    assert_eq!(exported[0]["attributes"], expected);
    assert_eq!(exported[4]["attributes"], json!({ "organic": null, "colour": "red" }));
    assert_eq!((&exported[4]["op"], &exported[4]["title"]), (&json!("patch"), &Value::Null));
    let daemon = home.start(&[]);
    assert_eq!(get(&daemon), patched);
    assert_eq!(filtered_items(&daemon, "ann", "item.colour = red", ""), ["a"]);
    daemon.assert_healthy();
}

#[test]
fn filters_compare_items_with_users_and_contexts() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    describe_user(&daemon, "ann", &json!({ "language": "en", "size": 2 }));
    for (filter, more, expected) in [
        ("item.language = user.language", "", &["a", "b"][..]),
        ("item.language = user.language and price <= context.max_price", "&context.max_price=3", &["a"]),
        ("price <= context.max_price", "", &[]),
        ("item.sizes has user.size or item.language = context.language", "&context.language=de", &["a", "b", "c"]),
        ("item.language in (fr, user.language)", "", &["a", "b", "d"]),
        ("not has item.none and item.organic = context.organic", "&context.organic=true", &["a", "c"]),
        ("item.language != user.none", "", &[]),
        ("item.title = 'The d'", "", &["d"]),
        ("price > 4", "", &["b", "d"]),
    ] {
        assert_eq!(filtered_items(&daemon, "ann", filter, more), expected, "{filter}");
    }
    assert_eq!(filtered_items(&daemon, "eve", "item.language = user.language", ""), [] as [&str; 0]);
    assert_eq!(filtered_items(&daemon, "ann", "item.language = user.language", "&consent=none"), [] as [&str; 0]);
    let body = json!({ "items": ["a"], "filter": "price <= context.max_price", "context": { "max_price": 3 } });
    let response = daemon.post("/v1/recommendations", &body.to_string());
    let mut items = response.item_ids();
    items.sort();
    assert_eq!(items, ["a", "c"], "{}", response.body);
    // A change of the user applies to the next request.
    describe_user(&daemon, "ann", &json!({ "language": ["de", "fr"] }));
    assert_eq!(filtered_items(&daemon, "ann", "item.language = user.language", ""), ["c", "d"]);
}

#[test]
fn later_pages_satisfy_the_filter_of_the_first_page() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    describe_user(&daemon, "ann", &json!({ "language": "en" }));
    let filter = "filter=item.language%20%3D%20user.language&limit=1";
    let first = daemon.get(&format!("/v1/users/ann/recommendations?{filter}"));
    let id = first.json()["recommendation_id"].as_str().unwrap().to_owned();
    let next = daemon.get(&format!("/v1/users/ann/recommendations?recommendation_id={id}&limit=5"));
    let mut items = [first.item_ids(), next.item_ids()].concat();
    items.sort();
    assert_eq!(items, ["a", "b"]);
    let impressions = wait_for("the impressions", || {
        let lines = export_user(&daemon, "ann");
        let impressions: Vec<_> = lines.into_iter().filter(|line| line["entry"] == "impression").collect();
        (impressions.len() == 2).then_some(impressions)
    });
    let shown = |page: usize| &impressions[page]["items"][0];
    assert_eq!((&shown(0)["position"], &shown(1)["position"]), (&json!(1), &json!(2)));
    assert!(shown(0)["score"].is_number() && impressions[0]["snapshot_offset"].is_u64());
    assert_eq!(impressions[0]["request_digest"], impressions[1]["request_digest"]);
    assert_eq!(impressions[0]["request_digest"].as_str().unwrap().len(), 16);
}

#[test]
fn details_of_events_are_stored_and_exported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut event = view_event("e1", "ann", "tea");
    event["recommendation_id"] = json!("r7");
    event["currency"] = json!("EUR");
    event["quantity"] = json!(3);
    event["context"] = json!({ "device": "phone", "page": 2.0, "guest": true });
    daemon.send_events(&[event.clone(), view_event("e2", "ann", "cup")]);
    let lines = export_user(&daemon, "ann");
    let exported = lines.iter().find(|line| line["event_id"] == "e1").unwrap();
    for name in ["recommendation_id", "currency", "quantity", "context"] {
        assert_eq!(exported[name], event[name], "{name}");
    }
    assert!(lines.iter().find(|line| line["event_id"] == "e2").unwrap().get("context").is_none());
    let order = json!({
        "userId": "ann", "event": "Order Completed", "messageId": "m1",
        "properties": { "currency": "USD", "products": [{ "product_id": "pot", "price": 2, "quantity": 4 }] },
    });
    assert_eq!(daemon.post("/v1/track", &order.to_string()).status, 200);
    daemon.terminate();
    let events = exported_entries(&home, "event");
    assert_eq!((&events[2]["currency"], &events[2]["quantity"]), (&json!("USD"), &json!(4)));
    let daemon = home.start(&[]);
    for (name, value) in [
        ("recommendation_id", json!("x".repeat(129))),
        ("currency", json!("eur")),
        ("currency", json!("EURO")),
        ("quantity", json!(0)),
        ("quantity", json!(1_000_001)),
        ("quantity", json!("2")),
        ("context", json!({ "a": [1] })),
        ("context", json!({ "A": 1 })),
        ("context", json!({ "a": "x".repeat(65) })),
    ] {
        let mut event = view_event("e9", "ann", "tea");
        event[name] = value;
        let response = daemon.post("/v1/events", &json!([event]).to_string());
        assert_eq!(
            (response.status, &response.json()["rejected"][0]["field"]),
            (400, &json!(name)),
            "{}",
            response.body
        );
    }
}

#[test]
fn attributes_of_users_survive_restarts_and_merges() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let receipt = describe_user(&daemon, "guest7", &json!({ "language": "de", "age": 30 }));
    assert_eq!((&receipt["accepted"], &receipt["offset"]), (&json!(1), &json!(1)));
    describe_user(&daemon, "ann", &json!({ "language": "en", "gone": true }));
    describe_user(&daemon, "ann", &json!({ "gone": null }));
    assert_eq!(user_attributes(&daemon, "ann"), json!({ "language": "en" }));
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(user_attributes(&daemon, "guest7"), json!({ "language": "de", "age": 30.0 }));
    assert_eq!(daemon.post("/v1/users/ann/merge", r#"{"from":"guest7"}"#).status, 200);
    let merged = json!({ "language": "en", "age": 30.0 });
    assert_eq!(user_attributes(&daemon, "guest7"), merged, "the remaining user's own values win");
    describe_user(&daemon, "guest7", &json!({ "size": 4 }));
    let merged = json!({ "language": "en", "age": 30.0, "size": 4.0 });
    assert_eq!(user_attributes(&daemon, "ann"), merged, "the id of a merged user names the remaining user");
    daemon.terminate();
    let data = home.data_dir();
    let backup = home.dir().join("backup");
    let output = run_sequor(&["backup", backup.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for command in [&["verify"][..], &["compact"], &["rebuild"], &["verify"]] {
        let output = run_sequor(&[command, &["--data-dir", data.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let daemon = home.start(&[]);
    assert_eq!(user_attributes(&daemon, "ann"), merged);
    daemon.assert_healthy();
}

#[test]
fn an_erasure_and_a_refusal_leave_no_attributes() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    describe_user(&daemon, "visitor-9d2e", &json!({ "secret_name": "secret-value-1" }));
    describe_user(&daemon, "ann", &json!({ "secret_name": "secret-value-2" }));
    describe_user(&daemon, "bob", &json!({ "kept_name": "kept-value" }));
    assert_eq!(daemon.post("/v1/users/ann/merge", r#"{"from":"visitor-9d2e"}"#).status, 200);
    daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
    assert!(dir_contains(&home.data_dir(), "secret-value-2"));
    let erased = daemon.request("DELETE", "/v1/users/ann", "").json();
    assert_eq!((&erased["done"], &erased["gone"]["others"]), (&json!(true), &json!(3)), "{erased}");
    for secret in ["secret_name", "secret-value", "visitor-9d2e"] {
        assert!(!dir_contains(&home.data_dir(), secret), "{secret}");
    }
    assert_eq!(user_attributes(&daemon, "ann"), Value::Null);
    assert_eq!(user_attributes(&daemon, "bob"), json!({ "kept_name": "kept-value" }));
    assert_eq!(daemon.request("PUT", "/v1/users/eve/consent", r#"{"consent":"none"}"#).status, 200);
    let receipt = describe_user(&daemon, "eve", &json!({ "secret_name": "secret-value-3" }));
    assert_eq!((&receipt["accepted"], &receipt["withheld"]), (&json!(0), &json!(1)), "{receipt}");
    assert_eq!(user_attributes(&daemon, "eve"), Value::Null);
    daemon.terminate();
    assert!(!dir_contains(&home.data_dir(), "secret-value-3"));
}

#[test]
fn bad_attributes_are_rejected_and_change_nothing() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let many = |count: usize| {
        Value::Object((0..count).map(|number| (format!("a{number}"), json!(number))).collect::<Map<_, _>>())
    };
    for (attributes, reason) in [
        (many(10_000), "`attributes` has 10000 names; at most 64 are allowed"),
        (json!({ "Bad Name": 1 }), "has the name `Bad Name`; a name begins with a-z"),
        (json!({ "a": { "b": 1 } }), "`attributes.a` must be a text, a number, true or false"),
        (json!({ "a": [1, "x"] }), "`attributes.a` must be"),
        (json!({ "a": "x".repeat(257) }), "has 257 bytes; at most 256 are allowed"),
        (json!([1]), "`attributes` must be an object of values by name"),
    ] {
        let body = json!({ "attributes": attributes }).to_string();
        for (method, path) in [("PUT", "/v1/items/tea"), ("PATCH", "/v1/users/ann")] {
            let response = daemon.request(method, path, &body);
            assert_eq!((response.status, response.content_type.as_str()), (400, "application/problem+json"));
            let problem = response.json();
            assert_eq!(problem["field"], json!("attributes"), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
        }
    }
    for body in ["{}", "[]", r#"{"attributes":{},"name":"x"}"#, "{"] {
        assert_eq!(daemon.request("PATCH", "/v1/users/ann", body).status, 400, "{body}");
    }
    assert_eq!(daemon.next_offset(), 0);
    // The limit also holds for the sum of several changes.
    describe_user(&daemon, "ann", &many(64));
    let response = daemon.request("PATCH", "/v1/users/ann", r#"{"attributes":{"new":1}}"#);
    assert_eq!(response.status, 400);
    assert!(response.json()["detail"].as_str().unwrap().contains("there would be 65; at most 64 are allowed"));
    describe_user(&daemon, "ann", &json!({ "new": 1, "a0": null }));
    change_items(&daemon, &json!([{ "item_id": "tea", "attributes": many(64) }]));
    assert_eq!(daemon.request("PATCH", "/v1/items/tea", r#"{"attributes":{"new":1}}"#).status, 400);
    for (query, field) in [
        ("filter=item.size%20%3C%20user", "filter"),
        ("filter=item.size%20%3D%20item.size", "filter"),
        ("context.A=1", "context"),
        ("context.=1", "context"),
        ("context.a=1&context.a=2", "context.a"),
    ] {
        let response = daemon.get(&format!("/v1/users/ann/recommendations?{query}"));
        assert_eq!((response.status, &response.json()["field"]), (400, &json!(field)), "{query}: {}", response.body);
    }
    let problem = daemon.get("/v1/users/ann/recommendations?filter=price%20%3D%20item.brand").json();
    assert_eq!((&problem["column"], &problem["type"]), (&json!(1), &json!("/problems/bad-filter")), "{problem}");
}

#[test]
fn a_store_of_the_previous_format_is_migrated() {
    let home = DaemonHome::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures/8/store");
    std::fs::create_dir_all(home.data_dir().join("store")).unwrap();
    for file in ["conf", "db", "commits"] {
        std::fs::copy(fixture.join(file), home.data_dir().join("store").join(file)).unwrap();
    }
    let daemon = home.start(&[]);
    daemon.wait_until_learned(121);
    assert!(!daemon.recommended_items("user3").is_empty());
    describe_user(&daemon, "user3", &json!({ "language": "en" }));
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(user_attributes(&daemon, "user3"), json!({ "language": "en" }));
    daemon.assert_healthy();
}
