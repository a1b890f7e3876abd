//! How the service is, on one page.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use crate::http::console::chart::{ChartLine, TimeChart};
use crate::http::console::format::{NO_VALUE, format_bytes, format_count, format_rate, format_ratio, format_seconds};
use crate::http::console::layout::{page as written, tile};
use crate::http::schema::problem::Problem;
use crate::http::state::ApiState;
use crate::http::status::history::StatusSample;
use crate::http::status::service_status::{ServiceHistory, ServiceStatus};

pub(in crate::http) async fn page(api: Data<ApiState>) -> HttpResponse {
    written("Overview", "Overview", content(&api).await)
}

async fn content(api: &ApiState) -> Result<Markup, Problem> {
    let (status, history) = (ServiceStatus::read(api).await?, ServiceHistory::read(api).await?);
    let ServiceStatus { journal, learning, quality, catalog, rates: pace, .. } = &status;
    let latency = |value: Option<f64>| value.map_or(NO_VALUE.to_owned(), format_seconds);
    Ok(html! {
        p.lead {
            span.badge data-live="ready" data-format="ready" data-state=(if status.ready { "good" } else { "bad" }) { (readiness(status.ready)) }
            " Sequor " (status.version) ", learning from every event as it arrives."
        }
        dl.tiles.five {
            (tile("Recall@20", &format_ratio(quality.recall_at_20), Some(("quality.recall_at_20", "ratio")), "latest events"))
            (tile("MRR@20", &format_ratio(quality.mrr_at_20), Some(("quality.mrr_at_20", "ratio")), "latest events"))
            (tile("NDCG@20", &format_ratio(quality.ndcg_at_20), Some(("quality.ndcg_at_20", "ratio")), "latest events"))
            (tile("Events a second", &format_rate(pace.events_per_second), Some(("pace.events_per_second", "rate")), "last 10 s"))
            (tile("Lists a second", &format_rate(pace.recommendations_per_second), Some(("pace.recommendations_per_second", "rate")), "last 10 s"))
            (tile("Latency, median", &latency(pace.latency_p50), Some(("pace.latency_p50", "seconds")), "of a list, last 10 s"))
            (tile("Latency, p99", &latency(pace.latency_p99), Some(("pace.latency_p99", "seconds")), "of a list, last 10 s"))
            (tile("Yet to be learned", &format_count(learning.lag_entries), Some(("learning.lag_entries", "count")), "journal entries"))
            (tile("Event to weights", &format_seconds(learning.weights_lag_seconds), Some(("learning.weights_lag_seconds", "seconds")), "oldest entry not in"))
            (tile("Quarantine", &format_count(status.quarantined as u64), Some(("quarantined", "count")), "entries passed over"))
            (tile("Journal", &format_count(journal.next_offset), Some(("journal.next_offset", "count")), "entries"))
            (tile("Users", &format_count(status.users as u64), Some(("users", "count")), "followed"))
            (tile("Items", &format_count(catalog.items as u64), Some(("catalog.items", "count")), "known"))
            (tile("In flight", &format_count(status.in_flight.entries as u64), Some(("in_flight.entries", "count")), &format!("of {}", format_count(status.in_flight.bound as u64))))
            (tile("On the disk", &format_bytes(journal.bytes_on_disk), Some(("journal.bytes_on_disk", "bytes")), "database"))
        }
        div.charts {
            (quality_chart(&history))
            (throughput(&history.samples))
            (latencies(&history.samples))
            (lag(&history.samples))
        }
    })
}

fn readiness(ready: bool) -> &'static str {
    if ready { "ready" } else { "not ready" }
}

fn quality_chart(history: &ServiceHistory) -> Markup {
    let points = |figure: &dyn Fn(&crate::http::status::service_status::QualityPoint) -> f64| -> Vec<(f64, f64)> {
        // A stretch of a few tests says nothing.
        history.quality.iter().filter(|stretch| stretch.steps >= 20).map(|stretch| (stretch.from as f64, figure(stretch))).collect()
    };
    TimeChart {
        id: "quality",
        title: "Quality along the stream",
        x_axis: ("Event", &|event| format_count(event as u64)),
        format_y: &format_ratio,
        lines: vec![
            ChartLine { name: "Recall@20", points: points(&|stretch| stretch.recall_at_20) },
            ChartLine { name: "MRR@20", points: points(&|stretch| stretch.mrr_at_20) },
        ],
    }
    .render()
}

/// The time of day, in UTC.
pub(in crate::http) fn format_clock_time(at: f64) -> String {
    crate::http::console::format::format_timestamp(at as i64).split_once(' ').map_or(String::new(), |(_, time)| time.to_owned())
}

/// What was added between one moment and the next, a second.
fn rates(moments: &[StatusSample], total: impl Fn(&StatusSample) -> f64) -> Vec<(f64, f64)> {
    let step = |pair: &[StatusSample]| match pair {
        [before, after] if after.at > before.at => {
            Some((after.at as f64, (total(after) - total(before)).max(0.0) * 1000.0 / (after.at - before.at) as f64))
        }
        _ => None,
    };
    moments.windows(2).filter_map(step).collect()
}

fn throughput(moments: &[StatusSample]) -> Markup {
    TimeChart {
        id: "throughput",
        title: "Throughput",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &format_rate,
        lines: vec![
            ChartLine { name: "events/s", points: rates(moments, |moment| moment.events) },
            ChartLine { name: "lists/s", points: rates(moments, |moment| moment.lists) },
        ],
    }
    .render()
}

fn latencies(moments: &[StatusSample]) -> Markup {
    let points = |place: usize| {
        let at = |moment: &StatusSample| Some((moment.at as f64, *moment.latency?.get(place)?));
        moments.iter().filter_map(at).collect()
    };
    TimeChart {
        id: "latency",
        title: "Latency of a list",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &format_seconds,
        lines: vec![ChartLine { name: "p99", points: points(1) }, ChartLine { name: "median", points: points(0) }],
    }
    .render()
}

fn lag(moments: &[StatusSample]) -> Markup {
    TimeChart {
        id: "lag",
        title: "Journal entries yet to be learned",
        x_axis: ("Time (UTC)", &format_clock_time),
        format_y: &|entries| if entries.fract() > 0.0 { format!("{entries:.1}") } else { format_count(entries as u64) },
        lines: vec![ChartLine { name: "entries", points: moments.iter().map(|moment| (moment.at as f64, moment.lag as f64)).collect() }],
    }
    .render()
}
