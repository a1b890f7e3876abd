//! A table of shared immutable values.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of separately locked parts of a table. A part is small enough that a sweep of it or the
/// growth of its hash set takes less than a millisecond at a million values.
const PARTS: usize = 64;
/// The smallest number of values at which a part is swept.
const MIN_SWEEP_LEN: usize = 64;

/// One part of a table.
#[derive(Debug)]
struct InternPart<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// Number of values at which the next sweep removes the unused values.
    sweep_at: usize,
}

/// Values of which equal ones share one allocation. Any thread may use the table.
///
/// The table holds at most twice the values that are in use, plus [`MIN_SWEEP_LEN`] per part: a
/// part that has doubled since its last sweep drops the values that only the table still holds.
/// The order of the values is never observable, so the table affects no result.
#[derive(Debug)]
pub(super) struct InternTable<T: ?Sized> {
    parts: [Mutex<InternPart<T>>; PARTS],
    hasher: RandomState,
}

impl<T: ?Sized> Default for InternTable<T> {
    fn default() -> Self {
        let new_part = || Mutex::new(InternPart { values: HashSet::new(), sweep_at: MIN_SWEEP_LEN });
        Self { parts: std::array::from_fn(|_| new_part()), hasher: RandomState::new() }
    }
}

impl<T: ?Sized + Eq + Hash> InternTable<T> {
    /// Returns the shared allocation of a value, and creates it for a value that is not in use.
    pub(super) fn intern<V: Borrow<T> + Into<Arc<T>>>(&self, value: V) -> Arc<T> {
        let number = self.hasher.hash_one(value.borrow()) as usize % PARTS;
        let Some(part) = self.parts.get(number) else { return value.into() };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = part.values.get(value.borrow()) {
            return Arc::clone(known);
        }
        if part.values.len() >= part.sweep_at {
            part.values.retain(|held| Arc::strong_count(held) > 1);
            part.sweep_at = (2 * part.values.len()).max(MIN_SWEEP_LEN);
            let capacity = part.sweep_at;
            part.values.shrink_to(capacity);
        }
        let shared: Arc<T> = value.into();
        part.values.insert(Arc::clone(&shared));
        shared
    }

    /// Number of values in the table.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).values.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_one_allocation() {
        let table = InternTable::<str>::default();
        let (first, second, other) = (table.intern("tea"), table.intern("tea"), table.intern("cup"));
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((&*first, &*other, table.len()), ("tea", "cup", 2));
    }

    #[test]
    fn the_table_holds_at_most_twice_the_values_in_use() {
        let table = InternTable::<str>::default();
        let used: Vec<_> = (0..20_000).map(|number| table.intern(format!("used {number}").as_str())).collect();
        for number in 0..200_000 {
            drop(table.intern(format!("dropped {number}").as_str()));
        }
        assert!(table.len() <= 2 * used.len() + PARTS * MIN_SWEEP_LEN, "{}", table.len());
        assert!(used.iter().all(|value| Arc::ptr_eq(value, &table.intern(&**value))), "a value in use stays");
    }
}
