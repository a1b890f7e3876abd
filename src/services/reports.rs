//! Reports that read the journal. A report does not change anything.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::actors::error::RequestError;
use crate::actors::system::System;
use crate::domain::Offset;
use crate::reports::{AttributionFold, AttributionReport, AttributionSettings, GroupBy, ReportWindow};

/// Number of journal entries per read.
const ENTRIES_PER_READ: usize = 1024;

/// Which attribution report to compute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttributionRequest {
    /// What is attributed to what.
    pub settings: AttributionSettings,
    /// The impressions of the report.
    pub window: ReportWindow,
    /// The report has one table for each of these groupings.
    pub groupings: Vec<GroupBy>,
}

/// The largest number of reports is being computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} reports are being computed", ReportService::MAX_REPORTS)]
pub struct TooManyReports;

/// Computes reports from the journal.
#[derive(Clone)]
pub struct ReportService {
    system: System,
    permits: Arc<Semaphore>,
}

impl ReportService {
    /// Largest number of reports that are computed at one time. Each of them reads the whole
    /// journal.
    pub const MAX_REPORTS: usize = 2;

    /// A service that reads the journal of a system.
    #[must_use]
    pub fn new(system: System) -> Self {
        Self { system, permits: Arc::new(Semaphore::new(Self::MAX_REPORTS)) }
    }

    /// Begins an attribution report about the journal up to its current end.
    ///
    /// # Errors
    /// [`TooManyReports`] if there is no capacity for another report.
    pub fn begin_attribution(&self, request: &AttributionRequest) -> Result<AttributionRun, TooManyReports> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| TooManyReports)?;
        let AttributionRequest { settings, window, groupings } = request;
        Ok(AttributionRun {
            system: self.system.clone(),
            fold: AttributionFold::new(settings.clone(), window.clone(), groupings),
            range: None,
            _permit: permit,
        })
    }
}

/// An attribution report that is being computed. The computation ends if the run is dropped.
pub struct AttributionRun {
    system: System,
    fold: AttributionFold,
    /// The next offset to read, and the end of the report; `None` before the first read.
    range: Option<(Offset, Offset)>,
    _permit: OwnedSemaphorePermit,
}

impl AttributionRun {
    /// Reads the next entries of the journal. Returns whether there are more. This call blocks.
    ///
    /// # Errors
    /// [`RequestError::Store`] if the journal cannot be read.
    pub fn read_next(&mut self) -> Result<bool, RequestError> {
        let journal = self.system.store.journal();
        let first = journal.first_offset()?;
        let (next, end) = match self.range {
            Some((next, end)) => (next.max(first), end),
            None => (first, journal.next_offset()?),
        };
        let entries = if next < end { journal.read_entries(next, ENTRIES_PER_READ)? } else { Vec::new() };
        let mut read_through = end;
        for (offset, entry) in entries.iter().filter(|(offset, _)| *offset < end) {
            self.fold.add_entry(entry);
            read_through = offset + 1;
        }
        self.range = Some((read_through, end));
        Ok(read_through < end)
    }

    /// The report, with the offset after the last entry that it contains.
    #[must_use]
    pub fn into_report(self) -> (AttributionReport, Offset) {
        let end = self.range.map_or(0, |(_, end)| end);
        (self.fold.into_report(), end)
    }
}
