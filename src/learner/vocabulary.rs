//! The attribute vocabulary: dense numbers for attribute values.

use crate::domain::{Item, ItemIx};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Numbers attribute values (brands, categories, tags) in the order in which the journal first
/// names them. Once the vocabulary is full, new values get no number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredVocabulary", into = "StoredVocabulary")]
pub struct AttributeVocabulary {
    numbers: FxHashMap<String, u32>,
    /// The items last described with each value.
    holders: Vec<VecDeque<ItemIx>>,
    most: usize,
}

/// The serialized form: values in order of their numbers, so that equal vocabularies have equal
/// bytes.
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
        Self {
            values: values.into_iter().map(|(value, _)| value).collect(),
            holders: vocabulary.holders,
            most: vocabulary.most,
        }
    }
}

impl From<StoredVocabulary> for AttributeVocabulary {
    fn from(stored: StoredVocabulary) -> Self {
        Self { numbers: stored.values.into_iter().zip(0..).collect(), holders: stored.holders, most: stored.most }
    }
}

impl AttributeVocabulary {
    /// Maximum number of items kept per value.
    const HOLDERS: usize = 32;
    /// Maximum number of similar items returned.
    const ALIKE: usize = 16;

    /// Creates an empty vocabulary of at most `most` values.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { numbers: FxHashMap::default(), holders: Vec::new(), most }
    }

    /// Returns the numbers of an item's brand, categories and tags. New values are numbered.
    pub fn encode(&mut self, item: &Item) -> Box<[u32]> {
        let brand = item.brand.iter().map(|value| ("brand", value));
        let categories = item.categories.iter().map(|value| ("category", value));
        let tags = item.tags.iter().map(|value| ("tag", value));
        brand
            .chain(categories)
            .chain(tags)
            .filter_map(|(field, value)| self.value(format!("{field}:{value}")))
            .collect()
    }

    /// Returns recently described items that share values with `values`: those that share the most
    /// come first, and of equals the newer.
    #[must_use]
    pub fn similar_items(&self, values: &[u32]) -> Vec<ItemIx> {
        let mut shared: FxHashMap<ItemIx, usize> = FxHashMap::default();
        for holder in values.iter().filter_map(|value| self.holders.get(*value as usize)).flatten() {
            *shared.entry(*holder).or_default() += 1;
        }
        let mut similar: Vec<_> = shared.into_iter().collect();
        similar.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(b.0.cmp(&a.0)));
        similar.into_iter().map(|(item, _)| item).take(Self::ALIKE).collect()
    }

    /// Records that an item has these values.
    pub fn record_item(&mut self, item: ItemIx, values: &[u32]) {
        for value in values {
            let index = *value as usize;
            if index >= self.holders.len() {
                self.holders.resize(index + 1, VecDeque::new());
            }
            if let Some(holders) = self.holders.get_mut(index).filter(|holders| !holders.contains(&item)) {
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
        Item {
            brand: Some(brand.to_owned()),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Item::default()
        }
    }

    #[test]
    fn values_are_numbered_in_order_and_fields_are_distinct() {
        let mut vocabulary = AttributeVocabulary::new(3);
        assert_eq!(*vocabulary.encode(&item("tea", &["tea"])), [0, 1]);
        assert_eq!(*vocabulary.encode(&item("cup", &["tea", "pot"])), [2, 1], "the vocabulary is full");
        let mut restored = AttributeVocabulary::from(StoredVocabulary::from(vocabulary));
        assert_eq!(*restored.encode(&item("cup", &["tea", "pot"])), [2, 1]);
    }
    #[test]
    fn similar_items_are_ordered_by_shared_values() {
        let mut vocabulary = AttributeVocabulary::new(10);
        for (number, values) in [(1, &[0, 1][..]), (2, &[0]), (3, &[1, 0]), (4, &[2])] {
            vocabulary.record_item(number, values);
        }
        assert_eq!(vocabulary.similar_items(&[0, 1, 9]), [3, 1, 2]);
        (0..100).for_each(|item| vocabulary.record_item(item, &[5]));
        let mut similar = vocabulary.similar_items(&[5]);
        assert_eq!((similar.len(), similar.remove(0)), (AttributeVocabulary::ALIKE, 99));
    }
}
