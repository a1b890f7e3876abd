//! A running import: reads rows, sorts them by time, sends them and records the progress.

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::Path;

use super::event_sorter::EventSorter;
use super::import_ids::IdSource;
use super::import_progress::ImportProgress;
use super::import_rows::{ImportBatch, ImportKind, ImportRow, ImportRows};
use super::import_target::ImportTarget;
use super::progress_display::ProgressDisplay;
use super::rejects::{RejectReport, RowLocation};
use crate::clock::Clock;
use crate::domain::{Entry, Timestamp, WithConsent};
use crate::ingest::{ReorderBuffer, SkippedEvents, ValidationRules};
use crate::settings::Period;

/// An event is held back for sorting until at most this many later lines are read. After a kill, at
/// most this many lines are sent again, which is within the default deduplication window of the
/// daemon.
const MAX_HELD_LINES: u64 = 100_000;

/// Number of late rows that a file of any size may contain. A late row is older than an earlier row
/// by more than the window.
const ALWAYS_ALLOWED_LATE_ROWS: u64 = 100;

/// In a larger file, one in this many rows may be late.
const MIN_ROWS_PER_LATE_ROW: u64 = 100;

/// Summary of an import.
#[derive(Debug, Default, Serialize)]
pub(super) struct ImportSummary {
    /// Rows that were added to the journal.
    pub(super) taken: u64,
    /// Rows that the journal contained already.
    pub(super) duplicates: u64,
    /// Rows that were not stored because their users do not consent.
    pub(super) withheld: u64,
    /// Rows that an earlier run had completed. These rows were not sent again.
    pub(super) skipped: u64,
    /// Rows that are late by more than the sorting window.
    pub(super) late: u64,
    pub(super) faulty: u64,
    /// Events of a preset that yield no event, by their names in the file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) ignored: BTreeMap<String, u64>,
    /// Events of a preset whose names are mapped to no kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unmapped: BTreeMap<String, u64>,
}

impl ImportSummary {
    /// Adds the events of a file that yielded no event.
    pub(super) fn add_skipped(&mut self, skipped: &SkippedEvents) {
        let mut sum =
            SkippedEvents { ignored: std::mem::take(&mut self.ignored), unmapped: std::mem::take(&mut self.unmapped) };
        sum.add(skipped);
        SkippedEvents { ignored: self.ignored, unmapped: self.unmapped } = sum;
    }

    /// Prints the counts of the events that yielded no event.
    pub(super) fn print_skipped(&self) -> anyhow::Result<()> {
        for (label, counts) in [("ignored", &self.ignored), ("unmapped", &self.unmapped)] {
            for (name, count) in counts {
                let label = format!("{label}: {name}");
                writeln!(stdout(), "  {label:<30}{count:>12}")?;
            }
        }
        Ok(())
    }

    /// If event names are mapped to no kind, prints to standard error how to map them.
    pub(super) fn explain_unmapped(&self) {
        if let Some(name) = self.unmapped.keys().next() {
            eprintln!(
                "some event names are mapped to no kind; map them, such as --kind '{name}=view', or ignore them with --kind '{name}=ignore'"
            );
        }
    }
}

/// Options of an import.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImportOptions {
    /// The sorting window: events that are at most this late are sorted by time.
    pub(super) window: Period,
    /// Whether all events of a file are sorted.
    pub(super) sort: bool,
    /// Largest number of rows in a request.
    pub(super) batch: u64,
}

/// The method that sorts the events of a file by time.
enum ImportOrder {
    Window(ReorderBuffer),
    Sorted(EventSorter),
}

impl ImportOrder {
    fn new(options: &ImportOptions) -> anyhow::Result<Self> {
        if options.sort {
            return Ok(Self::Sorted(EventSorter::new()?));
        }
        Ok(Self::Window(ReorderBuffer::new(options.window.as_millis(), MAX_HELD_LINES)))
    }

    /// Adds the event of a line, and moves the events that are ready to `batch`.
    fn insert(&mut self, line: u64, event: WithConsent, batch: &mut ImportBatch) -> anyhow::Result<()> {
        match self {
            Self::Sorted(sorter) => sorter.push(line, &event)?,
            Self::Window(reorder) => {
                reorder.insert(line, event);
                while let Some((line, event)) = reorder.pop_ready(line) {
                    batch.push(line, event.map(Entry::Event))?;
                }
            }
        }
        Ok(())
    }

    fn first_held_line(&self) -> Option<u64> {
        if let Self::Window(reorder) = self { reorder.first_held_line() } else { None }
    }
}

/// A running import.
pub(super) struct ImportRun {
    pub(super) options: ImportOptions,
    pub(super) rules: ValidationRules,
    pub(super) kind: ImportKind,
    pub(super) target: ImportTarget,
    pub(super) rejects: RejectReport,
    pub(super) summary: ImportSummary,
    pub(super) has_forgotten_rejects: bool,
}

impl ImportRun {
    /// Checks, before anything is sent, that a file is sorted by time. A small share of the rows
    /// may be out of order.
    pub(super) fn ensure_sorted(&self, file: &Path) -> anyhow::Result<()> {
        let mut rows = self.open_rows(file, &self.rules)?;
        let (mut latest, mut late, mut count) = (Timestamp::MIN, 0_u64, 0_u64);
        while let Some(row) = rows.next() {
            let Ok(ImportRow::Event(event)) = row? else { continue };
            let at = event.value.timestamp;
            count += 1;
            late += u64::from(at < latest.saturating_sub(self.options.window.as_millis()));
            latest = latest.max(at);
        }
        ensure!(
            late <= ALWAYS_ALLOWED_LATE_ROWS.max(count / MIN_ROWS_PER_LATE_ROW),
            "{} is not sorted by time: {late} of {count} rows are more than {} older than a row before them. In this order they would make the recommendations worse. \
             Add --sort, or --window 0s to import the rows in the order of the file",
            file.display(),
            self.options.window
        );
        Ok(())
    }

    /// Imports the rows of a file that no earlier run has completed.
    pub(super) fn import_file(
        &mut self,
        file: &Path,
        mut progress: ImportProgress,
        size: u64,
        id_source: IdSource,
    ) -> anyhow::Result<()> {
        let rules = self.rules.clone();
        let mut rows = self.open_rows(file, &rules)?;
        let mut order = ImportOrder::new(&self.options)?;
        let mut batch = ImportBatch::default();
        let display = ProgressDisplay::new(size, if self.options.sort { "bytes sorted" } else { "bytes imported" });
        while let Some(row) = rows.next() {
            let line = rows.line_number();
            match row {
                Ok(_) if progress.is_completed(line) => self.summary.skipped += 1,
                Ok(Ok(ImportRow::Event(mut event))) => {
                    if event.value.event_id.is_none() {
                        event.value.event_id = Some(id_source.event_id(
                            &event.value,
                            rows.last_row_bytes(),
                            progress.id_digest(),
                            line,
                            &rules,
                        ));
                    }
                    order.insert(line, event, &mut batch)?;
                }
                Ok(Ok(ImportRow::Record(record))) => {
                    if record.has_unmapped {
                        // Another mapping can yield more events, so the next run reads it again.
                        progress.record_rejected(line);
                    }
                    record.events.into_iter().try_for_each(|event| order.insert(line, event, &mut batch))?;
                }
                Ok(Ok(ImportRow::Item(item))) => batch.push(line, item.into())?,
                Ok(Err(error)) => {
                    progress.record_rejected(line);
                    self.rejects.record_invalid(file, RowLocation::Line(line), &error)?;
                }
                Err(error) => return Err(error).context("the rows before it were imported"),
            }
            if batch.is_full(self.options.batch) {
                self.send_batch(file, &mut batch, &mut progress)?;
                // If the import is killed, the rows that are held back for sorting must be read
                // again. So the stored progress ends before the first of them.
                progress
                    .write_completed_through(order.first_held_line().map_or(line, |first| first.saturating_sub(1)))?;
                display.update(rows.bytes_read());
            }
        }
        display.finish();
        match order {
            ImportOrder::Window(reorder) => self.send_remaining(file, reorder, batch, &mut progress)?,
            ImportOrder::Sorted(sorter) => self.send_sorted(file, sorter, &mut progress)?,
        }
        rows.skipped().into_iter().for_each(|skipped| self.summary.add_skipped(skipped));
        progress.write_finished(rows.line_number())?;
        self.has_forgotten_rejects |= progress.has_forgotten_rejects();
        Ok(())
    }

    /// Sends the events that are held back at the end of a file.
    fn send_remaining(
        &mut self,
        file: &Path,
        mut reorder: ReorderBuffer,
        mut batch: ImportBatch,
        progress: &mut ImportProgress,
    ) -> anyhow::Result<()> {
        while let Some((line, event)) = reorder.pop_remaining() {
            batch.push(line, event.map(Entry::Event))?;
            if batch.is_full(self.options.batch) {
                self.send_batch(file, &mut batch, progress)?;
            }
        }
        self.summary.late += reorder.late_count();
        self.send_batch(file, &mut batch, progress)
    }

    /// Sends the sorted events that an earlier run has not sent.
    fn send_sorted(&mut self, file: &Path, sorter: EventSorter, progress: &mut ImportProgress) -> anyhow::Result<()> {
        let sent = progress.acknowledged_sorted_event_count();
        let (mut batch, mut position) = (ImportBatch::default(), 0);
        let display = ProgressDisplay::new(sorter.event_count(), "events imported");
        for event in sorter.into_sorted()? {
            let (line, event) = event?;
            position += 1;
            if position <= sent {
                self.summary.skipped += 1;
                progress.record_acknowledged(line);
                continue;
            }
            batch.push(line, event.map(Entry::Event))?;
            if batch.is_full(self.options.batch) {
                self.send_batch(file, &mut batch, progress)?;
                progress.write_acknowledged_sorted(position)?;
                display.update(position);
            }
        }
        display.finish();
        self.send_batch(file, &mut batch, progress)
    }

    fn open_rows<'r>(&self, file: &Path, rules: &'r ValidationRules) -> anyhow::Result<ImportRows<'r>> {
        Ok(ImportRows::open(file, &self.kind, rules, Clock::system().now())?)
    }

    /// Sends a batch and waits for its acknowledgement.
    fn send_batch(
        &mut self,
        file: &Path,
        batch: &mut ImportBatch,
        progress: &mut ImportProgress,
    ) -> anyhow::Result<()> {
        let ImportBatch { mut lines, mut entries, .. } = std::mem::take(batch);
        let mut rejected_lines = Vec::new();
        lines.iter().for_each(|line| progress.record_acknowledged(*line));
        // The events of the last row can exceed the limit.
        let limit = usize::try_from(self.options.batch)?;
        while !lines.is_empty() {
            let length = limit.min(lines.len());
            let (next_lines, next_entries) = (lines.split_off(length), entries.split_off(length));
            let receipt = self.target.append_batch(entries)?;
            self.summary.taken += receipt.accepted;
            self.summary.duplicates += receipt.duplicates;
            self.summary.withheld += receipt.withheld;
            for rejected in &receipt.rejected {
                let Some(line) = lines.get(rejected.index) else {
                    bail!("the daemon rejected a row that was not sent: {}", rejected.reason)
                };
                rejected_lines.push(*line);
                self.rejects.record_rejected(file, RowLocation::Line(*line), rejected)?;
            }
            (lines, entries) = (next_lines, next_entries);
        }
        rejected_lines.into_iter().for_each(|line| progress.record_rejected(line));
        Ok(())
    }
}
