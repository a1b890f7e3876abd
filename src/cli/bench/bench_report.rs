//! What the bench measured.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::load_generator::RequestKind;
use crate::cli::daemon_client::ProcessUsage;
use crate::cli::plot::{self, PlotLine};

/// The longest latency that is told apart, in microseconds.
const MAX_LATENCY_US: u64 = 600_000_000;
/// Rows of the table.
const PERCENTILES: [(&str, f64); 5] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

/// Requests of one sort, and the latencies of those that were answered well, in microseconds.
#[derive(Debug, Clone)]
struct ResponseStats {
    requests: u64,
    errors: u64,
    latency: Histogram<u64>,
}

impl ResponseStats {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { requests: 0, errors: 0, latency: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)? })
    }

    fn milliseconds(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1_000.0
    }
}

/// What a stretch of requests came to.
#[derive(Debug, Clone)]
pub(super) struct BenchFigures {
    all: ResponseStats,
    events: ResponseStats,
    recommendations: ResponseStats,
    /// How much later than intended requests left, in microseconds.
    departure_delay: Histogram<u64>,
    /// From the first request's departure to the last answer, and not less than was planned.
    pub(super) elapsed: Duration,
}

impl BenchFigures {
    pub(super) fn new() -> anyhow::Result<Self> {
        let late = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)?;
        Ok(Self {
            all: ResponseStats::new()?,
            events: ResponseStats::new()?,
            recommendations: ResponseStats::new()?,
            departure_delay: late,
            elapsed: Duration::ZERO,
        })
    }

    /// Counts one request: whether its answer was good, how much later than intended it left, and
    /// how long after that moment it was answered.
    pub(super) fn record(&mut self, sort: RequestKind, good: bool, late: Duration, latency: Duration) {
        let microseconds = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.departure_delay.saturating_record(microseconds(late));
        let of_its_sort = if sort == RequestKind::Events { &mut self.events } else { &mut self.recommendations };
        for answers in [&mut self.all, of_its_sort] {
            answers.requests += 1;
            if good {
                answers.latency.saturating_record(microseconds(latency));
            } else {
                answers.errors += 1;
            }
        }
    }
}

/// What the bench reports.
#[derive(Debug)]
pub(super) struct BenchReport {
    pub(super) figures: BenchFigures,
    /// As the first line says it.
    pub(super) title: String,
    pub(super) target_rate: f64,
    /// The server's process before and after.
    pub(super) usage: Option<(ProcessUsage, ProcessUsage)>,
}

/// The same for machines.
#[derive(Debug, Serialize)]
pub(super) struct BenchReportJson {
    target_rate: f64,
    achieved_rate: f64,
    requests: u64,
    errors: u64,
    latency_ms: LatencyQuantiles,
    server_cpu_us_per_request: Option<f64>,
    server_peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct LatencyQuantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
}

impl BenchReport {
    fn achieved_rate(&self) -> f64 {
        self.figures.all.requests as f64 / self.figures.elapsed.as_secs_f64().max(1e-9)
    }

    fn cpu_us_per_request(&self) -> Option<f64> {
        let (before, after) = self.usage?;
        Some((after.cpu_seconds - before.cpu_seconds) * 1e6 / self.figures.all.requests.max(1) as f64)
    }

    pub(super) fn to_json(&self) -> BenchReportJson {
        let all = &self.figures.all;
        BenchReportJson {
            target_rate: self.target_rate,
            achieved_rate: self.achieved_rate(),
            requests: all.requests,
            errors: all.errors,
            latency_ms: LatencyQuantiles {
                p50: all.milliseconds(50.0),
                p90: all.milliseconds(90.0),
                p99: all.milliseconds(99.0),
                p999: all.milliseconds(99.9),
            },
            server_cpu_us_per_request: self.cpu_us_per_request(),
            server_peak_rss_bytes: self.usage.map(|(_, after)| after.peak_rss_bytes),
        }
    }

    /// Draws latency over percentile. The axis counts nines, so that the slowest have as much room
    /// as the rest.
    pub(super) fn write_plot(&self, file: &Path) -> anyhow::Result<()> {
        let BenchFigures { events: told, recommendations: asked, .. } = &self.figures;
        let of = |name, answers: &ResponseStats| {
            let points = answers.latency.iter_quantiles(8).map(|point| {
                let slower = (1.0 - point.quantile_iterated_to()).max(1.0 / answers.latency.len().max(1) as f64);
                (-slower.log10(), point.value_iterated_to() as f64 / 1_000.0)
            });
            PlotLine { name, points: points.collect() }
        };
        let lines = [of("events", told), of("recommendations", asked)];
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        plot::draw(file, &self.title, "nines: 1 is p90, 2 is p99, 3 is p99.9", "latency in ms", &lines)
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BenchFigures { all, events: told, recommendations: asked, departure_delay: late, .. } = &self.figures;
        let columns: Vec<_> = [("all", all), ("events", told), ("recommendations", asked)]
            .into_iter()
            .filter(|(name, answers)| *name == "all" || (answers.requests > 0 && answers.requests < all.requests))
            .collect();
        writeln!(out, "{}", self.title)?;
        let mut row = |name: &str, cell: &dyn Fn(&str, &ResponseStats) -> String| {
            write!(out, "  {name:<12}")?;
            columns.iter().try_for_each(|(column, answers)| write!(out, " {:>16}", cell(column, answers)))?;
            writeln!(out)
        };
        row("", &|column, _| column.to_owned())?;
        row("requests", &|_, answers| answers.requests.to_string())?;
        row("errors", &|_, answers| answers.errors.to_string())?;
        for (name, percentile) in PERCENTILES {
            row(name, &|_, answers| format!("{:.2} ms", answers.milliseconds(percentile)))?;
        }
        row("max", &|_, answers| format!("{:.2} ms", answers.latency.max() as f64 / 1_000.0))?;
        writeln!(out, "  achieved     {:.1} of {} requests/s", self.achieved_rate(), self.target_rate)?;
        if let (Some(cpu), Some((_, after))) = (self.cpu_us_per_request(), self.usage) {
            let peak = after.peak_rss_bytes as f64 / 1_048_576.0;
            writeln!(out, "  server       {cpu:.0} µs of CPU a request, with the learning; peak RSS {peak:.0} MiB")?;
        }
        write!(
            out,
            "  generator    left late by {:.2} ms at p99, which is part of the latencies",
            late.value_at_percentile(99.0) as f64 / 1_000.0
        )
    }
}
