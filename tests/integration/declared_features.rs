//! Declared features: settings, learning from attributes of items, users and contexts, and gains.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event_of_kind};

const LANGUAGES: [&str; 3] = ["de", "en", "fr"];
const SETTINGS: [&str; 4] = [
    "features.language=item.language = user.language",
    "features.device=[\"context.device\", \"item.brand\"]",
    "recall.without=[\"network\"]",
    "learning.interval=60000",
];

/// 60 items in three languages and users who buy only items in their language.
fn start_shop(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&SETTINGS);
    let item = |number: usize| json!({ "item_id": format!("i{number}"), "brand": format!("b{}", number % 5), "attributes": { "language": LANGUAGES[number % 3] } });
    let items: Value = (0..60).map(item).collect();
    assert_eq!(daemon.post("/v1/items", &items.to_string()).json()["rejected"], json!([]));
    for user in 0..30 {
        let body = json!({ "attributes": { "language": LANGUAGES[user % 3] } }).to_string();
        assert_eq!(daemon.request("PATCH", &format!("/v1/users/u{user}"), &body).status, 200);
    }
    for round in 0..30 {
        let event = |user: usize| {
            let item = (user * 7 + round * round * 11 + round * 3) % 20 * 3 + user % 3;
            let mut event =
                event_of_kind(&format!("e{round}-{user}"), &format!("u{user}"), &format!("i{item}"), "purchase");
            event["context"] = json!({ "device": if user.is_multiple_of(2) { "phone" } else { "desktop" } });
            event["timestamp"] = json!(1_700_000_000_000_u64 + (round * 30 + user) as u64 * 100_000);
            event
        };
        daemon.send_events(&(0..30).map(event).collect::<Vec<_>>());
    }
    daemon.wait_until_learned(daemon.next_offset());
    daemon
}

/// The scores of all items for a user, with a context.
fn scores(daemon: &Daemon, user: &str, context: &Value) -> Vec<f64> {
    let items: Value = (0..60).map(|number| json!({ "item_id": format!("i{number}") })).collect();
    let body = json!({ "user_id": user, "items": items, "context": context, "min_offset": daemon.next_offset() });
    let response = daemon.post("/v1/rank", &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    let mut by_position = vec![0.0; 60];
    for item in response.json()["items"].as_array().unwrap() {
        by_position[item["position"].as_u64().unwrap() as usize] = item["score"].as_f64().unwrap();
    }
    by_position
}

/// The mean score of the items in a language, minus that of all others.
fn advantage(scores: &[f64], language: &str) -> f64 {
    let mean = |is_of: bool| {
        let of: Vec<_> =
            scores.iter().enumerate().filter(|(item, _)| (LANGUAGES[item % 3] == language) == is_of).collect();
        of.iter().map(|(_, score)| **score).sum::<f64>() / of.len() as f64
    };
    mean(true) - mean(false)
}

fn describe_user(daemon: &Daemon, user: &str, language: &str) {
    let body = json!({ "attributes": { "language": language } }).to_string();
    assert_eq!(daemon.request("PATCH", &format!("/v1/users/{user}"), &body).status, 200);
}

#[test]
fn features_learn_from_attributes_and_report_their_gain() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let report = daemon.get_admin("/admin/features").json();
    assert!(report["sampled_events"].as_u64().unwrap() > 30, "{report}");
    let [device, language] = &report["features"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&device["name"], &device["operands"]), (&json!("device"), &json!("context.device, item.brand")));
    assert_eq!(language["operands"], json!("item.language = user.language"));
    assert_eq!((&language["weights"], &device["weights"]), (&json!(2), &json!(10)));
    assert!(language["gain"]["mrr_at_20"].as_f64().unwrap() > 0.01, "{report}");
    assert!(language["candidate_share"].as_f64().unwrap() > 0.95, "{report}");
    for (gain, name) in [(&language["gain"], "language"), (&report["gain"], "all")] {
        for quality in ["recall_at_20", "mrr_at_20"] {
            let metric = daemon.metric_value(&format!("sequor_feature_{quality}_gain{{feature=\"{name}\"}}"));
            assert!((metric - gain[quality].as_f64().unwrap()).abs() < 1e-9, "{name} {quality}: {metric}");
        }
    }
    let page = daemon.get_admin("/console/model").body;
    assert!(page.contains("Declared features") && page.contains("item.language = user.language"), "{page}");

    // A new user: the attributes decide, until they change or the user is erased.
    daemon.send_events(&[event_of_kind("new", "eve", "i0", "view")]);
    let none = json!({});
    let before = scores(&daemon, "eve", &none);
    describe_user(&daemon, "eve", "fr");
    let french = scores(&daemon, "eve", &none);
    assert!(advantage(&french, "fr") > advantage(&before, "fr") + 0.5, "{french:?} {before:?}");
    assert_ne!(scores(&daemon, "eve", &json!({ "device": "phone" })), french);
    let invalid = json!({ "user_id": "eve", "items": [{ "item_id": "i1" }], "context": { "Device": 1 } });
    assert_eq!(daemon.post("/v1/rank", &invalid.to_string()).status, 400);
    describe_user(&daemon, "eve", "en");
    assert!(advantage(&scores(&daemon, "eve", &none), "en") > advantage(&french, "en") + 0.5);
    let list = daemon.get("/v1/users/eve/recommendations?limit=12&context.device=phone").item_ids();
    let is_english = |item: &&String| LANGUAGES[item[1..].parse::<usize>().unwrap() % 3] == "en";
    assert!(list.iter().filter(is_english).count() >= 8, "{list:?}");
    assert_eq!(daemon.request("DELETE", "/v1/users/eve", "").status, 200);
    daemon.send_events(&[event_of_kind("again", "eve", "i0", "view")]);
    assert!((advantage(&scores(&daemon, "eve", &none), "en") - advantage(&before, "en")).abs() < 0.2);
    daemon.assert_healthy();
}

#[test]
fn a_restart_keeps_the_weights_and_other_declarations_learn_again() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let (report, of_user) = (daemon.get_admin("/admin/features").json(), scores(&daemon, "u1", &json!({})));
    let end = daemon.next_offset();
    assert!(daemon.terminate().success());
    let restart = |settings: &[&str]| {
        let daemon = home.start(settings);
        daemon.wait_until_learned(end);
        daemon
    };
    let daemon = restart(&SETTINGS);
    assert_eq!(daemon.get_admin("/admin/features").json(), report);
    assert_eq!(scores(&daemon, "u1", &json!({})), of_user);
    assert!(daemon.terminate().success());
    let daemon = restart(&SETTINGS[1..]);
    let other = daemon.get_admin("/admin/features").json();
    assert_eq!(other["features"].as_array().unwrap().len(), 1);
    assert_eq!(other["sampled_events"], report["sampled_events"], "the whole journal is learned again");
    assert!(daemon.terminate().success());
    // With the first declarations again, the result is the same as before.
    let daemon = restart(&SETTINGS);
    assert_eq!(daemon.get_admin("/admin/features").json(), report);
    assert_eq!(scores(&daemon, "u1", &json!({})), of_user);
    assert!(daemon.terminate().success());
}

#[test]
fn invalid_declarations_are_refused_with_key_and_range() {
    let home = DaemonHome::new();
    let four = "features.a=[\"item.b\", \"item.c\", \"user.d\", \"context.e\"]";
    for (setting, expected) in [
        ("features.a=shop.language", "features.a = \"shop.language\": must be 1 to 3 operands"),
        (four, "must be 1 to 3 operands, not 4"),
        ("features.a=[]", "features.a = \"\": must be 1 to 3 operands"),
        ("features.a=user.country", "at least one is of the item"),
        ("features.a=7", "features.a = 7: "),
    ] {
        let output = home.start_expecting_failure(&[setting]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(expected), "{setting}: {error}");
    }
    let many: Vec<_> = (0..33).map(|number| format!("features.f{number}=brand")).collect();
    let output = home.start_expecting_failure(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("features = 33 features: must be at most 32 features (from the command line)"), "{error}");
}
