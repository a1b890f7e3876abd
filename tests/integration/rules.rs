//! Rules: promote, boost, hide and require items in lists.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, view_event};
use crate::placements::{ids, put, start_shop};

fn put_rule(daemon: &Daemon, id: &str, rule: &Value) -> Value {
    put(daemon, &format!("/v1/rules/{id}"), rule)
}

fn list(daemon: &Daemon, query: &str) -> Value {
    let response = daemon.get(&format!("/v1/users/u1/recommendations?{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.body);
    response.json()
}

fn number(item: &str) -> u32 {
    item[1..].parse().unwrap()
}

#[test]
fn rules_are_put_listed_deleted_and_kept() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/rules").json(), json!({ "rules": {} }));
    assert_eq!(daemon.get("/v1/rules/sale").json()["type"], "/problems/unknown-rule");
    let rule = json!({
        "condition": { "placements": ["home"], "context_filter": "brand = leaf" },
        "consequence": { "require": { "filter": "tags has sale", "min_share": 0.25, "max_share": 0.5 } },
        "valid_from": "2026-01-01T01:00:00+01:00", "priority": 7,
    });
    let receipt = put_rule(&daemon, "sale", &rule);
    assert_eq!(receipt["warnings"], json!(["placement `home` does not exist yet"]));
    let mut expected = rule;
    expected["enabled"] = json!(true);
    expected["valid_from"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(daemon.get("/v1/rules/sale").json(), expected);
    assert_eq!(daemon.get_admin("/admin/rules").json(), json!({ "rules": { "sale": expected } }));
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/rules/sale").json(), expected);
    assert_eq!(daemon.request("DELETE", "/v1/rules/sale", "").status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/rules/sale", "").status, 404);
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/rules").json(), json!({ "rules": {} }));
    for body in [
        r#"{"consequence":{"hide":{"filter":"prise < 1"}}}"#,
        r#"{"consequence":{"promote":{"item_id":"i1","position":0}}}"#,
        r#"{"consequence":{"require":{"filter":"available"}}}"#,
        r#"{"consequence":{"explode":{}}}"#,
        r#"{"consequence":{"hide":{"filter":"available"}},"valid_from":"tomorrow"}"#,
        "{}",
    ] {
        let response = daemon.request("PUT", "/v1/rules/bad", body);
        assert_eq!(response.status, 400, "{body}: {}", response.body);
    }
    assert_eq!(daemon.get("/v1/rules").json(), json!({ "rules": {} }));
    daemon.assert_healthy();
}

#[test]
fn conflicts_are_named_in_the_receipt() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let promote = |item: &str| json!({ "consequence": { "promote": { "item_id": item, "position": 1 } } });
    assert_eq!(put_rule(&daemon, "a", &promote("i2"))["warnings"], json!([]));
    let second = put_rule(&daemon, "b", &promote("i3"));
    assert!(second["warnings"][0].as_str().unwrap().contains("rule `a`"), "{second}");
    let hide = put_rule(&daemon, "c", &json!({ "consequence": { "hide": { "filter": "price = 2" } } }));
    assert_eq!(hide["warnings"], json!(["this rule hides item `i2`, but rule `a` promotes it"]));
    let never = json!({
        "condition": { "context_filter": "price < 3 and price > 4" },
        "consequence": { "hide": { "filter": "brand = leaf and brand = root" } },
        "valid_until": "2020-01-01T00:00:00Z",
    });
    let warnings = put_rule(&daemon, "d", &never)["warnings"].clone();
    let words =
        ["the condition `price < 3 and price > 4`", "the filter `brand = leaf and brand = root`", "in the past"];
    for (place, part) in words.iter().enumerate() {
        assert!(warnings[place].as_str().unwrap().contains(part), "{warnings}");
    }
}

#[test]
fn an_error_in_an_expression_is_located() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (path, body, field, column) in [
        ("/v1/placements/home", json!({ "filter": "price < cheap" }), "filter", 9),
        ("/v1/placements/home", json!({ "boosts": [{ "filter": "brnad = x", "factor": 2 }] }), "boosts[0].filter", 1),
        (
            "/v1/rules/r",
            json!({ "consequence": { "hide": { "filter": "available and" } } }),
            "consequence.hide.filter",
            14,
        ),
        (
            "/v1/rules/r",
            json!({ "condition": { "context_filter": "not (brand = x" }, "consequence": { "hide": { "filter": "available" } } }),
            "condition.context_filter",
            15,
        ),
    ] {
        let problem = daemon.request("PUT", path, &body.to_string());
        assert_eq!((problem.status, problem.json()["type"].clone()), (400, json!("/problems/bad-filter")), "{body}");
        assert_eq!((&problem.json()["field"], &problem.json()["column"]), (&json!(field), &json!(column)), "{body}");
        let place = format!("At column {column},");
        assert!(problem.json()["detail"].as_str().unwrap().starts_with(&place), "{}", problem.body);
    }
    assert_eq!(daemon.next_offset(), 0);
}

#[test]
fn hidden_items_are_replaced_by_others() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let before = ids(&list(&daemon, "limit=10"));
    put_rule(&daemon, "no-leaf", &json!({ "consequence": { "hide": { "filter": "brand = leaf" } } }));
    let after = list(&daemon, "limit=10&explain=true");
    assert_eq!(ids(&after).len(), 10, "the list is not shorter: {after}");
    assert!(ids(&after).iter().all(|item| number(item) % 2 == 1), "{after}");
    assert_eq!(after["removed_by_rules"][0]["rule"], "no-leaf");
    assert_eq!(after["removed"]["hidden"], after["removed_by_rules"][0]["count"]);
    for other in ["/v1/trending?limit=20", "/v1/items/i3/similar?limit=20"] {
        assert!(ids(&daemon.get(other).json()).iter().all(|item| number(item) % 2 == 1), "{other}");
    }
    let ranked = daemon.post("/v1/rank", r#"{"items":[{"item_id":"i1"},{"item_id":"i2"}],"explain":true}"#).json();
    assert_eq!(ids(&ranked), ["i1"]);
    assert_eq!(ranked["removed_by_rules"], json!([{ "rule": "no-leaf", "count": 1 }]));
    let disabled = json!({ "consequence": { "hide": { "filter": "brand = leaf" } }, "enabled": false });
    put_rule(&daemon, "no-leaf", &disabled);
    assert_eq!(ids(&list(&daemon, "limit=10")), before);
    daemon.assert_healthy();
}

#[test]
fn a_promoted_item_stands_at_its_position() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let before = ids(&list(&daemon, "limit=20"));
    let last = before.last().unwrap().clone();
    let promote = json!({
        "condition": { "placements": ["home"] }, "consequence": { "promote": { "item_id": last, "position": 3 } },
    });
    put(&daemon, "/v1/placements/home", &json!({ "limit": 5 }));
    put_rule(&daemon, "push", &promote);
    let home_list = list(&daemon, "placement=home&explain=true");
    let mut expected = before[..4].to_vec();
    expected.insert(2, last.clone());
    assert_eq!(ids(&home_list), expected);
    assert_eq!(home_list["items"][2]["explanation"]["rules"], json!(["push"]));
    assert!(home_list["items"][0]["explanation"].get("rules").is_none());
    assert_eq!(ids(&list(&daemon, "limit=5")), before[..5], "no placement");
    // Rules of the request and the catalog come first.
    let excluded = ids(&list(&daemon, &format!("placement=home&exclude={last}")));
    assert!(!excluded.contains(&last));
    let attributes = json!({ "available": false }).to_string();
    assert_eq!(daemon.request("PATCH", &format!("/v1/items/{last}"), &attributes).status, 200);
    assert!(!ids(&list(&daemon, "placement=home")).contains(&last));
    daemon.assert_healthy();
}

#[test]
fn required_shares_hold_and_boosts_reorder() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let before = ids(&list(&daemon, "limit=20"));
    let require = json!({ "consequence": { "require": { "filter": "price >= 18", "min_share": 0.2 } } });
    put_rule(&daemon, "new", &require);
    let shared = list(&daemon, "limit=10&explain=true");
    let dear = |list: &[String]| list.iter().filter(|item| number(item) >= 18).count();
    assert_eq!((ids(&shared).len(), dear(&ids(&shared)) >= 2), (10, true), "{shared}");
    assert!(dear(&ids(&shared)[..5]) >= 1, "also at the beginning: {shared}");
    let longer = ids(&list(&daemon, "limit=20"));
    assert_eq!(ids(&shared), longer[..10], "the order does not depend on the length");
    put_rule(&daemon, "new", &json!({ "consequence": { "require": { "filter": "price >= 10", "max_share": 0.5 } } }));
    let capped = ids(&list(&daemon, "limit=10"));
    assert!(capped.len() == 10 && capped.iter().filter(|item| number(item) >= 10).count() <= 5, "{capped:?}");
    put_rule(&daemon, "new", &json!({ "consequence": { "boost": { "filter": "price = 17", "factor": 1000 } } }));
    let boosted = list(&daemon, "limit=20&explain=true");
    let place_in = |list: &[String]| list.iter().position(|item| item == "i17").unwrap();
    let place = place_in(&ids(&boosted));
    assert!(place < place_in(&before), "{before:?} {boosted}");
    assert_eq!(boosted["items"][place]["explanation"]["rules"], json!(["new"]));
    daemon.assert_healthy();
}

#[test]
fn conditions_limit_a_rule_to_contexts_and_times() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let hide = json!({ "hide": { "filter": "brand = leaf" } });
    let is_hidden = |query: &str| ids(&list(&daemon, query)).iter().all(|item| number(item) % 2 == 1);
    let past = json!({ "consequence": hide, "valid_until": "2020-01-01T00:00:00Z" });
    put_rule(&daemon, "rule", &past);
    assert!(!is_hidden("limit=15"), "the rule has ended");
    put_rule(&daemon, "rule", &json!({ "consequence": hide, "valid_from": "2999-01-01T00:00:00Z" }));
    assert!(!is_hidden("limit=15"), "the rule has not begun");
    let now =
        json!({ "consequence": hide, "valid_from": "2020-01-01T00:00:00Z", "valid_until": "2999-01-01T00:00:00Z" });
    put_rule(&daemon, "rule", &now);
    assert!(is_hidden("limit=10"));
    put_rule(&daemon, "rule", &json!({ "consequence": hide, "condition": { "context_filter": "price = 7" } }));
    assert!(!is_hidden("limit=15") && !is_hidden("limit=15&item=i8"));
    assert!(is_hidden("limit=10&item=i7") && is_hidden("limit=10&items=i8,i7"));
    let inline = |items: Value| ids(&daemon.post("/v1/recommendations", &json!({ "items": items }).to_string()).json());
    assert!(inline(json!(["i8", "i7"])).iter().all(|item| number(item) % 2 == 1));
    assert!(inline(json!(["i7", "i8"])).iter().any(|item| number(item).is_multiple_of(2)));
    daemon.assert_healthy();
}

#[test]
fn a_required_share_does_not_lengthen_a_list_that_stays_short() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    put(&daemon, "/v1/placements/again", &json!({ "type": "buy-again", "limit": 6, "purchased_for": "0s" }));
    put(&daemon, "/v1/placements/near", &json!({ "type": "bought-together", "limit": 6 }));
    let short = |query: &str| ids(&list(&daemon, query)).len();
    let before = ["placement=again", "placement=near&item=i3"].map(short);
    let require = json!({ "filter": "available", "min_share": 0.5, "max_share": 0.5 });
    put_rule(&daemon, "half", &json!({ "consequence": { "require": require } }));
    assert_eq!(["placement=again", "placement=near&item=i3"].map(short), before);
    daemon.assert_healthy();
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let promote = r#"{"consequence":{"promote":{"item_id":"i1","position":"first"}}}"#;
    for (path, body, field) in [
        ("/v1/placements/p", r#"{"limit":-1}"#, Some("limit")),
        ("/v1/placements/p", r#"{"boosts":[{"filter":"available","factor":"2"}]}"#, Some("boosts[0].factor")),
        ("/v1/placements/p", r#"{"exclude_events":"foo:1d"}"#, Some("exclude_events")),
        ("/v1/rules/r", promote, Some("consequence.promote.position")),
        ("/v1/rules/r", r#"{"enabled":"no","consequence":{"hide":{"filter":"available"}}}"#, Some("enabled")),
        ("/v1/rules/r", r#"{"consequence":{}}"#, Some("consequence")),
        ("/v1/rules/r", "[", None),
    ] {
        let response = daemon.request("PUT", path, body);
        let problem = response.json();
        assert_eq!((response.status, problem["field"].as_str()), (400, field), "{body}: {}", response.body);
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(detail.contains("not JSON"), field.is_none(), "{body}: {detail}");
    }
    let response = daemon.post("/v1/rank", r#"{"user_id":"ann","items":[{"item_id":"a"},{"item_id":5}]}"#);
    assert_eq!((response.status, response.json()["field"].as_str()), (400, Some("items[1].item_id")));
    let response = daemon.post("/v1/events?recommend=many", "{}");
    assert!(response.body.contains("from 1 to 1000"), "{}", response.body);
    daemon.assert_healthy();
}

#[test]
fn filters_of_rules_read_the_context_and_the_user() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    assert_eq!(daemon.request("PATCH", "/v1/users/u2", r#"{"attributes":{"most":5}}"#).status, 200);
    let boost = json!({ "filter": "price = context.favourite", "factor": 1000 });
    put(&daemon, "/v1/placements/home", &json!({ "boosts": [boost], "purchased_for": "0s" }));
    put_rule(&daemon, "budget", &json!({ "consequence": { "hide": { "filter": "price > context.budget" } } }));
    put_rule(&daemon, "modest", &json!({ "consequence": { "hide": { "filter": "price > user.most" } } }));
    put_rule(
        &daemon,
        "phone",
        &json!({
            "condition": { "context_filter": "context.device = phone" },
            "consequence": { "hide": { "filter": "brand = leaf" } },
        }),
    );
    let items_of = |user: &str, query: &str| -> Vec<u32> {
        let response = daemon.get(&format!("/v1/users/{user}/recommendations?limit=30&exclude_seen=false&{query}"));
        assert_eq!(response.status, 200, "{query}: {}", response.body);
        ids(&response.json()).iter().map(|item| number(item)).collect()
    };
    let all = items_of("u1", "");
    assert!(all.iter().any(|item| *item > 9) && all.iter().any(|item| item % 2 == 0), "{all:?}");
    let within_budget = items_of("u1", "context.budget=9");
    assert!(!within_budget.is_empty() && within_budget.iter().all(|item| *item <= 9), "{within_budget:?}");
    let of_user = items_of("u2", "");
    assert!(!of_user.is_empty() && of_user.iter().all(|item| *item <= 5), "{of_user:?}");
    let boosted = |favourite: u32| {
        let answer = list(&daemon, &format!("limit=30&placement=home&explain=true&context.favourite={favourite}"));
        let items = answer["items"].as_array().unwrap().clone().into_iter();
        let boosted = items.filter(|item| item["explanation"]["rules"] == json!(["placement:home"]));
        boosted.map(|item| number(item["item_id"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!([boosted(7), boosted(12), boosted(99)], [vec![7], vec![12], vec![]]);
    let on_phone = items_of("u1", "item=i3&context.device=phone");
    assert!(!on_phone.is_empty() && on_phone.iter().all(|item| item % 2 == 1), "{on_phone:?}");
    assert!(items_of("u1", "item=i3&context.device=desktop").iter().any(|item| item % 2 == 0));
    // A given list is ranked by the same rules.
    let listed: Vec<_> = (0..20).map(|item| json!({ "item_id": format!("i{item}") })).collect();
    for (owner, context, most) in [("u2", json!({}), 5), ("u1", json!({ "budget": 9 }), 9)] {
        let request = json!({ "user_id": owner, "items": listed, "context": context });
        let response = daemon.post("/v1/rank", &request.to_string());
        let ranked: Vec<_> = ids(&response.json()).iter().map(|item| number(item)).collect();
        assert!(ranked.len() == most as usize + 1 && ranked.iter().all(|item| *item <= most), "{ranked:?}");
    }
    daemon.assert_healthy();
}

/// The numbers of the items on pages of ten. Each page is counted from the first one, or follows the
/// last one.
fn pages(daemon: &Daemon, query: &str, count: usize, from_first: bool) -> Vec<u32> {
    let mut page = list(daemon, &format!("{query}limit=10"));
    let mut items: Vec<_> = ids(&page).iter().map(|item| number(item)).collect();
    for index in 1..count {
        let id = page["recommendation_id"].as_str().unwrap().to_owned();
        let next = if from_first { format!("&offset={}", 10 * index) } else { String::new() };
        let later = list(daemon, &format!("recommendation_id={id}{next}"));
        items.extend(ids(&later).iter().map(|item| number(item)));
        page = if from_first { page } else { later };
    }
    items
}

#[test]
fn rules_hold_on_later_pages_and_no_item_repeats() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let put_items: Vec<_> = (0..400).map(|item| json!({ "item_id": format!("i{item}"), "price": item })).collect();
    assert_eq!(daemon.post("/v1/items", &json!(put_items).to_string()).status, 200);
    // Few items are related to those of the user; the others are only popular or new.
    let view = |n: u64| view_event(&format!("v{n}"), &format!("u{}", n % 9), &format!("i{}", n * 7 % 60));
    daemon.send_events(&(0..300).map(view).collect::<Vec<_>>());
    daemon.wait_until_learned(daemon.next_offset());
    put(&daemon, "/v1/placements/popular", &json!({ "type": "trending" }));
    type Check = fn(usize, usize, &[u32]) -> bool;
    let required: Check = |n, of_group, _| of_group >= n / 2;
    let limited: Check = |n, of_group, _| of_group * 10 <= n * 6 + 9;
    let promoted: Check = |n, _, items| items.iter().position(|item| *item == 399) == (n >= 25).then_some(24);
    let rules = [
        (json!({ "require": { "filter": "price > 350", "min_share": 0.5 } }), required),
        (json!({ "require": { "filter": "price > 350", "max_share": 0.6 } }), limited),
        (json!({ "require": { "filter": "price <= 350", "max_share": 0.6 } }), |n, of_group, _: &[u32]| {
            (n - of_group) * 10 + 9 >= n * 4
        }),
        (json!({ "promote": { "item_id": "i399", "position": 25 } }), promoted),
    ];
    for (consequence, holds) in rules {
        put_rule(&daemon, "rule", &json!({ "consequence": consequence }));
        daemon.wait_until_learned(daemon.next_offset());
        for query in ["", "placement=popular&"] {
            let from_first = pages(&daemon, query, 10, true);
            let mut distinct = from_first.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!((from_first.len(), distinct.len()), (100, 100), "{consequence} {query}");
            assert_eq!(from_first, pages(&daemon, query, 10, false), "{consequence} {query}");
            // 49 items have a higher price than 350.
            for n in 1..=90 {
                let of_group = from_first[..n].iter().filter(|item| **item > 350).count();
                let of_group = if consequence["require"]["filter"] == "price <= 350" { n - of_group } else { of_group };
                assert!(holds(n, of_group, &from_first[..n]), "{consequence} {query}: {of_group} of {n}");
            }
        }
    }
}
