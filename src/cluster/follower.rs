//! Reads the shared log and hands its messages to the committer.

use super::chain_history::ChainHistory;
use super::committer_link::{CommitterLink, DecodedMessage};
use super::member_status::MemberStatus;
use super::message::decode_message;
use super::shared_log::{LogError, LogRecord, LogSubscription, SharedLog};
use crate::store::{LogMessage, SharedLogPosition, log_digest};
use std::cell::RefCell;
use std::time::Duration;

/// Largest number of messages that the committer applies with one sync.
const MESSAGES_PER_APPLY: usize = 64;
/// The pause before the log is read again after it could not be reached, or after a failed commit.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The pause before the log is read again after an error that a retry alone does not resolve.
const HALT_PAUSE: Duration = Duration::from_secs(5);

/// Number of consecutive checks that must miss a message before it counts as lost.
const LOSSES_BEFORE_HALT: u32 = 4;

/// Why the follower stopped reading.
#[derive(Debug)]
enum Interruption {
    /// The log returned an error.
    Log(LogError),
    /// A message cannot be read.
    Message(String),
    /// The committer could not apply a message; the log has its error.
    Commit,
    /// The committer is gone, because the node stops.
    Stopped,
}

impl From<LogError> for Interruption {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Follows the log from `position` on, until the committer is gone.
pub(super) async fn follow_log<L: SharedLog>(
    log: &L,
    link: &dyn CommitterLink,
    status: &MemberStatus,
    history: &RefCell<ChainHistory>,
    mut position: SharedLogPosition,
) {
    let mut losses = 0;
    loop {
        let interruption = match follow_until_interrupted(log, link, status, history, &mut position).await {
            Ok(never) => match never {},
            Err(interruption) => interruption,
        };
        losses = if matches!(interruption, Interruption::Log(LogError::Lost { .. })) { losses + 1 } else { 0 };
        let pause = match interruption {
            Interruption::Stopped => return,
            Interruption::Commit => RETRY_PAUSE,
            // After an election, the leader may not have the newest state yet.
            Interruption::Log(LogError::Lost { .. }) if losses < LOSSES_BEFORE_HALT => RETRY_PAUSE,
            Interruption::Log(LogError::Unreachable(reason)) => {
                tracing::warn!(reason, "the cluster's log cannot be read; this node tries again");
                RETRY_PAUSE
            }
            Interruption::Log(error) => {
                status.set_halted(error.to_string());
                HALT_PAUSE
            }
            Interruption::Message(reason) => {
                status.set_halted(reason);
                HALT_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn follow_until_interrupted<L: SharedLog>(
    log: &L,
    link: &dyn CommitterLink,
    status: &MemberStatus,
    history: &RefCell<ChainHistory>,
    position: &mut SharedLogPosition,
) -> Result<std::convert::Infallible, Interruption> {
    log.check_position(position).await?;
    let mut subscription = log.subscribe_from(position.sequence + 1).await?;
    status.set_halted(String::new());
    loop {
        let records = subscription.next_records(MESSAGES_PER_APPLY).await?;
        let messages = records.into_iter().map(decode_record).collect::<Result<Vec<_>, _>>()?;
        let report = link.apply(messages).await.map_err(|_| Interruption::Stopped)?;
        let mut hashes = history.borrow_mut();
        report.chain.iter().for_each(|(sequence, chain)| hashes.push(*sequence, *chain));
        *position = report.position;
        status.record_applied(position.sequence, report.offset);
        if report.has_failed {
            return Err(Interruption::Commit);
        }
    }
}

fn decode_record(record: LogRecord) -> Result<DecodedMessage, Interruption> {
    let LogRecord { sequence, id, payload } = record;
    let requests = decode_message(&payload).map_err(|error| {
        Interruption::Message(format!("message {sequence} of the cluster's log cannot be read: {error}"))
    })?;
    Ok(DecodedMessage { id, message: LogMessage { sequence, digest: log_digest(&payload), requests } })
}
