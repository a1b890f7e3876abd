//! Read-your-writes: recommendations in an event's receipt, reads with `min_offset`, and streams.

use std::io::BufRead;
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, view_event, wait_for};

#[test]
fn receipt_contains_recommendations_that_reflect_its_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[
        view_event("e1", "bob", "tea"),
        view_event("e2", "bob", "cup"),
        view_event("e3", "bob", "pot"),
    ]);
    daemon.wait_until_learned(3);
    let both = json!([view_event("e4", "bob", "tea"), view_event("e5", "ann", "tea")]).to_string();
    let receipt = daemon.post("/v1/events?recommend=2", &both).json();
    assert_eq!((&receipt["accepted"], &receipt["offset"]), (&json!(2), &json!(5)));
    let list = &receipt["recommendations"];
    assert_eq!(
        (list["items"].as_array().unwrap().len(), &list["fallback"]),
        (2, &json!("none")),
        "the list is for ann, who is known: {receipt}"
    );
    let list_of_ann = daemon.get("/v1/users/ann/recommendations?limit=2").json();
    let members = |list: &Value| list.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(list), members(&list_of_ann));
    // The list is journalled as an impression and has a next page.
    wait_for("both impressions", || (daemon.next_offset() == 7).then_some(()));
    let id = list["recommendation_id"].as_str().unwrap();
    assert_eq!(daemon.get(&format!("/v1/users/ann/recommendations?recommendation_id={id}")).item_ids().len(), 1);

    // The list can be for another user. The receipt of a duplicate event also contains a list; that
    // of a rejected event does not.
    let cold = daemon.post("/v1/events?recommend=1&user=carl", &view_event("e5", "ann", "tea").to_string()).json();
    assert_eq!((&cold["duplicates"], &cold["recommendations"]["fallback"]), (&json!(1), &json!("unknown_user")));
    let rejected_event = daemon.post("/v1/events?recommend=1", "{}");
    assert_eq!((rejected_event.status, rejected_event.json().get("recommendations")), (400, None));
    // Invalid parameters are rejected before any event is accepted.
    let end = wait_for("the page and the list for carl", || Some(daemon.next_offset()).filter(|end| *end == 9));
    for query in ["recommend=0", "recommend=few", "user=ann", "recomend=3", "recommend=1&user="] {
        let rejected = daemon.post(&format!("/v1/events?{query}"), &view_event("new", "ann", "cup").to_string());
        assert_eq!((rejected.status, rejected.content_type.as_str()), (400, "application/problem+json"), "{query}");
    }
    assert_eq!(daemon.next_offset(), end);
}

#[test]
fn the_recommendations_of_a_receipt_can_be_for_a_placement() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for item in ["tea", "cup", "pot", "cap"] {
        let price = json!({ "price": item.len() + usize::from(item == "pot") }).to_string();
        assert_eq!(daemon.request("PUT", &format!("/v1/items/{item}"), &price).status, 200);
    }
    let placements = [
        ("home", json!({ "filter": "price <= context.max_price" })),
        ("product", json!({ "type": "similar" })),
        ("search", json!({ "type": "rank" })),
    ];
    for (name, placement) in placements {
        assert_eq!(daemon.request("PUT", &format!("/v1/placements/{name}"), &placement.to_string()).status, 200);
    }
    daemon.send_events(&[
        view_event("e1", "bob", "tea"),
        view_event("e2", "bob", "cup"),
        view_event("e3", "bob", "pot"),
        view_event("e4", "bob", "cap"),
    ]);
    daemon.wait_until_learned(daemon.next_offset());
    let send = |id: &str, query: &str| {
        let response = daemon.post(&format!("/v1/events?{query}"), &view_event(id, "ann", "tea").to_string());
        assert_eq!(response.status, 200, "{query}: {}", response.body);
        response.json()["recommendations"].clone()
    };
    let ids = |list: &Value| crate::placements::ids(list);
    let cheap = send("a1", "recommend=9&placement=home&context.max_price=3");
    assert_eq!(cheap["placement"], "home");
    assert!(!ids(&cheap).is_empty() && !ids(&cheap).contains(&"pot".to_owned()), "{cheap}");
    assert!(ids(&send("a2", "recommend=9&placement=home&context.max_price=4")).contains(&"pot".to_owned()));
    let similar = send("a3", "recommend=2&placement=product&item=cup");
    assert!(ids(&similar).len() == 2 && !ids(&similar).contains(&"cup".to_owned()), "{similar}");
    // A request that cannot have a list stores no event.
    for (query, status, field) in [
        ("recommend=2&placement=attic", 404, "placement"),
        ("recommend=2&placement=product", 400, "item"),
        ("recommend=2&placement=search", 400, "placement"),
        ("recommend=2&context.Max=1", 400, "context"),
        ("placement=home", 400, "recommend"),
    ] {
        let refused = daemon.post(&format!("/v1/events?{query}"), &view_event("new", "ann", "cup").to_string());
        assert_eq!((refused.status, &refused.json()["field"]), (status, &json!(field)), "{query}: {}", refused.body);
    }
    assert!(!daemon.get_admin("/admin/journal?only=event").body.contains(r#""event_id":"new""#));
    // An item that the request itself introduces can be the context item.
    let fresh =
        daemon.post("/v1/events?recommend=2&placement=product&item=mug", &view_event("m", "ann", "mug").to_string());
    assert_eq!(
        (fresh.status, &fresh.json()["recommendations"]["placement"]),
        (200, &json!("product")),
        "{}",
        fresh.body
    );
}

#[test]
fn events_can_be_validated_without_being_accepted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let good = view_event("e1", "ann", "tea").to_string();
    let body = format!(
        "{good}\n{{\"user_id\":\"\",\"type\":\"view\",\"item_id\":\"tea\"}}\n{{\"user_id\":\"ann\",\"type\":\"view\",\"item_id\":\"tea\",\"colour\":1}}"
    );
    let validation = daemon.post("/v1/events/validate", &body);
    assert_eq!(validation.status, 200);
    let error = |index: u64, field: Value, code: &str, reason: &str| json!({ "index": index, "line": index + 1, "field": field, "code": code, "reason": reason });
    let expected = json!({
        "acceptable": 2,
        "rejected": [error(1, json!("user_id"), "empty", "`user_id` is empty")],
        "warnings": [error(2, Value::Null, "unknown_field", "unknown event field `colour`; put additional data into `properties`")],
    });
    assert_eq!(validation.json(), expected);
    assert_eq!(daemon.post("/v1/events/validate", " ").status, 400);
    assert_eq!((daemon.next_offset(), daemon.post("/v1/events", &good).json()["accepted"].clone()), (0, json!(1)));
}

#[test]
fn read_waits_for_min_offset_up_to_a_timeout() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.read_wait=30s"]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    thread::scope(|scope| {
        let user = scope.spawn(|| daemon.get("/v1/users/ann/recommendations?min_offset=3").json());
        let inline = scope.spawn(|| daemon.post("/v1/recommendations", r#"{"items":["cup"],"min_offset":3}"#).json());
        // The requests arrive before or after the events. In both cases the lists reflect them.
        daemon.send_events(&[view_event("e2", "ann", "cup"), view_event("e3", "bob", "pot")]);
        for response in [user.join().unwrap(), inline.join().unwrap()] {
            assert_eq!(
                (response["items"].as_array().unwrap().len(), &response["fallback"]),
                (3, &json!("none")),
                "{response}"
            );
        }
    });
    drop(daemon);
    let daemon = home.start(&["server.read_wait=50ms"]);
    let rejected = daemon.get("/v1/users/ann/recommendations?min_offset=1000");
    assert_eq!(
        (rejected.status, &rejected.json()["type"], rejected.headers["retry-after"].to_str().unwrap()),
        (503, &json!("/problems/not-yet"), "1")
    );
    assert!(
        rejected.json()["detail"].as_str().unwrap().ends_with("not all entries before offset 1000."),
        "{}",
        rejected.body
    );
    assert_eq!(
        daemon.get("/v1/users/ann/recommendations?min_offset=3").status,
        200,
        "entries learned before the start count"
    );
}

/// Reads the next event of a stream: its id and its data; `None` at the end of the stream.
fn read_next_event(stream: &mut impl BufRead) -> Option<(u64, Value)> {
    let mut id = None;
    loop {
        let mut line = String::new();
        // A stream that is cut off gives an error; a stream that ends cleanly gives 0 bytes.
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
fn stream_sends_a_list_after_each_event_of_the_user() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.streams_max=1"]);
    daemon.send_events(&[view_event("e1", "ann", "tea"), view_event("e2", "bob", "cup")]);
    daemon.wait_until_learned(2);
    let mut stream = daemon.open_stream("/v1/users/ann/recommendations/stream?limit=5");
    let (_, list) = read_next_event(&mut stream).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "the current list is sent immediately: {list}");
    // The stream sends only updates for the user's own events, each with its offset.
    daemon.send_events(&[view_event("e3", "bob", "pot")]);
    let receipt = daemon.send_events(&[view_event("e4", "ann", "cup")]);
    let (id, list) = read_next_event(&mut stream).unwrap();
    assert_eq!((json!(id), &list["fallback"]), (receipt["offset"].clone(), &json!("none")));
    // The number of streams is limited, and errors are reported before the stream begins.
    let rejected = daemon.get("/v1/users/bob/recommendations/stream");
    assert_eq!((rejected.status, &rejected.json()["type"]), (503, &json!("/problems/over-capacity")));
    assert!(rejected.headers.contains_key("retry-after"));
    assert_eq!((daemon.metric_value("sequor_streams"), daemon.metric_value("sequor_streams_limit")), (1.0, 1.0));
    assert_eq!(daemon.get("/v1/users/bob/recommendations/stream?limit=0").status, 400);
    // A drained daemon closes its streams, which frees their slots.
    assert_eq!(daemon.admin_request("POST", "/admin/drain", r#"{"on":true}"#).status, 200);
    assert_eq!(read_next_event(&mut stream), None);
    assert_eq!(daemon.get("/v1/users/bob/recommendations/stream").status, 503);
    assert_eq!(daemon.admin_request("POST", "/admin/drain", r#"{"on":false}"#).status, 200);
    wait_for("the slot of the stream", || (daemon.metric_value("sequor_streams") == 0.0).then_some(()));
    let mut stream = daemon.open_stream("/v1/users/bob/recommendations/stream");
    read_next_event(&mut stream).unwrap();
    // A stop does not wait for open streams.
    assert!(daemon.terminate().success());
    assert_eq!(read_next_event(&mut stream), None);
}

#[test]
fn stream_goes_on_with_the_merged_user() {
    let home = DaemonHome::new();
    let daemon = home.start(&["session.shards=3"]);
    daemon.send_events(&[
        view_event("e1", "visitor", "tea"),
        view_event("e2", "ann", "cup"),
        view_event("e3", "bob", "pot"),
    ]);
    daemon.wait_until_learned(3);
    let merge = |from: &str, into: &str| {
        let receipt = daemon.post(&format!("/v1/users/{into}/merge"), &json!({ "from": from }).to_string()).json();
        receipt["offset"].clone()
    };
    // One stream for each id that becomes the user `anna`.
    let mut streams = ["visitor", "ann", "anna"]
        .map(|user| daemon.open_stream(&format!("/v1/users/{user}/recommendations/stream?limit=5")));
    for stream in &mut streams {
        read_next_event(stream).unwrap();
    }
    let offset = merge("visitor", "ann");
    for stream in &mut streams[..2] {
        assert_eq!(json!(read_next_event(stream).unwrap().0), offset, "the merge itself is an event");
    }
    let offset = merge("ann", "anna");
    for stream in &mut streams {
        assert_eq!(json!(read_next_event(stream).unwrap().0), offset);
    }
    for (number, sender) in ["anna", "visitor"].into_iter().enumerate() {
        let offset = daemon.send_events(&[view_event(&format!("f{number}"), sender, "pot")])["offset"].clone();
        for stream in &mut streams {
            let (id, list) = read_next_event(stream).unwrap();
            assert_eq!((json!(id), &list["fallback"]), (offset.clone(), &json!("none")), "{list}");
        }
    }
    // After an erasure each id is a user of its own again.
    assert_eq!(daemon.request("DELETE", "/v1/users/visitor", "").status, 200);
    let sent = daemon.send_events(&[view_event("g1", "visitor", "cup")])["offset"].as_u64().unwrap();
    let reaches = |stream: &mut _| {
        let (id, list) = std::iter::from_fn(|| read_next_event(stream)).find(|(id, _)| *id >= sent).unwrap();
        (id, list["fallback"].clone())
    };
    assert_eq!(reaches(&mut streams[0]), (sent, json!("none")));
    let sent = daemon.send_events(&[view_event("g2", "anna", "cup")])["offset"].as_u64().unwrap();
    let (id, _) = std::iter::from_fn(|| read_next_event(&mut streams[2])).find(|(id, _)| *id >= sent).unwrap();
    assert_eq!(id, sent);
}

#[test]
fn idle_stream_sends_keep_alive_comments() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut stream = daemon.open_stream("/v1/users/ann/recommendations/stream");
    read_next_event(&mut stream).unwrap();
    // Reads two keep-alives. Each is a comment, which browsers ignore.
    for _ in 0..2 {
        let mut comment = String::new();
        while !comment.ends_with("\n\n") {
            assert_ne!(stream.read_line(&mut comment).unwrap(), 0, "the stream ended: {comment}");
        }
        assert_eq!(comment.trim_start_matches('\n'), ":\n\n");
    }
    let receipt = daemon.send_events(&[view_event("e1", "ann", "tea")]);
    assert_eq!(json!(read_next_event(&mut stream).unwrap().0), receipt["offset"]);
}
