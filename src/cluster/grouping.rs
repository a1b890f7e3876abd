//! Groups the requests that wait for a publication into messages of bounded size.

use super::message::{EncodedRequest, MESSAGE_OVERHEAD_BYTES, MessageError, encode_message};
use crate::domain::{Entry, Origin};
use crate::store::CommitCondition;

/// Some entries of a request, as part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPart {
    /// The number of the request, as the caller counts requests.
    pub request: u64,
    /// The position in the request of the part's first entry.
    pub first: usize,
}

/// A message that is ready to be published. Each request of the message is one part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupedMessage {
    /// The bytes.
    pub payload: Vec<u8>,
    /// The parts, in the order of the message's requests.
    pub parts: Vec<RequestPart>,
}

/// Why a request cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum GroupingError {
    /// An entry does not fit into a message.
    #[error(
        "an entry takes {bytes} bytes, and a message of the cluster's servers at most {limit}; send less, or raise `max_payload` of the servers"
    )]
    EntryTooLarge {
        /// The length of the entry.
        bytes: usize,
        /// The largest length of a message.
        limit: usize,
    },
    /// An entry cannot be encoded.
    #[error("an entry cannot be published")]
    Encode(#[source] MessageError),
}

/// Collects requests into messages of at most `limit` bytes. A request that does not fit into one
/// message is divided among several ones.
#[derive(Debug)]
pub struct MessageBuilder {
    limit: usize,
    version: u8,
    messages: Vec<GroupedMessage>,
    requests: Vec<EncodedRequest>,
    parts: Vec<RequestPart>,
    used: usize,
}

impl MessageBuilder {
    /// Creates a builder of messages of at most `limit` bytes, in a version of the message form.
    #[must_use]
    pub fn new(limit: usize, version: u8) -> Self {
        Self {
            limit,
            version,
            messages: Vec::new(),
            requests: Vec::new(),
            parts: Vec::new(),
            used: MESSAGE_OVERHEAD_BYTES,
        }
    }

    /// Adds a request. Returns the number of its parts.
    ///
    /// # Errors
    /// [`GroupingError`] if an entry cannot be published. Then no entry of the request is added.
    pub fn add_request(
        &mut self,
        request: u64,
        entries: &[Entry],
        origin: Option<Origin>,
        condition: Option<CommitCondition>,
    ) -> Result<usize, GroupingError> {
        let empty = EncodedRequest { origin, condition, ..EncodedRequest::default() };
        let parts = self.split_request(empty, entries)?;
        let count = parts.len();
        for (first, part) in parts {
            if self.used + part.len_bytes() > self.limit {
                self.finish_message();
            }
            self.used += part.len_bytes();
            self.requests.push(part);
            self.parts.push(RequestPart { request, first });
        }
        Ok(count)
    }

    /// Divides a request into parts that fit into a message each. The first part also fits into the
    /// current message, if the whole request does.
    fn split_request(
        &self,
        empty: EncodedRequest,
        entries: &[Entry],
    ) -> Result<Vec<(usize, EncodedRequest)>, GroupingError> {
        let limit = self.limit.saturating_sub(MESSAGE_OVERHEAD_BYTES);
        let (mut parts, mut first, mut part) = (Vec::new(), 0, empty.clone());
        for (position, entry) in entries.iter().enumerate() {
            let mut alone = empty.clone();
            alone.push(entry).map_err(|error| GroupingError::Encode(error.into()))?;
            if alone.len_bytes() > limit {
                return Err(GroupingError::EntryTooLarge { bytes: alone.bytes.len(), limit: self.limit });
            }
            if part.len_bytes() + alone.bytes.len() > limit {
                parts.push((first, std::mem::replace(&mut part, empty.clone())));
                first = position;
            }
            part.bytes.append(&mut alone.bytes);
            part.entries += 1;
        }
        parts.push((first, part));
        Ok(parts)
    }

    fn finish_message(&mut self) {
        if !self.requests.is_empty() {
            let payload = encode_message(&self.requests, self.version);
            self.messages.push(GroupedMessage { payload, parts: std::mem::take(&mut self.parts) });
            self.requests.clear();
            self.used = MESSAGE_OVERHEAD_BYTES;
        }
    }

    /// The messages, in the order in which they must be published.
    #[must_use]
    pub fn finish(mut self) -> Vec<GroupedMessage> {
        self.finish_message();
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::decode_message;
    use super::*;
    use crate::domain::{Event, EventKind};

    fn event(number: u64, bytes: usize) -> Entry {
        Entry::Event(Event {
            event_id: Some(number.to_string()),
            user_id: "ann".to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: None,
            value: None,
            timestamp: 0,
            properties: Some("x".repeat(bytes)),
            details: None,
        })
    }

    #[test]
    fn messages_are_bounded_and_contain_every_entry_in_order() {
        let (limit, mut builder) = (2_000, MessageBuilder::new(2_000, 1));
        let requests: Vec<Vec<Entry>> =
            vec![vec![event(1, 10)], (2..40).map(|number| event(number, 100)).collect(), vec![event(40, 1_500)]];
        let counts: Vec<_> =
            (0..).zip(&requests).map(|(n, r)| builder.add_request(n, r, None, None).unwrap()).collect();
        assert!(counts[0] == 1 && counts[1] > 2 && counts[2] == 1, "{counts:?}");
        let messages = builder.finish();
        let mut rebuilt = vec![Vec::new(); requests.len()];
        for message in &messages {
            assert!(message.payload.len() <= limit);
            let decoded = decode_message(&message.payload).unwrap();
            assert_eq!(decoded.len(), message.parts.len());
            for (part, request) in message.parts.iter().zip(decoded) {
                let entries = &mut rebuilt[part.request as usize];
                assert_eq!(entries.len(), part.first);
                entries.extend(request.entries);
            }
        }
        assert_eq!(rebuilt, requests);
        assert!(messages.len() > 3);
    }

    #[test]
    fn an_entry_that_fits_into_no_message_is_refused_alone() {
        let mut builder = MessageBuilder::new(1_000, 1);
        builder.add_request(0, &[event(1, 10)], None, None).unwrap();
        let error = builder.add_request(1, &[event(2, 10), event(3, 2_000)], None, None).unwrap_err().to_string();
        assert!(error.contains("at most 1000") && error.contains("max_payload"), "{error}");
        let messages = builder.finish();
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].parts, [RequestPart { request: 0, first: 0 }]);
    }

    #[test]
    fn small_requests_share_a_message() {
        let mut builder = MessageBuilder::new(1 << 20, 1);
        for number in 0..100 {
            builder.add_request(number, &[event(number, 10)], None, None).unwrap();
        }
        let messages = builder.finish();
        assert_eq!((messages.len(), messages[0].parts.len()), (1, 100));
    }
}
