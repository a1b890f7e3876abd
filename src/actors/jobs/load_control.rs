//! Load control: reduces the training share if the learner cannot keep up with the arriving events.
//! The training share is the share of events on which the model is evaluated and trained.
//!
//! The controller journals each change of the training share, so a replay of the journal yields the
//! same model. Sessions, counts and candidate sources process every event, whatever the share is.

use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::system::System;
use crate::clock::Clock;
use crate::domain::{ModelChangeCause, ModelOperation, Offset};
use crate::learner::SafetySettings;

/// The time between two decisions about whether to change the training share.
const DECISION_INTERVAL: Duration = Duration::from_secs(1);

/// Adapts the training share to the learner's lag until the system stops.
pub async fn run_load_control(system: System, safety: Arc<ArcSwap<SafetySettings>>, clock: Clock) {
    let mut ticks = actix::clock::interval(DECISION_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut controller = LoadController::default();
    let mut has_failed = false;
    loop {
        ticks.tick().await;
        let status = system.model.status();
        let observed = LoadObservation {
            delivered: system.recommender.delivered_offset(),
            learned: status.next_offset,
            halvings: status.halvings,
            max_halvings: safety.load().max_halvings(),
        };
        if status.report.is_paused || status.has_failed {
            continue;
        }
        let Some(halvings) = controller.decide_halvings(&observed) else { continue };
        let lag = observed.lag();
        let operation = ModelOperation::TrainingShare { halvings };
        match system
            .model
            .journal_job_operation(operation, ModelChangeCause::Lag, status.next_offset, clock.now())
            .await
        {
            Ok(offset) => {
                controller.pending = Some(offset);
                has_failed = false;
                tracing::info!(lag, share = 1.0 / f64::from(1_u32 << halvings), "the training share was changed");
            }
            Err(MaintenanceError::Request(RequestError::ActorStopped(_))) => return,
            // One warning per series of failures.
            Err(error) if !std::mem::replace(&mut has_failed, true) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the training share could not be changed; load control tries again every second"
                )
            }
            Err(_) => {}
        }
    }
}

/// The measurements on which one decision is based.
#[derive(Debug, Clone, Copy)]
struct LoadObservation {
    /// Every entry before this offset was delivered to its session.
    delivered: Offset,
    /// The next entry that the learner applies.
    learned: Offset,
    /// The current training share is 1 / 2^halvings.
    halvings: u8,
    /// The largest number of halvings allowed.
    max_halvings: u8,
}

impl LoadObservation {
    fn lag(&self) -> u64 {
        self.delivered.saturating_sub(self.learned)
    }
}

/// Decides when to halve or double the training share.
#[derive(Debug, Default)]
struct LoadController {
    /// The offset of the last change of the share, until the learner has applied the change.
    pending: Option<Offset>,
    /// The delivered offset and the learned offset at the last decision.
    before: Option<(Offset, Offset)>,
    /// Number of consecutive intervals without a lag.
    calm_intervals: u32,
}

impl LoadController {
    /// If the learner would need more than this number of intervals to process the lag, the share
    /// is halved.
    const MAX_LAG_INTERVALS: u64 = 3;
    /// At a lag of at most this many entries, the share is never halved.
    const MIN_LAG_ENTRIES: u64 = 1024;
    /// Number of consecutive intervals without a lag after which the share is doubled.
    const INTERVALS_WITHOUT_LAG_BEFORE_DOUBLING: u32 = 20;

    /// Returns the new number of halvings, or `None` if the share should stay as it is.
    fn decide_halvings(&mut self, observed: &LoadObservation) -> Option<u8> {
        let (delivered, learned) = self.before.replace((observed.delivered, observed.learned))?;
        let (arrived, learned) =
            (observed.delivered.saturating_sub(delivered), observed.learned.saturating_sub(learned));
        let lag = observed.lag();
        self.calm_intervals =
            if lag <= learned.max(Self::MIN_LAG_ENTRIES / 8) { self.calm_intervals.saturating_add(1) } else { 0 };
        if self.pending.is_some_and(|offset| observed.learned <= offset) {
            return None;
        }
        self.pending = None;
        if observed.halvings > observed.max_halvings {
            return Some(observed.max_halvings);
        }
        if lag > Self::MIN_LAG_ENTRIES.max(learned * Self::MAX_LAG_INTERVALS) {
            // The number of additional halvings after which the learner would process entries as
            // fast as they arrive; at least one.
            let needed =
                (1..observed.max_halvings).find(|more| learned << more >= arrived).unwrap_or(observed.max_halvings);
            let halvings = observed.halvings.saturating_add(needed).min(observed.max_halvings);
            return (halvings > observed.halvings).then_some(halvings);
        }
        if self.calm_intervals >= Self::INTERVALS_WITHOUT_LAG_BEFORE_DOUBLING && observed.halvings > 0 {
            self.calm_intervals = 0;
            return Some(observed.halvings - 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the controller with a simulated learner, which applies `capacity << halvings` entries
    /// per interval. Returns the largest lag, the last lag and the last number of halvings.
    fn simulate_load(arrivals: &[u64], capacity: u64, max_halvings: u8) -> (u64, u64, u8) {
        let (mut controller, mut delivered, mut learned, mut halvings) = (LoadController::default(), 0, 0, 0);
        let (mut pending, mut largest): (Vec<(Offset, u8)>, u64) = (Vec::new(), 0);
        for arrived in arrivals {
            delivered += arrived;
            for _ in 0..capacity << halvings {
                if learned < delivered {
                    learned += 1;
                }
                if let Some(&(offset, new)) = pending.first()
                    && learned > offset
                {
                    halvings = new;
                    pending.remove(0);
                }
            }
            largest = largest.max(delivered - learned);
            if let Some(new) =
                controller.decide_halvings(&LoadObservation { delivered, learned, halvings, max_halvings })
            {
                assert!(new <= max_halvings, "{new} halvings");
                controller.pending = Some(delivered);
                pending.push((delivered, new));
                delivered += 1;
            }
        }
        (largest, delivered - learned, halvings)
    }

    #[test]
    fn the_training_share_falls_until_the_learner_keeps_up_and_is_restored_afterwards() {
        // For two minutes, events arrive four times as fast as the learner processes them at full
        // share. Then no events arrive.
        let load: Vec<_> = (0..400).map(|second| if second < 120 { 2_000 } else { 0 }).collect();
        let (largest, last, _) = simulate_load(&load[..120], 500, 6);
        assert!(largest < 20_000 && last < 10_000, "{largest} {last}");
        let (_, last, halvings) = simulate_load(&load, 500, 6);
        assert_eq!((last, halvings), (0, 0));
        // If no reduction is permitted, the lag grows with the load.
        assert!(simulate_load(&load[..120], 500, 0).0 > 150_000);
    }

    #[test]
    fn light_load_and_short_bursts_do_not_change_the_training_share() {
        let light: Vec<_> = vec![400; 300];
        assert_eq!(simulate_load(&light, 500, 6).2, 0);
        let bursts: Vec<_> = (0..300).map(|second| if second % 60 == 0 { 900 } else { 10 }).collect();
        assert_eq!(simulate_load(&bursts, 500, 6).2, 0);
    }

    #[test]
    fn a_smaller_permitted_reduction_of_the_training_share_applies_at_once() {
        let mut controller = LoadController { before: Some((90, 90)), ..LoadController::default() };
        let observed = LoadObservation { delivered: 100, learned: 100, halvings: 5, max_halvings: 2 };
        assert_eq!(controller.decide_halvings(&observed), Some(2));
    }
}
