//! Measurements and report of a benchmark.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::load_generator::RequestKind;
use crate::cli::daemon_client::ProcessUsage;
use crate::cli::plot::{self, PlotLine};
use crate::metrics::ThreadRole;

/// Upper bound of the latency histograms, in microseconds.
const MAX_LATENCY_US: u64 = 600_000_000;
/// Percentiles in the table.
const PERCENTILES: [(&str, f64); 5] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

/// Counts of one kind of request, and the latencies of the successful ones, in microseconds.
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

    /// Records a request with its latency in microseconds; `None` if it failed.
    fn record(&mut self, latency: Option<u64>) {
        self.requests += 1;
        match latency {
            Some(latency) => self.latency.saturating_record(latency),
            None => self.errors += 1,
        }
    }

    fn latency_quantiles(&self) -> LatencyQuantiles {
        LatencyQuantiles {
            p50: self.latency_milliseconds(50.0),
            p90: self.latency_milliseconds(90.0),
            p99: self.latency_milliseconds(99.0),
            p999: self.latency_milliseconds(99.9),
        }
    }

    fn latency_milliseconds(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1_000.0
    }
}

/// Measurements of one benchmark run.
#[derive(Debug, Clone)]
pub(super) struct BenchFigures {
    all: ResponseStats,
    events: ResponseStats,
    recommendations: ResponseStats,
    /// The requests to the compared server. They do not count as requests of the load.
    compared: ResponseStats,
    /// Delay of requests relative to their scheduled departure, in microseconds.
    departure_delay: Histogram<u64>,
    /// Time from the first departure to the last response, but at least the planned duration.
    pub(super) elapsed: Duration,
}

impl BenchFigures {
    pub(super) fn new() -> anyhow::Result<Self> {
        let departure_delay = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)?;
        Ok(Self {
            all: ResponseStats::new()?,
            events: ResponseStats::new()?,
            recommendations: ResponseStats::new()?,
            compared: ResponseStats::new()?,
            departure_delay,
            elapsed: Duration::ZERO,
        })
    }

    /// Records a request: its kind, whether it succeeded, how late it left, and its latency. The
    /// latency starts at the scheduled departure.
    pub(super) fn record_request(&mut self, kind: RequestKind, is_success: bool, delay: Duration, latency: Duration) {
        let microseconds = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.departure_delay.saturating_record(microseconds(delay));
        let latency = is_success.then(|| microseconds(latency));
        match kind {
            RequestKind::Events => self.events.record(latency),
            RequestKind::Recommendations => self.recommendations.record(latency),
            RequestKind::Compared => return self.compared.record(latency),
        }
        self.all.record(latency);
    }
}

/// Report of a benchmark.
#[derive(Debug)]
pub(super) struct BenchReport {
    pub(super) figures: BenchFigures,
    /// First line of the report.
    pub(super) title: String,
    pub(super) target_rate: f64,
    /// Resource usage of the daemon before and after the run.
    pub(super) usage: Option<(ProcessUsage, ProcessUsage)>,
    /// CPU time that the compared server used in the run, in seconds.
    pub(super) compared_cpu_seconds: Option<f64>,
}

/// The report as JSON.
#[derive(Debug, Serialize)]
pub(super) struct BenchReportJson {
    target_rate: f64,
    achieved_rate: f64,
    requests: u64,
    errors: u64,
    latency_ms: LatencyQuantiles,
    server_cpu_us_per_request: Option<f64>,
    /// The CPU time by the role of the server's threads.
    server_cpu_us_per_request_by_role: BTreeMap<&'static str, f64>,
    server_peak_rss_bytes: Option<u64>,
    /// The figures of the compared server; absent without `--compare`.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<ComparedServerJson>,
}

#[derive(Debug, Serialize)]
struct ComparedServerJson {
    requests: u64,
    errors: u64,
    latency_ms: LatencyQuantiles,
    cpu_us_per_request: Option<f64>,
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

    fn compared_cpu_us_per_request(&self) -> Option<f64> {
        Some(self.compared_cpu_seconds? * 1e6 / self.figures.compared.requests.max(1) as f64)
    }

    /// The CPU time per request of each role of threads, without roles that used none. Empty if the
    /// usage is not known.
    fn cpu_us_by_role(&self) -> Vec<(&'static str, f64)> {
        let Some((before, after)) = self.usage else { return Vec::new() };
        let requests = self.figures.all.requests.max(1) as f64;
        let seconds = before.role_cpu_seconds.into_iter().zip(after.role_cpu_seconds);
        let per_request = ThreadRole::ALL
            .into_iter()
            .zip(seconds)
            .map(|(role, (before, after))| (role.as_str(), (after - before) * 1e6 / requests));
        per_request.filter(|(_, cpu)| *cpu > 0.0).collect()
    }

    pub(super) fn to_json(&self) -> BenchReportJson {
        let BenchFigures { all, compared, .. } = &self.figures;
        BenchReportJson {
            target_rate: self.target_rate,
            achieved_rate: self.achieved_rate(),
            requests: all.requests,
            errors: all.errors,
            latency_ms: all.latency_quantiles(),
            server_cpu_us_per_request: self.cpu_us_per_request(),
            server_cpu_us_per_request_by_role: self.cpu_us_by_role().into_iter().collect(),
            server_peak_rss_bytes: self.usage.map(|(_, after)| after.peak_rss_bytes),
            compared: (compared.requests > 0).then(|| ComparedServerJson {
                requests: compared.requests,
                errors: compared.errors,
                latency_ms: compared.latency_quantiles(),
                cpu_us_per_request: self.compared_cpu_us_per_request(),
            }),
        }
    }

    /// Plots the latency at each percentile. The percentile axis counts nines (90 %, 99 %, 99.9 %),
    /// so that the slowest requests are visible.
    pub(super) fn write_plot(&self, file: &Path) -> anyhow::Result<()> {
        let BenchFigures { events, recommendations, compared, .. } = &self.figures;
        let line = |name, stats: &ResponseStats| {
            let points = stats.latency.iter_quantiles(8).map(|point| {
                let slower = (1.0 - point.quantile_iterated_to()).max(1.0 / stats.latency.len().max(1) as f64);
                (-slower.log10(), point.value_iterated_to() as f64 / 1_000.0)
            });
            PlotLine { name, points: points.collect() }
        };
        let lines =
            [line("events", events), line("recommendations", recommendations), line("compared server", compared)];
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        plot::draw_line_plot(file, &self.title, "nines: 1 is p90, 2 is p99, 3 is p99.9", "latency in ms", &lines)
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BenchFigures { all, events, recommendations, compared, departure_delay, .. } = &self.figures;
        let columns: Vec<_> = [("all", all), ("events", events), ("recommendations", recommendations)]
            .into_iter()
            .filter(|(name, stats)| *name == "all" || (stats.requests > 0 && stats.requests < all.requests))
            .chain((compared.requests > 0).then_some(("compared server", compared)))
            .collect();
        writeln!(out, "{}", self.title)?;
        let mut row = |name: &str, cell: &dyn Fn(&str, &ResponseStats) -> String| {
            write!(out, "  {name:<12}")?;
            columns.iter().try_for_each(|(column, stats)| write!(out, " {:>16}", cell(column, stats)))?;
            writeln!(out)
        };
        row("", &|column, _| column.to_owned())?;
        row("requests", &|_, stats| stats.requests.to_string())?;
        row("errors", &|_, stats| stats.errors.to_string())?;
        for (name, percentile) in PERCENTILES {
            row(name, &|_, stats| format!("{:.2} ms", stats.latency_milliseconds(percentile)))?;
        }
        row("max", &|_, stats| format!("{:.2} ms", stats.latency.max() as f64 / 1_000.0))?;
        writeln!(out, "  achieved     {:.1} of {} requests/s", self.achieved_rate(), self.target_rate)?;
        if let (Some(cpu), Some((_, after))) = (self.cpu_us_per_request(), self.usage) {
            let peak = after.peak_rss_bytes as f64 / 1_048_576.0;
            writeln!(out, "  server       {cpu:.0} µs of CPU per request, including learning; peak RSS {peak:.0} MiB")?;
            let roles: Vec<_> =
                self.cpu_us_by_role().into_iter().map(|(role, cpu)| format!("{role} {cpu:.0} µs")).collect();
            if !roles.is_empty() {
                writeln!(out, "  threads      {}", roles.join(", "))?;
            }
        }
        if let Some(cpu) = self.compared_cpu_us_per_request() {
            writeln!(out, "  compared     {cpu:.0} µs of CPU per request of the compared server")?;
        }
        write!(
            out,
            "  generator    {:.2} ms departure delay at p99, included in the latencies",
            departure_delay.value_at_percentile(99.0) as f64 / 1_000.0
        )
    }
}
