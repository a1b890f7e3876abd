//! The overview page, which shows the status and the history of the service.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::chart::{ChartLine, TimeChart};
use crate::http::console::format::{
    NO_VALUE_TEXT, format_bytes, format_count, format_rate, format_ratio, format_seconds,
};
use crate::http::console::layout::{page_or_problem, value_tile};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::history::StatusSample;
use crate::http::status::service_status::{ServiceHistory, ServiceStatus};

pub(in crate::http) async fn overview_page(api: Data<ApiState>) -> HttpResponse {
    page_or_problem("Overview", "Overview", page_content(&api).await)
}

async fn page_content(api: &ApiState) -> Result<Markup, Problem> {
    let (status, history) = (ServiceStatus::collect(api), ServiceHistory::collect(api));
    let ServiceStatus { journal, learning, quality, catalog, rates: current, .. } = &status;
    let latency = |value: Option<f64>| value.map_or(NO_VALUE_TEXT.to_owned(), format_seconds);
    Ok(html! {
        p.lead {
            span.badge data-live="ready" data-format="ready" data-state=(if status.ready { "good" } else { "bad" }) { (readiness_text(status.ready)) }
            " Sequor " (status.version) "."
        }
        dl.tiles.five {
            (value_tile("Recall@20", &format_ratio(quality.recall_at_20), Some(("quality.recall_at_20", "ratio")), "latest events"))
            (value_tile("MRR@20", &format_ratio(quality.mrr_at_20), Some(("quality.mrr_at_20", "ratio")), "latest events"))
            (value_tile("NDCG@20", &format_ratio(quality.ndcg_at_20), Some(("quality.ndcg_at_20", "ratio")), "latest events"))
            (value_tile("Events per second", &format_rate(current.events_per_second), Some(("pace.events_per_second", "rate")), "last 10 s"))
            (value_tile("Recommendations per second", &format_rate(current.recommendations_per_second), Some(("pace.recommendations_per_second", "rate")), "last 10 s"))
            (value_tile("Latency, median", &latency(current.latency_p50), Some(("pace.latency_p50", "seconds")), "of recommendations, last 10 s"))
            (value_tile("Latency, p99", &latency(current.latency_p99), Some(("pace.latency_p99", "seconds")), "of recommendations, last 10 s"))
            (value_tile("Learner lag", &format_count(learning.lag_entries), Some(("learning.lag_entries", "count")), "journal entries"))
            (value_tile("Event to weights", &format_seconds(learning.weights_lag_seconds), Some(("learning.weights_lag_seconds", "seconds")), "wait of the oldest untrained entry"))
            (value_tile("Quarantine", &format_count(status.quarantined as u64), Some(("quarantined", "count")), "skipped entries"))
            (value_tile("Journal", &format_count(journal.next_offset), Some(("journal.next_offset", "count")), "entries"))
            (value_tile("Users", &format_count(status.users as u64), Some(("users", "count")), "known"))
            (value_tile("Items", &format_count(catalog.items as u64), Some(("catalog.items", "count")), "known"))
            (value_tile("In flight", &format_count(status.in_flight.entries as u64), Some(("in_flight.entries", "count")), &format!("of {}", format_count(status.in_flight.bound as u64))))
            (value_tile("Disk usage", &format_bytes(journal.bytes_on_disk), Some(("journal.bytes_on_disk", "bytes")), "database"))
        }
        div.charts {
            (quality_chart(&history))
            (throughput_chart(&history.samples))
            (latency_chart(&history.samples))
            (lag_chart(&history.samples))
        }
    })
}

fn readiness_text(ready: bool) -> &'static str {
    if ready { "ready" } else { "not ready" }
}

fn quality_chart(history: &ServiceHistory) -> Markup {
    let points = |metric: &dyn Fn(&crate::http::status::service_status::QualityPoint) -> f64| -> Vec<(f64, f64)> {
        // A range with fewer than 20 evaluated events is left out, because its quality is too
        // noisy.
        history
            .quality
            .iter()
            .filter(|range| range.steps >= 20)
            .map(|range| (range.from as f64, metric(range)))
            .collect()
    };
    TimeChart {
        id: "quality",
        title: "Live quality",
        x_axis: ("Event", &|event| format_count(event as u64)),
        format_y: &format_ratio,
        lines: vec![
            ChartLine { name: "Recall@20", points: points(&|range| range.recall_at_20) },
            ChartLine { name: "MRR@20", points: points(&|range| range.mrr_at_20) },
        ],
    }
    .render()
}

/// Formats the time of day of a timestamp, in UTC.
pub(in crate::http) fn format_clock_time(at: f64) -> String {
    crate::http::console::format::format_timestamp(at as i64)
        .split_once(' ')
        .map_or(String::new(), |(_, time)| time.to_owned())
}

/// The rates per second between consecutive samples. `total` reads a cumulative counter from a
/// sample.
fn rates_between_samples(samples: &[StatusSample], total: impl Fn(&StatusSample) -> f64) -> Vec<(f64, f64)> {
    let step = |pair: &[StatusSample]| match pair {
        [before, after] if after.at > before.at => {
            Some((after.at as f64, (total(after) - total(before)).max(0.0) * 1000.0 / (after.at - before.at) as f64))
        }
        _ => None,
    };
    samples.windows(2).filter_map(step).collect()
}

fn throughput_chart(samples: &[StatusSample]) -> Markup {
    TimeChart {
        id: "throughput",
        title: "Throughput",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &format_rate,
        lines: vec![
            ChartLine { name: "events/s", points: rates_between_samples(samples, |sample| sample.events) },
            ChartLine { name: "recommendations/s", points: rates_between_samples(samples, |sample| sample.lists) },
        ],
    }
    .render()
}

fn latency_chart(samples: &[StatusSample]) -> Markup {
    let points = |place: usize| {
        let at = |sample: &StatusSample| Some((sample.at as f64, *sample.latency?.get(place)?));
        samples.iter().filter_map(at).collect()
    };
    TimeChart {
        id: "latency",
        title: "Latency of recommendations",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &format_seconds,
        lines: vec![ChartLine { name: "p99", points: points(1) }, ChartLine { name: "median", points: points(0) }],
    }
    .render()
}

fn lag_chart(samples: &[StatusSample]) -> Markup {
    TimeChart {
        id: "lag",
        title: "Learner lag in journal entries",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &|entries| if entries.fract() > 0.0 { format!("{entries:.1}") } else { format_count(entries as u64) },
        lines: vec![ChartLine {
            name: "entries",
            points: samples.iter().map(|sample| (sample.at as f64, sample.lag as f64)).collect(),
        }],
    }
    .render()
}
