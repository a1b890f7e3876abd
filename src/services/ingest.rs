//! Ingestion: applies consent, reserves admission and appends to the journal.

use crate::actors::error::RequestError;
use crate::actors::handles::{ConsentedEntries, IngestHandle};
use crate::domain::{Entry, Offset, WithConsent};
use crate::metrics::EventOutcome;

/// What to do if the admission queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Return [`RequestError::Busy`] or [`RequestError::LearnerBehind`] at once.
    Fail,
    /// Wait until the queue has capacity.
    Wait,
}

/// The outcome of one request's entries, all kinds together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestOutcome {
    /// Entries that are now in the journal.
    pub accepted: usize,
    /// Entries without effect, because their id was seen before.
    pub duplicates: usize,
    /// Entries that consent does not allow to be stored.
    pub withheld: usize,
    /// The journal's next offset after these entries; `None` if there was nothing to append.
    pub offset: Option<Offset>,
    /// The events among them.
    pub events: EventCounts,
}

/// The outcome of one request's events. `withheld` also counts other entries that consent dropped
/// before the append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Events that are now in the journal.
    pub accepted: usize,
    /// Events whose id was seen before.
    pub duplicates: usize,
    /// Entries that consent does not allow to be stored.
    pub withheld: usize,
}

/// Appends the entries that consent allows. Returns once they are durable.
///
/// # Errors
/// [`RequestError`] if the queue is full or the journal does not accept writes.
pub async fn ingest(
    handle: &IngestHandle,
    entries: impl IntoIterator<Item = impl Into<WithConsent<Entry>>>,
    when_full: WhenFull,
) -> Result<IngestOutcome, RequestError> {
    let ConsentedEntries { entries, withheld } = handle.apply_consent(entries.into_iter().map(Into::into));
    let mut outcome = IngestOutcome { withheld, ..IngestOutcome::default() };
    outcome.events.withheld = withheld;
    if entries.is_empty() {
        return Ok(outcome);
    }
    let is_event: Vec<_> = entries.iter().map(|entry| entry.as_event().is_some()).collect();
    if when_full == WhenFull::Fail && is_event.contains(&true) {
        handle.check_lag(None)?;
    }
    let permit = match when_full {
        WhenFull::Fail => handle.try_admit(entries.len())?,
        WhenFull::Wait => handle.admit(entries.len()).await?,
    };
    let receipt = handle.append(entries, permit).await?;
    let count_events =
        |positions: &[usize]| positions.iter().filter(|position| is_event.get(**position) == Some(&true)).count();
    let (duplicates, late) = (count_events(&receipt.duplicates), count_events(&receipt.withheld));
    outcome.accepted = receipt.accepted;
    outcome.duplicates = receipt.duplicates.len();
    outcome.withheld += receipt.withheld.len();
    outcome.offset = Some(receipt.offset);
    outcome.events = EventCounts {
        accepted: is_event.iter().filter(|event| **event).count() - duplicates - late,
        duplicates,
        withheld: withheld + late,
    };
    Ok(outcome)
}

/// Records the outcome of a request's events in the metrics.
pub fn record_events(handle: &IngestHandle, events: EventCounts) {
    let metrics = &handle.metrics().events;
    metrics.with_label(EventOutcome::Withheld).increment(events.withheld as u64);
    metrics.with_label(EventOutcome::Accepted).increment(events.accepted as u64);
    metrics.with_label(EventOutcome::Duplicate).increment(events.duplicates as u64);
}
