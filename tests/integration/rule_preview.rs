//! The preview of a rule: a list without and with the rule.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome};
use crate::placements::{ids, put, start_shop};

fn preview(daemon: &Daemon, request: &Value) -> Value {
    let response = daemon.admin_request("POST", "/admin/rule-preview", &request.to_string());
    assert_eq!(response.status, 200, "{request}: {}", response.body);
    response.json()
}

fn list(daemon: &Daemon, query: &str) -> Vec<String> {
    ids(&daemon.get(&format!("/v1/users/u1/recommendations?consent=session&{query}")).json())
}

/// The ids of a list of a preview.
fn side(preview: &Value, name: &str) -> Vec<String> {
    ids(&json!({ "items": preview[name] }))
}

#[test]
fn a_draft_is_compared_with_the_list_without_it() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    put(&daemon, "/v1/placements/home", &json!({ "limit": 5 }));
    let details = json!({ "title": "Green tea", "image": "https://shop.example/i19.jpg" }).to_string();
    assert_eq!(daemon.request("PATCH", "/v1/items/i19", &details).status, 200);
    assert_eq!(daemon.request("PATCH", "/v1/users/u1", r#"{"attributes":{"brand":"leaf"}}"#).status, 200);
    daemon.wait_until_learned(daemon.next_offset());
    let (before, all) = (daemon.next_offset(), list(&daemon, "limit=20"));
    let promoted = all.last().unwrap().clone();
    let draft =
        |consequence: Value| json!({ "user_id": "u1", "placement": "home", "rule": { "consequence": consequence } });
    let answer = preview(&daemon, &draft(json!({ "promote": { "item_id": promoted, "position": 2 } })));
    let mut expected = all[..4].to_vec();
    expected.insert(1, promoted.clone());
    assert_eq!((side(&answer, "without"), side(&answer, "with")), (all[..5].to_vec(), expected), "{answer}");
    assert_eq!((&answer["applies"], &answer["warnings"]), (&json!(true), &json!([])));
    assert_eq!(answer["with"][1]["rules"], json!(["~draft"]));
    let change = |item: &str, without: Value, with: Value, reason: &str| json!({ "item_id": item, "position_without": without, "position_with": with, "reason": reason });
    let expected = json!([
        change(&promoted, Value::Null, json!(2), "promoted"),
        change(&all[1], json!(2), json!(3), "displaced"),
        change(&all[2], json!(3), json!(4), "displaced"),
        change(&all[3], json!(4), json!(5), "displaced"),
        change(&all[4], json!(5), Value::Null, "displaced"),
    ]);
    assert_eq!(answer["changes"], expected);

    let is_leaf = |item: &str| item[1..].parse::<u32>().unwrap() % 2 == 0;
    for (filter, context) in [
        ("brand = leaf", json!({})),
        ("brand = context.brand", json!({ "brand": "leaf" })),
        ("brand = user.brand", json!({})),
    ] {
        let mut request = draft(json!({ "hide": { "filter": filter } }));
        request["context"] = context;
        let hidden = preview(&daemon, &request);
        assert!(
            !side(&hidden, "with").iter().any(|item| is_leaf(item)) && side(&hidden, "with").len() == 5,
            "{hidden}"
        );
        for change in hidden["changes"].as_array().unwrap() {
            let is_hidden = change["reason"] == "hidden";
            assert_eq!(is_hidden, is_leaf(change["item_id"].as_str().unwrap()), "{filter}: {change}");
        }
    }
    // Titles and images come from the catalog.
    let shown = preview(&daemon, &draft(json!({ "promote": { "item_id": "i19", "position": 1 } })));
    let first = &shown["with"][0];
    assert_eq!((&first["title"], &first["image"]), (&json!("Green tea"), &json!("https://shop.example/i19.jpg")));
    // Nothing was stored: no rule, and no impression.
    assert_eq!(daemon.get("/v1/rules").json(), json!({ "rules": {} }));
    assert_eq!(daemon.next_offset(), before);
    let visitor =
        preview(&daemon, &json!({ "rule": { "consequence": { "hide": { "filter": "price > 3" } } }, "limit": 4 }));
    assert_eq!((side(&visitor, "without").len(), side(&visitor, "with").len()), (4, 4), "{visitor}");
    daemon.assert_healthy();
}

#[test]
fn a_stored_rule_is_compared_with_the_list_without_it() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    put(&daemon, "/v1/placements/home", &json!({ "limit": 5 }));
    put(&daemon, "/v1/placements/cart", &json!({ "limit": 5 }));
    let hide =
        json!({ "consequence": { "hide": { "filter": "brand = leaf" } }, "condition": { "placements": ["home"] } });
    put(&daemon, "/v1/rules/no-leaf", &hide);
    let stored = preview(&daemon, &json!({ "user_id": "u1", "placement": "home", "rule_id": "no-leaf" }));
    assert_eq!(side(&stored, "with"), list(&daemon, "placement=home"));
    assert_eq!(side(&stored, "without"), list(&daemon, "limit=5"));
    assert_eq!(stored["rule_id"], "no-leaf");
    // A draft replaces the stored rule of its id.
    let other = json!({ "consequence": { "hide": { "filter": "brand = root" } } });
    let replaced =
        preview(&daemon, &json!({ "user_id": "u1", "placement": "home", "rule_id": "no-leaf", "rule": other }));
    assert_eq!(side(&replaced, "without"), side(&stored, "without"));
    assert!(side(&replaced, "with").iter().all(|item| item[1..].parse::<u32>().unwrap() % 2 == 0), "{replaced}");

    // A rule that does not apply changes nothing, and the preview says why.
    let reason = |request: Value| {
        let answer = preview(&daemon, &request);
        assert_eq!((&answer["applies"], &answer["changes"]), (&json!(false), &json!([])), "{answer}");
        answer["reason"].as_str().unwrap().to_owned()
    };
    let with_rule = |more: Value| {
        let mut rule = hide.clone();
        more.as_object().unwrap().iter().for_each(|(name, value)| rule[name] = value.clone());
        json!({ "user_id": "u1", "placement": "home", "rule": rule })
    };
    assert!(reason(json!({ "user_id": "u1", "placement": "cart", "rule_id": "no-leaf" })).contains("other placements"));
    assert!(reason(with_rule(json!({ "enabled": false }))).contains("disabled"));
    let later = json!({ "valid_from": "2998-01-01T00:00:00Z" });
    assert!(reason(with_rule(later.clone())).contains("not valid"));
    assert!(reason(with_rule(json!({ "condition": { "context_filter": "price = 3" } }))).contains("context"));
    let mut at_that_time = with_rule(later);
    at_that_time["at"] = json!("2998-01-01T01:00:00+01:00");
    assert_eq!(preview(&daemon, &at_that_time)["applies"], true);
    let mut in_context = with_rule(json!({ "condition": { "context_filter": "price = 3" } }));
    in_context["item"] = json!("i3");
    assert_eq!(preview(&daemon, &in_context)["applies"], true);
    daemon.assert_healthy();
}

#[test]
fn invalid_previews_are_refused_with_their_field() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (request, status, field) in [
        (json!({}), 400, "rule"),
        (json!({ "rule_id": "gone" }), 404, "rule"),
        (json!({ "rule_id": "No" }), 400, "rule_id"),
        (json!({ "rule": { "consequence": { "hide": { "filter": "price <" } } } }), 400, "consequence.hide.filter"),
        (
            json!({ "rule": { "consequence": { "hide": { "filter": "available" } } }, "placement": "attic" }),
            404,
            "placement",
        ),
        (json!({ "rule": { "consequence": { "hide": { "filter": "available" } } }, "limit": 0 }), 400, "limit"),
        (json!({ "rule": { "consequence": { "hide": { "filter": "available" } } }, "user_id": "" }), 400, "user_id"),
        (json!({ "rule": { "consequence": { "hide": { "filter": "available" } } }, "at": "noon" }), 400, "at"),
        (
            json!({ "rule": { "consequence": { "hide": { "filter": "available" } } }, "context": { "A": 1 } }),
            400,
            "context",
        ),
    ] {
        let response = daemon.admin_request("POST", "/admin/rule-preview", &request.to_string());
        assert_eq!(
            (response.status, &response.json()["field"]),
            (status, &json!(field)),
            "{request}: {}",
            response.body
        );
    }
    let unknown = daemon.admin_request("POST", "/admin/rule-preview", r#"{"rules":[]}"#);
    assert_eq!((unknown.status, &unknown.json()["type"]), (400, &json!("/problems/bad-body")));
}
