//! The `/metrics` endpoint.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use sequor::metrics::Metrics;

use crate::daemon::{DaemonHome, report_skipped, view_event, wait_for};

/// The value of a series in the text.
fn series_value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn metrics_reflect_traffic_and_pass_promtool() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=16", "network.negatives=8"]);
    let events: Vec<_> = (0..100)
        .map(|number| view_event(&format!("e{number}"), &format!("user{}", number % 5), &format!("item{}", number % 9)))
        .collect();
    daemon.send_events(&events[..50]);
    daemon.send_events(&events[50..]);
    daemon.send_events(&events[..3]);
    assert_eq!(daemon.post("/v1/events", "{}").status, 400);
    daemon.wait_until_learned(100);
    assert_eq!(daemon.recommended_items("user1").len(), 9);
    assert_eq!(daemon.get("/v1/users/user1/recommendations?limit=0").status, 400);
    assert_eq!(daemon.post("/v1/recommendations", r#"{"items":["item1"]}"#).status, 200);
    assert_eq!(daemon.get("/nothing").status, 404);
    wait_for("the impression", || (daemon.next_offset() == 101).then_some(()));
    wait_for("a training", || (daemon.metric_value("sequor_training_loss") > 0.0).then_some(()));

    let response = daemon.get_admin("/metrics");
    assert_eq!((response.status, response.content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let text = response.body;
    for (series, expected) in [
        ("sequor_events_total{outcome=\"accepted\"}", 100.0),
        ("sequor_events_total{outcome=\"duplicate\"}", 3.0),
        ("sequor_events_total{outcome=\"rejected\"}", 1.0),
        ("sequor_accepted_events_total{kind=\"view\"}", 100.0),
        ("sequor_recommendations_total{outcome=\"answered\"}", 2.0),
        ("sequor_recommendations_total{outcome=\"refused\"}", 1.0),
        ("sequor_responses_total{class=\"4xx\"}", 3.0),
        ("sequor_request_seconds_count{endpoint=\"events\"}", 4.0),
        ("sequor_request_seconds_count{endpoint=\"recommendations\"}", 2.0),
        ("sequor_request_seconds_count{endpoint=\"inline_recommendations\"}", 1.0),
        ("sequor_overloaded_requests_total{endpoint=\"events\"}", 0.0),
        ("sequor_ready", 1.0),
        ("sequor_journal_failed", 0.0),
        ("sequor_live_sessions", 5.0),
        ("sequor_live_sessions_limit", 100_000.0),
        ("sequor_session_events_total", 100.0),
        ("sequor_users", 5.0),
        ("sequor_checkpoint_interval_entries", 20_000.0),
        ("sequor_quarantined_entries", 0.0),
        ("sequor_queue_depth{queue=\"committer\"}", 0.0),
        ("sequor_queue_depth{queue=\"shards\"}", 0.0),
        ("sequor_queue_depth{queue=\"questions\"}", 0.0),
        ("sequor_sessions_started_total", 5.0),
        ("sequor_items", 9.0),
        ("sequor_learning_failed", 0.0),
        ("sequor_commit_failures_total", 0.0),
        // The first event of each of the five users is not evaluated.
        ("sequor_evaluated_steps_total", 95.0),
    ] {
        assert_eq!(series_value(&text, series), expected, "{series}");
    }
    for series in [
        "sequor_training_examples_total",
        "sequor_training_batches_total",
        "sequor_training_loss",
        "sequor_commit_seconds_count",
        "sequor_sync_seconds_count",
        "sequor_event_to_snapshot_seconds_count",
        "sequor_event_to_weights_seconds_count",
        "sequor_disk_free_bytes",
        "process_max_fds",
        "sequor_snapshot_publish_seconds_count",
        "sequor_journal_offset",
        "sequor_queue_limit{queue=\"committer\"}",
        "sequor_queue_limit{queue=\"questions\"}",
        "sequor_store_bytes",
        "sequor_weights_version",
    ] {
        assert!(series_value(&text, series) > 0.0, "{series}");
    }
    // Hits by source add up to all hits, and learned entries to the journal's entries.
    let sources = text.lines().filter(|line| line.starts_with("sequor_evaluated_hits_by_source_total{"));
    let hits: f64 = sources.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!(hits > 0.0 && hits == series_value(&text, "sequor_evaluated_hits_total"), "{hits} hits by source");
    // All nine items are popular after their first event; there are no clusters.
    assert!(series_value(&text, "sequor_live_recall_at_20_by_source{source=\"trending\"}") > 0.9);
    assert_eq!(series_value(&text, "sequor_live_mrr_at_20_by_source{source=\"clusters\"}"), 0.0);
    assert!((100.0..=101.0).contains(&series_value(&text, "sequor_learned_entries_total")));
    // The weights lag by at most two training intervals: the events of one are being trained on,
    // and those of the next are being collected.
    assert!(
        (0.0..48.0).contains(&series_value(&text, "sequor_weights_lag_entries")),
        "{}",
        series_value(&text, "sequor_weights_lag_entries")
    );
    assert!(series_value(&text, "sequor_sync_seconds_sum") <= series_value(&text, "sequor_commit_seconds_sum"));

    for histogram in ["sequor_commit_seconds_bucket{", "sequor_request_seconds_bucket{endpoint=\"recommendations\","] {
        for bound in ["0.0001", "0.00025", "0.0005", "0.001"] {
            assert!(
                text.contains(&format!("{histogram}le=\"{bound}\"}}")),
                "{histogram} has no bucket up to {bound} s"
            );
        }
    }

    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    match promtool {
        Ok(mut promtool) => {
            promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = promtool.wait_with_output().unwrap();
            let output_text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && output_text.is_empty(), "promtool: {output_text}");
        }
        Err(_) => report_skipped("/metrics: promtool is not installed"),
    }
}

#[test]
fn every_series_exists_from_the_start() {
    let home = DaemonHome::new();
    let text = home.start(&[]).get_admin("/metrics").body;
    for series in [
        "sequor_events_total{outcome=\"accepted\"}",
        "sequor_training_batches_total",
        "sequor_request_seconds_count{endpoint=\"events\"}",
    ] {
        assert_eq!(series_value(&text, series), 0.0, "{series}");
    }
    assert!(series_value(&text, "sequor_live_recall_at_20").is_nan());
}

#[test]
fn metrics_page_matches_the_declarations() {
    let (file, page) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/METRICS.md"), Metrics::render_markdown());
    if std::env::var_os("SEQUOR_WRITE_PAGES").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "ops/METRICS.md differs from the declarations; its head says how to regenerate it");
}

#[test]
fn metrics_page_lists_exactly_the_exposed_metrics() {
    let home = DaemonHome::new();
    let shown = home.start(&[]).get_admin("/metrics").body;
    let families: BTreeSet<_> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(ToOwned::to_owned).collect();
    let page = Metrics::render_markdown();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        Some(format!("{name} {}", rest.split(" |").next()?))
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), families);
}
