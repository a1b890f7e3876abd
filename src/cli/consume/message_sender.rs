//! Converts the messages of a batch and sends their events to the daemon.

use anyhow::bail;
use sequor_client::Receipt;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::consume_metrics::ConsumeMetrics;
use super::queue_message::QueueMessage;
use crate::cli::event_sender::EventSender;
use crate::cli::import_rows::ImportBatch;
use crate::cli::rejects::{RejectReport, RowLocation};
use crate::domain::Entry;
use crate::ingest::{IdKind, MessageFormat, SkippedEvents, ValidationRules};

/// Size limit of a batch of Segment calls: half the default of `server.max_body_bytes`.
const MAX_SEGMENT_BATCH_BYTES: usize = 512 * 1024;

/// The format of the messages.
pub(super) enum ConsumedFormat {
    /// Messages that this command converts to events.
    Events(MessageFormat),
    /// Calls of Segment's API, which the daemon converts.
    Segment,
}

/// Sends messages to the daemon, and reports the rejected ones.
pub(super) struct MessageSender {
    sender: EventSender,
    format: ConsumedFormat,
    rules: ValidationRules,
    rejects: RejectReport,
    metrics: Arc<ConsumeMetrics>,
    /// The stream's name, which reports show.
    stream: PathBuf,
    batch: usize,
}

impl MessageSender {
    pub(super) fn new(
        sender: EventSender,
        format: ConsumedFormat,
        rules: ValidationRules,
        rejects: RejectReport,
        metrics: Arc<ConsumeMetrics>,
        stream: String,
        batch: usize,
    ) -> Self {
        Self { sender, format, rules, rejects, metrics, stream: stream.into(), batch }
    }

    /// Sends the events of messages and waits until the daemon has acknowledged them.
    pub(super) fn send(&mut self, messages: &[QueueMessage]) -> anyhow::Result<()> {
        match &self.format {
            ConsumedFormat::Events(format) => {
                let format = format.clone();
                self.send_events(&format, messages)
            }
            ConsumedFormat::Segment => self.send_segment_calls(messages),
        }
    }

    fn send_events(&mut self, format: &MessageFormat, messages: &[QueueMessage]) -> anyhow::Result<()> {
        let (mut batch, mut skipped) = (ImportBatch::default(), SkippedEvents::default());
        for (index, message) in (0..).zip(messages) {
            let record = format.convert(&message.payload, &self.rules, message.published_at, &mut skipped);
            for error in &record.errors {
                self.rejects.record_invalid(&self.stream, message.location, error)?;
            }
            for mut event in record.events {
                let id = || self.rules.internal_id(IdKind::Event, message.id.clone());
                event.value.event_id.get_or_insert_with(id);
                batch.push(index, event.map(Entry::Event))?;
                if batch.is_full(self.batch as u64) {
                    self.send_batch(std::mem::take(&mut batch), messages)?;
                }
            }
        }
        self.send_batch(batch, messages)?;
        let skipped = skipped.unmapped_count() + skipped.ignored.values().sum::<u64>();
        self.metrics.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.metrics.rejected.store(self.rejects.rejected_count(), Ordering::Relaxed);
        Ok(())
    }

    /// Sends a batch, in which the lines are indexes of messages.
    fn send_batch(&mut self, batch: ImportBatch, messages: &[QueueMessage]) -> anyhow::Result<()> {
        let ImportBatch { lines, entries, .. } = batch;
        let receipt = self.sender.send_batch(&entries)?;
        let location = |line: &u64| Some(messages.get(usize::try_from(*line).ok()?)?.location);
        let locations: Vec<_> = lines.iter().filter_map(location).collect();
        self.record_receipt(&receipt, &locations)
    }

    fn record_receipt(&mut self, receipt: &Receipt, locations: &[RowLocation]) -> anyhow::Result<()> {
        for (total, count) in [
            (&self.metrics.accepted, receipt.accepted),
            (&self.metrics.duplicates, receipt.duplicates),
            (&self.metrics.withheld, receipt.withheld),
        ] {
            total.fetch_add(count, Ordering::Relaxed);
        }
        for rejected in &receipt.rejected {
            let Some(location) = locations.get(rejected.index) else {
                bail!("the daemon rejected a message that was not sent: {}", rejected.reason)
            };
            self.rejects.record_rejected(&self.stream, *location, rejected)?;
        }
        Ok(())
    }

    /// Sends calls of Segment's API as they are. A call without a `messageId` gets the id of its
    /// message.
    fn send_segment_calls(&mut self, messages: &[QueueMessage]) -> anyhow::Result<()> {
        let (mut calls, mut locations, mut bytes) = (Vec::new(), Vec::new(), 0);
        for message in messages {
            let Ok(Value::Object(mut call)) = serde_json::from_slice(&message.payload) else {
                self.rejects.record_not_an_object(&self.stream, message.location)?;
                continue;
            };
            if call.get("messageId").is_none_or(Value::is_null) {
                call.insert("messageId".to_owned(), message.id.clone().into());
            }
            if !calls.is_empty()
                && (calls.len() >= self.batch || bytes + message.payload.len() > MAX_SEGMENT_BATCH_BYTES)
            {
                self.send_segment_batch(&std::mem::take(&mut calls), &std::mem::take(&mut locations))?;
                bytes = 0;
            }
            bytes += message.payload.len();
            calls.push(Value::Object(call));
            locations.push(message.location);
        }
        self.send_segment_batch(&calls, &locations)?;
        self.metrics.rejected.store(self.rejects.rejected_count(), Ordering::Relaxed);
        Ok(())
    }

    /// Sends a batch of calls. If it holds more events than the daemon takes in one request, sends
    /// it in two halves.
    fn send_segment_batch(&mut self, calls: &[Value], locations: &[RowLocation]) -> anyhow::Result<()> {
        let Some(first) = locations.first() else { return Ok(()) };
        let Some(receipt) = self.sender.send_segment_batch(calls)? else {
            let half = calls.len() / 2;
            if half == 0 {
                return self.rejects.record_too_long(&self.stream, *first);
            }
            let ((calls, later_calls), (locations, later_locations)) = (calls.split_at(half), locations.split_at(half));
            self.send_segment_batch(calls, locations)?;
            return self.send_segment_batch(later_calls, later_locations);
        };
        let skipped = receipt.warnings.len() as u64;
        self.metrics.skipped.fetch_add(skipped, Ordering::Relaxed);
        let accepted = (calls.len() as u64).saturating_sub(skipped + receipt.rejected.len() as u64);
        self.record_receipt(&Receipt { accepted, rejected: receipt.rejected, ..Receipt::default() }, locations)
    }

    /// Writes the file of rejected messages.
    pub(super) fn flush_rejects(&mut self) -> anyhow::Result<()> {
        self.rejects.flush()
    }

    /// Closes the report. If messages were rejected, returns the error that sets exit code 2.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let accepted = self.metrics.messages.load(Ordering::Relaxed).saturating_sub(self.rejects.rejected_count());
        self.rejects.ensure_no_rejects(accepted)
    }
}
