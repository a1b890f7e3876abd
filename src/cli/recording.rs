//! A file of recorded behaviour, read whole.

use anyhow::bail;
use std::path::Path;

use crate::domain::{Consent, EventKinds};
use crate::ingest::{EventFileReader, ValidationRules};
use crate::learner::Recording;

/// Rows that are refused are told, but not more than so many.
const MAX_PRINTED_REJECTS: u64 = 10;

/// A recording, and how many of its rows were refused.
pub(super) struct ParsedRecording {
    pub(super) recording: Recording,
    pub(super) rejected: u64,
}

/// Reads a file's events into sessions, and tells the first bad rows on standard error.
pub(super) fn read(file: &Path, kinds: &EventKinds, idle_gap_ms: i64) -> anyhow::Result<ParsedRecording> {
    let rules = ValidationRules { kinds: kinds.clone(), ..ValidationRules::default() };
    let mut recording = Recording::new(idle_gap_ms);
    let mut rejected = 0;
    for event in EventFileReader::open(file, &rules, i64::MAX / 2)? {
        match event? {
            // What is not to be learned from is not; who made the recording answers for the rest of
            // it.
            Ok(event) if event.consent.is_some_and(|consent| consent < Consent::Full) => {}
            Ok(event) => recording.add(&event.value, kinds),
            Err(fault) => {
                rejected += 1;
                if rejected <= MAX_PRINTED_REJECTS {
                    eprintln!("{}: {fault}", file.display());
                }
            }
        }
    }
    if recording.event_count() == 0 {
        bail!("{} holds no event", file.display());
    }
    Ok(ParsedRecording { recording, rejected })
}
