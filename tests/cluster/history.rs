//! What clients sent and which receipts they got.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

/// The receipt of an event.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledgement {
    /// When the client got the receipt.
    pub(crate) at: Instant,
    /// The offset in the receipt. The event is before this offset.
    pub(crate) offset: u64,
}

/// One event that a client sent, once or repeatedly.
#[derive(Debug, Clone)]
pub(crate) struct SentEvent {
    pub(crate) body: Value,
    /// When the client sent the event for the first time.
    pub(crate) first_sent: Instant,
    pub(crate) acknowledged: Option<Acknowledgement>,
}

impl SentEvent {
    pub(crate) fn id(&self) -> &str {
        self.body["event_id"].as_str().unwrap()
    }

    pub(crate) fn user(&self) -> &str {
        self.body["user_id"].as_str().unwrap()
    }
}

/// The requests of all clients.
#[derive(Default)]
pub(crate) struct History {
    /// In the order in which they were sent first.
    pub(crate) events: Vec<SentEvent>,
    /// The prices of acknowledged item changes.
    pub(crate) prices: Vec<f64>,
    /// The prices of item changes without a receipt.
    pub(crate) unknown_prices: Vec<f64>,
    /// Merged users, and whether a receipt confirmed a new merge.
    pub(crate) merged: Vec<(String, bool)>,
    /// Ids of events that users sent while their consent was `none`.
    pub(crate) withheld: Vec<String>,
    /// The last consent that each user's client set.
    pub(crate) consents: HashMap<String, &'static str>,
    /// Number of acknowledged batches by node.
    pub(crate) receipts: [u64; 3],
    /// Number of answers that were checked against a receipt of another node.
    pub(crate) reads_of_own_writes: u64,
    /// Number of answers with 503.
    pub(crate) refused: u64,
}

impl History {
    /// Adds events that are about to be sent. Returns the place of the first.
    pub(crate) fn add_events(&mut self, bodies: &[Value]) -> usize {
        let now = Instant::now();
        let first = self.events.len();
        let sent = |body: &Value| SentEvent { body: body.clone(), first_sent: now, acknowledged: None };
        self.events.extend(bodies.iter().map(sent));
        first
    }

    /// Notes the receipt of events.
    pub(crate) fn acknowledge(&mut self, events: std::ops::Range<usize>, node: usize, offset: u64) {
        let at = Instant::now();
        for event in &mut self.events[events] {
            event.acknowledged = Some(Acknowledgement { at, offset });
        }
        self.receipts[node] += 1;
    }

    /// Number of acknowledged batches.
    pub(crate) fn receipt_count(&self) -> u64 {
        self.receipts.iter().sum()
    }
}
