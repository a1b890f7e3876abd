//! A growable vector whose clones share unchanged pages.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::Range;
use std::sync::Arc;

/// Number of pages in a group. A larger group makes a copy of the vector cheaper, and the first
/// write to a group after the copy more expensive.
const PAGES_PER_GROUP: usize = 8;

/// One allocation for the values of a page.
type Page<T> = Arc<[T]>;
/// Pages that are shared together.
type PageGroup<T> = Arc<[Page<T>]>;

/// A vector stored in groups of pages behind `Arc`s. Cloning copies only the list of groups. A
/// write to a page that a clone still shares copies the page and the list of pages of its group.
/// The cost of publishing an immutable copy is therefore mostly proportional to the changes since
/// the previous copy, not to the length.
///
/// ```
/// let mut table = sequor_core::domain::PagedVec::<u32, 64>::default();
/// table.grow(100, || 0);
/// let published = table.clone();
/// *table.get_mut(7).unwrap() = 5;
/// assert_eq!((published.get(7), table.get(7)), (Some(&0), Some(&5)));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct PagedVec<T, const VALUES_PER_PAGE: usize> {
    /// Every group except the last has [`PAGES_PER_GROUP`] pages, and every page except the last has
    /// `VALUES_PER_PAGE` values. The stored form is the list of all pages.
    #[serde(rename = "pages", serialize_with = "serialize_pages", deserialize_with = "deserialize_pages")]
    groups: Vec<PageGroup<T>>,
    len: usize,
}

fn serialize_pages<T: Serialize, S: Serializer>(groups: &[PageGroup<T>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut pages = serializer.serialize_seq(Some(groups.iter().map(|group| group.len()).sum()))?;
    groups.iter().flat_map(|group| group.iter()).try_for_each(|page| pages.serialize_element(page))?;
    pages.end()
}

fn deserialize_pages<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PageGroup<T>>, D::Error> {
    let pages = Vec::<Page<T>>::deserialize(deserializer)?;
    Ok(pages.chunks(PAGES_PER_GROUP).map(Arc::from).collect())
}

/// One flag per item.
pub type ItemFlags = PagedVec<bool, 1024>;

impl<T, const VALUES_PER_PAGE: usize> Default for PagedVec<T, VALUES_PER_PAGE> {
    fn default() -> Self {
        Self { groups: Vec::new(), len: 0 }
    }
}

impl<T: Clone, const VALUES_PER_PAGE: usize> PagedVec<T, VALUES_PER_PAGE> {
    /// Grows the vector to at least `len` values. `fill` creates the new values.
    pub fn grow(&mut self, len: usize, mut fill: impl FnMut() -> T) {
        if len <= self.len {
            return;
        }
        let is_last_group_full = self.len.is_multiple_of(VALUES_PER_PAGE * PAGES_PER_GROUP);
        let last_group = if is_last_group_full { None } else { self.groups.pop() };
        let mut pages = last_group.as_deref().unwrap_or_default().to_vec();
        while self.len < len {
            let used = self.len % VALUES_PER_PAGE;
            if used == 0 && pages.len() == PAGES_PER_GROUP {
                self.groups.push(std::mem::take(&mut pages).into());
            }
            let added = (len - self.len).min(VALUES_PER_PAGE - used);
            let partial_page = if used == 0 { None } else { pages.pop() };
            let values = partial_page.as_deref().unwrap_or_default().iter().cloned();
            pages.push(values.chain(std::iter::repeat_with(&mut fill).take(added)).collect());
            self.len += added;
        }
        self.groups.push(pages.into());
    }

    /// The value at an index.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let (page, within) = (index / VALUES_PER_PAGE, index % VALUES_PER_PAGE);
        self.groups.get(page / PAGES_PER_GROUP)?.get(page % PAGES_PER_GROUP)?.get(within)
    }

    /// The value at an index, for writing. If a clone still shares the value's page, the page is
    /// copied first.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (page, within) = (index / VALUES_PER_PAGE, index % VALUES_PER_PAGE);
        let group = Arc::make_mut(self.groups.get_mut(page / PAGES_PER_GROUP)?);
        Arc::make_mut(group.get_mut(page % PAGES_PER_GROUP)?).get_mut(within)
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

    /// Sum of `measure` over all values. In a vector of more than 4,096 values, extrapolated from
    /// evenly spaced values, so that the cost is bounded.
    #[must_use]
    pub fn estimate_sum(&self, measure: impl Fn(&T) -> usize) -> usize {
        const MAX_MEASURED: usize = 4_096;
        let stride = self.len.div_ceil(MAX_MEASURED).max(1);
        let measured = self.len.div_ceil(stride).max(1);
        let sum: usize = (0..self.len).step_by(stride).filter_map(|index| self.get(index)).map(measure).sum();
        sum * self.len / measured
    }

    /// The pages, in order. Every page except the last has `VALUES_PER_PAGE` values.
    pub fn pages(&self) -> impl Iterator<Item = &[T]> {
        self.groups.iter().flat_map(|group| group.iter()).map(|page| &**page)
    }

    /// The values in a range of indices, as slices of pages.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[T]> {
        let (first_page, end_page) = (range.start / VALUES_PER_PAGE, range.end.div_ceil(VALUES_PER_PAGE));
        let first_group = first_page / PAGES_PER_GROUP;
        let pages = self.groups.iter().skip(first_group).flat_map(|group| group.iter());
        let pages = (first_group * PAGES_PER_GROUP..end_page).zip(pages).skip(first_page % PAGES_PER_GROUP);
        pages.map(move |(number, page)| {
            let begin = number * VALUES_PER_PAGE;
            let within = range.start.saturating_sub(begin)..(range.end - begin).min(page.len());
            page.get(within).unwrap_or_default()
        })
    }

    /// The values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages().flat_map(<[T]>::iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize)]
    struct SimplePages {
        pages: Vec<Vec<u32>>,
        len: usize,
    }

    proptest! {
        #[test]
        fn it_has_the_values_and_the_stored_bytes_of_a_list_of_pages(
            lengths in prop::collection::vec(0_usize..40, 1..8), writes in prop::collection::vec(0_usize..400, 0..8), range in (0_usize..300, 0_usize..300),
        ) {
            let (mut table, mut values, mut next) = (PagedVec::<u32, 4>::default(), Vec::new(), 0);
            for length in lengths {
                let published = table.clone();
                let before = values.clone();
                let len = values.len() + length;
                table.grow(len, || { next += 1; next });
                values.extend(next - length as u32 + 1..=next);
                for index in &writes {
                    prop_assert_eq!(table.get(*index), values.get(*index));
                    if let (Some(value), Some(expected)) = (table.get_mut(*index), values.get_mut(*index)) {
                        *value += 1000;
                        *expected += 1000;
                    }
                }
                prop_assert!(published.iter().eq(&before), "a copy does not change");
                prop_assert!(table.iter().eq(&values) && table.len() == values.len());
                let (start, end) = (range.0.min(range.1).min(len), range.0.max(range.1).min(len));
                prop_assert_eq!(&table.slices(start..end).flatten().copied().collect::<Vec<_>>(), &values[start..end]);
                let simple = SimplePages { pages: values.chunks(4).map(<[u32]>::to_vec).collect(), len };
                let bytes = bincode::serde::encode_to_vec(&table, bincode::config::legacy()).unwrap();
                prop_assert_eq!(&bytes, &bincode::serde::encode_to_vec(&simple, bincode::config::legacy()).unwrap());
                let (decoded, _): (PagedVec<u32, 4>, _) =
                    bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
                prop_assert!(decoded.iter().eq(&values) && decoded.len() == len);
                table = decoded;
            }
        }
    }

    #[test]
    fn a_sum_is_exact_up_to_4096_values_and_close_beyond() {
        for len in [0, 1, 4_096, 4_097, 100_000] {
            let mut values = PagedVec::<usize, 64>::default();
            let mut next = 0;
            values.grow(len, || {
                next += 1;
                1_000 + next % 7
            });
            let (sum, estimate) = (values.iter().sum::<usize>(), values.estimate_sum(|value| *value));
            let bound = if len <= 4_096 { 0 } else { sum / 100 };
            assert!(sum.abs_diff(estimate) <= bound, "{len} values: {estimate} is not {sum}");
        }
    }
}
