//! Flags for the timestamps of files.

use clap::{Args, ValueEnum};

use crate::ingest::{TimeFormat, TimeUnit};

/// How the timestamps of a file are written.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TimeFlags {
    /// Unit of the timestamps [default: detected: RFC 3339 text, or numbers of seconds,
    /// milliseconds, microseconds or nanoseconds by their magnitude]. Without it, a number that
    /// would be a time in 1970 is rejected.
    #[arg(long, value_name = "UNIT")]
    time_unit: Option<TimestampUnit>,
    /// Time zone of dates and times without an offset, such as Europe/Berlin, +02:00 or UTC
    /// [default: UTC with --time-unit iso; otherwise such timestamps are rejected].
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

/// Unit of timestamps.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TimestampUnit {
    /// Seconds since 1970.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// Microseconds since 1970.
    Us,
    /// Nanoseconds since 1970.
    Ns,
    /// ISO 8601, such as 2014-04-01T01:15:41Z, "2014-04-01 01:15:41" or 2014-04-01.
    Iso,
}

impl TimeFlags {
    /// The time format that the flags describe.
    pub(super) fn format(&self) -> anyhow::Result<TimeFormat> {
        let unit = match self.time_unit {
            None => TimeUnit::Auto,
            Some(TimestampUnit::S) => TimeUnit::Seconds,
            Some(TimestampUnit::Ms) => TimeUnit::Milliseconds,
            Some(TimestampUnit::Us) => TimeUnit::Microseconds,
            Some(TimestampUnit::Ns) => TimeUnit::Nanoseconds,
            Some(TimestampUnit::Iso) => TimeUnit::Iso8601,
        };
        Ok(TimeFormat::new(unit, self.time_zone.as_deref())?)
    }
}
