//! The scrub job: reads the whole journal once per period and publishes a report of the damage.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::metrics::Metrics;
use crate::store::{JournalScrubber, ScrubReport, Store, StoreError};

/// The time between two steps.
const STEP_INTERVAL: Duration = Duration::from_secs(1);

/// The latest report of the scrub, shared by the job and its readers.
pub type SharedScrubReport = Arc<ArcSwap<ScrubReport>>;

/// Scrubs the journal of `store` for as long as the system runs, one pass per `period`. The job
/// reads at the smallest rate that finishes a pass within the period.
pub async fn run_scrub(store: Store, report: SharedScrubReport, metrics: Arc<Metrics>, period: Duration) {
    let (mut interval, mut scrubber) = (actix::clock::interval(STEP_INTERVAL), JournalScrubber::new(store));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let entries = entries_per_step(&report.load(), period);
        let step = actix_rt::task::spawn_blocking(move || {
            let outcome = scrubber.read_next_entries(entries);
            (scrubber, outcome)
        });
        let Ok((returned, outcome)) = step.await else { return };
        scrubber = returned;
        match outcome {
            Ok(new) => publish_report(&report, &metrics, new),
            // The store is being reopened; the next step reads again.
            Err(StoreError::NeedsReopen { .. }) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the journal could not be scrubbed; the job tries again"
                )
            }
        }
    }
}

fn entries_per_step(last: &ScrubReport, period: Duration) -> u64 {
    let steps = (period.as_secs_f64() / STEP_INTERVAL.as_secs_f64()).max(1.0);
    (last.end.saturating_sub(last.first) as f64 / steps).ceil() as u64
}

fn publish_report(report: &SharedScrubReport, metrics: &Metrics, new: ScrubReport) {
    let last = report.load();
    for range in new.damaged.iter().filter(|range| !last.damaged.contains(range)) {
        tracing::error!(
            from = range.start,
            to = range.end.saturating_sub(1),
            "journal entries are damaged; restore a backup, or run `sequor rebuild --accept-loss`"
        );
    }
    metrics.scrub_progress.set(new.progress());
    metrics.scrub_passes.increment(new.passes - last.passes.min(new.passes));
    metrics.journal_damaged_entries.set(new.damaged_entries() as f64);
    report.store(Arc::new(new));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_pass_takes_at_most_the_configured_period() {
        let report = |end| ScrubReport { end, ..ScrubReport::default() };
        let day = Duration::from_secs(86_400);
        assert_eq!(entries_per_step(&report(0), day), 0);
        assert_eq!(entries_per_step(&report(1), day), 1);
        assert_eq!(entries_per_step(&report(864_000), day), 10);
        assert_eq!(entries_per_step(&report(864_001), day), 11);
        assert_eq!(entries_per_step(&report(1_000), Duration::from_millis(1)), 1_000);
    }
}
