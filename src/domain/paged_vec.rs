//! A growable vector whose clones share unchanged pages.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// A vector stored in pages behind `Arc`s. Cloning copies only the list of pages. A write to a page
/// that a clone still shares copies that page. The cost of publishing an immutable copy is
/// therefore proportional to the changes since the previous copy, not to the length.
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
pub struct PagedVec<T, const VALUES_PER_PAGE: usize> {
    /// Every page except the last has `VALUES_PER_PAGE` values. A page is one allocation, so a read
    /// follows a single pointer.
    pages: Vec<Arc<[T]>>,
    len: usize,
}

/// One flag per item.
pub type ItemFlags = PagedVec<bool, 1024>;

impl<T, const VALUES_PER_PAGE: usize> Default for PagedVec<T, VALUES_PER_PAGE> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone, const VALUES_PER_PAGE: usize> PagedVec<T, VALUES_PER_PAGE> {
    /// Grows the vector to at least `len` values. `fill` creates the new values.
    pub fn grow(&mut self, len: usize, mut fill: impl FnMut() -> T) {
        while self.len < len {
            let used = self.len % VALUES_PER_PAGE;
            let added = (len - self.len).min(VALUES_PER_PAGE - used);
            let partial_page = if used == 0 { None } else { self.pages.pop() };
            let values = partial_page.as_deref().unwrap_or_default().iter().cloned();
            self.pages.push(values.chain(std::iter::repeat_with(&mut fill).take(added)).collect());
            self.len += added;
        }
    }

    /// The value at an index.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / VALUES_PER_PAGE)?.get(index % VALUES_PER_PAGE)
    }

    /// The value at an index, for writing. If a clone still shares the value's page, the page is
    /// copied first.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Arc::make_mut(self.pages.get_mut(index / VALUES_PER_PAGE)?).get_mut(index % VALUES_PER_PAGE)
    }

    /// The length.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the vector is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pages, in order. Every page except the last has `VALUES_PER_PAGE` values.
    pub fn pages(&self) -> impl Iterator<Item = &[T]> {
        self.pages.iter().map(|page| &**page)
    }

    /// The values in a range of indices, as slices of pages.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[T]> {
        let first_page = range.start / VALUES_PER_PAGE;
        let pages = self.pages.iter().enumerate().skip(first_page);
        pages.take(range.end.div_ceil(VALUES_PER_PAGE).saturating_sub(first_page)).map(move |(number, page)| {
            let begin = number * VALUES_PER_PAGE;
            let within = range.start.saturating_sub(begin)..(range.end - begin).min(page.len());
            page.get(within).unwrap_or_default()
        })
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}
