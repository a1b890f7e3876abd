use super::*;
use std::collections::HashSet;

#[test]
fn metric_names_follow_prometheus_conventions() {
    let mut seen = HashSet::new();
    for declared in Metrics::DECLARATIONS {
        let name = declared.name;
        assert!(seen.insert(name), "{name} is declared twice");
        assert!(
            name.starts_with("sequor_")
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
        assert_eq!(name.ends_with("_total"), declared.kind == MetricType::Counter, "{name}");
        assert_eq!(name.contains("_seconds"), declared.unit == MetricUnit::Seconds, "{name}");
        assert_eq!(name.contains("_bytes"), declared.unit == MetricUnit::Bytes, "{name}");
        assert!(declared.help.ends_with('.') && !declared.help.starts_with(' '), "{name}: {}", declared.help);
    }
}

#[test]
fn every_series_is_rendered_before_the_first_recording() {
    let metrics = Metrics::new(&EventKinds::default()).unwrap();
    let text = metrics.render();
    for declared in Metrics::DECLARATIONS {
        assert!(text.contains(&format!("# HELP {} {}\n", declared.name, declared.help)), "{}", declared.name);
        assert!(text.contains(&format!("# TYPE {} {}\n", declared.name, declared.kind.as_str())), "{}", declared.name);
    }
    for line in [
        "sequor_events_total{outcome=\"duplicate\"} 0",
        "sequor_accepted_events_total{kind=\"purchase\"} 0",
        "sequor_request_seconds_bucket{endpoint=\"recommendations\",le=\"0.00005\"} 0",
        "sequor_candidates_total{source=\"clusters\"} 0",
        "sequor_live_mrr_at_20 NaN",
        concat!("sequor_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn recorded_values_appear_in_the_rendered_text() {
    let kinds = EventKinds::default();
    let metrics = Metrics::new(&kinds).unwrap();
    metrics.events.with_label(EventOutcome::Accepted).increment(3);
    metrics.accepted_events.with_label(4).increment(2);
    metrics.accepted_events.with_label(200).increment(1);
    metrics.request_seconds.with_label(Endpoint::Events).record(0.0002);
    metrics.queue_depth.with_label(QueueName::Shards).set(7.0);
    metrics.recommended_items.with_label(SourceName::Session).increment(1);
    metrics.run_upkeep();
    let text = metrics.render();
    for line in [
        "sequor_events_total{outcome=\"accepted\"} 3",
        "sequor_accepted_events_total{kind=\"purchase\"} 2",
        "sequor_request_seconds_bucket{endpoint=\"events\",le=\"0.0001\"} 0",
        "sequor_request_seconds_bucket{endpoint=\"events\",le=\"0.00025\"} 1",
        "sequor_queue_depth{queue=\"shards\"} 7",
        "sequor_recommended_items_total{source=\"session\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let other = Metrics::new(&kinds).unwrap();
    assert!(other.render().contains("sequor_events_total{outcome=\"accepted\"} 0"), "registries do not mix");
}

#[test]
fn commit_latency_is_recorded_for_the_snapshot_and_for_the_weights() {
    let metrics = Metrics::new(&EventKinds::default()).unwrap();
    let shows = |line: &str| metrics.render().lines().any(|found| found == line);
    assert!(shows("sequor_learner_lag_seconds 0"));
    metrics.record_commit(10);
    assert!(!shows("sequor_learner_lag_seconds 0"), "the commit waits for a snapshot");
    metrics.record_publish(10, 0);
    assert!(shows("sequor_learner_lag_seconds 0"));
    assert!(shows("sequor_event_to_snapshot_seconds_count 1") && shows("sequor_event_to_weights_seconds_count 0"));
    metrics.record_publish(12, 10);
    assert!(shows("sequor_event_to_snapshot_seconds_count 1") && shows("sequor_event_to_weights_seconds_count 1"));
}

#[test]
fn source_labels_match_source_names() {
    assert_eq!(SourceName::ALL.map(SourceName::as_str), SourceName::LABEL_VALUES);
    assert!(SourceName::ALL.iter().enumerate().all(|(place, source)| source.index() == place));
}

#[test]
fn status_codes_map_to_status_classes() {
    let classes = [200, 304, 404, 503].map(StatusClass::from_status);
    assert_eq!(
        classes,
        [StatusClass::Success, StatusClass::Redirect, StatusClass::ClientError, StatusClass::ServerError]
    );
}
