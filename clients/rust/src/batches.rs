//! Batches of records within the limits of the daemon.

use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Range;

use crate::error::SequorError;
use crate::receipts::{Receipt, Rejection};

/// The daemon's default of `server.max_batch`. If the daemon has a smaller limit, it answers with
/// 413, and the client halves the batch.
const MAX_BATCH: usize = 1000;
/// The daemon's default of `server.max_body_bytes`, rounded down.
const MAX_BODY_BYTES: usize = 1_000_000;

/// Records in JSON, separated by commas.
pub(crate) struct Records {
    text: Vec<u8>,
    /// The end of each record in `text`.
    ends: Vec<usize>,
}

impl Records {
    /// # Errors
    /// [`SequorError::InvalidArgument`] if a record has no JSON form.
    pub(crate) fn encode<R: Serialize>(records: &[R]) -> Result<Self, SequorError> {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(records.len()));
        for (index, record) in records.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, record)
                .map_err(|error| SequorError::invalid(format!("record {index} has no JSON form: {error}")))?;
            ends.push(text.len());
        }
        Ok(Self { text, ends })
    }

    fn start_of(&self, index: usize) -> usize {
        match index.checked_sub(1).and_then(|previous| self.ends.get(previous)) {
            Some(end) => end + 1,
            None => 0,
        }
    }

    fn end_of(&self, index: usize) -> usize {
        self.ends.get(index).copied().unwrap_or(self.text.len())
    }

    /// The records of a batch as a JSON array.
    fn body(&self, batch: &Range<usize>) -> Vec<u8> {
        let range = self.start_of(batch.start)..self.end_of(batch.end.saturating_sub(1));
        [b"[", self.text.get(range).unwrap_or_default(), b"]"].concat()
    }

    /// Consecutive batches. A record above the limit of bytes has a batch of its own.
    fn split(&self, max_records: usize, max_bytes: usize) -> VecDeque<Range<usize>> {
        let mut batches = VecDeque::new();
        let mut first = 0;
        for index in 0..self.ends.len() {
            let size = self.end_of(index) - self.start_of(first) + 2;
            if index > first && (index - first == max_records || size > max_bytes) {
                batches.push_back(first..index);
                first = index;
            }
        }
        if first < self.ends.len() {
            batches.push_back(first..self.ends.len());
        }
        batches
    }

    /// Sends the records in order. Halves a batch that the daemon refuses as too large (413).
    /// `send` gets the body of a batch, and whether it is the last one.
    ///
    /// # Errors
    /// Any other error of `send`. Earlier batches are stored.
    pub(crate) fn send(
        &self,
        mut send: impl FnMut(Vec<u8>, bool) -> Result<Receipt, SequorError>,
    ) -> Result<Receipt, SequorError> {
        let mut pending = self.split(MAX_BATCH, MAX_BODY_BYTES);
        let mut merged = Receipt::default();
        while let Some(batch) = pending.pop_front() {
            match send(self.body(&batch), pending.is_empty()) {
                Ok(receipt) => merged.merge(receipt, batch.start),
                Err(error) if error.status() == Some(413) => {
                    let half = batch.start + batch.len() / 2;
                    if half > batch.start {
                        pending.push_front(half..batch.end);
                        pending.push_front(batch.start..half);
                    } else {
                        merged.rejected.push(Rejection {
                            index: batch.start,
                            code: "too_large".to_owned(),
                            reason: error.to_string(),
                            field: None,
                        });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_limits_of_records_and_of_bytes() {
        // Each record has 3 bytes, so n records have 3n + (n - 1) + 2 bytes.
        let records = Records::encode(&[100, 200, 300, 400, 500]).unwrap();
        assert_eq!(records.split(2, 100), [0..2, 2..4, 4..5]);
        assert_eq!(records.split(10, 13), [0..3, 3..5]);
        assert_eq!(records.split(10, 1), [0..1, 1..2, 2..3, 3..4, 4..5]);
        assert_eq!(records.body(&(1..3)), b"[200,300]");
        assert_eq!(records.body(&(0..5)), b"[100,200,300,400,500]");
        assert!(Records::encode::<u8>(&[]).unwrap().split(10, 10).is_empty());
    }
}
