//! An open loop: requests leave when they are due, whether or not earlier ones were answered.
//!
//! A generator that waits for answers before it asks on leaves out just the requests that would
//! have met a server at its worst ("coordinated omission"). So every latency counts from the moment
//! at which the request was to leave: what it waited for a connection, or for the generator itself,
//! is part of it.

use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use super::bench_report::BenchFigures;
use super::load_generator::LoadGenerator;
use crate::cli::daemon_client::DaemonClient;

/// Sends so many requests at so many a second, and waits for all their answers.
pub(super) async fn run_open_loop(daemon: &DaemonClient, load: &mut LoadGenerator, rate: f64, count: u64) -> anyhow::Result<BenchFigures> {
    let mut due = departures(rate, count);
    let (answered, mut answers) = mpsc::unbounded_channel();
    let began = Instant::now();
    let mut figures = BenchFigures::new()?;
    let send = async {
        while let Some(intended) = due.recv().await {
            let (sort, question) = load.next_request()?;
            let (daemon, answered, late) = (daemon.clone(), answered.clone(), intended.elapsed());
            actix::spawn(async move {
                let good = daemon.request(question).await.is_ok_and(|(status, _)| status.is_success());
                // The receiver lives until the last response has arrived.
                let _ = answered.send((sort, good, late, intended.elapsed()));
            });
        }
        drop(answered);
        anyhow::Ok(())
    };
    let count_answers = async {
        while let Some((sort, good, late, latency)) = answers.recv().await {
            figures.record(sort, good, late, latency);
        }
    };
    let (sent, ()) = tokio::join!(send, count_answers);
    sent?;
    figures.elapsed = began.elapsed().max(Duration::from_secs_f64(count as f64 / rate));
    Ok(figures)
}

/// The moments at which requests are to leave, each told when it has come. A thread sleeps more
/// finely than an event loop's timers do.
fn departures(rate: f64, count: u64) -> mpsc::UnboundedReceiver<Instant> {
    let (tell, due) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let began = Instant::now();
        for number in 0..count {
            let intended = began + Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            if tell.send(intended).is_err() {
                break;
            }
        }
    });
    due
}
