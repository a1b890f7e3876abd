//! Report of rejected rows and lines: the first ones are printed to standard error. All are
//! counted, and all can be written to a file.

use anyhow::Context;
use sequor_client::Rejection;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};

use super::output_file::ensure_not_read;
use crate::ingest::ValidationError;

/// The error of a command that rejected some rows. It sets the exit code to 2.
#[derive(Debug, thiserror::Error)]
#[error("rows rejected: {rejected}; rows accepted: {accepted}")]
pub struct RejectedRowsError {
    /// The number of rejected rows.
    pub rejected: u64,
    /// The number of rows that this run or an earlier one accepted.
    pub accepted: u64,
}

/// Flags of a command that reports rejected rows.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RejectFlags {
    /// Number of rejected rows to print to standard error; further ones are only counted.
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: u64,
    /// Write every rejected row to this file, one JSON object per line (file, line or byte, field,
    /// code, reason).
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

impl RejectFlags {
    /// Checks that the file of rejected rows is none of the files that the command reads.
    pub(super) fn ensure_not_read<'p>(&self, read: impl IntoIterator<Item = &'p Path>) -> anyhow::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| ensure_not_read("--faults", faults, read))
    }
}

/// Counts and reports rejected rows.
pub(super) struct RejectReport {
    max_shown: u64,
    count: u64,
    /// Whether rejected rows are printed to standard output as JSON.
    prints_json: bool,
    output: Option<(PathBuf, BufWriter<File>)>,
    /// Bytes that can still be written to the file.
    remaining_bytes: u64,
}

/// Location of a rejected row in its file.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowLocation {
    /// Line number, from 1.
    Line(u64),
    /// Byte offset of the start of the line, from 0.
    Byte(u64),
    /// Sequence number of a message.
    Message(u64),
    /// Partition and offset of a record of Kafka.
    Record(i32, i64),
}

impl fmt::Display for RowLocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(out, "{line}"),
            Self::Byte(byte) => write!(out, "byte {byte}"),
            Self::Message(sequence) => write!(out, "message {sequence}"),
            Self::Record(partition, offset) => write!(out, "record {partition}/{offset}"),
        }
    }
}

/// A rejected row, as a line of the file that `--faults` names.
#[derive(Debug, Serialize)]
struct RejectLine<'f> {
    file: String,
    #[serde(flatten)]
    location: RowLocation,
    field: Option<&'f str>,
    code: serde_json::Value,
    reason: &'f str,
}

impl RejectReport {
    pub(super) fn new(flags: &RejectFlags) -> anyhow::Result<Self> {
        let open = |file: &PathBuf| {
            let created = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
            anyhow::Ok((file.clone(), BufWriter::new(created)))
        };
        Ok(Self {
            max_shown: flags.show,
            count: 0,
            prints_json: false,
            output: flags.faults.as_ref().map(open).transpose()?,
            remaining_bytes: u64::MAX,
        })
    }

    /// A report whose file keeps the rows of earlier runs and grows to at most `limit` bytes.
    pub(super) fn with_bounded_file(flags: &RejectFlags, limit: u64) -> anyhow::Result<Self> {
        let mut report = Self::new(&RejectFlags { show: flags.show, faults: None })?;
        if let Some(path) = &flags.faults {
            let open = || -> std::io::Result<_> {
                let file = File::options().create(true).append(true).open(path)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            };
            let (file, length) = open().with_context(|| format!("cannot write {}", path.display()))?;
            report.output = Some((path.clone(), BufWriter::new(file)));
            report.remaining_bytes = limit.saturating_sub(length);
        }
        Ok(report)
    }

    /// Prints every rejected row: to standard output as JSON, or to standard error.
    pub(super) fn print_all(&mut self, as_json: bool) {
        self.max_shown = u64::MAX;
        self.prints_json = as_json;
    }

    /// Reports a row that fails validation.
    pub(super) fn record_invalid(
        &mut self,
        file: &Path,
        location: RowLocation,
        error: &ValidationError,
    ) -> anyhow::Result<()> {
        self.record_row(file, location, error.field, serde_json::to_value(error.code)?, &error.reason)
    }

    /// Reports a row that the daemon rejected.
    pub(super) fn record_rejected(
        &mut self,
        file: &Path,
        location: RowLocation,
        rejected: &Rejection,
    ) -> anyhow::Result<()> {
        self.record_row(file, location, rejected.field.as_deref(), rejected.code.as_str().into(), &rejected.reason)
    }

    /// Reports a line that exceeds the length limit.
    pub(super) fn record_too_long(&mut self, file: &Path, location: RowLocation) -> anyhow::Result<()> {
        self.record_row(file, location, None, "too_long".into(), "the line is too long")
    }

    /// Reports a message that is not a JSON object.
    pub(super) fn record_not_an_object(&mut self, file: &Path, location: RowLocation) -> anyhow::Result<()> {
        self.record_row(file, location, None, "syntax".into(), "the message is not a JSON object")
    }

    fn record_row(
        &mut self,
        file: &Path,
        location: RowLocation,
        field: Option<&str>,
        code: serde_json::Value,
        reason: &str,
    ) -> anyhow::Result<()> {
        self.count += 1;
        let line = RejectLine { file: file.display().to_string(), location, field, code, reason };
        if self.prints_json {
            writeln!(stdout(), "{}", serde_json::json!({ "rejected": line }))?;
        } else if self.count <= self.max_shown {
            eprintln!("{}:{location}: {reason}", file.display());
        } else if self.count == self.max_shown + 1 {
            eprintln!("further rejected rows are only counted; --show N prints more, --faults FILE writes all");
        }
        if let Some((path, all)) = &mut self.output {
            let text = serde_json::to_string(&line)?;
            let is_within = self.remaining_bytes > text.len() as u64;
            self.remaining_bytes = if is_within { self.remaining_bytes - text.len() as u64 - 1 } else { 0 };
            if is_within {
                writeln!(all, "{text}").with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The number of rejected rows.
    pub(super) fn rejected_count(&self) -> u64 {
        self.count
    }

    /// Flushes the file of `--faults`.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.output
            .as_mut()
            .map_or(Ok(()), |(path, all)| all.flush().with_context(|| format!("cannot write {}", path.display())))
    }

    /// Closes the report. If rows were rejected, returns the error that sets exit code 2.
    pub(super) fn ensure_no_rejects(mut self, accepted: u64) -> anyhow::Result<()> {
        self.flush()?;
        if self.count > 0 { Err(RejectedRowsError { rejected: self.count, accepted }.into()) } else { Ok(()) }
    }
}
