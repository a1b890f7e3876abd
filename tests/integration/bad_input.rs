//! Invalid input: it gets an error response, valid events in the same request are accepted, and the
//! daemon keeps running.

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, view_event};

/// A valid event with additional fields, as raw JSON.
fn event_with(fields: &str) -> String {
    format!(r#"{{"user_id":"ann","type":"view","item_id":"tea",{fields}}}"#)
}

/// Invalid events with the expected field, code and part of the reason.
fn invalid_events() -> Vec<(&'static str, String, Value, &'static str, &'static str)> {
    let long = "x".repeat(300);
    vec![
        ("malformed JSON", r#"{"user_id":"ann","type":}"#.to_owned(), json!("type"), "syntax", "not JSON"),
        ("not JSON", "user=ann".to_owned(), Value::Null, "wrong_type", "an event must be a JSON object"),
        (
            "an unknown type",
            r#"{"user_id":"ann","type":"veiw","item_id":"tea"}"#.to_owned(),
            json!("type"),
            "unknown_kind",
            "known kinds are view, click",
        ),
        (
            "an empty id",
            r#"{"user_id":"","type":"view","item_id":"tea"}"#.to_owned(),
            json!("user_id"),
            "empty",
            "`user_id` is empty",
        ),
        (
            "an id of 300 bytes",
            format!(r#"{{"user_id":"ann","type":"view","item_id":"{long}"}}"#),
            json!("item_id"),
            "too_long",
            "at most 256",
        ),
        (
            "a control character",
            event_with(r#""session_id":"a\u0007b""#),
            json!("session_id"),
            "control_character",
            "control character",
        ),
        ("NaN", event_with(r#""value":NaN"#), json!("value"), "not_finite", "NaN"),
        ("a value beyond 32 bits", event_with(r#""value":1e39"#), json!("value"), "not_finite", "32-bit"),
        ("a value that is text", event_with(r#""value":"5""#), json!("value"), "wrong_type", "must be a number"),
        (
            "the year 9999",
            event_with(r#""timestamp":"9999-12-31T23:59:59Z""#),
            json!("timestamp"),
            "too_late",
            "more than a day in the future",
        ),
        ("a time before 1970", event_with(r#""timestamp":-1"#), json!("timestamp"), "too_early", "before 1970"),
        (
            "a time without offset",
            event_with(r#""timestamp":"2024-05-01 12:00""#),
            json!("timestamp"),
            "bad_timestamp",
            "",
        ),
        ("a field given twice", event_with(r#""user_id":"bob""#), json!("user_id"), "repeated", "occurs twice"),
        (
            "properties that are not an object",
            event_with(r#""properties":[1]"#),
            json!("properties"),
            "wrong_type",
            "must be an object",
        ),
        (
            "properties nested too deeply",
            event_with(&format!(r#""properties":{{"a":{}{}}}"#, "[".repeat(20), "]".repeat(20))),
            json!("properties"),
            "too_deep",
            "8 levels",
        ),
        (
            "no item",
            r#"{"user_id":"ann","type":"view"}"#.to_owned(),
            json!("item_id"),
            "missing",
            "`item_id` is missing",
        ),
    ]
}

#[test]
fn invalid_event_does_not_affect_others() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut accepted = 0;
    for (number, (name, invalid, field, code, reason)) in invalid_events().into_iter().enumerate() {
        let alone = daemon.post("/v1/events", &invalid);
        assert_eq!((alone.status, &alone.json()["rejected"][0]["code"]), (400, &json!(code)), "{name}: {}", alone.body);
        let good = |suffix: &str| view_event(&format!("{number}{suffix}"), "ann", "tea").to_string();
        let (before, after) = (good("before"), good("after"));
        for (body, line) in [
            (format!("[{before},{invalid},{after}]"), Value::Null),
            (format!("{before}1\n{invalid}\n{after}"), json!(2)),
        ] {
            let body = body.replace(&format!("{before}1"), &good("first"));
            let body = if line.is_null() { body } else { body.replace(&after, &good("last")) };
            let response = daemon.post("/v1/events", &body);
            let receipt = response.json();
            assert_eq!((response.status, &receipt["accepted"]), (200, &json!(2)), "{name}: {body}\n{receipt}");
            accepted += 2;
            assert_eq!(receipt["offset"], accepted, "{name}: {receipt}");
            let [error] = receipt["rejected"].as_array().unwrap().as_slice() else { panic!("{name}: {receipt}") };
            assert_eq!(
                (&error["index"], &error["line"], &error["field"], &error["code"]),
                (&json!(1), &line, &field, &json!(code)),
                "{name}: {error}"
            );
            assert!(error["reason"].as_str().unwrap().contains(reason), "{name}: {error}");
        }
        daemon.assert_healthy();
    }
    assert_eq!(daemon.next_offset(), accepted);
}

#[test]
fn truncated_array_accepts_its_complete_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let complete =
        json!([view_event("e1", "ann", "tea"), view_event("e2", "ann", "cup"), view_event("e3", "ann", "pot")])
            .to_string();
    let response = daemon.post("/v1/events", &complete[..complete.len() - 20]);
    let error = json!({ "index": 2, "field": null, "code": "syntax", "reason": "the array never closes; the rest is not read" });
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "accepted": 2, "duplicates": 0, "withheld": 0, "rejected": [error], "offset": 2 }))
    );
    // Sending the complete array adds only the missing event.
    assert_eq!(
        daemon.post("/v1/events", &complete).json(),
        json!({ "accepted": 1, "duplicates": 2, "withheld": 0, "rejected": [], "offset": 3 })
    );
    daemon.assert_healthy();
}

#[test]
fn binary_and_unterminated_bodies_are_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let post = |body: &[u8]| daemon.try_post("/v1/events", &[], body).unwrap();
    let not_text = post(b"{\"user_id\":\"\xff\",\"type\":\"view\",\"item_id\":\"tea\"}");
    assert_eq!((not_text.status, &not_text.json()["rejected"][0]["code"]), (400, &json!("not_utf8")));
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "\0".repeat(1000), "\"".to_owned(), "[,,,]".to_owned()]
    {
        assert_eq!(post(body.as_bytes()).status, 400, "{}", &body[..body.len().min(20)]);
        daemon.assert_healthy();
    }
    let name = "%00%ff%F0%9F%8D%B5";
    let strange = daemon.get(&format!("/v1/users/{name}/recommendations"));
    assert!(matches!(strange.status, 200 | 400), "{}", strange.body);
    daemon.assert_healthy();
    assert_eq!(daemon.next_offset(), 0);
}
