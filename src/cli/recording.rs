//! Reads a recording (a file of events) into memory.

use anyhow::bail;
use std::path::Path;

use crate::domain::{Consent, EventKinds};
use crate::ingest::{EventFileReader, ValidationRules};
use crate::learner::Recording;

/// Number of rejected rows to print.
const MAX_PRINTED_REJECTS: u64 = 10;

/// A recording and the number of its rejected rows.
pub(super) struct ParsedRecording {
    pub(super) recording: Recording,
    pub(super) rejected: u64,
}

/// Reads the events of a file into sessions. Prints the first rejected rows to standard error.
pub(super) fn read(file: &Path, kinds: &EventKinds, idle_gap_ms: i64) -> anyhow::Result<ParsedRecording> {
    let rules = ValidationRules { kinds: kinds.clone(), ..ValidationRules::default() };
    let mut recording = Recording::new(idle_gap_ms);
    let mut rejected = 0;
    for event in EventFileReader::open(file, &rules, i64::MAX / 2)? {
        match event? {
            // Events whose consent is below `full` are not learned. Consent for events without a
            // level is the responsibility of the recording's owner.
            Ok(event) if event.consent.is_some_and(|consent| consent < Consent::Full) => {}
            Ok(event) => recording.add(&event.value, kinds),
            Err(error) => {
                rejected += 1;
                if rejected <= MAX_PRINTED_REJECTS {
                    eprintln!("{}: {error}", file.display());
                }
            }
        }
    }
    if recording.event_count() == 0 {
        bail!("{} holds no event", file.display());
    }
    Ok(ParsedRecording { recording, rejected })
}
