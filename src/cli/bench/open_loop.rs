//! Open-loop load: requests leave at their scheduled times, whether or not earlier ones were
//! answered.
//!
//! A closed-loop generator waits for a response before it sends the next request. While the server
//! is slow, such a generator sends fewer requests, so it misses the slowest responses ("coordinated
//! omission"). Here, each latency starts at the scheduled departure. It therefore includes the wait
//! for a connection or for the generator itself.

use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use super::bench_report::BenchFigures;
use super::compared_server::ComparedServer;
use super::load_generator::{BenchRequest, LoadGenerator, RequestKind};
use crate::cli::daemon_client::DaemonClient;

/// Sends `count` requests at `rate` per second and waits for all responses. If a server is compared,
/// each recommendation request also goes to that server, half an interval later.
pub(super) async fn run_open_loop(
    daemon: &DaemonClient,
    compared: Option<&ComparedServer>,
    load: &mut LoadGenerator,
    rate: f64,
    count: u64,
) -> anyhow::Result<BenchFigures> {
    let departures_per_request = if compared.is_some() { 2 } else { 1 };
    let mut schedule = scheduled_departures(rate * departures_per_request as f64, count * departures_per_request);
    let (outcomes, mut received) = mpsc::unbounded_channel();
    let start = Instant::now();
    let mut figures = BenchFigures::new()?;
    let send = async {
        let send_scheduled = |client: &DaemonClient, kind, request, scheduled: Instant| {
            let (client, outcomes, delay) = (client.clone(), outcomes.clone(), scheduled.elapsed());
            actix::spawn(async move {
                let is_success = client.send_request(request).await.is_ok_and(|(status, _)| status.is_success());
                // Sending never fails: the receiver lives until the last response has arrived.
                let _ = outcomes.send((kind, is_success, delay, scheduled.elapsed()));
            });
        };
        while let Some(scheduled) = schedule.recv().await {
            let BenchRequest { kind, request, visitor } = load.next_request()?;
            send_scheduled(daemon, kind, request, scheduled);
            if let Some(server) = compared {
                let Some(scheduled) = schedule.recv().await else { break };
                if let Some(visitor) = visitor {
                    send_scheduled(&server.client, RequestKind::Compared, server.request_for(&visitor), scheduled);
                }
            }
        }
        drop(outcomes);
        anyhow::Ok(())
    };
    let collect = async {
        while let Some((kind, is_success, delay, latency)) = received.recv().await {
            figures.record_request(kind, is_success, delay, latency);
        }
    };
    let (sent, ()) = tokio::join!(send, collect);
    sent?;
    figures.elapsed = start.elapsed().max(Duration::from_secs_f64(count as f64 / rate));
    Ok(figures)
}

/// Sends the scheduled departure times through a channel, each when it is due. This runs on its own
/// thread, because a thread sleeps with a finer resolution than the timers of the event loop.
fn scheduled_departures(rate: f64, count: u64) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, schedule) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let start = Instant::now();
        for number in 0..count {
            let scheduled = start + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(scheduled.saturating_duration_since(Instant::now()));
            if sender.send(scheduled).is_err() {
                break;
            }
        }
    });
    schedule
}
