//! Ranking of a given list: `/v1/rank`.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};

/// Twenty users who view the items of one of two groups: even or odd numbers.
fn start_with_views(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&["learning.interval=60000"]);
    for round in 0..10 {
        let event = |user: usize| {
            let item = (user * 3 + round) % 10 * 2 + user % 2;
            view_event(&format!("e{round}-{user}"), &format!("u{user}"), &format!("i{item}"))
        };
        daemon.send_events(&(0..20).map(event).collect::<Vec<_>>());
    }
    daemon.wait_until_learned(200);
    daemon
}

fn list_of(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({ "item_id": id })).collect()
}

fn rank(daemon: &Daemon, request: &Value) -> Value {
    let response = daemon.post("/v1/rank", &request.to_string());
    assert_eq!(response.status, 200, "{request}: {}", response.body);
    response.json()
}

fn scores(list: &Value) -> Vec<(String, f64)> {
    let score = |item: &Value| Some((item["item_id"].as_str().unwrap().to_owned(), item["score"].as_f64()?));
    list["items"].as_array().unwrap().iter().filter_map(score).collect()
}

#[test]
fn a_list_is_ordered_by_the_scores_of_recommendations_and_stores_nothing() {
    let home = DaemonHome::new();
    let daemon = start_with_views(&home);
    let for_user = daemon.get("/v1/users/u4/recommendations?limit=12").json();
    let session = json!({ "items": ["i3", "i5"], "limit": 12 }).to_string();
    let for_session = daemon.post("/v1/recommendations", &session).json();
    // The list of the user is the last thing that the journal stores, a moment after the answer.
    let end = 201;
    wait_for("the impression", || (daemon.next_offset() == end).then_some(()));
    for (recommended, owner) in
        [(for_user, json!({ "user_id": "u4" })), (for_session, json!({ "items_in_session": ["i3", "i5"] }))]
    {
        let expected = scores(&recommended);
        assert!(expected.len() >= 10, "{recommended}");
        let mut shuffled: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
        shuffled.reverse();
        shuffled.swap(0, 4);
        let mut request = owner;
        request["items"] = list_of(&shuffled);
        let ranked = rank(&daemon, &request);
        assert_eq!(scores(&ranked), expected);
        assert_eq!(ranked["is_personalised"], true);
        for item in ranked["items"].as_array().unwrap() {
            assert_eq!(shuffled[item["position"].as_u64().unwrap() as usize], item["item_id"].as_str().unwrap());
            assert_eq!((&item["status"], &item["is_available"]), (&json!("learned"), &json!(true)));
            assert!(item["source"].is_string() && item.get("explanation").is_none(), "{item}");
        }
        request["explain"] = json!(true);
        let explained = rank(&daemon, &request);
        assert_eq!(scores(&explained), expected);
        assert!(explained["items"][0]["explanation"]["sources"].is_object(), "{explained}");
    }
    assert_eq!(daemon.next_offset(), end);
}

#[test]
fn every_item_of_the_request_is_returned_and_marked() {
    let home = DaemonHome::new();
    let daemon = start_with_views(&home);
    for (item, attributes) in [("fresh", json!({ "categories": ["even"] })), ("i2", json!({ "available": false }))] {
        assert_eq!(daemon.request("PUT", &format!("/v1/items/{item}"), &attributes.to_string()).status, 200);
    }
    daemon.wait_until_learned(202);
    let ids = ["nowhere", "i2", "fresh", "i4", "i4", "elsewhere"];
    for owner in [json!({ "user_id": "u2" }), json!({ "user_id": "stranger" }), json!({})] {
        let mut request = owner;
        request["items"] = list_of(&ids);
        let ranked = rank(&daemon, &request);
        let items = ranked["items"].as_array().unwrap();
        let mut returned: Vec<_> = items.iter().map(|item| item["position"].as_u64().unwrap()).collect();
        assert_eq!(returned[4..], [0, 5], "unknown items come last, in the order of the request: {ranked}");
        returned.sort_unstable();
        assert_eq!(returned, [0, 1, 2, 3, 4, 5]);
        let at = |position: u64| items.iter().find(|item| item["position"] == position).unwrap();
        assert_eq!((&at(0)["status"], &at(0)["score"]), (&json!("unknown"), &Value::Null));
        assert_eq!((&at(2)["status"], &at(2)["is_available"]), (&json!("new"), &json!(true)));
        assert_eq!((&at(1)["status"], &at(1)["is_available"]), (&json!("learned"), &json!(false)));
        assert_eq!(at(3)["score"], at(4)["score"]);
        let is_known = request["user_id"] == "u2";
        assert_eq!(ranked["is_personalised"], is_known);
        if !is_known {
            assert!(scores(&ranked).is_sorted_by(|a, b| a.1 >= b.1), "{ranked}");
            assert_eq!(at(2)["score"], 0.0, "an item without events has no popularity");
        }
    }
    // Without consent to storage, the list is that of a stranger.
    let request = json!({ "user_id": "u2", "consent": "none", "items": list_of(&ids) });
    assert_eq!(rank(&daemon, &request)["is_personalised"], false);
}

#[test]
fn invalid_requests_name_the_field_and_the_allowed_range() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let items = list_of(&["tea"]);
    let many = json!(vec![json!({ "item_id": "tea" }); 1001]);
    for (request, field, detail) in [
        (json!({ "items": [] }), "items", "a list of 1 to 1000"),
        (json!({ "items": many }), "items", "a list of 1001"),
        (json!({ "items": items, "user_id": "a", "items_in_session": [] }), "items_in_session", "only one of"),
        (json!({ "items": items, "items_in_session": vec!["tea"; 1001] }), "items_in_session", "at most 1000"),
        (json!({ "items": items, "user_id": "" }), "user_id", "empty"),
    ] {
        let response = daemon.post("/v1/rank", &request.to_string());
        let problem = response.json();
        assert_eq!((response.status, &problem["field"]), (400, &json!(field)), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    for request in [json!({}), json!({ "items": ["tea"] }), json!({ "items": items, "limit": 3 })] {
        assert_eq!(daemon.post("/v1/rank", &request.to_string()).status, 400, "{request}");
    }
}

#[test]
fn the_relevance_of_the_site_changes_the_order() {
    let home = DaemonHome::new();
    let daemon = start_with_views(&home);
    let ids = ["i0", "i2", "i4", "i1", "i3"];
    let request = |relevance: &dyn Fn(usize) -> Value| {
        let item =
            |(place, id): (usize, &&str)| json!({ "item_id": id, "features": { "relevance": relevance(place) } });
        json!({ "user_id": "u4", "explain": true, "items": ids.iter().enumerate().map(item).collect::<Vec<_>>() })
    };
    let order = |list: &Value| scores(list).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let plain = order(&rank(&daemon, &json!({ "user_id": "u4", "items": list_of(&ids) })));
    let equal = rank(&daemon, &request(&|_| json!(7.5)));
    assert_eq!(order(&equal), plain, "an equal relevance says nothing");
    let combination = &equal["items"][0]["combination"];
    assert_eq!((&combination["model_weight"], &combination["relevance_weight"]), (&json!(1.0), &json!(1.0)));
    assert_eq!(combination["relevance"], json!(7.5));

    // The second item is far more relevant than the others.
    let second = plain[1].clone();
    let relevant = rank(&daemon, &request(&|place| json!(if ids[place] == second { 1e6 } else { 0.0 })));
    assert_eq!(order(&relevant)[0], second, "{plain:?}");

    for invalid in [json!(1e40), json!("high"), Value::Null] {
        let invalid = request(&|place| if place == 2 { invalid.clone() } else { json!(0.0) });
        let response = daemon.post("/v1/rank", &invalid.to_string());
        assert_eq!(response.status, 400);
        assert_eq!(response.json()["field"], "items[2].features.relevance", "{}", response.body);
    }
    let not_json = r#"{"user_id":"u4","items":[{"item_id":"i0","features":{"relevance":NaN}}]}"#;
    assert_eq!(daemon.post("/v1/rank", not_json).status, 400);
    let unknown = json!({ "user_id": "u4", "items": [{ "item_id": "i0", "features": { "price": 3 } }] });
    assert_eq!(daemon.post("/v1/rank", &unknown.to_string()).status, 400);
}

#[test]
fn clicks_on_logged_lists_change_the_weight_of_the_relevance() {
    let home = DaemonHome::new();
    let daemon = start_with_views(&home);
    let ids = ["i0", "i2", "i4", "i1", "i3"];
    let item = |(place, id): (usize, &&str)| json!({ "item_id": id, "features": { "relevance": place } });
    let items: Vec<_> = ids.iter().enumerate().map(item).collect();
    let weight = |daemon: &Daemon| {
        let list = rank(daemon, &json!({ "user_id": "u4", "explain": true, "items": items }));
        list["items"][0]["combination"]["relevance_weight"].as_f64().unwrap()
    };
    assert_eq!(weight(&daemon), 1.0);
    // Each user clicks the least relevant item of the list.
    for visit in 0..20 {
        let user = format!("u{visit}");
        let list = rank(&daemon, &json!({ "user_id": user, "log": true, "items": items }));
        assert!(list["recommendation_id"].is_string() && list["items"][0].get("combination").is_none(), "{list}");
        daemon.send_events(&[view_event(&format!("click{visit}"), &user, "i0")]);
    }
    let end = daemon.next_offset();
    daemon.wait_until_learned(end);
    let learned = weight(&daemon);
    assert!(learned < 0.5, "{learned}");
    daemon.kill();
    let daemon = home.start(&["learning.interval=60000"]);
    daemon.wait_until_learned(end);
    assert_eq!(weight(&daemon), learned, "the journal holds the relevance");
}

#[test]
fn clicks_on_reported_lists_change_the_weight_of_the_relevance() {
    let home = DaemonHome::new();
    let daemon = start_with_views(&home);
    let ids = ["i0", "i2", "i4", "i1", "i3"];
    let item = |(place, id): (usize, &&str)| json!({ "item_id": id, "features": { "relevance": place } });
    let items: Vec<_> = ids.iter().enumerate().map(item).collect();
    let ranked = |daemon: &Daemon| rank(daemon, &json!({ "user_id": "u4", "explain": true, "items": items }));
    let weights = |list: &Value| {
        let weight = |name: &str| list["items"][0]["combination"][name].as_f64().unwrap();
        (weight("model_weight"), weight("relevance_weight"))
    };
    // The site reports its lists, at first without the model's scores. Each user clicks the least
    // relevant item.
    let report_lists = |visits: std::ops::Range<usize>, shown: &dyn Fn(&str) -> Vec<Value>| {
        for visit in visits {
            let user = format!("u{}", visit % 20);
            let list = json!({ "user_id": user, "items": shown(&user) });
            let response = daemon.post("/v1/impressions", &list.to_string());
            assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(5)), "{}", response.body);
            daemon.send_events(&[view_event(&format!("click{visit}"), &user, "i0")]);
        }
        daemon.wait_until_learned(daemon.next_offset());
        weights(&ranked(&daemon))
    };
    let relevant = |(place, id): (usize, &&str)| json!({ "item_id": id, "relevance": place });
    let (model, relevance) = report_lists(0..20, &|_| ids.iter().enumerate().map(relevant).collect());
    assert!(model == 1.0 && relevance < 0.5, "{model} {relevance}");
    let with_scores = |user: &str| {
        let list = rank(&daemon, &json!({ "user_id": user, "explain": true, "items": items }));
        let shown = |item: &Value| {
            let combination = &item["combination"];
            json!({ "item_id": item["item_id"], "relevance": combination["relevance"], "model_score": combination["model_score"] })
        };
        list["items"].as_array().unwrap().iter().map(shown).collect()
    };
    let (model, _) = report_lists(20..40, &with_scores);
    assert!(model != 1.0, "{model}");
}
