//! A hash table of numbers with one writer and lock-free readers.

use crate::domain::ItemIx;
use arc_swap::ArcSwap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of parts that grow apart. The growth of a part copies 1/64 of the table, which takes less
/// than a millisecond at a million names.
const PARTS: usize = 64;
/// The smallest number of slots of a part that is not empty.
const MIN_SLOTS: usize = 8;

/// One part: an open-addressing table with linear probing. The number of slots is 0 or a power of
/// two, and at most 3/4 of the slots are used. A slot is 0 if it is empty. Otherwise its upper half
/// is the lower half of the name's hash, and its lower half is the number plus 1.
#[derive(Debug, Default)]
struct NumberPart {
    slots: ArcSwap<Box<[AtomicU64]>>,
    /// Number of used slots. The writer holds this lock.
    used: Mutex<usize>,
}

/// Finds the numbers of names: 11 to 22 bytes a name. The table stores no names. The caller compares
/// the name of a number that the table finds.
#[derive(Debug)]
pub(super) struct NumberTable {
    parts: Box<[NumberPart]>,
    hasher: RandomState,
}

impl Default for NumberTable {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| NumberPart::default()).collect(), hasher: RandomState::new() }
    }
}

impl NumberTable {
    /// The part of a name, and the lower half of the name's hash.
    fn locate(&self, name: &str) -> Option<(&NumberPart, u32)> {
        let hash = self.hasher.hash_one(name);
        Some((self.parts.get((hash >> 32) as usize % PARTS)?, hash as u32))
    }

    /// Returns the number of a name. `is_name_of` tells whether a number is that of the name.
    pub(super) fn find(&self, name: &str, is_name_of: impl Fn(ItemIx) -> bool) -> Option<ItemIx> {
        let (part, hash) = self.locate(name)?;
        let slots = part.slots.load();
        for slot in probe(&slots, hash) {
            let value = slot.load(Ordering::Acquire);
            let number = (value as u32).checked_sub(1)?;
            if (value >> 32) as u32 == hash && is_name_of(number) {
                return Some(number);
            }
        }
        None
    }

    /// Adds the number of a name that is not in the table. The name must be readable by its number.
    pub(super) fn insert(&self, name: &str, number: ItemIx) {
        let (Some((part, hash)), Some(stored)) = (self.locate(name), number.checked_add(1)) else { return };
        let mut used = part.used.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = part.slots.load();
        let value = u64::from(hash) << 32 | u64::from(stored);
        *used += 1;
        if 4 * *used <= 3 * slots.len() {
            return fill(&slots, value);
        }
        let larger: Box<[_]> = (0..(2 * slots.len()).max(MIN_SLOTS)).map(|_| AtomicU64::new(0)).collect();
        let known = slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|value| *value != 0);
        known.chain([value]).for_each(|value| fill(&larger, value));
        part.slots.store(Arc::new(larger));
    }

    /// Size of the slots in bytes.
    #[cfg(test)]
    fn byte_len(&self) -> usize {
        self.parts.iter().map(|part| size_of_val(&**part.slots.load_full())).sum()
    }
}

/// The slots in the order in which a hash is searched.
fn probe(slots: &[AtomicU64], hash: u32) -> impl Iterator<Item = &AtomicU64> {
    let (end, start) = slots.split_at_checked(hash as usize & slots.len().saturating_sub(1)).unwrap_or_default();
    start.iter().chain(end)
}

/// Writes a value to the first empty slot in the order of its hash.
fn fill(slots: &[AtomicU64], value: u64) {
    if let Some(slot) = probe(slots, (value >> 32) as u32).find(|slot| slot.load(Ordering::Relaxed) == 0) {
        slot.store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_by_its_name_alone() {
        let table = NumberTable::default();
        let name = |number: u32| format!("item {number}");
        for number in 0..50_000 {
            let is_name_of = |found: u32| name(found) == name(number);
            assert_eq!(table.find(&name(number), is_name_of), None);
            table.insert(&name(number), number);
            assert_eq!(table.find(&name(number), is_name_of), Some(number));
        }
        assert!((0..50_000).all(|number| table.find(&name(number), |found| found == number) == Some(number)));
        // A full part has 3/4 used slots of 8 bytes, and a part that has just doubled has 3/8.
        assert!((50_000 * 10..50_000 * 22).contains(&table.byte_len()), "{}", table.byte_len());
    }

    #[test]
    fn names_with_equal_hashes_are_told_apart_by_the_caller() {
        let table = NumberTable::default();
        // The table knows only hashes, so a name that is inserted twice stands for two such names.
        (0..20).for_each(|number| table.insert("same", number));
        assert!((0..20).all(|number| table.find("same", |found| found == number) == Some(number)));
        assert_eq!(table.find("same", |_| false), None);
    }

    #[test]
    fn a_reader_finds_every_earlier_name_while_the_table_grows() {
        let (table, written) = (NumberTable::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut count = 0;
                while count < 20_000 {
                    count = written.load(Ordering::Acquire) as u32;
                    for number in (0..count).step_by(97).chain(count.checked_sub(1)) {
                        let found = table.find(&number.to_string(), |found| found == number);
                        assert_eq!(found, Some(number));
                    }
                }
            });
            for number in 0..20_000 {
                table.insert(&number.to_string(), number);
                written.store(u64::from(number) + 1, Ordering::Release);
            }
            reader.join().unwrap();
        });
    }
}
