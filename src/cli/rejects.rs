//! Rows and lines that cannot be taken: told one by one up to a bound, counted, and written down as
//! a whole if that is wished.

use anyhow::Context;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::event_sender::SendRejection;
use crate::ingest::{FileError, ValidationError};

/// What was taken is taken, but not everything could be.
#[derive(Debug, thiserror::Error)]
#[error("{0} faulty; everything else was taken")]
pub struct RejectedRowsError(pub u64);

/// Arguments of a command that tells faults.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RejectFlags {
    /// Tell so many faults on standard error; the rest is only counted.
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: u64,
    /// Write every fault into this file, as one JSON object a line.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

/// The faults so far.
pub(super) struct RejectReport {
    max_shown: u64,
    count: u64,
    output: Option<(PathBuf, BufWriter<File>)>,
}

/// Where in a file a fault stands.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowLocation {
    /// In this line, from 1.
    Line(u64),
    /// In the line that begins at this byte, from 0.
    Byte(u64),
}

impl fmt::Display for RowLocation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(out, "{line}"),
            Self::Byte(byte) => write!(out, "byte {byte}"),
        }
    }
}

/// One fault, as it is written down.
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
        Ok(Self { max_shown: flags.show, count: 0, output: flags.faults.as_ref().map(open).transpose()? })
    }

    /// A line that cannot be read.
    pub(super) fn record_invalid(&mut self, file: &Path, spot: RowLocation, fault: &ValidationError) -> anyhow::Result<()> {
        self.record(file, spot, fault.field, serde_json::to_value(fault.code)?, &fault.reason)
    }

    /// A line that the daemon did not take.
    pub(super) fn record_rejected(&mut self, file: &Path, spot: RowLocation, rejected: &SendRejection) -> anyhow::Result<()> {
        self.record(file, spot, rejected.field.as_deref(), rejected.code.as_str().into(), &rejected.reason)
    }

    /// A line that is not even looked at.
    pub(super) fn record_too_long(&mut self, file: &Path, spot: RowLocation) -> anyhow::Result<()> {
        self.record(file, spot, None, "too_long".into(), "the line is too long")
    }

    /// A file that breaks off.
    pub(super) fn record_unreadable(&mut self, file: &Path, line: u64, error: &FileError) -> anyhow::Result<()> {
        let code = if matches!(error, FileError::Truncated { .. }) { "truncated" } else { "unreadable" };
        // The error names file and line itself.
        let reason = error.to_string();
        let reason = reason.strip_prefix(&format!("{}:{line}: ", file.display())).unwrap_or(&reason);
        self.record(file, RowLocation::Line(line), None, code.into(), reason)
    }

    fn record(&mut self, file: &Path, spot: RowLocation, field: Option<&str>, code: serde_json::Value, reason: &str) -> anyhow::Result<()> {
        self.count += 1;
        if self.count <= self.max_shown {
            eprintln!("{}:{spot}: {reason}", file.display());
        } else if self.count == self.max_shown + 1 {
            eprintln!("more faults are only counted (--show, --faults FILE)");
        }
        if let Some((path, all)) = &mut self.output {
            let written =
                serde_json::to_writer(&mut *all, &RejectLine { file: file.display().to_string(), location: spot, field, code, reason });
            written
                .map_err(std::io::Error::from)
                .and_then(|()| all.write_all(b"\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Brings what is written down onto the disk.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.output.as_mut().map_or(Ok(()), |(path, all)| all.flush().with_context(|| format!("cannot write {}", path.display())))
    }

    /// The end: an error that makes the exit code 2 if there were any.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        if self.count > 0 { Err(RejectedRowsError(self.count).into()) } else { Ok(()) }
    }
}
