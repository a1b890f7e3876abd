//! Counts of consumed messages.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of `sequor consume`. The events of a message count, and messages without an event.
#[derive(Debug, Default)]
pub(super) struct ConsumeMetrics {
    /// Messages whose events the daemon has acknowledged.
    pub(super) messages: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) withheld: AtomicU64,
    /// Events whose name is ignored or mapped to no kind.
    pub(super) skipped: AtomicU64,
    /// Invalid messages and events.
    pub(super) rejected: AtomicU64,
    /// Messages of the stream that are not acknowledged.
    pub(super) lag: AtomicU64,
}

impl ConsumeMetrics {
    /// The event counts by outcome.
    pub(super) fn event_counts(&self) -> [(&'static str, u64); 5] {
        [
            ("accepted", &self.accepted),
            ("duplicate", &self.duplicates),
            ("withheld", &self.withheld),
            ("skipped", &self.skipped),
            ("rejected", &self.rejected),
        ]
        .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    /// The metrics in the text format of Prometheus.
    pub(super) fn to_prometheus_text(&self) -> String {
        let mut text = String::new();
        let help = [
            ("sequor_consume_messages_total", "counter", "Messages that are acknowledged."),
            ("sequor_consume_lag_messages", "gauge", "Messages of the stream that are not acknowledged."),
        ];
        let values = [&self.messages, &self.lag].map(|value| value.load(Ordering::Relaxed));
        for ((name, kind, help), value) in help.into_iter().zip(values) {
            // Writing to a string cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        let name = "sequor_consume_events_total";
        let _ = write!(text, "# HELP {name} Events of the messages, by outcome.\n# TYPE {name} counter\n");
        for (outcome, count) in self.event_counts() {
            let _ = writeln!(text, "{name}{{outcome=\"{outcome}\"}} {count}");
        }
        text
    }
}
