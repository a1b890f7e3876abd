//! Reads a recording (a file of events) into memory.

use anyhow::anyhow;
use std::path::Path;

use crate::domain::{Consent, EventKinds};
use crate::ingest::{ColumnMapping, EventFileReader, ValidationError, ValidationRules};
use crate::learner::Recording;

/// At most this many rejected rows are printed.
const MAX_PRINTED_REJECTS: u64 = 10;

/// A recording and the number of its rejected rows.
pub(super) struct ParsedRecording {
    pub(super) recording: Recording,
    pub(super) rejected: u64,
}

/// Reads the events of a file into sessions. Prints the first rejected rows to standard error.
pub(super) fn read_recording(
    file: &Path,
    mapping: ColumnMapping,
    kinds: &EventKinds,
    idle_gap_ms: i64,
) -> anyhow::Result<ParsedRecording> {
    let rules = ValidationRules { kinds: kinds.clone(), ..ValidationRules::default() };
    let mut recording = Recording::new(idle_gap_ms);
    let (mut rejected, mut first_error) = (0, None);
    for event in EventFileReader::open_with_mapping(file, mapping, &rules, i64::MAX / 2)? {
        match event? {
            // Events whose consent is below `full` are not learned. Events without a consent level
            // are learned: the owner of the recording is responsible for the consent.
            Ok(event) if event.consent.is_some_and(|consent| consent < Consent::Full) => {}
            Ok(event) => recording.add_event(&event.value, kinds),
            Err(error) => {
                rejected += 1;
                if rejected <= MAX_PRINTED_REJECTS {
                    eprintln!("{}: {error}", file.display());
                }
                first_error.get_or_insert(error);
            }
        }
    }
    if recording.event_count() == 0 {
        return Err(no_event_error(file, first_error));
    }
    Ok(ParsedRecording { recording, rejected })
}

/// The error for a file without a valid event.
pub(super) fn no_event_error(file: &Path, first_error: Option<ValidationError>) -> anyhow::Error {
    match first_error {
        Some(error) => anyhow!("{} holds no valid event; {error}", file.display()),
        None => anyhow!("{} holds no event", file.display()),
    }
}
