//! Whatever is sent, it is answered; the good events beside it are taken, and the daemon goes on as
//! before.

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, event};

/// An event in place of which something bad stands, written as a sender would.
fn with(fields: &str) -> String {
    format!(r#"{{"user_id":"ann","type":"view","item_id":"tea",{fields}}}"#)
}

/// What is sent in place of an event: the field that is named, the code, and a part of the reason.
fn table() -> Vec<(&'static str, String, Value, &'static str, &'static str)> {
    let long = "x".repeat(300);
    vec![
        ("malformed JSON", r#"{"user_id":"ann","type":}"#.to_owned(), json!("type"), "syntax", "not JSON"),
        ("no JSON", "user=ann".to_owned(), Value::Null, "wrong_type", "an event must be a JSON object"),
        (
            "an unknown type",
            r#"{"user_id":"ann","type":"veiw","item_id":"tea"}"#.to_owned(),
            json!("type"),
            "unknown_kind",
            "known kinds are view, click",
        ),
        ("an empty id", r#"{"user_id":"","type":"view","item_id":"tea"}"#.to_owned(), json!("user_id"), "empty", "`user_id` is empty"),
        (
            "an id of 300 bytes",
            format!(r#"{{"user_id":"ann","type":"view","item_id":"{long}"}}"#),
            json!("item_id"),
            "too_long",
            "at most 256",
        ),
        ("a control character", with(r#""session_id":"a\u0007b""#), json!("session_id"), "control_character", "control character"),
        ("NaN", with(r#""value":NaN"#), json!("value"), "not_finite", "NaN"),
        ("a value beyond 32 bits", with(r#""value":1e39"#), json!("value"), "not_finite", "32-bit"),
        ("a value that is text", with(r#""value":"5""#), json!("value"), "wrong_type", "must be a number"),
        ("the year 9999", with(r#""timestamp":"9999-12-31T23:59:59Z""#), json!("timestamp"), "too_late", "more than a day in the future"),
        ("a time before 1970", with(r#""timestamp":-1"#), json!("timestamp"), "too_early", "before 1970"),
        ("a time without offset", with(r#""timestamp":"2024-05-01 12:00""#), json!("timestamp"), "bad_timestamp", ""),
        ("a field given twice", with(r#""user_id":"bob""#), json!("user_id"), "repeated", "occurs twice"),
        ("properties that are none", with(r#""properties":[1]"#), json!("properties"), "wrong_type", "must be an object"),
        (
            "properties without bottom",
            with(&format!(r#""properties":{{"a":{}{}}}"#, "[".repeat(20), "]".repeat(20))),
            json!("properties"),
            "too_deep",
            "8 levels",
        ),
        ("no item", r#"{"user_id":"ann","type":"view"}"#.to_owned(), json!("item_id"), "missing", "`item_id` is missing"),
    ]
}

#[test]
fn one_bad_event_costs_itself_alone() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut taken = 0;
    for (number, (what, bad, field, code, reason)) in table().into_iter().enumerate() {
        let alone = daemon.post("/v1/events", &bad);
        assert_eq!((alone.status, &alone.json()["rejected"][0]["code"]), (400, &json!(code)), "{what}: {}", alone.body);
        let good = |place: &str| event(&format!("{number}{place}"), "ann", "tea").to_string();
        let (before, after) = (good("before"), good("after"));
        for (body, line) in [(format!("[{before},{bad},{after}]"), Value::Null), (format!("{before}1\n{bad}\n{after}"), json!(2))] {
            let body = body.replace(&format!("{before}1"), &good("first"));
            let body = if line.is_null() { body } else { body.replace(&after, &good("last")) };
            let answer = daemon.post("/v1/events", &body);
            let receipt = answer.json();
            assert_eq!((answer.status, &receipt["accepted"]), (200, &json!(2)), "{what}: {body}\n{receipt}");
            taken += 2;
            assert_eq!(receipt["offset"], taken, "{what}: {receipt}");
            let [fault] = receipt["rejected"].as_array().unwrap().as_slice() else { panic!("{what}: {receipt}") };
            assert_eq!(
                (&fault["index"], &fault["line"], &fault["field"], &fault["code"]),
                (&json!(1), &line, &field, &json!(code)),
                "{what}: {fault}"
            );
            assert!(fault["reason"].as_str().unwrap().contains(reason), "{what}: {fault}");
        }
        daemon.assert_healthy();
    }
    assert_eq!(daemon.next_offset(), taken);
}

#[test]
fn a_torn_array_gives_what_it_holds() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let whole = json!([event("e1", "ann", "tea"), event("e2", "ann", "cup"), event("e3", "ann", "pot")]).to_string();
    let answer = daemon.post("/v1/events", &whole[..whole.len() - 20]);
    let fault = json!({ "index": 2, "field": null, "code": "syntax", "reason": "the array never closes; the rest is not read" });
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "accepted": 2, "duplicates": 0, "withheld": 0, "rejected": [fault], "offset": 2 }))
    );
    // Sent again whole, it fills the hole and repeats nothing.
    assert_eq!(
        daemon.post("/v1/events", &whole).json(),
        json!({ "accepted": 1, "duplicates": 2, "withheld": 0, "rejected": [], "offset": 3 })
    );
    daemon.assert_healthy();
}

#[test]
fn bytes_that_are_no_text_and_texts_without_end_are_answered() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let post = |body: &[u8]| daemon.try_post("/v1/events", &[], body).unwrap();
    let not_text = post(b"{\"user_id\":\"\xff\",\"type\":\"view\",\"item_id\":\"tea\"}");
    assert_eq!((not_text.status, &not_text.json()["rejected"][0]["code"]), (400, &json!("not_utf8")));
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "\0".repeat(1000), "\"".to_owned(), "[,,,]".to_owned()] {
        assert_eq!(post(body.as_bytes()).status, 400, "{}", &body[..body.len().min(20)]);
        daemon.assert_healthy();
    }
    let name = "%00%ff%F0%9F%8D%B5";
    let strange = daemon.get(&format!("/v1/users/{name}/recommendations"));
    assert!(matches!(strange.status, 200 | 400), "{}", strange.body);
    daemon.assert_healthy();
    assert_eq!(daemon.next_offset(), 0);
}
