//! One past session of the neighbour search. The items of a short session are stored inline, so that
//! a query follows no pointer to them.

use super::query_context::SessionIx;
use crate::domain::{ItemIx, Offset};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Maximum number of items per past session. The oldest items are dropped.
pub(super) const MAX_ITEMS_PER_PAST_SESSION: usize = 50;
/// Maximum number of items that are stored inline. With this number, a session takes 64 bytes.
const MAX_INLINE_ITEMS: usize = 10;

/// A past session: its items in the order of the events, and what identifies it.
#[derive(Debug, Clone, Default)]
pub(super) struct PastSession {
    /// Journal offset of the first event of the session.
    session_start: Offset,
    number: SessionIx,
    items: SessionItems,
}

/// The items of a session.
#[derive(Debug, Clone)]
enum SessionItems {
    Inline { len: u8, items: [ItemIx; MAX_INLINE_ITEMS] },
    Heap(Arc<Vec<ItemIx>>),
}

impl Default for SessionItems {
    fn default() -> Self {
        Self::Inline { len: 0, items: [0; MAX_INLINE_ITEMS] }
    }
}

impl PastSession {
    /// Creates a session without items.
    pub(super) fn new(number: SessionIx, session_start: Offset) -> Self {
        Self { session_start, number, items: SessionItems::default() }
    }

    /// Number of the session.
    pub(super) fn number(&self) -> SessionIx {
        self.number
    }

    /// Journal offset of the first event of the session.
    pub(super) fn session_start(&self) -> Offset {
        self.session_start
    }

    /// The items of the session, oldest first.
    #[inline]
    pub(super) fn items(&self) -> &[ItemIx] {
        match &self.items {
            SessionItems::Inline { len, items } => items.get(..usize::from(*len)).unwrap_or_default(),
            SessionItems::Heap(items) => items,
        }
    }

    /// Appends an item. If the session is full, drops its oldest item.
    pub(super) fn push(&mut self, item: ItemIx) {
        match &mut self.items {
            SessionItems::Inline { len, items } => match items.get_mut(usize::from(*len)) {
                Some(free) => (*free, *len) = (item, *len + 1),
                None => self.items = SessionItems::Heap(Arc::new(items.iter().copied().chain([item]).collect())),
            },
            SessionItems::Heap(items) => {
                let items = Arc::make_mut(items);
                if items.len() >= MAX_ITEMS_PER_PAST_SESSION {
                    items.remove(0);
                }
                items.push(item);
            }
        }
    }

    /// Bytes outside the struct itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.items {
            SessionItems::Inline { .. } => 0,
            SessionItems::Heap(items) => {
                2 * size_of::<usize>() + size_of::<Vec<ItemIx>>() + items.capacity() * size_of::<ItemIx>()
            }
        }
    }
}

/// Serialised form of [`PastSession`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "PastSession")]
struct StoredPastSession<I> {
    number: SessionIx,
    session_start: Offset,
    items: I,
}

impl Serialize for PastSession {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { session_start, number, .. } = *self;
        StoredPastSession { number, session_start, items: self.items() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PastSession {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StoredPastSession { number, session_start, items } =
            StoredPastSession::<Vec<ItemIx>>::deserialize(deserializer)?;
        let mut session = Self::new(number, session_start);
        items.into_iter().for_each(|item| session.push(item));
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bincode::config::legacy;
    use bincode::serde::{decode_from_slice, encode_to_vec};
    use proptest::prelude::*;

    /// The simple definition: a vector, with the derived encoding.
    #[derive(Default, Serialize)]
    struct SimplePastSession {
        number: SessionIx,
        session_start: Offset,
        items: Vec<ItemIx>,
    }

    proptest! {
        #[test]
        fn a_session_has_the_items_and_bytes_of_a_vector(items in prop::collection::vec(any::<ItemIx>(), 0..120)) {
            let mut session = PastSession::new(7, 1 << 40);
            let mut simple = SimplePastSession { number: 7, session_start: 1 << 40, items: Vec::new() };
            for item in items {
                let shared = session.clone();
                let before = simple.items.clone();
                session.push(item);
                if simple.items.len() == MAX_ITEMS_PER_PAST_SESSION {
                    simple.items.remove(0);
                }
                simple.items.push(item);
                prop_assert_eq!(shared.items(), before.as_slice());
                prop_assert_eq!(session.items(), simple.items.as_slice());
                let bytes = encode_to_vec(&session, legacy()).unwrap();
                prop_assert_eq!(&bytes, &encode_to_vec(&simple, legacy()).unwrap());
                let (decoded, _): (PastSession, _) = decode_from_slice(&bytes, legacy()).unwrap();
                prop_assert_eq!(decoded.items(), session.items());
                prop_assert_eq!((decoded.number(), decoded.session_start()), (7, 1 << 40));
            }
        }
    }

    #[test]
    fn a_short_session_takes_64_bytes() {
        assert_eq!(size_of::<PastSession>(), 64);
    }
}
