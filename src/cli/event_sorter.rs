//! Sorts all events of a file by time, with the help of a temporary file.

use anyhow::Context;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use crate::domain::{Consent, Event, Timestamp, WithConsent};
use crate::store::codec;

/// Holds the events of a file in a temporary file. Their order is in memory and takes 32 bytes per
/// event.
pub(super) struct EventSorter {
    spool: BufWriter<File>,
    bytes: u64,
    index: Vec<SpooledEvent>,
}

/// The position of an event in the temporary file. The derived order of this type sorts events by
/// time and then by line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SpooledEvent {
    timestamp: Timestamp,
    line: u64,
    offset: u64,
    length: usize,
}

impl EventSorter {
    pub(super) fn new() -> anyhow::Result<Self> {
        let spool =
            tempfile::tempfile().context("cannot create a temporary file to sort in; TMPDIR names its folder")?;
        Ok(Self { spool: BufWriter::new(spool), bytes: 0, index: Vec::new() })
    }

    pub(super) fn push(&mut self, line: u64, event: &WithConsent) -> anyhow::Result<()> {
        let bytes = codec::encode(&(&event.value, event.consent))?;
        self.spool.write_all(&bytes).context("cannot write the temporary file; TMPDIR names its folder")?;
        self.index.push(SpooledEvent {
            timestamp: event.value.timestamp,
            line,
            offset: self.bytes,
            length: bytes.len(),
        });
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn event_count(&self) -> u64 {
        self.index.len() as u64
    }

    /// The events with their line numbers, ordered by time and then by line.
    pub(super) fn into_sorted(self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(u64, WithConsent)>>> {
        let Self { spool, mut index, .. } = self;
        let spool = spool
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .context("cannot write the temporary file")?;
        index.sort_unstable();
        Ok(index.into_iter().map(move |place| {
            let mut bytes = vec![0; place.length];
            spool.read_exact_at(&mut bytes, place.offset).context("cannot read the temporary file")?;
            let (value, consent): (Event, Option<Consent>) = codec::decode(&bytes)?;
            Ok((place.line, WithConsent { value, consent }))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKind;

    #[test]
    fn events_come_back_by_time_and_line() {
        let mut sorter = EventSorter::new().unwrap();
        let event = |timestamp| Event {
            event_id: Some(format!("e{timestamp}")),
            user_id: "u".to_owned(),
            session_id: None,
            kind: EventKind::Custom("wish".into()),
            item_id: Some("i".to_owned()),
            value: Some(0.5),
            timestamp,
            properties: Some("{}".to_owned()),
            details: None,
        };
        let events: Vec<_> = [3, 1, 2, 1]
            .into_iter()
            .map(|at| WithConsent { value: event(at), consent: Some(Consent::Session) })
            .collect();
        (1..).zip(&events).try_for_each(|(line, event)| sorter.push(line, event)).unwrap();
        let sorted: Vec<_> = sorter.into_sorted().unwrap().map(Result::unwrap).collect();
        let expected = [2, 4, 3, 1].map(|line| (line as u64, events[line - 1].clone()));
        assert_eq!(sorted, expected);
    }
}
