//! Ingestion: checks consent, admits entries, and appends them to the journal.

use crate::actors::error::RequestError;
use crate::actors::handles::{ConsentedEntries, IngestHandle};
use crate::domain::{Entry, Offset, Origin, VectorError, WithConsent};
use crate::metrics::EventOutcome;

/// What an append does if the limit of entries in flight is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullQueuePolicy {
    /// Return [`RequestError::Busy`] at once. Also return [`RequestError::LearnerBehind`] if the
    /// learner lags too far behind.
    Fail,
    /// Wait until there is capacity for the entries.
    Wait,
}

/// The numbers of a request's entries, by outcome. Events, catalog changes and all other entries
/// count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestOutcome {
    /// Entries that are now in the journal.
    pub accepted: usize,
    /// Duplicates: entries whose id the journal already contains. They have no effect.
    pub duplicates: usize,
    /// Entries that consent does not allow to be stored.
    pub withheld: usize,
    /// Refused item changes, each with its position among the entries.
    pub rejected: Vec<(usize, VectorError)>,
    /// The journal offset after the last of these entries; `None` if there was nothing to append.
    pub offset: Option<Offset>,
    /// The same numbers, for events only.
    pub events: EventOutcomeCounts,
}

/// The numbers of a request's events, by outcome. Only `withheld` also counts entries other than
/// events: those that the consent check dropped before the append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventOutcomeCounts {
    /// Events that are now in the journal.
    pub accepted: usize,
    /// Duplicates: events whose id the journal already contains. They have no effect.
    pub duplicates: usize,
    /// Entries that consent does not allow to be stored.
    pub withheld: usize,
}

/// Appends the entries that consent allows to the journal, and returns once the entries are
/// durable. The journal records `origin`, the sender, for events and merges.
///
/// # Errors
/// [`RequestError`] if the journal does not accept writes. With [`FullQueuePolicy::Fail`], also if
/// there is no capacity for the entries.
pub async fn ingest(
    handle: &IngestHandle,
    entries: impl IntoIterator<Item = impl Into<WithConsent<Entry>>>,
    origin: Option<Origin>,
    when_full: FullQueuePolicy,
) -> Result<IngestOutcome, RequestError> {
    let ConsentedEntries { entries, withheld } = handle.apply_consent(entries.into_iter().map(Into::into));
    let mut outcome = IngestOutcome { withheld, ..IngestOutcome::default() };
    outcome.events.withheld = withheld;
    if entries.is_empty() {
        return Ok(outcome);
    }
    let is_event: Vec<_> = entries.iter().map(|entry| entry.as_event().is_some()).collect();
    if when_full == FullQueuePolicy::Fail && is_event.contains(&true) {
        handle.check_lag(None)?;
    }
    let permit = match when_full {
        FullQueuePolicy::Fail => handle.try_admit(entries.len())?,
        FullQueuePolicy::Wait => handle.admit(entries.len()).await?,
    };
    let receipt = handle.append_from(entries, origin, permit).await?;
    let count_events =
        |positions: &[usize]| positions.iter().filter(|position| is_event.get(**position) == Some(&true)).count();
    let (duplicates, withheld_later) = (count_events(&receipt.duplicates), count_events(&receipt.withheld));
    outcome.accepted = receipt.accepted;
    outcome.duplicates = receipt.duplicates.len();
    outcome.withheld += receipt.withheld.len();
    outcome.offset = (receipt.rejected.len() < is_event.len()).then_some(receipt.offset);
    outcome.rejected = receipt.rejected;
    outcome.events = EventOutcomeCounts {
        accepted: is_event.iter().filter(|event| **event).count() - duplicates - withheld_later,
        duplicates,
        withheld: withheld + withheld_later,
    };
    Ok(outcome)
}

/// Records the outcome of a request's events in the metrics.
pub fn count_event_outcomes(handle: &IngestHandle, events: EventOutcomeCounts) {
    let metrics = &handle.metrics().events;
    metrics.with_label(EventOutcome::Withheld).increment(events.withheld as u64);
    metrics.with_label(EventOutcome::Accepted).increment(events.accepted as u64);
    metrics.with_label(EventOutcome::Duplicate).increment(events.duplicates as u64);
}
