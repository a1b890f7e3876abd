//! What Prometheus reads.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::daemon::{Home, event};

/// The value of a series as it stands in the text.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn traffic_shows_in_the_metrics_and_promtool_is_content() {
    let home = Home::new();
    let daemon = home.start(&["learning.interval=16", "network.negatives=8"]);
    let events: Vec<_> =
        (0..100).map(|number| event(&format!("e{number}"), &format!("user{}", number % 5), &format!("item{}", number % 9))).collect();
    daemon.send(&events);
    daemon.send(&events[..3]);
    assert_eq!(daemon.post("/v1/events", "{}").status, 400);
    daemon.learned(100);
    assert_eq!(daemon.items("user1").len(), 9);
    assert_eq!(daemon.get("/v1/users/user1/recommendations?limit=0").status, 400);
    assert_eq!(daemon.post("/v1/recommendations", r#"{"items":["item1"]}"#).status, 200);
    assert_eq!(daemon.get("/nothing").status, 404);

    let answer = daemon.admin("/metrics");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.body;
    for (series, expected) in [
        ("sequor_events_total{outcome=\"accepted\"}", 100.0),
        ("sequor_events_total{outcome=\"duplicate\"}", 3.0),
        ("sequor_events_total{outcome=\"rejected\"}", 1.0),
        ("sequor_accepted_events_total{kind=\"view\"}", 100.0),
        ("sequor_recommendations_total{outcome=\"answered\"}", 2.0),
        ("sequor_recommendations_total{outcome=\"refused\"}", 1.0),
        ("sequor_responses_total{class=\"4xx\"}", 3.0),
        ("sequor_request_seconds_count{endpoint=\"events\"}", 3.0),
        ("sequor_request_seconds_count{endpoint=\"recommendations\"}", 2.0),
        ("sequor_request_seconds_count{endpoint=\"inline_recommendations\"}", 1.0),
        ("sequor_live_sessions", 5.0),
        ("sequor_sessions_started_total", 5.0),
        ("sequor_items", 9.0),
        ("sequor_learning_failed", 0.0),
        ("sequor_commit_failures_total", 0.0),
        // Each but the first of five users had an earlier event.
        ("sequor_evaluated_steps_total", 95.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    for series in [
        "sequor_training_examples_total",
        "sequor_training_batches_total",
        "sequor_training_loss",
        "sequor_commit_seconds_count",
        "sequor_snapshot_publish_seconds_count",
        "sequor_journal_offset",
        "sequor_queue_limit{queue=\"committer\"}",
        "sequor_store_bytes",
        "sequor_weights_version",
    ] {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    for histogram in ["sequor_commit_seconds_bucket{", "sequor_request_seconds_bucket{endpoint=\"recommendations\","] {
        for bound in ["0.0001", "0.00025", "0.0005", "0.001"] {
            assert!(text.contains(&format!("{histogram}le=\"{bound}\"}}")), "{histogram} has no bucket up to {bound} s");
        }
    }

    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    match promtool {
        Ok(mut promtool) => {
            promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let said = promtool.wait_with_output().unwrap();
            let said_text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            assert!(said.status.success() && said_text.is_empty(), "promtool: {said_text}");
        }
        // Written past the capture of the test's output, so that it is seen.
        Err(_) => writeln!(std::io::stderr(), "LEFT OUT: /metrics is not held against promtool, which is not installed").unwrap(),
    }
}

#[test]
fn every_series_is_there_before_anything_happens() {
    let home = Home::new();
    let text = home.start(&[]).admin("/metrics").body;
    for series in
        ["sequor_events_total{outcome=\"accepted\"}", "sequor_training_batches_total", "sequor_request_seconds_count{endpoint=\"events\"}"]
    {
        assert_eq!(value(&text, series), 0.0, "{series}");
    }
    assert!(value(&text, "sequor_live_recall_at_20").is_nan());
}
