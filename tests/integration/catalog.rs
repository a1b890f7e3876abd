//! The catalog: what is said of items, and that it holds from the moment of its acknowledgement on.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, event};

fn put(daemon: &Daemon, item: &str, attributes: &Value) {
    let answer = daemon.ask("PUT", &format!("/v1/items/{item}"), &attributes.to_string());
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(1)), "{}", answer.body);
}

#[test]
fn an_item_is_put_patched_and_deleted() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let unknown = json!({
        "type": "/problems/unknown-item", "title": "The item is not known", "status": 404, "field": "item",
        "detail": "No event and no change of the catalog has named the item, or it was deleted.",
    });
    for answer in [daemon.get("/v1/items/tea"), daemon.ask("PATCH", "/v1/items/tea", "{}"), daemon.ask("DELETE", "/v1/items/tea", "")] {
        assert_eq!((answer.status, answer.json()), (404, unknown.clone()));
    }
    assert_eq!(daemon.next_offset(), 0);

    put(&daemon, "tea", &json!({ "categories": ["drinks"], "brand": "leaf", "price": 2.5, "tags": ["green"], "expires": 4_102_444_800_000_i64 }));
    let mut tea = json!({
        "item_id": "tea", "categories": ["drinks"], "brand": "leaf", "price": 2.5, "tags": ["green"], "available": true, "published": null,
        "expires": 4_102_444_800_000_i64,
    });
    assert_eq!(daemon.get("/v1/items/tea").json(), tea);

    let answer = daemon.ask("PATCH", "/v1/items/tea", r#"{"brand":null,"available":false,"colour":"green"}"#);
    let warning = json!({ "index": 0, "field": null, "code": "unknown_field", "reason": "an item has no field `colour`" });
    assert_eq!(answer.json(), json!({ "accepted": 1, "duplicates": 0, "rejected": [], "warnings": [warning], "offset": 2 }));
    (tea["brand"], tea["available"]) = (Value::Null, json!(false));
    assert_eq!(daemon.get("/v1/items/tea").json(), tea);

    assert_eq!(daemon.ask("DELETE", "/v1/items/tea", "").status, 200);
    assert_eq!(daemon.get("/v1/items/tea").status, 404);
    assert_eq!(daemon.ask("PATCH", "/v1/items/tea", "{}").status, 404, "a deleted item stays deleted");
    put(&daemon, "tea", &json!({}));
    assert_eq!(daemon.get("/v1/items/tea").json()["brand"], Value::Null);
    // An item that only an event has named has no attributes and is available.
    daemon.send(&[event("e1", "ann", "a cup")]);
    assert_eq!(daemon.get("/v1/items/a%20cup").json()["available"], json!(true));
    assert_eq!(daemon.ask("PATCH", "/v1/items/a%20cup", r#"{"price":3}"#).status, 200);
    assert_eq!(daemon.get("/v1/items/a%20cup").json()["price"], json!(3.0));
}

#[test]
fn what_breaks_a_rule_is_named_and_changes_nothing() {
    let home = Home::new();
    let daemon = home.start(&["server.max_batch=3"]);
    let answer = daemon.ask("PUT", "/v1/items/tea", r#"{"price":-1}"#);
    let problem = json!({
        "type": "/problems/bad-item", "title": "The item is not taken", "status": 400, "detail": "`price` is negative.", "field": "price",
    });
    assert_eq!((answer.status, answer.json()), (400, problem));
    assert_eq!(daemon.ask("PUT", &format!("/v1/items/{}", "x".repeat(300)), "{}").status, 400);
    assert_eq!(daemon.ask("PUT", "/v1/items/tea", "").status, 400);
    assert_eq!(daemon.next_offset(), 0);

    let lines = "{\"item_id\":\"tea\",\"price\":2}\nnope\n{\"item_id\":\"cup\",\"categories\":\"pots\"}";
    let answer = daemon.post("/v1/items", lines);
    let place = |fault: &Value| (fault["line"].clone(), fault["field"].clone(), fault["code"].clone());
    let rejected: Vec<_> = answer.json()["rejected"].as_array().unwrap().iter().map(place).collect();
    assert_eq!(rejected, [(json!(2), Value::Null, json!("syntax")), (json!(3), json!("categories"), json!("wrong_type"))]);
    assert_eq!((answer.status, &answer.json()["accepted"], daemon.next_offset()), (200, &json!(1), 1));
    let four = vec![json!({ "item_id": "tea" }); 4];
    assert_eq!(daemon.post("/v1/items", &json!(four).to_string()).status, 413);
    assert_eq!(daemon.post("/v1/items", "[{}]").status, 400);
    assert_eq!((daemon.get("/v1/items").status, daemon.ask("POST", "/v1/items/tea", "{}").status), (405, 405));
}

#[test]
fn the_catalog_outlives_the_process() {
    let home = Home::new();
    let daemon = home.start(&[]);
    put(&daemon, "tea", &json!({ "price": 1 }));
    put(&daemon, "cup", &json!({ "price": 2 }));
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/items/tea").json()["price"], json!(1.0), "from the checkpoint");
    put(&daemon, "tea", &json!({ "price": 3 }));
    assert_eq!(daemon.ask("DELETE", "/v1/items/cup", "").status, 200);
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/items/tea").json()["price"], json!(3.0), "from the journal's tail");
    assert_eq!(daemon.get("/v1/items/cup").status, 404);
}
