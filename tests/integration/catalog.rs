//! The catalog: item attributes take effect as soon as a change is acknowledged.

use serde_json::{Value, json};

use crate::api::assert_problem;
use crate::daemon::{Daemon, DaemonHome, view_event};

fn put_item(daemon: &Daemon, item: &str, attributes: &Value) {
    let response = daemon.request("PUT", &format!("/v1/items/{item}"), &attributes.to_string());
    assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(1)), "{}", response.body);
}

#[test]
fn an_item_is_put_patched_and_deleted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let unknown = json!({
        "type": "/problems/unknown-item", "title": "The item is unknown", "status": 404, "field": "item",
        "detail": "No event or catalog change has named the item, or it was deleted.",
    });
    for response in [
        daemon.get("/v1/items/tea"),
        daemon.request("PATCH", "/v1/items/tea", "{}"),
        daemon.request("DELETE", "/v1/items/tea", ""),
    ] {
        assert_problem(&response, &unknown);
    }
    assert_eq!(daemon.next_offset(), 0);

    put_item(
        &daemon,
        "tea",
        &json!({ "categories": ["drinks"], "brand": "leaf", "price": 2.5, "tags": ["green"], "expires": 4_102_444_800_000_i64 }),
    );
    let mut tea = json!({
        "item_id": "tea", "categories": ["drinks"], "brand": "leaf", "price": 2.5, "tags": ["green"], "available": true, "published": null,
        "expires": 4_102_444_800_000_i64,
    });
    assert_eq!(daemon.get("/v1/items/tea").json(), tea);

    let response = daemon.request("PATCH", "/v1/items/tea", r#"{"brand":null,"available":false,"colour":"green"}"#);
    let warning =
        json!({ "index": 0, "field": null, "code": "unknown_field", "reason": "unknown item field `colour`" });
    assert_eq!(
        response.json(),
        json!({ "accepted": 1, "duplicates": 0, "withheld": 0, "rejected": [], "warnings": [warning], "offset": 2 })
    );
    (tea["brand"], tea["available"]) = (Value::Null, json!(false));
    assert_eq!(daemon.get("/v1/items/tea").json(), tea);

    assert_eq!(daemon.request("DELETE", "/v1/items/tea", "").status, 200);
    assert_eq!(daemon.get("/v1/items/tea").status, 404);
    assert_eq!(daemon.request("PATCH", "/v1/items/tea", "{}").status, 404, "a deleted item stays deleted");
    put_item(&daemon, "tea", &json!({}));
    assert_eq!(daemon.get("/v1/items/tea").json()["brand"], Value::Null);
    // An item known only from events has no attributes and counts as available.
    daemon.send_events(&[view_event("e1", "ann", "a cup")]);
    assert_eq!(daemon.get("/v1/items/a%20cup").json()["available"], json!(true));
    assert_eq!(daemon.request("PATCH", "/v1/items/a%20cup", r#"{"price":3}"#).status, 200);
    assert_eq!(daemon.get("/v1/items/a%20cup").json()["price"], json!(3.0));
}

#[test]
fn invalid_item_is_rejected_and_changes_nothing() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_batch=3"]);
    let response = daemon.request("PUT", "/v1/items/tea", r#"{"price":-1}"#);
    let problem = json!({
        "type": "/problems/bad-item", "title": "The item is invalid", "status": 400, "detail": "`price` is negative; it must be at least 0.", "field": "price",
    });
    assert_problem(&response, &problem);
    assert_eq!(daemon.request("PUT", &format!("/v1/items/{}", "x".repeat(300)), "{}").status, 400);
    assert_eq!(daemon.request("PUT", "/v1/items/tea", "").status, 400);
    assert_eq!(daemon.next_offset(), 0);

    let lines = "{\"item_id\":\"tea\",\"price\":2}\nnope\n{\"item_id\":\"cup\",\"categories\":\"pots\"}";
    let response = daemon.post("/v1/items", lines);
    let fields_of = |error: &Value| (error["line"].clone(), error["field"].clone(), error["code"].clone());
    let rejected: Vec<_> = response.json()["rejected"].as_array().unwrap().iter().map(fields_of).collect();
    assert_eq!(
        rejected,
        [(json!(2), Value::Null, json!("syntax")), (json!(3), json!("categories"), json!("wrong_type"))]
    );
    assert_eq!((response.status, &response.json()["accepted"], daemon.next_offset()), (200, &json!(1), 1));
    let four = vec![json!({ "item_id": "tea" }); 4];
    assert_eq!(daemon.post("/v1/items", &json!(four).to_string()).status, 413);
    assert_eq!(daemon.post("/v1/items", "[{}]").status, 400);
    assert_eq!((daemon.get("/v1/items").status, daemon.request("POST", "/v1/items/tea", "{}").status), (405, 405));
}

#[test]
fn catalog_survives_restarts() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    put_item(&daemon, "tea", &json!({ "price": 1 }));
    put_item(&daemon, "cup", &json!({ "price": 2 }));
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/items/tea").json()["price"], json!(1.0), "from the checkpoint");
    put_item(&daemon, "tea", &json!({ "price": 3 }));
    assert_eq!(daemon.request("DELETE", "/v1/items/cup", "").status, 200);
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/items/tea").json()["price"], json!(3.0), "from the journal's tail");
    assert_eq!(daemon.get("/v1/items/cup").status, 404);
}

#[test]
fn vectors_are_stored_patched_and_checked_against_other_items() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    put_item(&daemon, "tea", &json!({ "brand": "leaf", "vectors": { "text": [0.5, -1.0], "image": [2.0] } }));
    let vectors_of = |daemon: &Daemon, item: &str| daemon.get(&format!("/v1/items/{item}")).json()["vectors"].clone();
    let text: Vec<f64> = serde_json::from_value(vectors_of(&daemon, "tea")["text"].clone()).unwrap();
    assert!(text.len() == 2 && text.iter().zip([0.5, -1.0]).all(|(found, sent)| (found - sent).abs() < 0.005));

    let rejected = daemon.request("PUT", "/v1/items/cup", r#"{"vectors":{"text":[1.0,2.0,3.0]}}"#);
    assert_eq!((rejected.status, &rejected.json()["field"]), (400, &json!("vectors")));
    let detail = rejected.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail
            .contains("the vector `text` of item `cup` has 3 values, but the vectors `text` of the other items have 2"),
        "{detail}"
    );
    assert_eq!(daemon.get("/v1/items/cup").status, 404, "nothing was stored");
    let batch = json!([
        { "item_id": "a", "vectors": { "text": [1] } },
        { "item_id": "b", "vectors": { "new": [1, 2] } },
        { "item_id": "c", "price": -1 },
        { "item_id": "d", "vectors": { "new": [1] } },
        { "item_id": "e", "vectors": { "text": [1, 1] } },
    ]);
    let receipt = daemon.request("POST", "/v1/items", &batch.to_string()).json();
    let indexes: Vec<_> = receipt["rejected"].as_array().unwrap().iter().map(|error| error["index"].clone()).collect();
    assert_eq!((&receipt["accepted"], indexes), (&json!(2), vec![json!(0), json!(2), json!(3)]), "{receipt}");

    assert_eq!(daemon.request("PATCH", "/v1/items/tea", r#"{"vectors":{"image":null}}"#).status, 200);
    daemon.wait_until_learned(4);
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(vectors_of(&daemon, "tea").as_object().unwrap().keys().collect::<Vec<_>>(), ["text"]);
    assert_eq!(daemon.request("PATCH", "/v1/items/tea", r#"{"vectors":null}"#).status, 200);
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!((vectors_of(&daemon, "tea"), vectors_of(&daemon, "e")), (Value::Null, json!({ "text": [1.0, 1.0] })));
    assert_eq!(daemon.get("/v1/items/tea").json()["brand"], json!("leaf"));
    let export = daemon.get_admin("/admin/journal?only=item").body;
    assert!(export.contains(r#""vectors":{"image":[2.0],"text":[0.5,-1.0]}"#), "{export}");
    assert!(export.contains(r#""vectors":{"image":null}"#) && export.contains(r#""vectors":null"#), "{export}");
}

/// Creates twelve items: two thirds tea, one third cups; the price is the item number. Four users
/// have viewed them in order.
fn create_shop(daemon: &Daemon) {
    let item = |number: usize| {
        let category = if number % 3 == 2 { "cups" } else { "tea" };
        json!({ "item_id": format!("item{number}"), "categories": [category], "price": number })
    };
    let items: Vec<_> = (0..12).map(item).collect();
    assert_eq!(daemon.post("/v1/items", &json!(items).to_string()).json()["accepted"], json!(12));
    let views = |user: usize| {
        (0..12).map(move |number| {
            view_event(&format!("{user}-{number}"), &format!("user{user}"), &format!("item{number}"))
        })
    };
    let events: Vec<_> = (0..4).flat_map(views).collect();
    daemon.send_events(&events);
    daemon.send_events(&[view_event("a1", "ann", "item0"), view_event("a2", "ann", "item1")]);
    daemon.wait_until_learned(62);
}

fn get_recommendations(daemon: &Daemon, query: &str) -> Value {
    let response = daemon.get(&format!("/v1/users/ann/recommendations?{query}"));
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

fn item_ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn request_filters_apply_and_removals_are_counted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    create_shop(&daemon);
    let all = get_recommendations(&daemon, "");
    let mut sorted = item_ids(&all);
    sorted.sort_unstable();
    let mut all_items: Vec<_> = (0..12).map(|number| format!("item{number}")).collect();
    all_items.sort_unstable();
    assert_eq!(sorted, all_items);
    let removed = |excluded, seen, filtered, unavailable, diversity| json!({ "excluded": excluded, "seen": seen, "fatigued": 0, "filtered": filtered, "unavailable": unavailable, "hidden": 0, "diversity": diversity });
    assert_eq!((&all["fallback"], &all["removed"]), (&json!("none"), &removed(0, 0, 0, 0, 0)));

    let list = get_recommendations(&daemon, "exclude=item3,item4,none&exclude_seen=true&limit=8");
    assert_eq!((&list["fallback"], &list["removed"]), (&json!("none"), &removed(2, 2, 0, 0, 0)));
    assert!(
        ["item0", "item1", "item3", "item4"].iter().all(|deleted| !item_ids(&list).contains(&(*deleted).to_owned()))
    );

    let list = get_recommendations(&daemon, "filter=category%20=%20cups%20and%20price%20%3C%209&limit=5");
    let mut cups = item_ids(&list);
    cups.sort_unstable();
    assert_eq!(cups, ["item2", "item5", "item8"]);
    assert_eq!((&list["fallback"], &list["removed"]), (&json!("filtered_out"), &removed(0, 0, 9, 0, 0)));

    let list = get_recommendations(&daemon, "diversity=2&limit=12");
    assert_eq!(item_ids(&list).len(), 4, "two of each category");
    assert_eq!(list["removed"], removed(0, 0, 0, 0, 8));

    // Unavailable items disappear as soon as the change is acknowledged, before it is learned.
    put_item(&daemon, "item5", &json!({ "available": false }));
    put_item(&daemon, "item6", &json!({ "expires": 1_000_000_000_000_i64 }));
    put_item(&daemon, "item7", &json!({ "published": 4_102_444_800_000_i64 }));
    assert_eq!(daemon.request("DELETE", "/v1/items/item8", "").status, 200);
    let list = get_recommendations(&daemon, "limit=8");
    assert_eq!((&list["fallback"], &list["removed"]), (&json!("none"), &removed(0, 0, 0, 4, 0)));
    assert!((5..9).all(|deleted| !item_ids(&list).contains(&format!("item{deleted}"))));

    let body = json!({ "items": ["item2"], "exclude": ["item3"], "exclude_seen": true, "filter": "price >= 2", "diversity": 1, "limit": 1 });
    let inline = daemon.post("/v1/recommendations", &body.to_string()).json();
    assert_eq!((item_ids(&inline).len(), &inline["fallback"]), (1, &json!("none")));
    assert!(!["item0", "item1", "item2", "item3"].contains(&item_ids(&inline)[0].as_str()));
}

/// The free attributes of items can be internal, and browsers read these responses.
#[test]
fn details_describe_the_items_of_every_list_without_free_attributes() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    create_shop(&daemon);
    let attributes = json!({
        "title": "Green tea", "url": "/tea", "image": "/tea.svg", "price": 4.5, "brand": "leaf", "categories": ["tea"], "tags": ["new"],
    });
    let mut item = attributes.clone();
    item["attributes"] = json!({ "margin": 0.4 });
    put_item(&daemon, "item2", &item);
    let get = |path: &str| daemon.get(path).json();
    for list in [
        get("/v1/users/ann/recommendations?details=true"),
        daemon.post("/v1/recommendations", r#"{"items":["item1"],"details":true}"#).json(),
        get("/v1/items/item1/similar?details=true"),
        get("/v1/trending?details=true"),
    ] {
        let items = list["items"].as_array().unwrap();
        let described = items.iter().find(|item| item["item_id"] == "item2").unwrap();
        assert_eq!(described["details"], attributes);
        assert!(items.iter().all(|item| item["details"]["price"].is_number()));
    }
    let first = get("/v1/users/ann/recommendations?details=true&limit=2");
    let id = first["recommendation_id"].as_str().unwrap();
    let second = get(&format!("/v1/users/ann/recommendations?recommendation_id={id}"));
    assert!(second["items"][0]["details"].is_object(), "{second}");
    assert!(get_recommendations(&daemon, "")["items"][0].get("details").is_none());
}

#[test]
fn fallback_reason_is_reported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let list = get_recommendations(&daemon, "");
    assert_eq!((&list["fallback"], &list["items"]), (&json!("empty_catalog"), &json!([])));
    create_shop(&daemon);
    let unknown_user = daemon.get("/v1/users/nobody/recommendations").json();
    assert_eq!((&unknown_user["fallback"], item_ids(&unknown_user).len()), (&json!("unknown_user"), 12));
    let list = get_recommendations(&daemon, "filter=price%20%3E%20100");
    assert_eq!((&list["fallback"], &list["items"]), (&json!("filtered_out"), &json!([])));
    let unknown = daemon.post("/v1/recommendations", r#"{"items":["no such item"]}"#).json();
    assert_eq!((&unknown["fallback"], item_ids(&unknown).len()), (&json!("unknown_items"), 12));
    // If there are too few candidates for a long list, popular items that were not candidates fill
    // it up.
    assert_eq!(item_ids(&get_recommendations(&daemon, "limit=1000")).len(), 12);
}

#[test]
fn invalid_query_parameters_are_named() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let response = daemon.get("/v1/users/ann/recommendations?filter=price%20%3C%20cheap");
    let problem = json!({
        "type": "/problems/bad-filter", "title": "The filter cannot be read", "status": 400, "field": "filter", "column": 9,
        "detail": "At column 9, expected a number.",
    });
    assert_problem(&response, &problem);
    let inline = daemon.post("/v1/recommendations", r#"{"items":[],"filter":"prise = 1"}"#);
    assert_eq!((inline.status, &inline.json()["column"]), (400, &json!(1)));
    for (query, field) in [
        ("diversity=0", "diversity"),
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("explain=yes", "explain"),
        ("details=yes", "details"),
        ("offset=3", "offset"),
        ("recommendation_id=r&explain=true", "recommendation_id"),
        ("limits=3", "limits"),
    ] {
        let response = daemon.get(&format!("/v1/users/ann/recommendations?{query}"));
        assert_eq!((response.status, &response.json()["field"]), (400, &json!(field)), "{query}");
    }
    let excluded = vec!["tea"; 1001].join(",");
    assert_eq!(
        daemon.get(&format!("/v1/users/ann/recommendations?exclude={excluded}")).json()["field"],
        json!("exclude")
    );
}

#[test]
fn recommendations_can_be_paged() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    create_shop(&daemon);
    let first = get_recommendations(&daemon, "limit=5");
    let id = first["recommendation_id"].as_str().unwrap();
    // The full list is read from this list's pages rather than by another request. Recording this
    // list's impression can complete a training interval, so another request may use newer weights.
    let full_list =
        [item_ids(&first), item_ids(&get_recommendations(&daemon, &format!("recommendation_id={id}&limit=100")))]
            .concat();
    assert_eq!(full_list.len(), 12);
    // New events do not reorder later pages.
    daemon.send_events(&[view_event("b1", "ann", "item11")]);
    let second = get_recommendations(&daemon, &format!("recommendation_id={id}&limit=3"));
    assert_eq!(item_ids(&second), full_list[5..8], "the next page begins where the first one ended");
    assert_ne!(second["recommendation_id"], first["recommendation_id"], "each page is a separate impression");
    assert_eq!(
        item_ids(&get_recommendations(&daemon, &format!("recommendation_id={id}&offset=2&limit=3"))),
        full_list[2..5]
    );
    let third = second["recommendation_id"].as_str().unwrap();
    assert_eq!(
        item_ids(&get_recommendations(&daemon, &format!("recommendation_id={third}"))),
        full_list[8..],
        "paging also works from a page"
    );
    assert_eq!(item_ids(&get_recommendations(&daemon, &format!("recommendation_id={id}&offset=99"))), [""; 0]);
    let deleted = daemon.request("DELETE", &format!("/v1/items/{}", full_list[5]), "");
    assert_eq!(deleted.status, 200);
    assert_eq!(item_ids(&get_recommendations(&daemon, &format!("recommendation_id={id}&limit=3"))), full_list[6..9]);
    for path in [
        format!("/v1/users/bob/recommendations?recommendation_id={id}"),
        "/v1/users/ann/recommendations?recommendation_id=r0".to_owned(),
    ] {
        let response = daemon.get(&path);
        assert_eq!((response.status, &response.json()["type"]), (404, &json!("/problems/unknown-recommendation")));
    }
}

#[test]
fn explanation_names_sources_and_the_most_influential_event() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    create_shop(&daemon);
    assert!(get_recommendations(&daemon, "")["items"][0].get("explanation").is_none());
    let list = get_recommendations(&daemon, "explain=true");
    let items = list["items"].as_array().unwrap();
    let next_item = items.iter().find(|item| item["item_id"] == json!("item2")).unwrap();
    let sources = next_item["explanation"]["sources"].as_object().unwrap();
    assert!(
        sources["transitions"].as_f64().unwrap() > 0.0
            && sources.values().all(|share| (0.0..=1.0).contains(&share.as_f64().unwrap()))
    );
    let moved: Vec<_> =
        items.iter().map(|item| &item["explanation"]["moved_by"]).filter(|moved| !moved.is_null()).collect();
    assert!(!moved.is_empty(), "{list}");
    for moved in moved {
        assert!(["item0", "item1"].contains(&moved["item_id"].as_str().unwrap()) && moved["type"] == json!("view"));
        let rank = moved["rank"].as_u64().unwrap();
        assert!(moved["rank_without"].as_u64().is_none_or(|without| without > rank));
    }
}

#[test]
fn trending_and_similar_items_are_listed() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/trending").json(), json!({ "items": [] }));
    create_shop(&daemon);
    daemon.send_events(
        &(0..5).map(|number| view_event(&format!("t{number}"), &format!("fan{number}"), "item8")).collect::<Vec<_>>(),
    );
    daemon.wait_until_learned(67);
    let trending = daemon.get("/v1/trending?limit=3").json();
    assert_eq!(
        (item_ids(&trending)[0].as_str(), item_ids(&trending).len(), &trending["items"][0]["source"]),
        ("item8", 3, &json!("trending"))
    );
    assert_eq!(item_ids(&daemon.get("/v1/trending?category=cups").json()).len(), 4);
    assert_eq!(daemon.get("/v1/trending?category=none").json(), json!({ "items": [] }));

    let similar = item_ids(&daemon.get("/v1/items/item4/similar?limit=4").json());
    assert_eq!(similar.len(), 4);
    assert!(similar.contains(&"item5".to_owned()) && similar.contains(&"item3".to_owned()), "{similar:?}");
    assert!(!similar.contains(&"item4".to_owned()));
    put_item(&daemon, "mug", &json!({ "categories": ["cups"] }));
    daemon.wait_until_learned(68);
    let similar_to_mug = item_ids(&daemon.get("/v1/items/mug/similar?limit=4").json());
    assert!(
        ["item2", "item5", "item8", "item11"].iter().all(|cup| similar_to_mug.contains(&(*cup).to_owned())),
        "{similar_to_mug:?}"
    );
    assert_eq!(daemon.get("/v1/items/none/similar").status, 404);
    assert_eq!(daemon.get("/v1/items/item4/similar?limit=0").status, 400);
}

#[test]
fn new_item_is_recommended_before_its_first_event() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    create_shop(&daemon);
    put_item(&daemon, "fresh", &json!({ "categories": ["tea"] }));
    daemon.wait_until_learned(63);
    let list = get_recommendations(&daemon, "limit=13");
    let fresh = list["items"].as_array().unwrap().iter().find(|item| item["item_id"] == json!("fresh")).unwrap();
    assert_eq!(fresh["source"], json!("new"), "{list}");
}
