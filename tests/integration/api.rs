//! The public API: exact responses wherever a client may depend on them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::daemon::{DaemonHome, HttpResponse, view_event, wait_for};

fn gzip_compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame with one uncompressed block (RFC 8878, 3.1.1): magic, descriptor (single segment,
/// one-byte size), size, block header (last, raw, size), content.
fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    let size = u8::try_from(bytes.len()).unwrap();
    let header = (u32::from(size) << 3 | 1).to_le_bytes();
    [&[0x28, 0xB5, 0x2F, 0xFD, 0x20, size], &header[..3], bytes].concat()
}

#[track_caller]
pub(crate) fn assert_problem(response: &HttpResponse, body: &Value) {
    assert_eq!(
        (response.status, response.content_type.as_str()),
        (u16::try_from(body["status"].as_u64().unwrap()).unwrap(), "application/problem+json")
    );
    let mut problem = response.json();
    // The request id differs per request and equals the header `x-request-id`.
    let request_id = problem.as_object_mut().unwrap().remove("request_id");
    assert_eq!(request_id.as_ref().and_then(Value::as_str), Some(response.headers["x-request-id"].to_str().unwrap()));
    assert_eq!(&problem, body);
}

#[test]
fn events_are_accepted_as_object_array_or_lines() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let one = view_event("e1", "ann", "tea").to_string();
    let array = json!([view_event("e2", "ann", "cup"), view_event("e3", "ann", "pot")]).to_string();
    let lines = format!(
        "{}\n{}\r\n\n{}\n",
        view_event("e4", "bob", "tea"),
        view_event("e5", "bob", "cup"),
        view_event("e6", "bob", "pot")
    );
    for (body, accepted, offset) in [(&one, 1, 1), (&array, 2, 3), (&lines, 3, 6)] {
        let response = daemon.post("/v1/events", body);
        assert_eq!((response.status, response.content_type.as_str()), (200, "application/json"));
        assert_eq!(
            response.body,
            format!(r#"{{"accepted":{accepted},"duplicates":0,"withheld":0,"rejected":[],"offset":{offset}}}"#)
        );
    }
    assert_eq!(daemon.next_offset(), 6);
}

#[test]
fn repeated_event_id_is_counted_as_duplicate() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let receipt = daemon.send_events(&[
        view_event("e1", "ann", "tea"),
        view_event("e2", "ann", "cup"),
        view_event("e1", "ann", "pot"),
    ]);
    assert_eq!(receipt, json!({ "accepted": 2, "duplicates": 1, "withheld": 0, "rejected": [], "offset": 2 }));
    let receipt = daemon.send_events(&[view_event("e3", "ann", "pot"), view_event("e2", "ann", "cup")]);
    assert_eq!(receipt, json!({ "accepted": 1, "duplicates": 1, "withheld": 0, "rejected": [], "offset": 3 }));
    let receipt = daemon.send_events(&[view_event("e3", "bob", "jug")]);
    assert_eq!(receipt, json!({ "accepted": 0, "duplicates": 1, "withheld": 0, "rejected": [], "offset": 3 }));
    // Events without an id are never duplicates.
    let without_id = json!({ "user_id": "ann", "type": "view", "item_id": "tea" });
    assert_eq!(daemon.send_events(&[without_id.clone(), without_id])["accepted"], 2);
}

#[test]
fn valid_events_of_a_batch_are_accepted_and_invalid_ones_reported() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = json!([view_event("e1", "ann", "tea"), { "user_id": "ann", "type": "view" }, view_event("e2", "", "cup"), view_event("e3", "ann", "pot")]);
    let response = daemon.post("/v1/events", &body.to_string());
    assert_eq!(response.status, 200);
    let rejected = json!([
        { "index": 1, "field": "item_id", "code": "missing", "reason": "`item_id` is missing; only a search event can omit it" },
        { "index": 2, "field": "user_id", "code": "empty", "reason": "`user_id` is empty" },
    ]);
    assert_eq!(
        response.json(),
        json!({ "accepted": 2, "duplicates": 0, "withheld": 0, "rejected": rejected, "offset": 2 })
    );

    let lines =
        format!("{}\nnope\n{}", view_event("e4", "ann", "tea"), r#"{"user_id":"ann","type":"glance","item_id":"tea"}"#);
    let response = daemon.post("/v1/events", &lines).json();
    let fields_of = |error: &Value| (error["index"].clone(), error["line"].clone(), error["code"].clone());
    let rejected: Vec<_> = response["rejected"].as_array().unwrap().iter().map(fields_of).collect();
    assert_eq!(rejected, [(json!(1), json!(2), json!("wrong_type")), (json!(2), json!(3), json!("unknown_kind"))]);
    assert_eq!((&response["accepted"], &response["offset"]), (&json!(1), &json!(3)));

    let all_rejected = daemon.post("/v1/events", r#"[{"user_id":"ann","type":"view"}]"#);
    assert_eq!(
        (all_rejected.status, &all_rejected.json()["accepted"], &all_rejected.json()["offset"]),
        (400, &json!(0), &Value::Null)
    );
    let misspelt =
        daemon.post("/v1/events", r#"{"user_id":"ann","type":"view","item_id":"tea","sesion_id":"s"}"#).json();
    assert_eq!((&misspelt["accepted"], &misspelt["warnings"][0]["code"]), (&json!(1), &json!("unknown_field")));
}

/// Sends sessions of two groups that share no items. An item's name begins with its group, so a
/// list shows its group.
fn send_two_item_groups(daemon: &crate::daemon::Daemon) {
    for round in 0..20 {
        for group in ["sea", "sky"] {
            let user = format!("{group}-{round}");
            let walk: Vec<_> = (0..6)
                .map(|step| view_event(&format!("{user}-{step}"), &user, &format!("{group}{}", (round + step) % 8)))
                .collect();
            daemon.send_events(&walk);
        }
    }
    daemon.wait_until_learned(240);
}

fn shows_group(group: &str, items: &[String]) -> bool {
    items.iter().take(3).filter(|item| item.starts_with(group)).count() >= 2
}

#[test]
fn recommendations_follow_the_users_events() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    assert_eq!(daemon.recommended_items("ann"), [""; 0], "nothing is known yet");
    send_two_item_groups(&daemon);
    let response = daemon.get("/v1/users/ann/recommendations?limit=5").json();
    assert_eq!(response["items"].as_array().unwrap().len(), 5, "an unknown user gets popular items: {response}");
    for item in response["items"].as_array().unwrap() {
        assert!(item["score"].is_number() && item["source"].is_string(), "{item}");
    }
    let other = daemon.get("/v1/users/ann/recommendations?limit=5").json();
    assert_ne!(response["recommendation_id"], other["recommendation_id"]);

    daemon.send_events(&[view_event("a1", "ann", "sea1"), view_event("a2", "ann", "sea2")]);
    let sea = daemon.recommended_items("ann");
    assert!(shows_group("sea", &sea), "{sea:?}");
    daemon.send_events(&[
        view_event("a3", "ann", "sky1"),
        view_event("a4", "ann", "sky2"),
        view_event("a5", "ann", "sky3"),
    ]);
    let sky = daemon.recommended_items("ann");
    assert!(shows_group("sky", &sky), "{sky:?}");
    assert_eq!(sky.iter().collect::<std::collections::BTreeSet<_>>().len(), sky.len(), "no item twice: {sky:?}");
}

#[test]
fn recommendations_work_before_the_first_training() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let walk = ["tea", "cup", "pot", "jug"];
    let others: Vec<_> = (0..5)
        .flat_map(|user| walk.map(|item| view_event(&format!("{user}-{item}"), &format!("user{user}"), item)))
        .collect();
    daemon.send_events(&others);
    daemon.send_events(&[view_event("a1", "ann", "tea")]);
    daemon.wait_until_learned(21);
    let response = daemon.get("/v1/users/ann/recommendations").json();
    assert!(response["items"].as_array().unwrap().iter().all(|item| item["score"].is_number()), "{response}");
    let after = |item: &str| daemon.post("/v1/recommendations", &json!({ "items": [item] }).to_string()).item_ids();
    assert_ne!(after("tea"), after("pot"));
}

#[test]
fn inline_session_gets_recommendations_and_is_not_stored() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    send_two_item_groups(&daemon);
    let (users, offset) = (daemon.status()["users"].clone(), daemon.next_offset());
    for (items, group) in [(json!(["sea1", "sea2"]), "sea"), (json!(["sky4", "never seen", "sky5"]), "sky")] {
        let response = daemon.post("/v1/recommendations", &json!({ "items": items, "limit": 4 }).to_string());
        let list = response.item_ids();
        assert!(list.len() == 4 && shows_group(group, &list), "{list:?}");
    }
    assert_eq!(daemon.post("/v1/recommendations", r#"{"items":[]}"#).item_ids().len(), 16, "all known items");
    // The offset shows that nothing was journalled.
    assert_eq!(daemon.send_events(&[view_event("last", "ann", "sea1")])["offset"], offset + 1);
    daemon.wait_until_learned(offset + 1);
    assert_eq!(daemon.status()["users"].as_u64(), users.as_u64().map(|users| users + 1));
}

#[test]
fn shown_list_is_journalled_as_an_impression() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    daemon.wait_until_learned(1);
    assert_eq!(daemon.recommended_items("ann"), ["tea"]);
    wait_for("the impression in the journal", || (daemon.next_offset() == 2).then_some(()));
}

#[test]
fn list_length_is_limited() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let many: Vec<_> =
        (0..40).map(|number| view_event(&format!("e{number}"), "ann", &format!("item{number}"))).collect();
    daemon.send_events(&many);
    daemon.wait_until_learned(40);
    let length = |query: &str| daemon.get(&format!("/v1/users/ann/recommendations{query}")).item_ids().len();
    assert_eq!((length(""), length("?limit=1"), length("?limit=1000")), (20, 1, 40));
    for limit in ["0", "1001"] {
        let problem = json!({
            "type": "/problems/out-of-range", "title": "A parameter is out of range", "status": 400, "field": "limit", "allowed": "1 to 1000",
            "detail": format!("`limit` is {limit}; it must be 1 to 1000."),
        });
        assert_problem(&daemon.get(&format!("/v1/users/ann/recommendations?limit={limit}")), &problem);
        assert_problem(
            &daemon.post("/v1/recommendations", &format!(r#"{{"items":["item1"],"limit":{limit}}}"#)),
            &problem,
        );
    }
    let long = json!({ "items": vec!["item1"; 1001] }).to_string();
    let problem = json!({
        "type": "/problems/out-of-range", "title": "A parameter is out of range", "status": 400, "field": "items", "allowed": "a list of at most 1000",
        "detail": "`items` is a list of 1001; it must be a list of at most 1000.",
    });
    assert_problem(&daemon.post("/v1/recommendations", &long), &problem);
}

#[test]
fn invalid_requests_return_problems() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let parameter = |field: &str, detail: &str| json!({ "type": "/problems/bad-parameter", "title": "A parameter cannot be read", "status": 400, "detail": detail, "field": field });
    assert_problem(
        &daemon.get("/v1/users/ann/recommendations?limit=few"),
        &parameter("limit", "`limit` must be a whole number from 1 to 1000."),
    );
    assert_problem(
        &daemon.get("/v1/users/ann/recommendations?limt=3"),
        &parameter(
            "limt",
            "Unknown parameter `limt`; known parameters are limit, exclude, exclude_seen, filter, diversity, explain, details, dismissed_for, purchased_for, exclude_events, max_impressions, impression_limit_action, min_offset, consent, placement, item, items, context.NAME, recommendation_id, offset.",
        ),
    );

    let unknown_path = json!({
        "type": "/problems/unknown-path", "title": "The path is unknown", "status": 404, "detail": "No resource has this path.",
    });
    assert_problem(&daemon.get("/v1/nothing"), &unknown_path);
    assert_problem(&daemon.post("/", "{}"), &unknown_path);
    assert_problem(&daemon.get_admin("/v1/events"), &unknown_path);
    assert_problem(&daemon.get("/metrics"), &unknown_path);

    let not_allowed = |allowed: &str| {
        json!({
            "type": "/problems/method-not-allowed", "title": "The method is not allowed", "status": 405, "allowed": allowed,
            "detail": format!("This path allows {allowed}."),
        })
    };
    for (response, allowed) in [
        (daemon.get("/v1/events"), "POST"),
        (daemon.get("/v1/recommendations"), "POST"),
        (daemon.post("/v1/users/ann/recommendations", "{}"), "GET"),
    ] {
        assert_problem(&response, &not_allowed(allowed));
        assert_eq!(response.headers["allow"], allowed);
    }
    let bad = |detail: &str| json!({ "type": "/problems/bad-body", "title": "The body cannot be read", "status": 400, "detail": detail });
    let mut unknown_field = bad(
        "unknown field `limits`, expected one of `items`, `limit`, `exclude`, `exclude_seen`, `filter`, `context`, `diversity`, `explain`, `details`, `dismissed_for`, `purchased_for`, `min_offset`, `placement` (line 1, column 25); send JSON that matches the API's schema.",
    );
    unknown_field["field"] = json!("limits");
    assert_problem(&daemon.post("/v1/recommendations", r#"{"items":["tea"],"limits":3}"#), &unknown_field);
    assert_problem(
        &daemon.post("/v1/events", " \n"),
        &bad("the body is empty; send one event, an array of events, or one event per line"),
    );
    daemon.assert_healthy();
}

#[test]
fn too_large_bodies_are_rejected_with_any_encoding() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_body_bytes=4096", "server.max_batch=10"]);
    let too_large = json!({
        "type": "/problems/body-too-large", "title": "The body is too large", "status": 413, "allowed": "at most 4096 bytes",
        "detail": "The body has more than 4096 bytes; split it.",
    });
    let events: Vec<_> = (0..9).map(|number| view_event(&format!("e{number}"), "ann", "tea")).collect();
    let fits = json!(events).to_string();
    let large = format!("{fits}{}", " ".repeat(4097 - fits.len()));
    assert_problem(&daemon.post("/v1/events", &large), &too_large);
    assert_problem(
        &daemon.try_post("/v1/events", &[("content-encoding", "gzip")], &gzip_compress(large.as_bytes())).unwrap(),
        &too_large,
    );
    assert_problem(
        &daemon.post("/v1/recommendations", &json!({ "items": ["x".repeat(5000)] }).to_string()),
        &too_large,
    );

    let eleven: Vec<_> = (0..11).map(|number| view_event(&format!("e{number}"), "ann", "tea")).collect();
    let too_many = json!({
        "type": "/problems/too-many-events", "title": "Too many events in one request", "status": 413, "allowed": "at most 10 events",
        "detail": "The body holds 11 events; split it.",
    });
    assert_problem(&daemon.post("/v1/events", &json!(eleven).to_string()), &too_many);
    assert_eq!(daemon.next_offset(), 0, "no event was accepted");
    assert_eq!(daemon.post("/v1/events", &fits).json()["accepted"], 9);
}

#[test]
fn compressed_bodies_are_accepted() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let post_compressed =
        |encoding: &str, body: &[u8]| daemon.try_post("/v1/events", &[("content-encoding", encoding)], body).unwrap();
    for (encoding, body) in [
        ("gzip", gzip_compress(view_event("e1", "ann", "tea").to_string().as_bytes())),
        ("zstd", zstd_frame(view_event("e2", "ann", "cup").to_string().as_bytes())),
        ("identity", view_event("e3", "ann", "pot").to_string().into_bytes()),
    ] {
        let response = post_compressed(encoding, &body);
        assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(1)), "{encoding}: {}", response.body);
    }
    let whole = gzip_compress(view_event("e4", "ann", "tea").to_string().as_bytes());
    for invalid in [&whole[..whole.len() / 2], b"no gzip at all"] {
        let response = post_compressed("gzip", invalid);
        let problem = json!({
            "type": "/problems/bad-body", "title": "The body cannot be read", "status": 400,
            "detail": "The body is incomplete or does not match its Content-Encoding.",
        });
        assert_problem(&response, &problem);
    }
    let unknown_encoding = json!({
        "type": "/problems/unsupported-body", "title": "The body is not supported", "status": 415, "allowed": "gzip, deflate, zstd, identity",
        "detail": "The content type or content encoding of the body is not supported.",
    });
    assert_problem(&post_compressed("compress", b"{}"), &unknown_encoding);
    assert_eq!(daemon.next_offset(), 3);
    daemon.assert_healthy();
}

#[test]
fn response_and_log_contain_the_request_id() {
    let home = DaemonHome::new();
    let daemon = home.start(&["log.level=debug", "log.format=json"]);
    let id_of = |response: &HttpResponse| response.headers["x-request-id"].to_str().unwrap().to_owned();
    let good = daemon
        .try_post("/v1/events", &[("x-request-id", "trace-7/a")], view_event("e1", "ann", "tea").to_string().as_bytes())
        .unwrap();
    assert_eq!((good.status, id_of(&good).as_str()), (200, "trace-7/a"));
    // An invalid request id is replaced, and generated ids are unique.
    let generated = daemon.try_post("/v1/events", &[("x-request-id", "<script>")], b"{}").unwrap();
    let other = daemon.get("/nothing");
    assert!(id_of(&generated).starts_with('q') && id_of(&other).starts_with('q') && id_of(&generated) != id_of(&other));
    assert_eq!(other.json()["request_id"], id_of(&other));
    // A request that is rejected before it reaches a handler also gets an id.
    let unread =
        daemon.try_post("/v1/events", &[("x-request-id", "u1"), ("content-encoding", "rot13")], b"{}").unwrap();
    assert_eq!((unread.status, &unread.json()["request_id"], id_of(&unread).as_str()), (415, &json!("u1"), "u1"));

    let log = std::fs::read_to_string(home.dir().join("log")).unwrap();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line =
        lines.iter().find(|line| line["span"]["id"] == "trace-7/a" && line["fields"]["message"] == "answered").unwrap();
    assert_eq!((&line["fields"]["path"], &line["fields"]["status"]), (&json!("/v1/events"), &json!(200)), "{line}");
    assert!(!log.contains("<script>"));
}
