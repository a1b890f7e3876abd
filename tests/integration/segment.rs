//! Segment compatibility: by the libraries of Segment and RudderStack, and by hand-written requests.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::api_keys::create_key;
use crate::daemon::{Daemon, DaemonHome, report_skipped};

/// The journal in export format.
fn exported_journal(daemon: &Daemon) -> Vec<Value> {
    daemon.get_admin("/admin/journal").body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn segment_python_library_works_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/python/bin/python");
    if !Command::new(&python).args(["-c", "import segment.analytics"]).status().is_ok_and(|status| status.success()) {
        report_skipped("Segment's Python library: it is not installed (run tests/run)");
        return;
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let output =
        Command::new(python).arg(root.join("tests/capture/shopper.py")).arg(daemon.api_url()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let journal = exported_journal(&daemon);
    let events_of = |user: &str| -> Vec<_> {
        let events = journal.iter().filter(|entry| entry["user_id"] == user);
        events
            .map(|entry| (entry["type"].as_str().unwrap(), entry["item_id"].as_str(), entry["value"].as_f64()))
            .collect()
    };
    for user in ["ann", "bob", "cyd"] {
        assert_eq!(
            events_of(user),
            [("view", Some("tea"), None), ("view", Some("teapot"), None), ("view", Some("cup"), None)]
        );
    }
    let eve = [
        ("search", None, None),
        ("click", Some("tea"), None),
        ("cart", Some("tea"), None),
        ("purchase", Some("tea"), Some(4.5)),
        ("purchase", Some("cup"), Some(3.0)),
        ("rate", Some("tea"), Some(5.0)),
    ];
    assert_eq!(events_of("eve"), eve);
    assert_eq!(journal[0]["session_id"], "s-ann");
    daemon.wait_until_learned(15);
    let list = daemon.get("/v1/users/ann/recommendations?exclude_seen=false").item_ids();
    assert!(["tea", "teapot", "cup"].iter().all(|item| list.iter().any(|found| found == item)), "{list:?}");
    let metrics = daemon.get_admin("/metrics").body;
    for (outcome, count) in [("taken", 14), ("ignored", 2), ("unknown", 1), ("rejected", 0)] {
        assert!(
            metrics.contains(&format!("sequor_segment_messages_total{{outcome=\"{outcome}\"}} {count}\n")),
            "{outcome}: {metrics}"
        );
    }
}

/// Runs a script that sends a shopper's events with a library of RudderStack, whose write key is an
/// API key, and checks the journal.
fn assert_rudderstack_library_works(script: &mut Command) {
    let home = DaemonHome::new();
    let (write_key, admin_key) = (create_key(&home, "write"), create_key(&home, "admin"));
    let daemon = home.start(&["server.keys=required"]);
    let output = script.arg(daemon.api_url()).arg(write_key).output().unwrap();
    let messages = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{messages:?}");
    let read = |path: &str| {
        daemon.request_with_key("GET", &format!("{}{path}", daemon.admin_url()), Some(&admin_key), "").body
    };
    let journal: Vec<Value> = read("/admin/journal").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = journal
        .iter()
        .filter(|entry| entry["entry"] == "event")
        .map(|entry| (entry["type"].as_str().unwrap(), entry["item_id"].as_str(), entry["value"].as_f64()))
        .collect();
    let expected = [
        ("view", Some("tea"), None),
        ("search", None, None),
        ("cart", Some("tea"), None),
        ("purchase", Some("tea"), Some(4.5)),
        ("purchase", Some("cup"), Some(3.0)),
    ];
    assert_eq!(events, expected);
    let merges: Vec<_> = journal.iter().filter(|entry| entry["entry"] == "merge").collect();
    assert_eq!((merges.len(), &merges[0]["from"], &merges[0]["into"]), (1, &json!("visitor"), &json!("eve")));
    assert!(journal.iter().any(|entry| entry["session_id"] == "s-eve"));
    let metrics = read("/metrics");
    for (outcome, count) in [("taken", 5), ("ignored", 2), ("unknown", 1), ("rejected", 0)] {
        let line = format!("sequor_segment_messages_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{outcome}: {metrics}");
    }
}

#[test]
fn rudderstack_python_library_works_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/python/bin/python");
    if !Command::new(&python).args(["-c", "import rudderstack.analytics"]).status().is_ok_and(|status| status.success())
    {
        report_skipped("RudderStack's Python library: it is not installed (run tests/run)");
        return;
    }
    assert_rudderstack_library_works(Command::new(python).arg(root.join("tests/capture/rudder_shopper.py")));
}

#[test]
fn rudderstack_node_library_works_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = root.join("target/tools/rudder/node_modules/@rudderstack/rudder-sdk-node");
    if !module.exists() {
        report_skipped("RudderStack's library for Node: it is not installed (run tests/run)");
        return;
    }
    assert_rudderstack_library_works(
        Command::new("node").arg(root.join("tests/capture/rudder_shopper.js")).arg(module),
    );
}

#[test]
fn segment_calls_return_segment_responses_and_named_errors() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_batch=3", "segment.events={\"Quick Look\" = \"view\"}"]);
    let tea =
        json!({ "userId": "ann", "event": "Product Viewed", "properties": { "product_id": "tea" }, "messageId": "m1" });
    let with = |call: &str| {
        let mut message = tea.clone();
        message["type"] = json!(call);
        message
    };
    let posted = |path: &str, body: &Value| {
        let response = daemon.post(path, &body.to_string());
        (response.status, response.json())
    };
    let success = (200, json!({ "success": true }));
    for call in ["track", "page", "screen", "group", "track"] {
        assert_eq!(posted(&format!("/v1/{call}"), &tea), success, "{call}");
    }
    assert_eq!(daemon.next_offset(), 1, "one message is accepted once; the other calls add no events");

    let batch = json!({ "batch": [with("track"), { "type": "track", "event": "Product Viewed" }, { "type": "track", "userId": "ann", "event": "Moon Landed" }] });
    let (status, response) = posted("/v1/batch", &batch);
    assert_eq!((status, &response["success"], &response["rejected"][0]["index"]), (200, &json!(true), &json!(1)));
    assert_eq!((&response["rejected"][0]["field"], &response["warnings"]), (&json!("userId"), &Value::Null));
    let (_, response) = posted("/v1/batch?verbose=1", &batch);
    assert!(response["warnings"][0]["reason"].as_str().unwrap().contains("Moon Landed"), "{response}");
    let (status, response) = posted("/v1/batch", &json!({ "batch": [7] }));
    assert_eq!((status, &response["success"]), (400, &json!(false)), "{response}");

    let problem = |path: &str, body: &Value| {
        let (status, response) = posted(path, body);
        (
            status,
            response["type"].as_str().unwrap_or_default().to_owned(),
            response["field"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(
        problem("/v1/track", &json!({ "event": "Product Viewed" })),
        (400, "/problems/bad-message".into(), "userId".into())
    );
    assert_eq!(problem("/v1/track", &json!([])), (400, "/problems/bad-body".into(), String::new()));
    assert_eq!(
        problem("/v1/batch", &json!({ "batch": [1, 2, 3, 4] })),
        (413, "/problems/too-many-events".into(), String::new())
    );

    let look = json!({ "batch": [{ "type": "track", "anonymousId": "a", "event": "quick look", "properties": { "id": "cup" } }] });
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(look.to_string().as_bytes()).unwrap();
    let response = daemon.try_post(
        "/v1/batch",
        &[("content-encoding", "gzip"), ("authorization", "Basic YW55Og==")],
        &packed.finish().unwrap(),
    );
    assert_eq!(response.unwrap().status, 200);
    assert_eq!(exported_journal(&daemon).last().unwrap()["item_id"], "cup");
}

#[test]
fn cors_allows_only_the_configured_origins() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.cors_origins=[\"https://shop.example\"]"]);
    let preflight = |origin: &str| {
        let request = ureq::http::Request::builder().method("OPTIONS").uri(format!("{}/v1/events", daemon.api_url()));
        let request =
            request.header("origin", origin).header("access-control-request-method", "POST").body(()).unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let response = agent.run(request).unwrap();
        response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight("https://shop.example").as_deref(), Some("https://shop.example"));
    assert_eq!(preflight("https://other.example"), None);
    // A page can read how long it must wait, and the offset of a node.
    let response = daemon.send("GET", "/v1/items/none", &[("origin", "https://shop.example")], b"").unwrap();
    let mut readable: Vec<_> =
        response.headers["access-control-expose-headers"].to_str().unwrap().split(", ").collect();
    readable.sort_unstable();
    assert_eq!(readable, ["retry-after", "x-request-id", "x-sequor-offset", "x-sequor-stale"]);
    let response = daemon.try_post(
        "/v1/events",
        &[("content-type", "text/plain;charset=UTF-8")],
        br#"{"user_id":"u","type":"view","item_id":"i"}"#,
    );
    assert_eq!(response.unwrap().status, 200);
    let script = daemon.get("/v1/capture.js");
    assert_eq!((script.status, script.content_type.as_str()), (200, "text/javascript; charset=utf-8"));
    assert!(
        script.headers.contains_key("etag") && script.headers["cache-control"].to_str().unwrap().contains("max-age")
    );
}
