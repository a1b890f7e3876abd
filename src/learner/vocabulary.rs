//! Attribute values as the network knows them: dense numbers.

use crate::domain::{Item, ItemIx};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Numbers attribute values (a brand, a category, a tag) in the order in which the journal first
/// names them. Bounded: once it is full, values that are new have no number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredVocabulary", into = "StoredVocabulary")]
pub struct AttributeVocabulary {
    numbers: FxHashMap<String, u32>,
    /// The items described last, by value.
    holders: Vec<VecDeque<ItemIx>>,
    most: usize,
}

/// How a vocabulary is written: the values by number, so that equal ones are equal bytes.
#[derive(Serialize, Deserialize)]
struct StoredVocabulary {
    values: Vec<String>,
    holders: Vec<VecDeque<ItemIx>>,
    most: usize,
}

impl From<AttributeVocabulary> for StoredVocabulary {
    fn from(vocabulary: AttributeVocabulary) -> Self {
        let mut values: Vec<_> = vocabulary.numbers.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        Self { values: values.into_iter().map(|(value, _)| value).collect(), holders: vocabulary.holders, most: vocabulary.most }
    }
}

impl From<StoredVocabulary> for AttributeVocabulary {
    fn from(stored: StoredVocabulary) -> Self {
        Self { numbers: stored.values.into_iter().zip(0..).collect(), holders: stored.holders, most: stored.most }
    }
}

impl AttributeVocabulary {
    /// Items that are remembered by value.
    const HOLDERS: usize = 32;
    /// Items that one is likened to.
    const ALIKE: usize = 16;

    /// A vocabulary that will number at most `most` values.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { numbers: FxHashMap::default(), holders: Vec::new(), most }
    }

    /// The numbers of an item's values, those that are new numbered now: its brand, its categories,
    /// its tags.
    pub fn encode(&mut self, item: &Item) -> Box<[u32]> {
        let brand = item.brand.iter().map(|value| ("brand", value));
        let categories = item.categories.iter().map(|value| ("category", value));
        let tags = item.tags.iter().map(|value| ("tag", value));
        brand.chain(categories).chain(tags).filter_map(|(field, value)| self.value(format!("{field}:{value}"))).collect()
    }

    /// The items described last that share values with one, those that share the most first, of
    /// equals the newer.
    #[must_use]
    pub fn similar_items(&self, values: &[u32]) -> Vec<ItemIx> {
        let mut shared: FxHashMap<ItemIx, usize> = FxHashMap::default();
        for holder in values.iter().filter_map(|value| self.holders.get(*value as usize)).flatten() {
            *shared.entry(*holder).or_default() += 1;
        }
        let mut alike: Vec<_> = shared.into_iter().collect();
        alike.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(b.0.cmp(&a.0)));
        alike.into_iter().map(|(item, _)| item).take(Self::ALIKE).collect()
    }

    /// Remembers that an item has these values.
    pub fn record_item(&mut self, item: ItemIx, values: &[u32]) {
        for value in values {
            let place = *value as usize;
            if place >= self.holders.len() {
                self.holders.resize(place + 1, VecDeque::new());
            }
            if let Some(holders) = self.holders.get_mut(place).filter(|holders| !holders.contains(&item)) {
                if holders.len() >= Self::HOLDERS {
                    holders.pop_front();
                }
                holders.push_back(item);
            }
        }
    }

    fn value(&mut self, value: String) -> Option<u32> {
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u32::try_from(self.numbers.len()).ok().filter(|number| (*number as usize) < self.most)?;
        self.numbers.insert(value, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(brand: &str, tags: &[&str]) -> Item {
        Item { brand: Some(brand.to_owned()), tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Item::default() }
    }

    #[test]
    fn values_are_numbered_as_they_come_and_fields_are_told_apart() {
        let mut vocabulary = AttributeVocabulary::new(3);
        assert_eq!(*vocabulary.encode(&item("tea", &["tea"])), [0, 1]);
        assert_eq!(*vocabulary.encode(&item("cup", &["tea", "pot"])), [2, 1], "there was no room for the last");
        let mut again = AttributeVocabulary::from(StoredVocabulary::from(vocabulary));
        assert_eq!(*again.encode(&item("cup", &["tea", "pot"])), [2, 1]);
    }
    #[test]
    fn items_are_alike_by_the_values_that_they_share() {
        let mut vocabulary = AttributeVocabulary::new(10);
        for (number, values) in [(1, &[0, 1][..]), (2, &[0]), (3, &[1, 0]), (4, &[2])] {
            vocabulary.record_item(number, values);
        }
        assert_eq!(vocabulary.similar_items(&[0, 1, 9]), [3, 1, 2]);
        (0..100).for_each(|item| vocabulary.record_item(item, &[5]));
        let mut alike = vocabulary.similar_items(&[5]);
        assert_eq!((alike.len(), alike.remove(0)), (AttributeVocabulary::ALIKE, 99));
    }
}
