//! `sequor import --dry-run`: shows how rows are converted, and sends nothing.

use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::import_rows::{ImportKind, ImportRow, ImportRows};
use super::import_run::ImportSummary;
use super::rejects::{RejectReport, RowLocation};
use crate::clock::Clock;
use crate::domain::{Entry, WithConsent};
use crate::ingest::{ValidationRules, write_entry_with_consent};

/// The columns of the table for events and for items.
const EVENT_COLUMNS: [&str; 7] = ["type", "user_id", "item_id", "value", "quantity", "timestamp", "event_id"];
const ITEM_COLUMNS: [&str; 7] = ["op", "item_id", "title", "price", "available", "categories", "brand"];
/// Largest width of a column of the table, in characters.
const MAX_CELL_CHARACTERS: usize = 44;

/// A converted row: its file, its line and its entry in export format.
struct ShownRow {
    file: String,
    line: u64,
    entry: Value,
}

/// Converts the rows of files without sending them.
pub(super) struct DryRun {
    rejects: RejectReport,
    max_rows: u64,
    as_json: bool,
    shown: Vec<ShownRow>,
    converted: u64,
}

impl DryRun {
    /// Shows the first `max_rows` converted rows, as a table or as JSON lines.
    pub(super) fn new(mut rejects: RejectReport, max_rows: u64, as_json: bool) -> Self {
        rejects.print_all(as_json);
        Self { rejects, max_rows, as_json, shown: Vec::new(), converted: 0 }
    }

    /// Converts the files and prints the result. If rows were rejected, returns the error that sets
    /// exit code 2.
    pub(super) fn run(mut self, files: &[PathBuf], kind: &ImportKind, rules: &ValidationRules) -> anyhow::Result<()> {
        let mut summary = ImportSummary::default();
        for file in files {
            let mut rows = ImportRows::open(file, kind, rules, Clock::system().now())?;
            while let Some(row) = rows.next() {
                let line = rows.line_number();
                match row? {
                    Ok(ImportRow::Event(event)) => self.show(file, line, &event.map(Entry::Event))?,
                    Ok(ImportRow::Record(record)) => {
                        let mut events = record.events.into_iter();
                        events.try_for_each(|event| self.show(file, line, &event.map(Entry::Event)))?;
                    }
                    Ok(ImportRow::Item(item)) => self.show(file, line, &item.into())?,
                    Err(error) => self.rejects.record_invalid(file, RowLocation::Line(line), &error)?,
                }
            }
            rows.skipped().into_iter().for_each(|skipped| summary.add_skipped(skipped));
        }
        self.finish(&summary)
    }

    fn show(&mut self, file: &Path, line: u64, entry: &WithConsent<Entry>) -> anyhow::Result<()> {
        self.converted += 1;
        if self.converted > self.max_rows {
            return Ok(());
        }
        let mut text = Vec::new();
        write_entry_with_consent(entry, &mut text)?;
        let row = ShownRow { file: file.display().to_string(), line, entry: serde_json::from_slice(&text)? };
        if self.as_json {
            let ShownRow { file, line, entry } = row;
            writeln!(stdout(), "{}", json!({ "row": { "file": file, "line": line, "entry": entry } }))?;
        } else {
            self.shown.push(row);
        }
        Ok(())
    }

    fn finish(self, summary: &ImportSummary) -> anyhow::Result<()> {
        let (converted, rejected) = (self.converted, self.rejects.rejected_count());
        if self.as_json {
            let (ignored, unmapped) = (&summary.ignored, &summary.unmapped);
            let counts =
                json!({ "converted": converted, "rejected": rejected, "ignored": ignored, "unmapped": unmapped });
            writeln!(stdout(), "{}", json!({ "summary": counts }))?;
        } else {
            print_table(&self.shown)?;
            for (label, count) in [("converted", converted), ("rejected", rejected)] {
                writeln!(stdout(), "  {label:<30}{count:>12}")?;
            }
            summary.print_skipped()?;
            summary.explain_unmapped();
            eprintln!("dry run: nothing was sent");
        }
        self.rejects.ensure_no_rejects(converted)
    }
}

/// Prints rows as a table with a column for each field that a row has.
fn print_table(rows: &[ShownRow]) -> anyhow::Result<()> {
    let is_item = rows.first().is_some_and(|row| row.entry.get("type").is_none());
    let columns = if is_item { ITEM_COLUMNS } else { EVENT_COLUMNS };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let fields = columns.iter().map(|name| cell_text(row.entry.get(name)));
            std::iter::once(row.line.to_string()).chain(fields).collect()
        })
        .collect();
    let names: Vec<_> = std::iter::once("line").chain(columns).map(str::to_owned).collect();
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0);
    let widths: Vec<_> = (0..names.len()).map(width).collect();
    for row in std::iter::once(&names).filter(|_| !rows.is_empty()).chain(&cells) {
        let shown = row.iter().zip(&names).zip(&widths).filter(|(_, width)| **width > 0);
        let padded: Vec<_> =
            shown.map(|((cell, name), width)| format!("{cell:<0$}", length(name).max(*width))).collect();
        writeln!(stdout(), "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

fn cell_text(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(values)) => values.iter().map(|value| cell_text(Some(value))).collect::<Vec<_>>().join(" | "),
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= MAX_CELL_CHARACTERS {
        return text;
    }
    text.chars().take(MAX_CELL_CHARACTERS - 1).chain(['…']).collect()
}
