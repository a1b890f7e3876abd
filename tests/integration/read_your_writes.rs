//! Answers that follow an event: in its receipt, after it by its offset, and as a stream.

use std::io::BufRead;
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, event, wait_for};

#[test]
fn a_receipt_brings_what_follows_from_its_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[event("e1", "bob", "tea"), event("e2", "bob", "cup"), event("e3", "bob", "pot")]);
    daemon.wait_until_learned(3);
    let both = json!([event("e4", "bob", "tea"), event("e5", "ann", "tea")]).to_string();
    let receipt = daemon.post("/v1/events?recommend=2", &both).json();
    assert_eq!((&receipt["accepted"], &receipt["offset"]), (&json!(2), &json!(5)));
    let list = &receipt["recommendations"];
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["fallback"]),
        (2, &json!("none")),
        "it is ann's, who is known by now: {receipt}"
    );
    let asked = daemon.get("/v1/users/ann/recommendations?limit=2").json();
    let members = |list: &Value| list.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(list), members(&asked));
    // Shown to ann as any other list: journalled, and with a next page.
    wait_for("both impressions", || (daemon.next_offset() == 7).then_some(()));
    let id = list["recommendation_id"].as_str().unwrap();
    assert_eq!(daemon.get(&format!("/v1/users/ann/recommendations?recommendation_id={id}")).item_ids().len(), 1);

    // For somebody else; for a repetition, too; and not where nothing was taken.
    let cold = daemon.post("/v1/events?recommend=1&user=carl", &event("e5", "ann", "tea").to_string()).json();
    assert_eq!((&cold["duplicates"], &cold["recommendations"]["fallback"]), (&json!(1), &json!("unknown_user")));
    let nothing = daemon.post("/v1/events?recommend=1", "{}");
    assert_eq!((nothing.status, nothing.json().get("recommendations")), (400, None));
    // A question that makes no sense is refused before anything is taken.
    let end = wait_for("the page and the list for carl", || Some(daemon.next_offset()).filter(|end| *end == 9));
    for query in ["recommend=0", "recommend=few", "user=ann", "recomend=3", "recommend=1&user="] {
        let refused = daemon.post(&format!("/v1/events?{query}"), &event("new", "ann", "cup").to_string());
        assert_eq!((refused.status, refused.content_type.as_str()), (400, "application/problem+json"), "{query}");
    }
    assert_eq!(daemon.next_offset(), end);
}

#[test]
fn events_can_be_tried_without_being_taken() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let good = event("e1", "ann", "tea").to_string();
    let body = format!(
        "{good}\n{{\"user_id\":\"\",\"type\":\"view\",\"item_id\":\"tea\"}}\n{{\"user_id\":\"ann\",\"type\":\"view\",\"item_id\":\"tea\",\"colour\":1}}"
    );
    let verdict = daemon.post("/v1/events/validate", &body);
    assert_eq!(verdict.status, 200);
    let fault = |index: u64, field: Value, code: &str, reason: &str| json!({ "index": index, "line": index + 1, "field": field, "code": code, "reason": reason });
    let told = json!({
        "acceptable": 2,
        "rejected": [fault(1, json!("user_id"), "empty", "`user_id` is empty")],
        "warnings": [fault(2, Value::Null, "unknown_field", "unknown event field `colour`; put additional data into `properties`")],
    });
    assert_eq!(verdict.json(), told);
    assert_eq!(daemon.post("/v1/events/validate", " ").status, 400);
    assert_eq!((daemon.next_offset(), daemon.post("/v1/events", &good).json()["accepted"].clone()), (0, json!(1)));
}

#[test]
fn a_read_waits_until_what_it_wants_is_learned_and_not_for_ever() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.read_wait=30s"]);
    daemon.send_events(&[event("e1", "ann", "tea")]);
    thread::scope(|scope| {
        let user = scope.spawn(|| daemon.get("/v1/users/ann/recommendations?min_offset=3").json());
        let inline = scope.spawn(|| daemon.post("/v1/recommendations", r#"{"items":["cup"],"min_offset":3}"#).json());
        // Asked before the events came, or after: either way the answers know of them.
        daemon.send_events(&[event("e2", "ann", "cup"), event("e3", "bob", "pot")]);
        for answer in [user.join().unwrap(), inline.join().unwrap()] {
            assert_eq!((answer["items"].as_array().unwrap().len(), &answer["fallback"]), (3, &json!("none")), "{answer}");
        }
    });
    drop(daemon);
    let daemon = home.start(&["server.read_wait=50ms"]);
    let refused = daemon.get("/v1/users/ann/recommendations?min_offset=1000");
    assert_eq!(
        (refused.status, &refused.json()["type"], refused.headers["retry-after"].to_str().unwrap()),
        (503, &json!("/problems/not-yet"), "1")
    );
    assert!(refused.json()["detail"].as_str().unwrap().ends_with("not all before 1000."), "{}", refused.body);
    assert_eq!(daemon.get("/v1/users/ann/recommendations?min_offset=3").status, 200, "what was learned before the start counts");
}

/// The next event of a stream: its id and its data; `None` at the end of the stream.
fn next(stream: &mut impl BufRead) -> Option<(u64, Value)> {
    let mut id = None;
    loop {
        let mut line = String::new();
        // A stream that was cut off ends in an error, one that ended in nothing.
        if stream.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.trim().parse().ok();
        }
        if let Some(text) = line.strip_prefix("data: ") {
            return Some((id.unwrap(), serde_json::from_str(text).unwrap()));
        }
    }
}

#[test]
fn a_stream_brings_a_list_each_time_that_the_session_moves() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.streams_max=1"]);
    daemon.send_events(&[event("e1", "ann", "tea"), event("e2", "bob", "cup")]);
    daemon.wait_until_learned(2);
    let mut stream = daemon.open_stream("/v1/users/ann/recommendations/stream?limit=5");
    let (_, list) = next(&mut stream).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "the list as it stands comes at once: {list}");
    // Another user's events are nothing to ann's stream; her own are, with their offset.
    daemon.send_events(&[event("e3", "bob", "pot")]);
    let receipt = daemon.send_events(&[event("e4", "ann", "cup")]);
    let (id, list) = next(&mut stream).unwrap();
    assert_eq!((json!(id), &list["fallback"]), (receipt["offset"].clone(), &json!("none")));
    // No more than are allowed, and what is wrong is said before the stream begins.
    let refused = daemon.get("/v1/users/bob/recommendations/stream");
    assert_eq!((refused.status, &refused.json()["type"]), (503, &json!("/problems/over-capacity")));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!((daemon.metric("sequor_streams"), daemon.metric("sequor_streams_limit")), (1.0, 1.0));
    assert_eq!(daemon.get("/v1/users/bob/recommendations/stream?limit=0").status, 400);
    // A drained daemon lets go of its listeners; their places are free again.
    assert_eq!(daemon.admin_request("POST", "/admin/drain", r#"{"on":true}"#).status, 200);
    assert_eq!(next(&mut stream), None);
    assert_eq!(daemon.get("/v1/users/bob/recommendations/stream").status, 503);
    assert_eq!(daemon.admin_request("POST", "/admin/drain", r#"{"on":false}"#).status, 200);
    wait_for("the place of the stream", || (daemon.metric("sequor_streams") == 0.0).then_some(()));
    let mut stream = daemon.open_stream("/v1/users/bob/recommendations/stream");
    next(&mut stream).unwrap();
    // A stop does not wait for who listens.
    assert!(daemon.terminate().success());
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_stream_in_which_nothing_happens_is_kept_alive() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut stream = daemon.open_stream("/v1/users/ann/recommendations/stream");
    next(&mut stream).unwrap();
    // Twice, so that it goes on after the first; each is a comment, which is no event to a browser.
    for _ in 0..2 {
        let mut said = String::new();
        while !said.ends_with("\n\n") {
            assert_ne!(stream.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        assert_eq!(said.trim_start_matches('\n'), ":\n\n");
    }
    let receipt = daemon.send_events(&[event("e1", "ann", "tea")]);
    assert_eq!(json!(next(&mut stream).unwrap().0), receipt["offset"]);
}
