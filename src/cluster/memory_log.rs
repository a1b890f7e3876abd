//! A shared log in memory, for tests.

use super::shared_log::{LogError, LogRecord, LogSubscription, Proposal, SharedLog};
use crate::store::SharedLogPosition;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::watch;

/// A log in memory. Clones share the messages.
#[derive(Debug, Clone)]
pub(super) struct MemoryLog {
    records: Rc<RefCell<Vec<LogRecord>>>,
    last: Rc<watch::Sender<u64>>,
    /// The number of proposals that fail before the next one is stored.
    pub(super) failures: Rc<RefCell<u32>>,
}

impl MemoryLog {
    pub(super) fn new() -> Self {
        Self { records: Rc::default(), last: Rc::new(watch::Sender::new(0)), failures: Rc::default() }
    }
}

impl SharedLog for MemoryLog {
    type Subscription = MemorySubscription;

    async fn propose(&self, proposal: &Proposal) -> Result<u64, LogError> {
        tokio::task::yield_now().await;
        let mut records = self.records.borrow_mut();
        let sequence = match records.iter().find(|record| record.id == proposal.id) {
            Some(stored) => stored.sequence,
            None => {
                let sequence = records.len() as u64 + 1;
                let Proposal { id, payload } = proposal.clone();
                records.push(LogRecord { sequence, id, payload });
                sequence
            }
        };
        self.last.send_replace(records.len() as u64);
        let mut failures = self.failures.borrow_mut();
        if *failures > 0 {
            // The log has stored the message, but the confirmation is lost.
            *failures -= 1;
            return Err(LogError::Unreachable("a test".to_owned()));
        }
        Ok(sequence)
    }

    async fn check_position(&self, position: &SharedLogPosition) -> Result<(), LogError> {
        let last = self.records.borrow().len() as u64;
        let applied = position.sequence;
        if last < applied { Err(LogError::Lost { applied, found: "a shorter log".to_owned() }) } else { Ok(()) }
    }

    async fn subscribe_from(&self, sequence: u64) -> Result<MemorySubscription, LogError> {
        Ok(MemorySubscription { log: self.clone(), next: sequence, last: self.last.subscribe() })
    }
}

pub(super) struct MemorySubscription {
    log: MemoryLog,
    next: u64,
    last: watch::Receiver<u64>,
}

impl LogSubscription for MemorySubscription {
    async fn next_records(&mut self, limit: usize) -> Result<Vec<LogRecord>, LogError> {
        let next = self.next;
        let _ = self.last.wait_for(|last| *last >= next).await;
        let records: Vec<_> =
            self.log.records.borrow().iter().filter(|r| r.sequence >= next).take(limit).cloned().collect();
        self.next += records.len() as u64;
        Ok(records)
    }
}
