//! The task that samples the status every second and publishes it.

use actix_web::rt::{self, task::JoinHandle, time};

use crate::http::state::ApiState;
use crate::http::status::history::{SAMPLING_INTERVAL, StatusPublisher};
use crate::http::status::service_status::ServiceStatus;

/// Samples the status until the task is aborted.
pub(in crate::http) fn spawn_sampler(api: ApiState, publisher: StatusPublisher) -> JoinHandle<()> {
    rt::spawn(async move {
        let mut interval = time::interval(SAMPLING_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let metrics = api.system.inspection.refresh_metrics().snapshot();
            let status = ServiceStatus::from_metrics(&api, &metrics);
            let (journal, learning) = (&status.journal, &status.learning);
            api.status_sampler.add_sample(
                &metrics,
                api.clock.now(),
                journal.next_offset,
                learning.lag_entries,
                learning.latest_loss,
            );
            // The rates include this sample.
            let status = ServiceStatus { rates: api.status_sampler.current_rates(), ..status };
            publisher.send_replace(serde_json::to_string(&status).unwrap_or_default().into());
        }
    })
}
