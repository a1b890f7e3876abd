//! `sequor bench`: measures latency at a constant request rate.

mod bench_report;
mod bench_workload;
mod compared_server;
mod load_generator;
mod open_loop;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use std::io::{Write, stdout};
use std::path::PathBuf;

use super::client_auth::ClientAuth;
use super::daemon_client::DaemonClient;
use super::daemon_process::DaemonProcess;
use super::flags::RuntimeFlags;
use super::serve::shutdown_signal;
use crate::clock::Clock;
use crate::settings::Period;
use bench_report::BenchReport;
use bench_workload::BenchWorkload;
use compared_server::{CompareFlags, ComparedServer};
use load_generator::{LoadGenerator, RequestMix};

/// Arguments of `sequor bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Sends requests at a constant rate, whether or not earlier ones were answered (open loop). Each latency starts at the scheduled departure of its request. Only successful \
    responses count as latencies; all others count as errors. The server CPU covers the whole process until it has learned all events.\n\n\
    Without --url, the benchmark starts a daemon on a temporary data directory.\n\n\
    Examples:\n  sequor bench\n  \
    sequor bench --mix recommendations --rate 2000 --duration 60s --plot latency.svg\n  \
    sequor bench --catalog 42k --mix recommendations --rate 300\n  \
    sequor bench --file sessions.csv.gz --history 200000 --mix recommendations --rate 300\n  \
    sequor bench --url http://127.0.0.1:8080 --admin-url http://127.0.0.1:9090 --json\n  \
    sequor bench --file sessions.csv --mix recommendations --compare 'http://127.0.0.1:8081/v1/recommend?session_id={user}&item_id={item}'\n\n\
    A running daemon stores and learns the events of the benchmark. Do not use a production daemon."
)]
pub(super) struct Bench {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the public API of a running daemon, such as http://127.0.0.1:8080 [default: starts a
    /// daemon].
    #[arg(long, value_name = "URL", conflicts_with_all = ["data_dir", "set", "config"])]
    url: Option<String>,
    /// URL of the daemon's admin endpoint, such as http://127.0.0.1:9090. Without it, the report
    /// lacks CPU and memory of the server.
    #[arg(long, value_name = "URL", requires = "url")]
    admin_url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
    /// Kinds of request.
    #[arg(long, value_enum, default_value_t = RequestMix::Mixed)]
    mix: RequestMix,
    /// Requests per second, 1 to 200,000.
    #[arg(long, value_name = "REQUESTS/S", default_value_t = 500, value_parser = RangedU64ValueParser::<u64>::new().range(1..=200_000))]
    rate: u64,
    /// Duration of the measurement.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    duration: Period,
    /// Duration of the warm-up at the same rate, which is not measured.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    warm_up: Period,
    /// Maximum number of connections, 1 to 10,000.
    #[arg(long, default_value_t = 64, value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    connections: u64,
    #[command(flatten)]
    workload: BenchWorkload,
    #[command(flatten)]
    compare: CompareFlags,
    /// Events per request, 1 to 1,000.
    #[arg(long, value_name = "EVENTS", default_value_t = 1, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000))]
    batch: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Write a plot of the latency at each percentile to this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let requests = self.request_count(self.duration)?;
        if requests == 0 {
            bail!("--duration {} at --rate {} gives no request; increase one of them", self.duration, self.rate);
        }
        self.compare.check(self.mix)?;
        let clock = Clock::system();
        let entries = self.workload.entries(&self.flags, clock.now())?;
        let load = LoadGenerator::new(entries, self.mix, self.batch as usize, clock);
        let free_ports = ["server.listen", "server.admin_listen"].map(|key| (key, "127.0.0.1:0".to_owned()));
        let mut child = if self.url.is_some() { None } else { Some(DaemonProcess::start(&self.flags, &free_ports)?) };
        let (api, admin) = match (&child, &self.url) {
            (Some(child), _) => (child.api.as_str(), Some(child.admin.as_str())),
            (None, url) => (url.as_deref().unwrap_or_default(), self.admin_url.as_deref()),
        };
        let report = actix::System::new().block_on(async {
            let daemon = DaemonClient::new(api, admin, self.connections as usize, &self.auth)?;
            let compared = self.compare.server(self.connections as usize)?;
            let stopped = shutdown_signal()?;
            tokio::select! {
                () = stopped => bail!("interrupted"),
                report = self.measure_latency(&daemon, compared.as_ref(), load, requests) => report,
            }
        });
        let report = match &mut child {
            Some(child) => child.add_exit_context(report)?,
            None => report?,
        };
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string(&report.to_json())?)?;
        } else {
            writeln!(stdout(), "{report}")?;
        }
        if let Some(file) = &self.plot {
            report.write_plot(file)?;
        }
        Ok(())
    }

    /// The number of requests in a time span.
    fn request_count(&self, span: Period) -> anyhow::Result<u64> {
        let span = span.get().context("the duration must not be off")?;
        Ok((span.as_secs_f64() * self.rate as f64).round() as u64)
    }

    async fn measure_latency(
        &self,
        daemon: &DaemonClient,
        compared: Option<&ComparedServer>,
        mut load: LoadGenerator,
        requests: u64,
    ) -> anyhow::Result<BenchReport> {
        let (history, name) = (self.workload.history(), self.workload.name());
        eprintln!("sending {history} events of {name}, and waiting until they are learned");
        for request in load.history_requests(history)? {
            daemon.send_until_accepted(request).await?;
        }
        daemon.wait_until_learned().await?;
        let rate = self.rate as f64;
        let warm_up = self.request_count(self.warm_up)?;
        eprintln!("warming up for {}, then measuring for {}", self.warm_up, self.duration);
        open_loop::run_open_loop(daemon, compared, &mut load, rate, warm_up).await?;
        daemon.wait_until_learned().await?;
        let before = daemon.read_process_usage().await?;
        let compared_before = compared.and_then(ComparedServer::cpu_seconds);
        let figures = open_loop::run_open_loop(daemon, compared, &mut load, rate, requests).await?;
        let compared_after = compared.and_then(ComparedServer::cpu_seconds);
        eprintln!("waiting until all events are learned");
        daemon.wait_until_learned().await?;
        let usage = before.zip(daemon.read_process_usage().await?);
        let batch = if self.batch > 1 { format!(", {} events per request", self.batch) } else { String::new() };
        let mix = format!("{:?}", self.mix).to_lowercase();
        let title = format!(
            "{mix}: {} requests/s for {}, {} connections{batch}; {name}",
            self.rate, self.duration, self.connections
        );
        let compared_cpu_seconds = compared_before.zip(compared_after).map(|(before, after)| after - before);
        Ok(BenchReport { figures, title, target_rate: rate, usage, compared_cpu_seconds })
    }
}
