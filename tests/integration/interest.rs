//! Prediction of event values: `/v1/predict`, and the predicted values in lists.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event_of_kind};

/// Ratings of 30 users of ten items. The users of one group rate even items with 5 and odd items
/// with 1; the users of the other group rate the other way round. User `u0` has rated no item
/// above 5.
fn ratings() -> Vec<Value> {
    let mut events = Vec::new();
    for item in 0..10 {
        for user in 0..30 {
            if user == 0 && item > 5 {
                continue;
            }
            let likes = (user + item) % 2 == 0;
            let mut event = event_of_kind(&format!("r{user}-{item}"), &format!("u{user}"), &format!("i{item}"), "rate");
            event["value"] = json!(if likes { 5 } else { 1 });
            events.push(event);
        }
    }
    events
}

fn start_with_ratings(home: &DaemonHome, settings: &[&str]) -> Daemon {
    let daemon = home.start(settings);
    let events = ratings();
    for batch in events.chunks(100) {
        daemon.send_events(batch);
    }
    daemon.wait_until_learned(events.len() as u64);
    daemon
}

fn predict(daemon: &Daemon, request: &Value) -> Value {
    let response = daemon.post("/v1/predict", &request.to_string());
    assert_eq!(response.status, 200, "{request}");
    response.json()
}

/// The predicted values of items 6 and 7.
fn predicted_values(daemon: &Daemon, user: &str) -> [f64; 2] {
    let response = predict(daemon, &json!({ "user_id": user, "items": ["i6", "i7"] }));
    assert_eq!(response["type"], "rate");
    [0, 1].map(|index| response["items"][index]["interest"]["value"].as_f64().unwrap())
}

#[test]
fn predictions_follow_the_taste_of_the_user_and_survive_restarts() {
    let home = DaemonHome::new();
    let daemon = start_with_ratings(&home, &["store.checkpoint_every=100"]);
    let [liked, disliked] = predicted_values(&daemon, "u0");
    assert!(liked > disliked + 1.0, "{liked} {disliked}");
    let request = json!({ "user_id": "u0", "items": ["i7", "no such item", "i6", "i7"] });
    let response = predict(&daemon, &request);
    let items = response["items"].as_array().unwrap();
    let ids: Vec<_> = items.iter().map(|item| item["item_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["i7", "no such item", "i6", "i7"]);
    assert_eq!(items[1]["interest"], Value::Null);
    assert_eq!(items[0]["interest"], items[3]["interest"]);
    for interest in [&items[0]["interest"], &items[2]["interest"]] {
        let [low, value, high] = ["low", "value", "high"].map(|name| interest[name].as_f64().unwrap());
        assert!(low < value && value < high && (1.0..=5.0).contains(&value), "{interest}");
    }
    // A new user is predicted as an average user, as is a request without user.
    assert_eq!(predicted_values(&daemon, "nobody"), {
        let average = predict(&daemon, &json!({ "items": ["i6", "i7"] }));
        [0, 1].map(|index| average["items"][index]["interest"]["value"].as_f64().unwrap())
    });
    daemon.kill();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    daemon.wait_until_learned(296);
    assert_same_predictions(&predict(&daemon, &request), &response);
    daemon.terminate();
    let daemon = home.start(&["store.checkpoint_every=100"]);
    assert_same_predictions(&predict(&daemon, &request), &response);
}

/// Asserts that two responses predict the same for the same items. A prediction is for the time of
/// its request, so the last digits of two requests can differ.
fn assert_same_predictions(found: &Value, expected: &Value) {
    let rows = |response: &Value| {
        let row = |item: &Value| {
            let numbers = ["low", "value", "high"].map(|name| item["interest"][name].as_f64().unwrap_or(0.0));
            (item["item_id"].clone(), item["interest"].is_null(), numbers)
        };
        response["items"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let (found, expected) = (rows(found), rows(expected));
    assert_eq!(found.len(), expected.len());
    for ((item, is_null, numbers), expected) in found.into_iter().zip(expected) {
        assert_eq!((&item, is_null), (&expected.0, expected.1));
        let is_close = numbers.iter().zip(expected.2).all(|(found, expected)| (found - expected).abs() < 1e-4);
        assert!(is_close, "{item}: {numbers:?} instead of {:?}", expected.2);
    }
}

#[test]
fn every_page_of_a_list_has_predicted_values() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let list = daemon.get("/v1/users/u0/recommendations").json();
    assert!(list.get("interest_kind").is_none(), "no event has a value: {list}");
    assert_eq!(predict(&daemon, &json!({ "items": ["i1"] }))["items"][0]["interest"], Value::Null);
    drop(daemon);
    let home = DaemonHome::new();
    let daemon = start_with_ratings(&home, &[]);
    let first = daemon.get("/v1/users/u0/recommendations?limit=4").json();
    let id = first["recommendation_id"].as_str().unwrap();
    let second = daemon.get(&format!("/v1/users/u0/recommendations?limit=4&recommendation_id={id}")).json();
    for list in [first.clone(), second] {
        assert_eq!(list["interest_kind"], "rate");
        for item in list["items"].as_array().unwrap() {
            let predicted = predict(&daemon, &json!({ "user_id": "u0", "items": [item["item_id"]] }));
            let [shown, predicted] = [&item["interest"], &predicted["items"][0]["interest"]]
                .map(|interest| ["low", "value", "high"].map(|name| interest[name].as_f64().unwrap()));
            // The noise of a rating grows with the time since the rating.
            assert!(
                shown.iter().zip(predicted).all(|(one, other)| (one - other).abs() < 1e-3),
                "{shown:?} {predicted:?}"
            );
        }
    }
}

#[test]
fn merged_erased_and_refusing_users_are_predicted_accordingly() {
    let home = DaemonHome::new();
    let daemon = start_with_ratings(&home, &[]);
    let of_u0 = predicted_values(&daemon, "u0");
    let of_nobody = predicted_values(&daemon, "nobody");
    assert!(of_u0[0] - of_nobody[0] > 0.5, "{of_u0:?} {of_nobody:?}");
    let without_consent = json!({ "user_id": "u0", "items": ["i6"], "consent": "none" });
    let refused = predict(&daemon, &without_consent)["items"][0]["interest"]["value"].as_f64().unwrap();
    assert!((refused - of_nobody[0]).abs() < 1e-6);
    let merged = daemon.post("/v1/users/visitor/merge", r#"{"from":"u0"}"#);
    assert_eq!(merged.status, 200, "{}", merged.body);
    daemon.wait_until_learned(daemon.next_offset());
    for id in ["u0", "visitor"] {
        let values = predicted_values(&daemon, id);
        assert!(values.iter().zip(of_u0).all(|(one, other)| (one - other).abs() < 1e-3), "{id}: {values:?}");
    }
    assert!(daemon.request("DELETE", "/v1/users/visitor", "").status < 300);
    daemon.wait_until_learned(daemon.next_offset());
    let values = predicted_values(&daemon, "visitor");
    assert!(values.iter().zip(of_nobody).all(|(one, other)| (one - other).abs() < 1e-6), "{values:?}");
}

#[test]
fn kinds_have_their_own_scale_and_bad_requests_name_the_way_out() {
    let home = DaemonHome::new();
    let daemon = home.start(&["events.kinds.stars.interest=off"]);
    let mut events = Vec::new();
    for number in 0..40 {
        let mut play = event_of_kind(&format!("p{number}"), &format!("u{}", number % 5), "song", "play");
        play["value"] = json!(if number % 2 == 0 { 2 } else { 200 });
        events.push(play);
    }
    daemon.send_events(&events);
    daemon.wait_until_learned(40);
    let interest = predict(&daemon, &json!({ "items": ["song"], "type": "play" }))["items"][0]["interest"].clone();
    let [low, value, high] = ["low", "value", "high"].map(|name| interest[name].as_f64().unwrap());
    // The median of values on a logarithmic scale is near the geometric mean, and the distances are
    // ratios.
    assert!((10.0..50.0).contains(&value) && high - value > 3.0 * (value - low), "{interest}");
    let before_ratings = predict(&daemon, &json!({ "items": ["song"], "type": "rate" }));
    assert_eq!((&before_ratings["type"], &before_ratings["items"][0]["interest"]), (&json!("rate"), &Value::Null));
    for (request, code, field) in [
        (json!({ "items": [] }), "out-of-range", "items"),
        (json!({ "items": vec!["x"; 1001] }), "out-of-range", "items"),
        (json!({ "items": ["song"], "type": "purchase" }), "out-of-range", "type"),
        (json!({ "items": ["song"], "type": "stars" }), "out-of-range", "type"),
        (json!({ "items": ["song"], "type": "no such kind" }), "out-of-range", "type"),
        (json!({ "items": ["song"], "user_id": "" }), "bad-parameter", "user_id"),
    ] {
        let response = daemon.post("/v1/predict", &request.to_string());
        let problem = response.json();
        assert_eq!((response.status, &problem["field"]), (400, &json!(field)), "{problem}");
        assert_eq!(problem["type"], format!("/problems/{code}"));
    }
    assert_eq!(daemon.post("/v1/predict", r#"{"item":["song"]}"#).status, 400);
    assert_eq!(daemon.get("/v1/predict").status, 405);
}
