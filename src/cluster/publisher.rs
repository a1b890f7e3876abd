//! Publishes the messages that this node proposes, one after the other.

use super::committer_link::CommitterLink;
use super::member_status::MemberStatus;
use super::shared_log::{LogError, Proposal, SharedLog};
use crate::clock::Clock;
use crate::metrics::Metrics;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// The time for which the node tries to publish a message. Then the clients of its requests get an
/// error.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(6);
/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Publishes proposals until the committer is gone. The committer proposes the next message after it
/// was told what became of the last one, so the queue holds few messages.
pub(super) async fn publish_proposals<L: SharedLog>(
    log: &L,
    link: &dyn CommitterLink,
    status: &MemberStatus,
    metrics: &Metrics,
    mut proposals: UnboundedReceiver<Proposal>,
) {
    let clock = Clock::system();
    while let Some(proposal) = proposals.recv().await {
        let began = clock.elapsed();
        let outcome = loop {
            let outcome = log.propose(&proposal).await;
            let may_retry = clock.elapsed().saturating_sub(began) < PUBLISH_DEADLINE;
            match outcome {
                Err(LogError::Unreachable(_)) if may_retry => tokio::time::sleep(RETRY_PAUSE).await,
                outcome => break outcome,
            }
        };
        if let Ok(sequence) = &outcome {
            metrics.cluster_publish_seconds.record(clock.elapsed().saturating_sub(began));
            status.record_contact(*sequence);
        }
        link.settle_proposal(proposal.id, outcome);
    }
}
