//! A growing table whose copies share what has not changed.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A vector in pages behind `Arc`s. Cloning copies only the spine; writing to a page that a clone
/// still holds copies that page alone. So publishing an immutable copy costs in proportion to what
/// changed since the last one, not to the size of the table.
///
/// ```
/// let mut table = sequor::domain::PagedVec::<u32, 64>::default();
/// table.grow(100, || 0);
/// let published = table.clone();
/// *table.get_mut(7).unwrap() = 5;
/// assert_eq!((published.get(7), table.get(7)), (Some(&0), Some(&5)));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct PagedVec<T, const ROWS: usize> {
    pages: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T, const ROWS: usize> Default for PagedVec<T, ROWS> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone, const ROWS: usize> PagedVec<T, ROWS> {
    /// Makes the table at least `len` long, each new place filled by `fill`.
    pub fn grow(&mut self, len: usize, mut fill: impl FnMut() -> T) {
        while self.len < len {
            self.push(fill());
        }
    }

    /// Appends one value.
    pub fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(page) if !self.len.is_multiple_of(ROWS) => Arc::make_mut(page).push(value),
            _ => {
                let mut page = Vec::with_capacity(ROWS);
                page.push(value);
                self.pages.push(Arc::new(page));
            }
        }
        self.len += 1;
    }

    /// The value at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.pages.get(place / ROWS)?.get(place % ROWS)
    }

    /// The value at a place, to change it; copies its page if a clone of the table still holds it.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        Arc::make_mut(self.pages.get_mut(place / ROWS)?).get_mut(place % ROWS)
    }

    /// The length.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pages, in order; each but the last holds `ROWS` values.
    pub fn pages(&self) -> impl Iterator<Item = &[T]> {
        self.pages.iter().map(|page| page.as_slice())
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}
